package status

import (
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler returns what an operator may see: the page at /, /metrics, /healthz
// and the profiles at /debug/pprof/. With a token only who names it is served:
// as a bearer token, as Prometheus does, or as the password of any user, as
// browsers ask for it. Without one only requests for this machine itself are, by
// address or as localhost: a page elsewhere that has its own name point here
// (DNS rebinding) gets nothing.
func (b *Board) Handler(token string, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", b.page)
	mux.HandleFunc("GET /assets/{name}", asset)
	mux.HandleFunc("GET /healthz", Healthz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(b.registry(), promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		MaxRequestsInFlight: 4, // two servers that scrape, and somebody who looks
	}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return guard(token, mux)
}

// Healthz says that the server serves.
func Healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte("ok\n"))
}

// guard lets in who may see what next serves.
func guard(token string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch {
		case token == "" && !forThisMachine(r.Host):
			http.Error(w, "ask for this server by its address, or as localhost", http.StatusMisdirectedRequest)
		case token != "" && !named(r, token):
			h.Set("WWW-Authenticate", `Basic realm="stuntd", charset="UTF-8"`)
			http.Error(w, "the password is the server's admin token; any user will do", http.StatusUnauthorized)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// policy lets the page use what it came with, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func forThisMachine(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	_, err := netip.ParseAddr(host)
	return err == nil || strings.EqualFold(host, "localhost")
}

// named reports whether a request names the token. What is compared are hashes,
// so that the time tells nothing, not even a length.
func named(r *http.Request, token string) bool {
	said, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		_, said, ok = r.BasicAuth()
	}
	a, b := sha256.Sum256([]byte(said)), sha256.Sum256([]byte(token))
	return ok && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}
