package portmap

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/natlab"
)

// router is a UPnP device on loopback: a search is answered with where its
// description is, and actions as it is told to.
type router struct {
	addr netip.Addr
	web  *httptest.Server
	ssdp *fake

	mu      sync.Mutex // guards following
	actions []string   // the names of those that were asked for, with the port
}

// newRouter starts one whose pages are served by handle; nil is a good router's.
func newRouter(t *testing.T, handle func(r *router, w http.ResponseWriter, req *http.Request)) *router {
	t.Helper()
	r := &router{}
	r.ssdp = newFake(t, ssdpPort, silent)
	r.addr = r.ssdp.addr
	ln, err := net.Listen("tcp4", netip.AddrPortFrom(r.addr, 0).String())
	require.NoError(t, err)
	r.web = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if handle == nil {
			r.serve(w, req)
			return
		}
		handle(r, w, req)
	}))
	r.web.Listener.Close()
	r.web.Listener = ln
	r.web.Config.ErrorLog = nil
	r.web.Start()
	t.Cleanup(r.web.Close)
	r.ssdp.set(func([]byte) [][]byte { return [][]byte{r.found(r.url("/desc.xml"))} })
	return r
}

func (r *router) url(path string) string { return r.web.URL + path }

// found answers a search.
func (r *router) found(location string) []byte {
	return []byte("HTTP/1.1 200 OK\r\nST: " + ssdpTargets[0] + "\r\nLOCATION: " + location + "\r\nEXT:\r\n\r\n")
}

const envelope = `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>%s</s:Body></s:Envelope>`

// describe writes a description with one service.
func (r *router) describe(w io.Writer, base, control string) {
	fmt.Fprintf(w, `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>%s
<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><deviceList><device><deviceList><device>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:WANPPPConnection:1</serviceType><controlURL>%s</controlURL></service></serviceList>
</device></deviceList></device></deviceList></device></root>`, base, control)
}

func (r *router) action(w io.Writer, body string) { fmt.Fprintf(w, envelope, body) }

func (r *router) fault(w http.ResponseWriter, code int) {
	w.WriteHeader(http.StatusInternalServerError)
	r.action(w, fmt.Sprintf(`<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>%d</errorCode><errorDescription>\x1b[2J</errorDescription></UPnPError></detail></s:Fault>`, code))
}

// serve is a good router.
func (r *router) serve(w http.ResponseWriter, req *http.Request) {
	if req.Method == http.MethodGet {
		r.describe(w, "", "/control")
		return
	}
	_, name, _ := strings.Cut(strings.Trim(req.Header.Get("Soapaction"), `"`), "#")
	body, _ := io.ReadAll(req.Body)
	r.note(name, body)
	switch name {
	case "GetExternalIPAddress":
		r.action(w, "<u:GetExternalIPAddressResponse><NewExternalIPAddress>203.0.113.7</NewExternalIPAddress></u:GetExternalIPAddressResponse>")
	default:
		r.action(w, "<u:"+name+"Response></u:"+name+"Response>")
	}
}

func between(s []byte, name string) string {
	_, rest, _ := bytes.Cut(s, []byte("<"+name+">"))
	value, _, _ := bytes.Cut(rest, []byte("</"+name+">"))
	return string(value)
}

func (r *router) note(name string, body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.actions = append(r.actions, strings.Join([]string{name, between(body, "NewExternalPort"), between(body, "NewLeaseDuration")}, " "))
}

func (r *router) done() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.actions...)
}

func TestRouter(t *testing.T) {
	natlab.Need(t)
	t.Parallel()
	r := newRouter(t, nil)
	m, err := mapOnly(t.Context(), Config{Gateway: r.addr}, local, UPnP)
	require.NoError(t, err)
	require.Equal(t, "203.0.113.7:40000", m.External().String())
	require.NoError(t, m.Close())
	require.Equal(t, []string{"GetExternalIPAddress  ", "GetExternalIPAddress  ", "AddPortMapping 40000 600", "DeletePortMapping 40000 "}, r.done())
}

