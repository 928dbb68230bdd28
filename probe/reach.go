package probe

import (
	"fmt"
	"math"

	"github.com/gostunt/stunt/predict"
)

// reach is whom a host gets to directly, and how.
type reach struct {
	peers   []string
	limited bool // there are others
}

const (
	sameRefusal = "not directly to peers whose NAT or firewall refuses SYNs as this one does"
	byCrossing  = "direct to public peers, by simultaneous open to peers whose NAT keeps one port, " +
		"by predicting the next port to peers whose NAT counts, by guessing, with some hundred SYNs, to peers whose NAT draws ports at random"
)

// reach judges what was found of IPv4.
func (r *Report) reach() reach {
	switch {
	case r.PortMapping.Public.IsValid():
		return reach{[]string{"direct to public peers, and every other peer direct to this host, as the router passes on a port (" + r.PortMapping.Protocol + ")"}, false}
	case r.Mapping == MappingUnknown:
		return reach{}
	case r.Mapping >= ADM:
		return r.reachMoving()
	}
	switch r.Filtering {
	case Open, EIF:
		return reach{[]string{"direct to every peer, and every peer to this host"}, false}
	case NoSYNIn:
		return reach{[]string{byCrossing, sameRefusal}, true}
	case FilteringUnknown:
		return reach{[]string{byCrossing, "all but the first only if a SYN is let in where one went out, which was not measured"}, false}
	}
	return reach{[]string{byCrossing}, false}
}

// reachMoving is reach behind a NAT whose port is another one for each peer.
func (r *Report) reachMoving() reach {
	to := "direct to public peers and to peers whose NAT lets in anybody; "
	var not string
	switch {
	case r.Delta != 0:
		to += "by predicting this NAT's next port to peers whose NAT keeps one port, or counts as well"
		not = "not directly to peers whose NAT draws ports at random"
	default:
		to, not = r.reachGuessing(to)
	}
	v := []string{to, not}
	if r.Filtering == NoSYNIn {
		v = append(v, sameRefusal)
	}
	return reach{v, true}
}

// reachGuessing says what guesses are worth, by the numbers that dials size
// them with.
func (r *Report) reachGuessing(direct string) (to, not string) {
	space := predict.Space{Ports: r.span() * max(r.pool(), 1), Overload: true}
	g, ok := predict.SizeOneSided(space, predict.Wanted, predict.Budget{})
	if !ok {
		return direct + "seldom to others", "not directly to peers whose NAT counts, or draws ports at random, as well"
	}
	to = direct + fmt.Sprintf("by guessing this NAT's port, with up to %d SYNs, to peers whose NAT keeps one port, which should succeed in %s dials",
		g.Sockets+g.SYNs, ofHundred(g.Chance))
	both, ok := predict.SizeTwoSided(space, space, predict.Wanted, predict.Budget{})
	if !ok {
		return to, "not directly to peers whose NAT counts, or draws ports at random, as well"
	}
	return to + fmt.Sprintf("; and in up to %s, if a port may serve several peers at once, to peers whose NAT draws from as few ports", ofHundred(both.Chance)),
		"not directly to peers whose NAT counts, or draws from many ports"
}

func ofHundred(chance float64) string {
	return fmt.Sprintf("%.0f of 100", math.Min(100*chance, 99)) // nothing is sure
}

// span is how many ports the NAT draws from.
func (r *Report) span() int {
	if r.Ports.Hi == 0 {
		return math.MaxUint16 + 1 - 1024 // RFC 4787 REQ-3: no well-known ones
	}
	return int(r.Ports.Hi) - int(r.Ports.Lo) + 1
}

// pool is how many addresses there are to be guessed.
func (r *Report) pool() int {
	if r.Ports.Pooling != Arbitrary {
		return 1
	}
	return r.Ports.Pool
}

// over6 judges what was found of IPv6; no peers where there is none.
func (r *Report) over6() reach {
	v6 := &r.IPv6
	switch {
	case !v6.Public.IsValid():
		return reach{}
	case v6.Mapping > NoNAT:
		return reach{[]string{"IPv6: somebody translates addresses on the way, which peers cannot reckon with"}, true}
	}
	v := []string{"IPv6: " + firewall("no NAT", v6.Filtering)}
	if v6.PortMapping.Public.IsValid() {
		return reach{append(v, "IPv6: direct to every peer that has IPv6, and every such peer to this host, as the firewall lets a port through ("+v6.PortMapping.Protocol+")"), false}
	}
	switch v6.Filtering {
	case Open, EIF:
		return reach{append(v, "IPv6: direct to every peer that has IPv6, and every such peer to this host"), false}
	case NoSYNIn:
		return reach{append(v, "IPv6: direct to peers that have IPv6, but "+sameRefusal), true}
	}
	return reach{append(v, "IPv6: direct to every peer that has IPv6: the SYNs of both ends cross, and open both firewalls"), false}
}
