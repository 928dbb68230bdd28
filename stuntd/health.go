package stuntd

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/gostunt/stunt/stuntd/status"
)

// health is the HTTP side of the port. It is an [net.Listener] to the
// http.Server in it, whose connections come from the mux.
type health struct {
	web   *webServer
	local net.Addr
	conns chan net.Conn // unbuffered; never closed
	done  chan struct{} // closed by Close
	once  sync.Once     // for done
}

func newHealth(local netip.AddrPort, log *slog.Logger) *health {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /healthz", status.Healthz) // as long as we listen
	h := &health{
		web:   newWebServer(routes, log),
		local: net.TCPAddrFromAddrPort(local),
		conns: make(chan net.Conn),
		done:  make(chan struct{}),
	}
	h.web.listener = h
	return h
}

// serve gives a connection to the HTTP server, or closes it if that is gone.
func (h *health) serve(c *tls.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		c.Close()
	}
}

// close ends run and all connections. An answer takes no time worth waiting
// for: a check that is cut off sees what it would see a moment later. First
// the listener, so that the server knows of every connection that it closes.
func (h *health) close() {
	h.Close()
	h.web.end()
}

// Accept implements net.Listener for the http.Server.
func (h *health) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *health) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *health) Addr() net.Addr { return h.local }

// webServer is an HTTP server whose end waits for its connections.
type webServer struct {
	http     *http.Server
	listener net.Listener
	ended    chan struct{} // closed by run
	open     sync.WaitGroup
}

func newWebServer(h http.Handler, log *slog.Logger) *webServer {
	w := &webServer{ended: make(chan struct{})}
	w.http = &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnState:         w.count,
	}
	return w
}

// run serves until the listener is closed.
func (w *webServer) run() {
	defer close(w.ended)
	w.http.Serve(w.listener) // the error is that of the listener's Accept
}

// count sees the connections of the http.Server come and go.
func (w *webServer) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		w.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		w.open.Done()
	}
}

// end waits for run, whose listener is closed, and ends all connections.
func (w *webServer) end() {
	<-w.ended
	w.http.Close()
	w.open.Wait()
}
