package rendezvous

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	// MaxLends is how many endpoints a server lends at most: two ports of two
	// addresses of each family.
	MaxLends = 8

	// MaxErrand bounds what is asked for in an errand, and what is answered: two
	// endpoints and some numbers.
	MaxErrand = 64

	// errandTime bounds an errand whose context does not.
	errandTime = 10 * time.Second
)

// A Lender is another server of the cluster that does errands, and says where
// its clients reach it.
type Lender struct {
	Name      string
	Endpoints []netip.AddrPort // at most MaxLends; not to be changed
}

// Lenders returns the other servers that lend their endpoints now. The order is
// another at each server, and stays, so that each is the first of about as many.
func (s *Server) Lenders() []Lender {
	if s.cluster == nil {
		return nil
	}
	return s.cluster.members.lenders(s.cluster.me)
}

// Errand has another server do something for a client of ours, in its DoErrand,
// and returns its answer. ctx bounds it; ErrNobody says that the other is gone.
func (s *Server) Errand(ctx context.Context, to string, message []byte) (answer []byte, err error) {
	c := s.cluster
	if c == nil {
		return nil, ErrNobody
	}
	patience := errandTime
	if end, ok := ctx.Deadline(); ok {
		patience = time.Until(end)
	}
	type result struct {
		done *errandDone
		err  error
	}
	results := make(chan result, 1)
	c.askAt(to, &errand{Server: c.me, Errand: message}, patience, func(b []byte, err error) {
		done, err := answerTo[*errandDone](b, err)
		results <- result{done, err}
	})
	select {
	case r := <-results:
		if r.err != nil {
			return nil, r.err
		}
		return r.done.Errand, nil
	case <-ctx.Done(): // or the bus is closed, and calls nobody any more
		return nil, context.Cause(ctx)
	}
}

// heardErrand has an errand done.
func (c *cluster) heardErrand(m *errand, reply func([]byte)) {
	if do := c.server.DoErrand; do != nil && reply != nil {
		do(m.Errand, func(b []byte) { c.answerWith(&errandDone{Errand: b}, reply) })
	}
}

// lends returns what the others may tell their clients of us.
func (c *cluster) lends() []netip.AddrPort {
	return c.server.Lends[:min(len(c.server.Lends), MaxLends)]
}

// lenders returns who lends, in the order of their names, which begins after
// ours and ends before it.
func (ms *members) lenders(ours string) []Lender {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	var all []Lender
	for _, x := range ms.all {
		if len(x.lends) > 0 {
			all = append(all, Lender{x.name, x.lends})
		}
	}
	turn := func(name string) int {
		if name > ours {
			return 0
		}
		return 1
	}
	slices.SortFunc(all, func(a, b Lender) int {
		return cmp.Or(cmp.Compare(turn(a.Name), turn(b.Name)), strings.Compare(a.Name, b.Name))
	})
	return all
}
