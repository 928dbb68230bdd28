package natlab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// masquerade makes the namespace a router with these rules:
//
//	table ip stunt {
//		chain nat {
//			type nat hook postrouting priority srcnat
//			oifname "wan0" masquerade [random|fully-random]
//		}
//	}
//	table inet stunt {
//		chain forward {
//			type filter hook forward priority filter; policy drop
//			ct state established,related accept
//			ct state new iifname != "wan0" accept
//			jump miniupnpd
//		}
//		chain input { as forward, without the jump }
//		chain prerouting {
//			type nat hook prerouting priority dstnat
//			jump prerouting_miniupnpd
//		}
//		chain postrouting {
//			type nat hook postrouting priority srcnat
//			jump postrouting_miniupnpd
//		}
//		chain miniupnpd { empty, as are the two above }
//	}
func (ns *namespace) masquerade(m Masquerade) error {
	return ns.do(func() error {
		for _, s := range []struct {
			name, value string
			optional    bool // without IPv6 in the kernel it is missing
		}{
			{"net/ipv4/ip_forward", "1", false},
			{"net/ipv6/conf/all/forwarding", "1", true},
			{"net/ipv4/icmp_ratelimit", "0", false}, // an ICMP error for every packet that deserves one
			{"net/ipv6/icmp/ratelimit", "0", true},
		} {
			err := os.WriteFile("/proc/sys/"+s.name, []byte(s.value), 0)
			if err != nil && !(s.optional && errors.Is(err, fs.ErrNotExist)) {
				return fmt.Errorf("%w: in docker, /proc/sys is read-only without --privileged", err)
			}
		}
		c, err := nftables.New()
		if err != nil {
			return fmt.Errorf("nftables: %w", err)
		}
		addMasquerade(c, m)
		addMappings(c, addFirewall(c))
		if err := c.Flush(); err != nil {
			return fmt.Errorf("nftables: %w: the kernel needs nf_tables, nft_masq and nft_ct", err)
		}
		return nil
	})
}

func addMasquerade(c *nftables.Conn, m Masquerade) {
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "stunt"})
	chain := c.AddChain(&nftables.Chain{
		Name: "nat", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: append(match(expr.MetaKeyOIFNAME, expr.CmpOpEq),
		&expr.Masq{Random: m == Random, FullyRandom: m == FullyRandom},
	)})
}

// addFirewall returns the chain that decides what the router forwards.
func addFirewall(c *nftables.Conn) (forward *nftables.Chain) {
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: MappingTable})
	drop := nftables.ChainPolicyDrop
	for name, hook := range map[string]*nftables.ChainHook{
		"forward": nftables.ChainHookForward,
		"input":   nftables.ChainHookInput,
	} {
		chain := c.AddChain(&nftables.Chain{
			Name: name, Table: t, Type: nftables.ChainTypeFilter, Policy: &drop,
			Hooknum: hook, Priority: nftables.ChainPriorityFilter,
		})
		accept := &expr.Verdict{Kind: expr.VerdictAccept}
		c.AddRule(&nftables.Rule{Table: t, Chain: chain,
			Exprs: append(state(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept)})
		c.AddRule(&nftables.Rule{Table: t, Chain: chain,
			Exprs: append(append(state(expr.CtStateBitNEW), match(expr.MetaKeyIIFNAME, expr.CmpOpNeq)...), accept)})
		if name == "forward" {
			forward = chain
		}
	}
	return forward
}

// addMappings makes the chains of [MappingTable].
func addMappings(c *nftables.Conn, forward *nftables.Chain) {
	base := func(name string, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: forward.Table, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: priority})
	}
	for i, from := range []*nftables.Chain{
		forward,
		base("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest),
		base("postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource),
	} {
		name := mappingChains[i]
		c.AddChain(&nftables.Chain{Name: name, Table: forward.Table})
		c.AddRule(&nftables.Rule{Table: forward.Table, Chain: from, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: name}}})
	}
}

// state matches the packets whose connection is in one of the states.
func state(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: binaryutil.NativeEndian.PutUint32(0),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(0)},
	}
}

// match compares the name of a device with that of the outside one.
func match(key expr.MetaKey, op expr.CmpOp) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, outsideTUN)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: name}}
}

// flushMappings empties the chains of [MappingTable], as a router that starts
// again has them.
func (ns *namespace) flushMappings() error {
	return ns.do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		t := &nftables.Table{Family: nftables.TableFamilyINet, Name: MappingTable}
		for _, name := range mappingChains {
			c.FlushChain(&nftables.Chain{Name: name, Table: t})
		}
		return c.Flush()
	})
}

// mappingChains are those that miniupnpd fills.
var mappingChains = []string{"miniupnpd", "prerouting_miniupnpd", "postrouting_miniupnpd"}
