package probe

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

const (
	// Linux adds this clock to a secret number of the four-tuple for the
	// sequence number that a connection starts with (RFC 6528).
	isnTick = 64 * time.Nanosecond

	// A busy machine sends later than it was told. The chance that a number
	// that was rewritten falls into this time is 1 in 5,000.
	isnSlack = 50 * time.Millisecond
)

// sequence finds out whether sequence numbers arrive as they were sent. Nobody
// tells an unprivileged process its own, but the first router quotes the one of
// a SYN that dies there; the next SYN between the same two endpoints has one
// that is higher by the time between them, and the server says what came.
func (p *prober) sequence(ctx context.Context) {
	d, err := p.listen(ctx, 0)
	if err != nil {
		return
	}
	defer d.close()
	local := netip.AddrPortFrom(p.from, d.port)
	begun := time.Now()
	pending, err := p.net.Begin(local, p.server, sock.Opening{TTL: 1, Explains: true})
	if err != nil {
		return
	}
	sent := time.Now()
	short, cancel := context.WithTimeout(ctx, walkTimeout)
	defer cancel()
	conn, err := pending.Wait(short)
	if err == nil {
		sock.Abort(conn) // the server is next door
		return
	}
	var icmp *sock.ICMPError
	if !errors.As(err, &icmp) || !icmp.TimeExceeded() || icmp.Seq == 0 {
		return
	}
	least := time.Since(sent)
	s, err := p.open(ctx, call{at: p.reserve(), local: local, server: p.server, first: ask{syn: true}})
	if err != nil {
		return
	}
	defer sock.Abort(s.TCPConn)
	if s.syn.TTL == 0 {
		return
	}
	most := time.Since(begun) - s.rtt + isnSlack
	p.note(func(f *facts) { f.seq = tri(numbered(icmp.Seq, s.syn.Seq, least, most)) })
}

// numbered reports whether the second sequence number is the first one's after
// a time between least and most.
func numbered(first, second uint32, least, most time.Duration) bool {
	// In ticks; the difference wraps after 275 s.
	return uint64(second-first) >= uint64(least/isnTick) && uint64(second-first) <= uint64(most/isnTick)
}
