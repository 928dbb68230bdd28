package portmap

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/huin/goupnp"
	"github.com/huin/goupnp/dcps/internetgateway2"
	"github.com/huin/goupnp/soap"

	"github.com/gostunt/stunt/internal/sock"
)

const (
	// maxBody bounds what a router may say in one answer. Descriptions have up
	// to some 20 KiB, answers to actions one.
	maxBody = 128 << 10
	// maxHead bounds the header of an answer.
	maxHead = 16 << 10
	// httpTimeout bounds one exchange: small routers take a second.
	httpTimeout = 3 * time.Second
)

// igd asks a UPnP Internet Gateway Device. The messages and their XML are
// goupnp's; finding the device and speaking HTTP is not, as that would open
// sockets of its own, follow redirects, read without end, and take two seconds
// always.
type igd struct {
	net     *sock.Net
	gateway netip.Addr // invalid: not known, then any router of our own network will do
	service service    // that find has found last; what it has mapped can only be removed by it
	client  netip.Addr // our address on the way to it
}

// service is what the kinds of connections that a router may have in common.
type service interface {
	GetExternalIPAddressCtx(ctx context.Context) (string, error)
	AddPortMappingCtx(ctx context.Context, remoteHost string, externalPort uint16, protocol string, internalPort uint16,
		internalClient string, enabled bool, description string, lease uint32) error
	DeletePortMappingCtx(ctx context.Context, remoteHost string, externalPort uint16, protocol string) error
}

// anyPort is what version 2 of the device has beyond that.
type anyPort interface {
	AddAnyPortMappingCtx(ctx context.Context, remoteHost string, externalPort uint16, protocol string, internalPort uint16,
		internalClient string, enabled bool, description string, lease uint32) (uint16, error)
}

func (*igd) protocol() Protocol { return UPnP }

// find looks for a router that has a connection to the Internet.
func (g *igd) find(ctx context.Context) error {
	from := func(src netip.Addr) bool { return src == g.gateway }
	if !g.gateway.IsValid() {
		from = g.neighbour
	}
	var last error
	err := search(ctx, g.net, g.gateway, from, func(u *url.URL) bool {
		last = g.choose(ctx, u)
		return last == nil
	})
	if err != nil && last != nil {
		return last
	}
	return err
}

