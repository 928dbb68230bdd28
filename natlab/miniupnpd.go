package natlab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Daemon is miniupnpd, which maps ports by UPnP, NAT-PMP and PCP, on a router.
type Daemon struct {
	router *KernelNAT
	path   string   // of the program
	config string   // file
	signs  []string // parts of lines that it says when it is ready
	cmd    *Cmd
	ended  *sync.WaitGroup // the reader of its output
}

// miniupnpdAddress is what the router says its public address is, as the
// daemon refuses to work with those of the lab, which are nobody's. So who
// uses it has to find out by other means.
const miniupnpdAddress = "1.2.3.4"

// Miniupnpd runs the program on a router until the test ends, with these lines
// added to its configuration, as "enable_upnp=no" or "enable_natpmp=no", which
// is for PCP as well. The test is skipped where it is not installed.
func Miniupnpd(t testing.TB, k *KernelNAT, lines ...string) *Daemon {
	t.Helper()
	path, err := exec.LookPath("miniupnpd")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/miniupnpd") // not in everybody's PATH
	}
	if err != nil {
		t.Skip("miniupnpd is not installed: run `apt-get install miniupnpd-nftables` as root")
	}
	d := &Daemon{router: k, path: path, config: filepath.Join(t.TempDir(), "miniupnpd.conf")}
	if !slices.Contains(lines, "enable_upnp=no") {
		d.signs = append(d.signs, "HTTP listening on port")
	}
	if !slices.Contains(lines, "enable_natpmp=no") {
		d.signs = append(d.signs, signPCP)
	}
	config := append([]string{
		"ext_ifname=" + outsideTUN,
		"ext_ip=" + miniupnpdAddress,
		"listening_ip=" + insideTUN,
		"enable_natpmp=yes",
		"secure_mode=yes",
		"upnp_table_name=" + MappingTable,
		"upnp_nat_table_name=" + MappingTable,
		"uuid=00000000-0000-0000-0000-000000000001",
		"allow 1024-65535 0.0.0.0/0 1024-65535",
		"deny 0-65535 0.0.0.0/0 0-65535",
	}, lines...)
	if err := os.WriteFile(d.config, []byte(strings.Join(config, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.start(t)
	t.Cleanup(d.stop)
	return d
}

// start starts the program and waits until it hears.
func (d *Daemon) start(t testing.TB) {
	t.Helper()
	d.cmd = d.router.Command(d.path, "-d", "-f", d.config, "-P", d.config+".pid")
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stdout, d.cmd.Stderr = in, in
	err = d.cmd.Start()
	in.Close()
	if err != nil {
		out.Close()
		t.Fatal(err)
	}
	ready := make(chan error, 1)
	d.ended = new(sync.WaitGroup)
	d.ended.Go(func() { d.watch(out, ready) })
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	if inside := d.router.Inside(); len(inside) > 1 && len(d.signs) > 0 && d.signs[len(d.signs)-1] == signPCP {
		if err := d.router.Do(func() error { return knock(netip.AddrPortFrom(inside[1], 5351)) }); err != nil {
			t.Fatal(err)
		}
	}
}

// signPCP is what the program says a moment before it opens its IPv6 socket.
const signPCP = "Listening for NAT-PMP/PCP traffic"

// knock sends datagrams until no error says that nobody is there.
func knock(to netip.AddrPort) error {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer c.Close()
	for range 10_000 {
		c.Write([]byte{0})
		c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // the error comes at once
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
	}
	return fmt.Errorf("miniupnpd does not hear at %v", to)
}

// watch reads what the program says until it ends, and tells when all that it
// was told to hear by is open, or that it has ended before.
func (d *Daemon) watch(out io.ReadCloser, ready chan<- error) {
	defer out.Close()
	var said []string // before it is ready
	waiting := slices.Clone(d.signs)
	for s := bufio.NewScanner(out); s.Scan(); {
		if len(waiting) == 0 {
			continue // only so that it does not block
		}
		said = append(said, s.Text())
		waiting = slices.DeleteFunc(waiting, func(sign string) bool { return strings.Contains(s.Text(), sign) })
		if len(waiting) == 0 {
			ready <- nil
		}
	}
	if len(waiting) > 0 {
		ready <- fmt.Errorf("miniupnpd has ended: %s", strings.Join(said, "\n"))
	}
}

// Restart is a power cut: the mappings are lost, and the program starts again.
func (d *Daemon) Restart(t testing.TB) {
	t.Helper()
	d.stop()
	if err := d.router.ns.flushMappings(); err != nil {
		t.Fatal(err)
	}
	d.start(t)
}

// stop ends the program as a power cut does.
func (d *Daemon) stop() {
	d.cmd.Process.Kill()
	d.cmd.Wait()
	d.ended.Wait()
}