// TestHostileRouter: what may come instead. The trap is a host that a router
// refers to; nothing must be fetched from it.
func TestHostileRouter(t *testing.T) {
	natlab.Need(t)
	t.Parallel()
	var fell atomic.Int32
	trapped := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fell.Add(1)
		(&router{}).describe(w, "", "/control")
	}))
	defer trapped.Close()
	trap := trapped.URL
	endless := func(w http.ResponseWriter, b string) {
		for {
			if _, err := io.WriteString(w, b); err != nil {
				return
			}
		}
	}
	get := func(f func(r *router, w http.ResponseWriter, req *http.Request)) func(r *router, w http.ResponseWriter, req *http.Request) {
		return func(r *router, w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodGet {
				f(r, w, req)
				return
			}
			r.serve(w, req)
		}
	}
	post := func(f func(r *router, w http.ResponseWriter, req *http.Request)) func(r *router, w http.ResponseWriter, req *http.Request) {
		return func(r *router, w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodPost {
				f(r, w, req)
				return
			}
			r.serve(w, req)
		}
	}
	type page = func(r *router, w http.ResponseWriter, req *http.Request)
	cases := []struct {
		name string
		page page
		want string
	}{
		{"a redirect", get(func(r *router, w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, trap, http.StatusFound)
		}), "refers to another host"},
		{"a redirect to itself", get(func(r *router, w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, r.url("/again"), http.StatusFound)
		}), "refers to another host"},
		{"a control URL elsewhere", get(func(r *router, w http.ResponseWriter, req *http.Request) { r.describe(w, "", trap+"/control") }), "refers to another host"},
		{"a base URL elsewhere", get(func(r *router, w http.ResponseWriter, req *http.Request) {
			r.describe(w, "<URLBase>"+trap+"</URLBase>", "/control")
		}), "refers to another host"},
		{"a control URL with a name", get(func(r *router, w http.ResponseWriter, req *http.Request) {
			r.describe(w, "", "http://localhost/control")
		}), "refers to another host"},
		{"a control URL of another scheme", get(func(r *router, w http.ResponseWriter, req *http.Request) {
			r.describe(w, "", "file:///etc/passwd")
		}), "refers to another host"},
		{"an action is redirected", post(func(r *router, w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, trap, http.StatusTemporaryRedirect)
		}), "HTTP 307"},
		{"an endless description", get(func(r *router, w http.ResponseWriter, req *http.Request) {
			io.WriteString(w, "<root>")
			endless(w, "<a/>")
		}), "has no end"},
		{"an endless text", get(func(r *router, w http.ResponseWriter, req *http.Request) { endless(w, "<root>........") }), "has no end"},
		{"an endless header", get(func(r *router, w http.ResponseWriter, req *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 2*maxHead))
			r.describe(w, "", "/control")
		}), "exceeded"},
		{"an endless answer", post(func(r *router, w http.ResponseWriter, req *http.Request) { endless(w, "<!-- -->") }), "has no end"},
		{"no XML", get(func(r *router, w http.ResponseWriter, req *http.Request) { io.WriteString(w, "<html><p>hello") }), "description"},
		{"another's description", get(func(r *router, w http.ResponseWriter, req *http.Request) {
			io.WriteString(w, `<root xmlns="urn:schemas-upnp-org:device-1-0"><device><deviceType>tv</deviceType></device></root>`)
		}), "no connection that maps ports"},
		{"not found", get(func(r *router, w http.ResponseWriter, req *http.Request) { w.WriteHeader(http.StatusNotFound) }), "HTTP 404"},
		{"a refusal", post(func(r *router, w http.ResponseWriter, req *http.Request) { r.fault(w, 606) }), "UPnP: error 606"},
		{"no address", post(func(r *router, w http.ResponseWriter, req *http.Request) {
			r.action(w, "<u:GetExternalIPAddressResponse><NewExternalIPAddress>\x1b[2J</NewExternalIPAddress></u:GetExternalIPAddressResponse>")
		}), "UPnP: "},
		{"an address that is none", post(func(r *router, w http.ResponseWriter, req *http.Request) {
			r.action(w, "<u:GetExternalIPAddressResponse><NewExternalIPAddress>0.0.0.0</NewExternalIPAddress></u:GetExternalIPAddressResponse>")
		}), "at 0.0.0.0"},
		{"it hangs up", get(func(r *router, w http.ResponseWriter, req *http.Request) { panic(http.ErrAbortHandler) }), "EOF"},
		{"it says nothing", get(func(r *router, w http.ResponseWriter, req *http.Request) { <-req.Context().Done() }), "UPnP: description"},
	}
	errs := make([]error, len(cases))
	var asking sync.WaitGroup // most of them only wait
	for i, tt := range cases {
		r := newRouter(t, tt.page)
		asking.Go(func() { _, errs[i] = mapOnly(t.Context(), Config{Gateway: r.addr}, local, UPnP) })
	}
	asking.Wait()
	for i, tt := range cases {
		require.ErrorContains(t, errs[i], tt.want, tt.name)
		require.Less(t, len(errs[i].Error()), 400, "%s: its words are not passed on: %v", tt.name, errs[i])
	}
	require.Zero(t, fell.Load(), "nobody went to where the routers have sent them")
}

