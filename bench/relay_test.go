//go:build linux

package bench

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/turn/v5"
	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/relay"
	"github.com/gostunt/stunt/stuntd"
)

const (
	// chunk is what a turn moves, and turns how many each relay gets: more for a
	// better median, the same for all.
	chunk, turns = 128 << 20, 12
	phrase       = "0123456789abcdef0123456789abcdef"
)

// carrier is a relay in a process of its own, and the two ends of a pair on it.
type carrier struct {
	name     string
	pid      int
	from, to net.Conn
	ticks    float64
	rates    []float64 // bytes per second, of each turn
}

// BenchmarkRelay moves bytes over a pair of our relay's, over a bare splice
// loop and over coturn, by turns in one run over loopback, and prints ratios of
// throughput and of the CPU time that the relay's process took for it.
func BenchmarkRelay(b *testing.B) {
	carriers := []*carrier{ours(b), bare(b)}
	if c := coturn(b); c != nil {
		carriers = append(carriers, c)
	}
	for b.Loop() {
		for _, c := range carriers {
			c.move(b, chunk/8) // windows open
			c.ticks, c.rates = -cpu(b, c.pid), nil
		}
		for range turns {
			for _, c := range carriers {
				began := time.Now()
				c.move(b, chunk)
				c.rates = append(c.rates, chunk/time.Since(began).Seconds())
			}
		}
		for _, c := range carriers {
			c.ticks += cpu(b, c.pid)
		}
	}
	b.ReportMetric(0, "ns/op") // of a mixture: says nothing
	us := carriers[0]
	for _, c := range carriers[1:] {
		b.ReportMetric(median(us.rates)/median(c.rates), "rate/"+c.name)
		b.ReportMetric(us.ticks/c.ticks, "cpu/"+c.name)
	}
	for _, c := range carriers { // for who wants to see what the ratios are of
		b.Logf("%s: %.2f GB/s, %.2f s of CPU per GB", c.name, median(c.rates)/1e9, c.ticks/100/(turns*chunk/1e9))
	}
}

func median(xs []float64) float64 { return slices.Sorted(slices.Values(xs))[len(xs)/2] }

