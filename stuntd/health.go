package stuntd

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// health is the HTTP side of the port. It is an [net.Listener] to the
// http.Server in it, whose connections come from the mux.
type health struct {
	http  *http.Server
	local net.Addr
	conns chan net.Conn // unbuffered; never closed
	done  chan struct{} // closed by Close
	once  sync.Once     // for done
	ended chan struct{} // closed by run
	open  sync.WaitGroup
}

func newHealth(local netip.AddrPort, log *slog.Logger) *health {
	h := &health{
		local: net.TCPAddrFromAddrPort(local),
		conns: make(chan net.Conn),
		done:  make(chan struct{}),
		ended: make(chan struct{}),
	}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /healthz", healthz)
	h.http = &http.Server{
		Handler:           routes,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnState:         h.count,
	}
	return h
}

// healthz says that the server serves; it does so as long as it listens.
func healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}

// run serves until close.
func (h *health) run() {
	defer close(h.ended)
	h.http.Serve(h) // the error is that of our own Accept
}

// count sees the connections of the http.Server come and go.
func (h *health) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		h.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		h.open.Done()
	}
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
	<-h.ended
	h.http.Close()
	h.open.Wait()
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
