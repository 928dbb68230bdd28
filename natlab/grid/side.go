package grid

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
)

// Side is what one end of a pair is behind: a row and a column of the table.
type Side struct {
	Name   string
	About  string // one line
	attach func(l *natlab.Lab, host string, link natlab.Link) *natlab.Host
}

// Sides returns all that there is, from the easiest to the hardest: no NAT,
// the profiles of package nat, the kernel's own NAT, and two NATs in a row.
func Sides() []Side {
	sides := []Side{{"none", "a public host", func(l *natlab.Lab, host string, link natlab.Link) *natlab.Host {
		return l.Host(host, nil, link)
	}}}
	for _, p := range nat.Profiles() {
		if strings.Contains(p.Name, "hairpin") {
			continue // peculiar only to hosts behind the same NAT; see Shared
		}
		sides = append(sides, Side{p.Name, p.About, func(l *natlab.Lab, host string, link natlab.Link) *natlab.Host {
			return l.Host(host, l.NAT("nat-"+host, nil, p.Config, link), natlab.Link{})
		}})
	}
	return append(sides,
		kernel("kernel", "the NAT of this machine's own kernel: nftables masquerade", natlab.Plain),
		kernel("kernel-random", "the same with fully random ports", natlab.FullyRandom),
		Side{"two-nats", "a home router like linux behind a carrier's NAT like eim-adf", func(l *natlab.Lab, host string, link natlab.Link) *natlab.Host {
			carrier := l.NAT("carrier-"+host, nil, profile("eim-adf"), link)
			return l.Host(host, l.NAT("nat-"+host, carrier, profile("linux"), natlab.Link{}), natlab.Link{})
		}},
	)
}

func kernel(name, about string, m natlab.Masquerade) Side {
	return Side{name, about, func(l *natlab.Lab, host string, link natlab.Link) *natlab.Host {
		return l.Host(host, l.KernelNAT("nat-"+host, nil, m, link), natlab.Link{})
	}}
}

// profile returns a behaviour that package nat is known to have.
func profile(name string) nat.Config {
	c, ok := nat.Profile(name)
	if !ok {
		panic("grid: no NAT profile " + name)
	}
	return c
}

// Core returns the sides of the table: each property that decides whether a
// pair meets, once.
func Core() []Side {
	sides, err := Find("none", "eim-eif", "eim-adf", "eim-apdf", "kernel", "two-nats", "pool-paired",
		"eim-rst", "eim-icmp", "eim-req4", "no-syn-in",
		"adm-delta1", "apdm-delta1", "apdm-delta2", "apdm-delta1-busy5", "apdm-delta1-busy20", "session-delta1",
		"apdm-block512", "apdm-block2048", "apdm-random", "pool-arbitrary")
	if err != nil {
		panic(err)
	}
	return sides
}

// Find returns the sides with these names, in that order.
func Find(names ...string) ([]Side, error) {
	all := Sides()
	var found []Side
	for _, name := range names {
		i := slices.IndexFunc(all, func(s Side) bool { return s.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no NAT %q", name)
		}
		found = append(found, all[i])
	}
	return found, nil
}