// TestHostileLocation: an answer to a search may come from anybody and name
// anything.
func TestHostileLocation(t *testing.T) {
	natlab.Need(t)
	t.Parallel()
	var fell atomic.Int32
	trapped := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fell.Add(1) }))
	defer trapped.Close()
	r := newRouter(t, func(*router, http.ResponseWriter, *http.Request) { fell.Add(1) })
	r.ssdp.set(func([]byte) [][]byte {
		return [][]byte{
			r.found(trapped.URL + "/desc.xml"), r.found("http://localhost:80/"), r.found("https" + strings.TrimPrefix(r.web.URL, "http")), r.found("http://user:pw@" + r.web.Listener.Addr().String()),
			r.found("file:///etc/passwd"), r.found("::"), r.found(""), []byte("HTTP/1.1 404 OK\r\nLOCATION: " + r.url("/") + "\r\n\r\n"), {}, bytes.Repeat([]byte("x"), ssdpMax+1),
			[]byte("NOTIFY * HTTP/1.1\r\nLOCATION: " + r.url("/") + "\r\n\r\n"), []byte("HTTP/1.1 200 OK\r\nST: a:printer\r\nLOCATION: " + r.url("/") + "\r\n\r\n"),
		}
	})
	_, err := mapOnly(t.Context(), Config{Gateway: r.addr}, local, UPnP)
	require.ErrorContains(t, err, "no answer")

	impostor := newRouter(t, func(*router, http.ResponseWriter, *http.Request) { fell.Add(1) })
	r.ssdp.set(func([]byte) [][]byte { return nil })
	err = search(t.Context(), nil, impostor.addr, func(src netip.Addr) bool { return src == r.addr }, func(*url.URL) bool {
		fell.Add(1)
		return true
	})
	require.ErrorContains(t, err, "no answer", "who is not the gateway is not heard")

	flood := newRouter(t, nil)
	flood.ssdp.set(func([]byte) [][]byte { return make([][]byte, maxAnswers) })
	_, err = mapOnly(t.Context(), Config{Gateway: flood.addr}, local, UPnP)
	require.ErrorContains(t, err, "too many answers")
	require.Zero(t, fell.Load())
}