// neighbour reports whether a host is in a network of ours.
func (g *igd) neighbour(ip netip.Addr) bool {
	prefixes, err := g.net.Prefixes()
	if err != nil {
		return false
	}
	for _, p := range prefixes {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// choose reads the description of a router and takes the first of its
// connections that knows its address: a router with several has one in use.
func (g *igd) choose(ctx context.Context, u *url.URL) error {
	host, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return errElsewhere
	}
	hc := bounded(g.net, host)
	device, err := describe(ctx, hc, u)
	if err != nil {
		return fmt.Errorf("UPnP: description: %w", brief(err))
	}
	last := errors.New("UPnP: the router has no connection that maps ports")
	for _, kind := range kinds {
		for _, s := range device.Device.FindService(kind.urn) {
			if err := at(&s.ControlURL.URL, host); err != nil || !s.ControlURL.Ok {
				last = errElsewhere
				continue
			}
			client := soap.NewSOAPClient(s.ControlURL.URL)
			client.HTTPClient = *hc
			svc := kind.of(goupnp.ServiceClient{SOAPClient: client, RootDevice: device, Location: u, Service: s})
			if _, err := external(ctx, svc); err != nil {
				last = err
				continue
			}
			g.service, g.client = svc, g.net.Source(host)
			return nil
		}
	}
	return last
}

// kinds are the services that map ports, the best first.
var kinds = []struct {
	urn string
	of  func(goupnp.ServiceClient) service
}{
	{internetgateway2.URN_WANIPConnection_2, func(c goupnp.ServiceClient) service { return &internetgateway2.WANIPConnection2{ServiceClient: c} }},
	{internetgateway2.URN_WANIPConnection_1, func(c goupnp.ServiceClient) service { return &internetgateway2.WANIPConnection1{ServiceClient: c} }},
	{internetgateway2.URN_WANPPPConnection_1, func(c goupnp.ServiceClient) service { return &internetgateway2.WANPPPConnection1{ServiceClient: c} }},
}

// describe fetches the description of a device.
func describe(ctx context.Context, hc *http.Client, u *url.URL) (*goupnp.RootDevice, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := hc.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	return parseDescription(resp.Body, u)
}

// parseDescription reads a description, whose relative URLs are at base.
func parseDescription(r io.Reader, base *url.URL) (*goupnp.RootDevice, error) {
	device := new(goupnp.RootDevice)
	d := xml.NewDecoder(r)
	d.DefaultSpace = goupnp.DeviceXMLNamespace
	if err := d.Decode(device); err != nil {
		return nil, err
	}
	if device.URLBaseStr != "" {
		u, err := url.Parse(device.URLBaseStr)
		if err != nil {
			return nil, err
		}
		base = u
	}
	device.SetURLBase(base)
	return device, nil
}

// external asks for the address of a connection.
func external(ctx context.Context, s service) (netip.Addr, error) {
	text, err := s.GetExternalIPAddressCtx(ctx)
	if err != nil {
		return netip.Addr{}, upnpError(err)
	}
	ip, err := netip.ParseAddr(strings.TrimSpace(text))
	if err != nil {
		return netip.Addr{}, errors.New("UPnP: the router does not know its address")
	}
	return ip.Unmap(), nil
}

// Error codes of AddPortMapping that are not the end (IGD:2, WANIPConnection:2
// section 2.5.16).
const (
	errActionFailed    = 501 // from routers that know no better word
	errConflict        = 718 // another host has the port
	errOnlyPermanent   = 725
	errOtherMechanisms = 729 // the router itself uses the port
)

// otherPorts is how many ports are tried when ours is another's.
const otherPorts = 3

func (g *igd) add(ctx context.Context, w wish) (lease, error) {
	if g.service == nil {
		return lease{}, errSilence
	}
	ip, err := external(ctx, g.service)
	if err != nil {
		return lease{}, err
	}
	port := w.external.Port()
	if port == 0 {
		port = w.internal
	}
	for try := 0; ; try++ {
		port, err = g.mapPort(ctx, port, w)
		if err == nil {
			return lease{external: netip.AddrPortFrom(ip, port), lifetime: w.lifetime}, nil
		}
		if try == otherPorts || !taken(err) {
			return lease{}, upnpError(err)
		}
		port = uint16(32768 + rand.N(32768)) // a client's ports: nobody forwards these by hand
	}
}

// mapPort asks for one port. Some routers keep mappings for ever or not at all.
func (g *igd) mapPort(ctx context.Context, port uint16, w wish) (uint16, error) {
	life := seconds(w.lifetime)
	err := g.service.AddPortMappingCtx(ctx, "", port, "TCP", w.internal, g.client.String(), true, description, life)
	if code(err) == errOnlyPermanent {
		err = g.service.AddPortMappingCtx(ctx, "", port, "TCP", w.internal, g.client.String(), true, description, 0)
	}
	if v2, ok := g.service.(anyPort); ok && taken(err) {
		return v2.AddAnyPortMappingCtx(ctx, "", port, "TCP", w.internal, g.client.String(), true, description, life)
	}
	return port, err
}

// description is what a router's pages show beside the mapping.
const description = "stunt"

func (g *igd) remove(ctx context.Context, w wish) error {
	if g.service == nil {
		return nil
	}
	return upnpError(g.service.DeletePortMappingCtx(ctx, "", w.external.Port(), "TCP"))
}

// code returns the error code of a fault, or 0.
func code(err error) int {
	if fault, ok := errors.AsType[*soap.SOAPFaultError](err); ok {
		return fault.Detail.UPnPError.Errorcode
	}
	return 0
}

// taken reports whether another port may do.
func taken(err error) bool {
	c := code(err)
	return c == errConflict || c == errOtherMechanisms || c == errActionFailed
}

// upnpError is an error without what the router says in its own words.
func upnpError(err error) error {
	if err == nil {
		return nil
	}
	if c := code(err); c != 0 {
		return fmt.Errorf("UPnP: error %d", c)
	}
	return fmt.Errorf("UPnP: %w", brief(err))
}

// brief cuts an error that may quote the router.
func brief(err error) error {
	const most = 160
	if s := err.Error(); len(s) > most {
		return fmt.Errorf("%.160q…", s)
	}
	return err
}

// bounded returns an HTTP client for one host: it connects to nobody else,
// follows no redirects, and stops reading at maxBody.
func bounded(n *sock.Net, host netip.Addr) *http.Client {
	dial := func(ctx context.Context, _, address string) (net.Conn, error) {
		to, err := netip.ParseAddrPort(address)
		if err != nil || to.Addr() != host {
			return nil, errElsewhere
		}
		return n.Dial(ctx, netip.AddrPort{}, to, 0)
	}
	return &http.Client{
		Timeout: httpTimeout,
		Transport: limited{&http.Transport{
			DialContext:            dial,
			DisableKeepAlives:      true,
			DisableCompression:     true, // a few bytes could become many
			MaxResponseHeaderBytes: maxHead,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errElsewhere },
	}
}

// limited is a transport whose bodies have an end.
type limited struct{ next http.RoundTripper }

func (l limited) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(req)
	if err == nil {
		resp.Body = &body{ReadCloser: resp.Body, left: maxBody}
	}
	return resp, err
}

type body struct {
	io.ReadCloser
	left int
}

var errEndless = errors.New("the answer has no end")

func (b *body) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errEndless
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
