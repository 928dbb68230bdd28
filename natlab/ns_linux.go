package natlab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// namespace is a network namespace of the kernel.
type namespace struct {
	file *os.File // keeps it alive
}

const threadNS = "/proc/thread-self/ns/net"

// home is the network namespace of the process. It stays open: a blocked
// [Host.Do] may outlive its lab and must still find back.
var home = sync.OnceValues(func() (*os.File, error) { return os.Open(threadNS) })

// newNamespace makes a network namespace with its loopback device up. The
// calling goroutine's thread visits it and comes back.
func newNamespace() (*namespace, error) {
	ns := &namespace{}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if ns.file, err = os.Open(threadNS); err != nil {
			return err
		}
		return loopbackUp()
	})
	if err != nil {
		ns.close()
		return nil, err
	}
	return ns, nil
}

func (ns *namespace) close() {
	if ns.file != nil {
		ns.file.Close()
	}
}

// do runs f on this goroutine with its thread in the namespace. It costs two
// system calls, some microseconds in all.
func (ns *namespace) do(f func() error) error {
	return onThread(func() error {
		if err := setns(ns.file); err != nil {
			return err
		}
		return f()
	})
}

// onThread runs f, which may change the network namespace of its thread, and
// goes back home. Other goroutines never see the thread meanwhile: new threads
// of the runtime are not made from a locked one.
func onThread(f func() error) error {
	home, err := home()
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	defer func() {
		if err := setns(home); err != nil {
			// The thread stays locked, so no other goroutine gets it; but this
			// one would go on in a foreign namespace without knowing.
			panic("natlab: no way back from a namespace: " + err.Error())
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

// setns moves the thread. Control holds the file open meanwhile: its number
// could otherwise become that of another namespace.
func setns(ns *os.File) error {
	rc, err := ns.SyscallConn()
	if err != nil {
		return err
	}
	var errno error
	if err := rc.Control(func(fd uintptr) { errno = unix.Setns(int(fd), unix.CLONE_NEWNET) }); err != nil {
		return err
	}
	return os.NewSyscallError("setns", errno)
}

// hasIPv6 reports whether the kernel has IPv6.
func hasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	return netlink.LinkSetUp(lo)
}

// tunQueue is how many packets the device holds until the lab reads them: the
// default of 500 loses packets of a single large window.
const tunQueue = 8192

// tun makes a TUN device.
func (ns *namespace) tun(c tunConfig) (*os.File, error) {
	var file *os.File
	err := ns.do(func() (err error) {
		if file, err = openTUN(c.name); err != nil {
			return err
		}
		link, err := configure(c.name, c.mtu, c.addrs)
		if err != nil || !c.gateway {
			return err
		}
		for _, a := range c.addrs {
			if err := defaultRoute(link, a.Addr(), c.via); err != nil {
				return fmt.Errorf("default route: %w", err)
			}
		}
		return nil
	})
	if err != nil && file != nil {
		file.Close()
	}
	return file, err
}

// openTUN makes a TUN device in the namespace of the thread.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("TUNSETIFF: %w", err)
	}
	// Only now may the runtime poll it: before TUNSETIFF it is never ready.
	return os.NewFile(uintptr(fd), name), nil
}

// configure brings a device of the thread's namespace up with its addresses,
// usable at once: a TUN device has no neighbours to ask whether they are taken.
func configure(name string, mtu int, addrs []netip.Prefix) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	// Mode 1: no link-local addresses (IN6_ADDR_GEN_MODE_NONE), so no router solicitations; a kernel without
	// IPv6 refuses, and is fine.
	_ = netlink.LinkSetIP6AddrGenMode(link, 1)
	if err := netlink.LinkSetMTU(link, mtu); err != nil {
		return nil, fmt.Errorf("MTU %d: %w", mtu, err)
	}
	if err := netlink.LinkSetTxQLen(link, tunQueue); err != nil {
		return nil, fmt.Errorf("queue of %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("%s up: %w", name, err)
	}
	for _, a := range addrs {
		if err := addAddr(link, a); err != nil {
			return nil, fmt.Errorf("%v: %w", a, err)
		}
	}
	return link, nil
}

func addAddr(link netlink.Link, a netip.Prefix) error {
	return netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(a), Flags: unix.IFA_F_NODAD})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// defaultRoute leads everything of the family of like to the device.
func defaultRoute(link netlink.Link, like netip.Addr, via hop) error {
	all, router := netip.PrefixFrom(netip.IPv4Unspecified(), 0), via.v4
	if like.Is6() {
		all, router = netip.PrefixFrom(netip.IPv6Unspecified(), 0), via.v6
	}
	// Without a router Gw is nil: what is there is a cable.
	// Replace: IPv6 keeps the old one without an address.
	return netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(all), Gw: router.AsSlice()})
}

// addAddr gives a host one more address.
func (ns *namespace) addAddr(device string, a netip.Prefix) error {
	return ns.do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		return addAddr(link, a)
	})
}

// renumber takes addresses off a device, with which the kernel drops the
// routes over it, and then gives it others with default routes.
func (ns *namespace) renumber(device string, gone, fresh []netip.Prefix, via hop) error {
	return ns.do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		for _, a := range gone {
			if err := netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(a)}); err != nil {
				return err
			}
		}
		for _, a := range fresh {
			if err := addAddr(link, a); err != nil {
				return err
			}
			if err := defaultRoute(link, a.Addr(), via); err != nil {
				return err
			}
		}
		return nil
	})
}

// setGateway has the IPv4 default route name a router.
func (ns *namespace) setGateway(device string, router netip.Addr) error {
	return ns.do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		return netlink.RouteReplace(&netlink.Route{
			LinkIndex: link.Attrs().Index, Dst: ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)),
			Gw: router.AsSlice(), Flags: int(netlink.FLAG_ONLINK), // the device has no neighbours to find it among
		})
	})
}

// veth makes a pair of devices between two namespaces.
func (ns *namespace) veth(name string, other *namespace, a, b netip.Prefix) error {
	err := ns.do(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: name, MTU: 1500}, PeerName: name,
			PeerNamespace: netlink.NsFd(other.file.Fd()),
		})
	})
	if err != nil {
		return err
	}
	up := func(ns *namespace, a netip.Prefix) error {
		return ns.do(func() error {
			_, err := configure(name, 1500, []netip.Prefix{a})
			return err
		})
	}
	if err := up(ns, a); err != nil {
		return err
	}
	return up(other, b)
}

// dieWithThread has the kernel kill the process with the thread that starts it.
func dieWithThread(c *exec.Cmd) {
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