// TestMoodyRouters: errors of AddPortMapping that are not the end.
func TestMoodyRouters(t *testing.T) {
	natlab.Need(t)
	adds := func(r *router) (n int) {
		for _, a := range r.done() {
			if strings.HasPrefix(a, "AddPortMapping") {
				n++
			}
		}
		return n
	}
	mood := func(code, times int) func(r *router, w http.ResponseWriter, req *http.Request) {
		return func(r *router, w http.ResponseWriter, req *http.Request) {
			if strings.Contains(req.Header.Get("Soapaction"), "#AddPortMapping") && adds(r) < times {
				body, _ := io.ReadAll(req.Body)
				r.note("AddPortMapping", body)
				r.fault(w, code)
				return
			}
			r.serve(w, req)
		}
	}
	t.Run("the port is taken", func(t *testing.T) {
		t.Parallel()
		r := newRouter(t, mood(errConflict, 2))
		m, err := mapOnly(t.Context(), Config{Gateway: r.addr}, local, UPnP)
		require.NoError(t, err)
		require.GreaterOrEqual(t, m.External().Port(), uint16(32768))
		require.NotEqual(t, uint16(40000), m.External().Port())
		require.NoError(t, m.Close())
		require.Contains(t, r.done(), fmt.Sprintf("DeletePortMapping %d ", m.External().Port()), "that one, not the other's")
	})
	t.Run("every port is taken", func(t *testing.T) {
		t.Parallel()
		r := newRouter(t, mood(errConflict, 100))
		_, err := mapOnly(t.Context(), Config{Gateway: r.addr}, local, UPnP)
		require.ErrorContains(t, err, "UPnP: error 718")
		require.Equal(t, 1+otherPorts, adds(r))
	})
	t.Run("only permanent mappings", func(t *testing.T) {
		t.Parallel()
		r := newRouter(t, mood(errOnlyPermanent, 1))
		m, err := mapOnly(t.Context(), Config{Gateway: r.addr}, local, UPnP)
		require.NoError(t, err)
		require.NoError(t, m.Close())
		require.Subset(t, r.done(), []string{"AddPortMapping 40000 600", "AddPortMapping 40000 0", "DeletePortMapping 40000 "})
	})
}

// TestMulticast finds a router that is nobody's gateway, as where the system
// does not tell which one is.
func TestMulticast(t *testing.T) {
	t.Parallel()
	lab := natlab.Start(t, natlab.Config{})
	host := lab.Host("host", nil, natlab.Link{}) // public: it has no gateway
	var group *net.UDPConn
	require.NoError(t, host.Do(func() error {
		device, err := net.InterfaceByName("tun0")
		if err != nil {
			return err
		}
		group, err = net.ListenMulticastUDP("udp4", device, net.UDPAddrFromAddrPort(ssdpGroup))
		return err
	}))
	ln, err := host.Listen(t.Context(), "tcp4", host.AddrPort(0).String())
	require.NoError(t, err)
	r := &router{}
	r.web = httptest.NewUnstartedServer(http.HandlerFunc(r.serve))
	r.web.Listener.Close()
	r.web.Listener = ln
	r.web.Start()
	defer r.web.Close()
	n := &sock.Net{Open: host.Do}
	answers, err := n.DialUDP(host.Addr(), netip.AddrPortFrom(host.Addr(), 9)) // only for its address
	require.NoError(t, err)
	answers.Close()
	var done sync.WaitGroup
	done.Go(func() { // until the socket is closed
		buf := make([]byte, 2048)
		for {
			_, src, err := group.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			c, err := n.DialUDP(host.Addr(), src)
			if err == nil {
				c.Write(r.found(r.url("/desc.xml")))
				c.Close()
			}
		}
	})
	defer func() { group.Close(); done.Wait() }()

	m, err := Map(t.Context(), Config{Net: n}, local)
	require.NoError(t, err)
	require.Equal(t, UPnP, m.Protocol())
	require.NoError(t, m.Close())
}

func FuzzSSDP(f *testing.F) {
	f.Add((&router{}).found("http://127.0.0.1:80/desc.xml"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLocation: http://[::ffff:127.0.0.1]/\r\nTransfer-Encoding: chunked\r\n\r\n"))
	src := netip.MustParseAddr("127.0.0.1")
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := parseSSDP(b, src)
		if err != nil {
			return
		}
		if u.Scheme != "http" || u.Hostname() != src.String() || u.User != nil {
			t.Fatalf("%q leads to %v", b, u)
		}
	})
}

func FuzzDescription(f *testing.F) {
	var good bytes.Buffer
	(&router{}).describe(&good, "<URLBase>http://127.0.0.1:5000/</URLBase>", "control")
	f.Add(good.Bytes())
	base, host := &url.URL{Scheme: "http", Host: "127.0.0.1:80"}, netip.MustParseAddr("127.0.0.1")
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDescription(bytes.NewReader(b), base)
		if err != nil {
			return
		}
		for _, kind := range kinds {
			for _, s := range d.Device.FindService(kind.urn) {
				if at(&s.ControlURL.URL, host) == nil && s.ControlURL.URL.Hostname() != host.String() {
					t.Fatalf("%q leads to %v", b, &s.ControlURL.URL)
				}
			}
		}
	})
}
