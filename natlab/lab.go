package natlab

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Lab is one Internet. Its methods may be used concurrently. Those that make
// parts panic where the description is wrong (a name used twice, a place of
// another lab) or the kernel refuses midway: both are the caller's to fix.
type Lab struct {
	config   Config
	log      *slog.Logger
	trace    *trace
	clock    *clock
	internet *network
	readers  sync.WaitGroup // the goroutines that read TUN devices

	mu      sync.Mutex // guards following
	closed  bool
	names   map[string]bool
	used    struct{ hosts, pools, hops, nats, veths int } // addresses given out
	devices []device
	running map[*Cmd]struct{}
	routers []interface{ Age() error }
}

// device is a TUN device in its namespace.
type device struct {
	tun *os.File
	ns  *namespace
}

// New makes an empty Internet. It fails outside of [Main] and [Enter], and
// where [Supported] fails. Close it.
func New(c Config) (*Lab, error) {
	if err := Supported(); err != nil {
		return nil, err
	}
	if !inside() {
		return nil, errors.New("natlab: the process is not inside a lab: call natlab.Main from TestMain, or natlab.Enter")
	}
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	clock, err := newClock()
	if err != nil {
		return nil, fmt.Errorf("natlab: %w", err)
	}
	l := &Lab{config: c, log: log, clock: clock, names: map[string]bool{}, running: map[*Cmd]struct{}{}}
	l.trace = newTrace(c.Trace, c.Pcap, clock.now)
	l.internet = &network{lab: l, name: "internet", prefix6: netip.PrefixFrom(addr6(0, 0), 64), has6: hasIPv6(), routes: map[netip.Addr]*wire{}}
	return l, nil
}

// Internet is the public network, where nobody is translated.
func (l *Lab) Internet() Place { return l.internet }

// Close ends everything: the processes that hosts started, the carrying of
// packets, the namespaces as soon as no socket lives in them. It waits, and
// may be called again. Its error is that of the writers for trace and pcap.
func (l *Lab) Close() error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	running, devices := l.running, l.devices
	l.running, l.devices = nil, nil
	l.mu.Unlock()
	err := l.trace.end()
	if !first {
		return err
	}
	for c := range running {
		c.stop()
	}
	l.clock.close()
	var closing sync.WaitGroup // together: each waits some 20 ms for the kernel
	for _, d := range devices {
		closing.Go(func() { d.tun.Close() })
	}
	closing.Wait()
	l.readers.Wait()
	for _, d := range devices {
		d.ns.close()
	}
	return err
}

// Age is that of every NAT of the lab.
func (l *Lab) Age() error {
	l.mu.Lock()
	routers := l.routers
	l.mu.Unlock()
	var errs []error
	for _, r := range routers {
		errs = append(errs, r.Age())
	}
	return errors.Join(errs...)
}

// ages adds a router to those.
func (l *Lab) ages(r interface{ Age() error }) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.routers = append(l.routers, r)
}

// RTT returns the sum of the delays configured on the way from a to b and
// back, without jitter. Hosts behind the same NAT are taken to meet there.
func (l *Lab) RTT(a, b *Host) time.Duration {
	seen := map[*network]time.Duration{}
	from, to := a.spot.Load(), b.spot.Load()
	d := from.wire.link().Delay
	for n := from.at; n != nil; n = n.parent {
		seen[n] = d
		if n.uplink != nil {
			d += n.uplink.link().Delay
		}
	}
	d = to.wire.link().Delay
	for n := to.at; n != nil; n = n.parent {
		if up, ok := seen[n]; ok {
			return 2 * (up + d)
		}
		d += n.uplink.link().Delay
	}
	panic("natlab: two hosts of different labs")
}

// place returns the network of at, nil being the Internet, and takes the name.
func (l *Lab) place(name string, at Place) *network {
	n := l.internet
	if at != nil {
		n = at.network()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		panic("natlab: " + name + ": the lab is closed")
	case n.lab != l:
		panic("natlab: " + name + ": the place is one of another lab")
	case l.names[name]:
		panic("natlab: " + name + ": the name is taken")
	}
	l.names[name] = true
	return n
}

// tunConfig describes a TUN device.
type tunConfig struct {
	name    string
	mtu     int
	addrs   []netip.Prefix
	gateway bool // the default routes lead to it
	via     hop  // whom they name as the router; zero: nobody
}

// open makes a TUN device in a namespace and carries what the kernel sends
// there to send, until Close, which closes both.
func (l *Lab) open(owner string, ns *namespace, c tunConfig, send func(*packet)) *os.File {
	tun, err := ns.tun(c)
	if err != nil {
		panic(fmt.Sprintf("natlab: a TUN device for %s: %v", owner, err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		tun.Close()
		panic("natlab: " + owner + ": the lab is closed")
	}
	l.devices = append(l.devices, device{tun, ns})
	l.readers.Add(1)
	go l.read(tun, c.mtu, send) // until Close closes the device, and waits
	return tun
}

// read carries packets from the device until it is closed.
func (l *Lab) read(tun *os.File, mtu int, send func(*packet)) {
	defer l.readers.Done()
	for {
		p := newPacket(max(mtu, pooledSize))
		n, err := tun.Read(p.b)
		if err != nil {
			return
		}
		p.b = p.b[:n]
		if !valid(p.b) || destination(p.b).IsMulticast() {
			p.free() // router solicitations and the like: nobody listens
			continue
		}
		send(p)
	}
}

func (l *Lab) namespace(name string) *namespace {
	ns, err := newNamespace()
	if err != nil {
		panic(fmt.Sprintf("natlab: a namespace for %s: %v", name, err))
	}
	return ns
}

// next counts one more of something, from 1.
func (l *Lab) next(counter *int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	*counter++
	return *counter
}

// hops returns the addresses of n routers on w, the same ones every time.
func (l *Lab) hops(w *wire, n int) []hop {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(w.hops) < n {
		l.used.hops++
		i := l.used.hops
		w.hops = append(w.hops, hop{v4: addr4(firstHop, i), v6: addr6(0xffff, i)})
	}
	return w.hops[:n:n]
}
