package portmap

import (
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/natlab"
)

// home is a host behind a router that is the kernel's, with miniupnpd on it.
type home struct {
	lab    *natlab.Lab
	router *natlab.KernelNAT
	host   *natlab.Host
	world  *natlab.Host // somebody on the Internet
	daemon *natlab.Daemon
}

// newHome starts miniupnpd with these lines added to its configuration.
func newHome(t *testing.T, lines ...string) *home {
	t.Helper()
	natlab.Need(t)
	h := &home{lab: natlab.Start(t, natlab.Config{Seed: 1})}
	h.router = h.lab.KernelNAT("router", nil, natlab.FullyRandom, natlab.Link{})
	h.host = h.lab.Host("host", h.router, natlab.Link{})
	h.world = h.lab.Host("world", nil, natlab.Link{})
	h.daemon = natlab.Miniupnpd(t, h.router, lines...)
	return h
}

func (h *home) net() *sock.Net { return &sock.Net{Open: h.host.Do} }

// serve listens on the host, and answers each connection with a byte.
func (h *home) serve(t *testing.T, local string) netip.AddrPort {
	t.Helper()
	ln, err := h.host.Listen(t.Context(), map[bool]string{true: "tcp4", false: "tcp6"}[strings.HasPrefix(local, "0.")], local)
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() { // until the listener is closed
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Write([]byte{1})
			c.Close()
		}
	}()
	return netip.MustParseAddrPort(ln.Addr().String())
}

// reach connects from the Internet.
func (h *home) reach(t *testing.T, to netip.AddrPort) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := h.world.Dial(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

func (h *home) at(port uint16) netip.AddrPort { return netip.AddrPortFrom(h.router.Public()[0], port) }

// TestMiniupnpd maps a port by each protocol on a real router: a stranger gets
// in, to another port does not, and after Close no more.
func TestMiniupnpd(t *testing.T) {
	for _, x := range []struct {
		protocol Protocol
		lines    []string
	}{
		{PCP, []string{"enable_upnp=no", "enable_natpmp=yes"}},
		{NATPMP, []string{"enable_upnp=no", "enable_natpmp=yes"}},
		{UPnP, []string{"enable_upnp=yes", "enable_natpmp=no"}},
		{UPnP, []string{"enable_upnp=yes", "enable_natpmp=no", "force_igd_desc_v1=yes"}},
	} {
		t.Run(x.protocol.String(), func(t *testing.T) {
			t.Parallel()
			h := newHome(t, x.lines...)
			local := h.serve(t, "0.0.0.0:0")
			m, err := mapOnly(t.Context(), Config{Net: h.net()}, local, x.protocol)
			require.NoError(t, err)
			require.Equal(t, x.protocol, m.Protocol())
			require.NoError(t, h.reach(t, h.at(m.External().Port())), "the mapping leads to the host")

			before := m.External()
			require.NoError(t, m.Refresh(t.Context()))
			require.NoError(t, m.Close())
			require.NoError(t, m.Close(), "again")
			require.Equal(t, before, m.External())
			ctx, cancel := context.WithTimeout(t.Context(), 200e6)
			defer cancel()
			_, err = h.world.Dial(ctx, "tcp", h.at(before.Port()).String())
			require.Error(t, err, "the mapping is gone")
		})
	}
}

// mapOnly is Map with one protocol.
func mapOnly(ctx context.Context, cfg Config, local netip.AddrPort, p Protocol) (*Mapping, error) {
	m := newMapping(cfg, local)
	m.askers = slices.DeleteFunc(m.askers, func(a asker) bool { return a.protocol() != p })
	return m.start(ctx)
}

// TestTakenPort asks for a port that another host of the home has.
func TestTakenPort(t *testing.T) {
	for _, p := range []Protocol{PCP, NATPMP, UPnP} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			h := newHome(t, "enable_upnp=yes", "enable_natpmp=yes")
			other := h.lab.Host("other", h.router, natlab.Link{})
			local := h.serve(t, "0.0.0.0:0")
			theirs, err := mapOnly(t.Context(), Config{Net: &sock.Net{Open: other.Do}}, local, UPnP)
			require.NoError(t, err)
			defer theirs.Close()
			require.Equal(t, local.Port(), theirs.External().Port())

			ours, err := mapOnly(t.Context(), Config{Net: h.net()}, local, p)
			require.NoError(t, err)
			defer ours.Close()
			require.NotEqual(t, local.Port(), ours.External().Port(), "that one is the other's")
			require.NoError(t, h.reach(t, h.at(ours.External().Port())))
		})
	}
}

// TestPinhole opens an IPv6 firewall.
func TestPinhole(t *testing.T) {
	t.Parallel()
	h := newHome(t, "enable_natpmp=yes")
	if !h.host.Addr6().IsValid() {
		t.Skip("no IPv6 in this kernel")
	}
	local := h.serve(t, net.JoinHostPort(h.host.Addr6().String(), "0"))
	m, err := Map(t.Context(), Config{Net: h.net()}, local)
	require.NoError(t, err)
	require.Equal(t, PCP, m.Protocol())
	require.Equal(t, local, m.External(), "nothing is translated")
	require.NoError(t, h.reach(t, local))
	require.NoError(t, m.Close())
}

// TestRestart has the router lose its mappings, and UPnP its port: the next
// renewal makes them again.
func TestRestart(t *testing.T) {
	for _, p := range []Protocol{PCP, NATPMP, UPnP} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			h := newHome(t, "enable_upnp=yes", "enable_natpmp=yes")
			local := h.serve(t, "0.0.0.0:0")
			m, err := mapOnly(t.Context(), Config{Net: h.net()}, local, p)
			require.NoError(t, err)
			defer m.Close()
			h.daemon.Restart(t)
			require.NoError(t, m.Refresh(t.Context()))
			require.NoError(t, h.reach(t, h.at(m.External().Port())))
		})
	}
}

// TestAllAtOnce takes whatever answers first.
func TestAllAtOnce(t *testing.T) {
	t.Parallel()
	h := newHome(t, "enable_upnp=yes", "enable_natpmp=yes")
	local := h.serve(t, "0.0.0.0:0")
	m, err := Map(t.Context(), Config{Net: h.net()}, local)
	require.NoError(t, err)
	defer m.Close()
	require.NoError(t, h.reach(t, h.at(m.External().Port())), strconv.Itoa(int(m.External().Port())))
}