// move sends n bytes and waits until they are at the other end.
func (c *carrier) move(b *testing.B, n int64) {
	sent := make(chan error, 1)
	go func() { // ends with its bytes
		buf := make([]byte, 64<<10)
		for left := n; left > 0; left -= int64(len(buf)) {
			if _, err := c.from.Write(buf); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	buf := make([]byte, 256<<10)
	for left := n; left > 0; {
		m, err := c.to.Read(buf)
		require.NoError(b, err, c.name)
		left -= int64(m)
	}
	require.NoError(b, <-sent)
}

// ours is a stuntd that only relays.
func ours(b *testing.B) *carrier {
	dir := b.TempDir()
	secret, binary := filepath.Join(dir, "secret"), filepath.Join(dir, "stuntd")
	require.NoError(b, os.WriteFile(secret, []byte(phrase), 0o600))
	build := exec.Command("go", "build", "-o", binary, "github.com/gostunt/stunt/cmd/stuntd")
	build.Stderr = os.Stderr
	require.NoError(b, build.Run())
	pid, ready := begin(b, exec.Command(binary, "-listen", "127.0.0.1:0", "-state", dir, "-relay-secret", secret, "-relay-only", "-log-level", "error", "-drain", "1ms"))
	address, _, _ := strings.Cut(strings.TrimPrefix(ready, "ready "), "#")
	dialer, listener, err := pair(address)
	require.NoError(b, err)
	return &carrier{name: "stuntd", pid: pid, from: dialer, to: listener}
}

// pair opens both ends of a pair at a relay with our phrase.
func pair(address string) (dialer, listener net.Conn, err error) {
	secret, err := relay.ParseSecret([]byte(phrase))
	if err != nil {
		return nil, nil, err
	}
	var dial [16]byte
	rand.Read(dial[:])
	caller, _, _ := ed25519.GenerateKey(nil)
	callee, _, _ := ed25519.GenerateKey(nil)
	td, tl := secret.Tickets(dial, caller, callee, time.Now())
	var ends [2]net.Conn
	for i, ticket := range [][]byte{td, tl} {
		if ends[i], err = net.Dial("tcp", address); err != nil {
			return nil, nil, err
		}
		pre, err := relay.Preamble(ticket)
		if err != nil {
			return nil, nil, err
		}
		if _, err := ends[i].Write(pre); err != nil {
			return nil, nil, err
		}
	}
	return ends[0], ends[1], errors.Join(relay.ReadStatus(ends[0]), relay.ReadStatus(ends[1]))
}

// bare is the loop of spliceLoop.
func bare(b *testing.B) *carrier {
	pid, address := role(b, "splice")
	c := &carrier{name: "splice", pid: pid}
	for _, end := range []*net.Conn{&c.from, &c.to} {
		var err error
		*end, err = net.Dial("tcp", address)
		require.NoError(b, err)
	}
	return c
}

// coturn is Debian's turnserver with an allocation over TCP (RFC 6062), from
// which it connects to the other end; nil where there is none.
func coturn(b *testing.B) *carrier {
	binary, err := exec.LookPath("turnserver")
	if err != nil {
		b.Log("without coturn: apt-get install coturn")
		return nil
	}
	const listen = "127.0.0.1"
	probe, err := net.Listen("tcp", listen+":0") // a port that is free now
	require.NoError(b, err)
	port := probe.Addr().(*net.TCPAddr).Port
	require.NoError(b, probe.Close())
	dir := b.TempDir()
	c := exec.Command(binary, "-n", "-L", listen, "-E", listen, "-p", fmt.Sprint(port), "--no-tls", "--no-dtls", "--no-cli", "--no-udp",
		"--lt-cred-mech", "-u", "user:pass", "-r", "bench", "--allow-loopback-peers", "-l", filepath.Join(dir, "log"), "--simple-log",
		"--pidfile", filepath.Join(dir, "pid"), "--userdb", filepath.Join(dir, "db"))
	require.NoError(b, c.Start())
	b.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	address := probe.Addr().String()
	var control net.Conn
	require.Eventually(b, func() bool {
		control, err = net.Dial("tcp", address)
		return err == nil
	}, 20*time.Second, 10*time.Millisecond)
	client, err := turn.NewClient(&turn.ClientConfig{STUNServerAddr: address, TURNServerAddr: address, Conn: turn.NewSTUNConn(control),
		Username: "user", Password: "pass", Realm: "bench"})
	require.NoError(b, err)
	b.Cleanup(client.Close)
	require.NoError(b, client.Listen())
	allocation, err := client.AllocateTCP()
	require.NoError(b, err)
	b.Cleanup(func() { allocation.Close() })
	peer, err := net.Listen("tcp", listen+":0")
	require.NoError(b, err)
	defer peer.Close()
	data, err := net.Dial("tcp", address)
	require.NoError(b, err)
	require.NoError(b, allocation.CreatePermissions(peer.Addr()))
	from, err := allocation.DialWithConn(data, "tcp", peer.Addr().String())
	require.NoError(b, err)
	to, err := peer.Accept()
	require.NoError(b, err)
	return &carrier{name: "coturn", pid: c.Process.Pid, from: from, to: to}
}

// idlePairs is how many pairs BenchmarkRelayIdle holds.
const idlePairs = 500

// BenchmarkRelayIdle tells what an idle pair costs the relay: files, and memory
// of the program, which is heap and stacks after a collection. Its clients are
// another process. Every pair has carried something before.
func BenchmarkRelayIdle(b *testing.B) {
	secret := filepath.Join(b.TempDir(), "secret")
	require.NoError(b, os.WriteFile(secret, []byte(phrase), 0o600))
	s, err := stuntd.Start(stuntd.Config{Listen: []string{"127.0.0.1:0"}, StateDir: b.TempDir(), Logger: slog.New(slog.DiscardHandler),
		Limits: stuntd.Limits{ConnsPerSource: 4 * idlePairs, HalfOpenPerSource: 1024},
		Relay:  stuntd.Relay{Only: true, SecretFile: secret, Limits: relay.Limits{StreamsPerSource: 4 * idlePairs, WaitingPerSource: 2 * idlePairs}}})
	require.NoError(b, err)
	defer s.Close()
	var files, memory float64
	for b.Loop() {
		f0, m0 := held(b)
		_, line := role(b, "pairs "+s.Addrs()[0].String())
		require.Equal(b, "ready", line)
		require.Equal(b, idlePairs, s.RelayStats().Pairs)
		f1, m1 := held(b)
		files, memory = (f1-f0)/idlePairs, (m1-m0)/idlePairs
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(files, "files/pair")
	b.ReportMetric(memory/1024, "KiB/pair")
}

// held returns the open files and the memory in use of this process.
func held(b *testing.B) (files, memory float64) {
	for range 3 { // pools are emptied in two turns, and stacks shrink in one
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(b, err)
	return float64(len(fds)), float64(m.HeapInuse + m.StackInuse)
}

// holdPairs opens pairs at a relay, moves something over each in both
// directions, says so, and holds them until stdin ends.
func holdPairs(address string) {
	var ends []net.Conn
	for range idlePairs {
		a, b, err := pair(address)
		if err != nil {
			panic(err)
		}
		for _, x := range [][2]net.Conn{{a, b}, {b, a}} {
			const some = 64 << 10
			go x[0].Write(make([]byte, some))
			if _, err := io.ReadFull(x[1], make([]byte, some)); err != nil {
				panic(err)
			}
		}
		ends = append(ends, a, b)
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(ends)
}
