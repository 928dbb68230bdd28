package nat

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Mapping is one session of a mapping, for traces and tests: a mapping with
// sessions to several remote endpoints is listed once for each.
type Mapping struct {
	Proto   uint8          // IP protocol number
	Inside  netip.AddrPort // an ICMP query's identifier stands as its port
	Public  netip.AddrPort // IPv6: the same as Inside
	Remote  netip.AddrPort
	State   State
	Expires time.Time
}

func (m Mapping) String() string {
	name := map[uint8]string{protoTCP: "tcp", protoUDP: "udp", protoICMP: "icmp", protoICMPv6: "icmp6"}[m.Proto]
	return fmt.Sprintf("%s %v = %v to %v %v", name, m.Inside, m.Public, m.Remote, m.State)
}

// Mappings returns what lives at that time, ordered by protocol and endpoints.
func (n *NAT) Mappings(now time.Time) []Mapping {
	var list []Mapping
	for _, s := range n.in {
		if n.live(s, now) != nil {
			list = append(list, Mapping{s.m.proto, s.m.inside, s.m.public, s.remote, s.state, s.expires})
		}
	}
	slices.SortFunc(list, func(a, b Mapping) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), a.Inside.Compare(b.Inside),
			a.Remote.Compare(b.Remote), a.Public.Compare(b.Public))
	})
	return list
}
