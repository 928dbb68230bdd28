package natlab

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
)

// age removes the namespace's TCP connections that are not established.
func (ns *namespace) age() error {
	return ns.do(func() error {
		_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.FAMILY_V4, unestablished{})
		if err != nil {
			return fmt.Errorf("connection tracking: %w: the kernel needs nf_conntrack_netlink", err)
		}
		return nil
	})
}

// unestablished matches what is half open or closing.
type unestablished struct{}

// MatchConntrackFlow implements [netlink.CustomConntrackFilter].
func (unestablished) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	tcp, ok := f.ProtoInfo.(*netlink.ProtoInfoTCP)
	return ok && tcp.State != nl.TCP_CONNTRACK_ESTABLISHED
}
