package probe

import (
	"context"
	"crypto/rand"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

// A hairpin path is two hops long, and a SYN is repeated after 1 s.
const hairpinTimeout = 2 * time.Second

// hairpin lets two ports of this host connect to each other's public endpoint
// at the same time, as two hosts behind the NAT would. Both must try: a NAT
// that filters lets the first SYN in no more than a stranger's. It is Unknown
// where there is no NAT, and where the two could not know each other's mapping.
func (p *prober) hairpin(ctx context.Context, d *door, s *stream) Tri {
	if p.mapping != EIM {
		return Unknown
	}
	d2, s2, err := p.openDoor(ctx)
	if err != nil {
		return Unknown
	}
	defer d2.close()
	defer sock.Abort(s2.TCPConn)

	ctx, cancel := context.WithTimeout(ctx, hairpinTimeout)
	defer cancel()
	var t token
	rand.Read(t[:])
	var met [2]bool
	var wg sync.WaitGroup
	wg.Go(func() { met[0] = p.meet(ctx, d.port, s2.mapped, t) })
	wg.Go(func() { met[1] = p.meet(ctx, d2.port, s.mapped, t) })
	wg.Wait()
	return tri(met[0] || met[1] || d.saw(t) || d2.saw(t))
}

// meet connects from a local port to a public endpoint of our own and shows
// the token. It reports whether the other end showed it too: then the two
// SYNs met, and no listener was in between.
func (p *prober) meet(ctx context.Context, port uint16, to netip.AddrPort, t token) bool {
	conn, err := p.net.Dial(ctx, netip.AddrPortFrom(p.from, port), to, 0)
	if err != nil {
		p.log.Debug("no hairpin", "phase", "hairpin", "remote", to, "err", err)
		return false
	}
	defer sock.Abort(conn)
	conn.SetDeadline(time.Now().Add(tokenTimeout))
	if _, err := conn.Write(t[:]); err != nil {
		return false
	}
	var got token
	io.ReadFull(conn, got[:]) // or the end, after a listener's door noted it
	return got == t
}
