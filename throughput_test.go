package stunt_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/stuntd"
)

// cable is two hosts joined by a link of the kernel, over which everything
// goes: their links to the lab, which carries packets in user space and copies
// every one, are down. The server is on the first host.
type cable struct {
	*world
	a, b  *natlab.Host
	addrA netip.Addr // of a, on the cable
}

func newCable(t testing.TB) *cable {
	lab := natlab.Start(t, natlab.Config{Seed: 1})
	down := natlab.Link{Down: true}
	c := &cable{a: lab.Host("a", nil, down), b: lab.Host("b", nil, down)}
	addrA, _, err := lab.Veth(c.a, c.b)
	require.NoError(t, err)
	c.addrA = addrA
	c.world = &world{t: t, lab: lab, host: c.a, config: stuntd.Config{
		Listen: []string{netip.AddrPortFrom(addrA, 3478).String()}, Open: c.a.Do, StateDir: t.TempDir(),
	}}
	c.serve()
	t.Cleanup(func() { c.server.Close() })
	return c
}

// peers returns a connection from a node on b to one on a.
func (c *cable) peers(both stunt.Config) link {
	a, b := c.node(c.a, both), c.node(c.b, both)
	ln := listen(c.t, a, 0)
	c.ready(a, b)
	l := connect(c.t, b, ln)
	c.t.Cleanup(l.close)
	require.Equal(c.t, c.addrA, l.dialer.Path().Remote.Addr(), "the path is over the cable: %+v", l.dialer.Path())
	return l
}

// plain returns a TCP connection from b to a.
func (c *cable) plain() (dialer, listener *net.TCPConn) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	ln, err := c.a.Listen(ctx, "tcp4", netip.AddrPortFrom(c.addrA, 0).String())
	require.NoError(c.t, err)
	defer ln.Close()
	d, err := c.b.Dial(ctx, "tcp4", ln.Addr().String())
	require.NoError(c.t, err)
	c.t.Cleanup(func() { d.Close() })
	l, err := ln.Accept()
	require.NoError(c.t, err)
	c.t.Cleanup(func() { l.Close() })
	return d.(*net.TCPConn), l.(*net.TCPConn)
}

// tls returns the same under TLS 1.3 with the cipher that Encrypted has.
func (c *cable) tls() (dialer, listener *tls.Conn) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(c.t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	require.NoError(c.t, err)
	d, l := c.plain()
	listener = tls.Server(l, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}})
	dialer = tls.Client(d, &tls.Config{InsecureSkipVerify: true}) // who it is does not matter to throughput
	done := make(chan error, 1)
	go func() { done <- listener.Handshake() }()
	require.NoError(c.t, dialer.Handshake())
	require.NoError(c.t, <-done)
	require.Equal(c.t, uint16(tls.VersionTLS13), dialer.ConnectionState().Version)
	require.Equal(c.t, tls.TLS_AES_128_GCM_SHA256, dialer.ConnectionState().CipherSuite)
	return dialer, listener
}

// BenchmarkThroughput moves bytes over connections between two nodes and over
// their counterparts without stunt, by turns in the same run over the same link,
// and reports the median of the ratios: 1 is as fast, more is faster. Plain TCP
// beside plain TCP shows how far from 1 a ratio is that means nothing.
func BenchmarkThroughput(b *testing.B) {
	raw := func(c *cable) way {
		l := c.peers(stunt.Config{Security: stunt.Raw})
		return way{l.dialer, l.listener}
	}
	encrypted := func(c *cable) way {
		l := c.peers(stunt.Config{})
		return way{l.dialer, l.listener}
	}
	plain := func(c *cable) way {
		d, l := c.plain()
		return way{d, l}
	}
	overTLS := func(c *cable) way {
		d, l := c.tls()
		return way{d, l}
	}
	b.Run("raw/tcp", func(b *testing.B) { compare(b, raw, plain) })
	b.Run("tcp/tcp", func(b *testing.B) { compare(b, plain, plain) })
	resumable := func(c *cable) way {
		l := c.peers(stunt.Config{Resume: true})
		return way{l.dialer, l.listener}
	}
	b.Run("resume/encrypted", func(b *testing.B) { compare(b, resumable, encrypted) })
	b.Run("encrypted/tls", func(b *testing.B) { compare(b, encrypted, overTLS) })
}

// BenchmarkFar moves bytes over a round trip of 100 ms, in the lab, which
// carries packets in user space, over a connection that can be resumed and one
// that can't, by turns: what may be under way at once is what counts there.
func BenchmarkFar(b *testing.B) {
	const size = 64 << 20
	w := newWorld(b, 100*time.Millisecond)
	hostA, hostB := w.at("a", ""), w.at("b", "")
	var ways [2]way
	for i, resume := range []bool{true, false} {
		ln := listen(b, w.node(hostA, stunt.Config{Resume: resume}), 0)
		l := connect(b, w.node(hostB, stunt.Config{Resume: resume}), ln)
		b.Cleanup(l.close)
		ways[i] = way{l.dialer, l.listener}
	}
	var spent [2]time.Duration
	n := 0
	for b.Loop() {
		n++
		for i, x := range ways {
			x.moveAll(b, size, make([]byte, chunk)) // slow start, buffers that grow
			spent[i] += x.moveAll(b, size, make([]byte, chunk))
		}
	}
	for i, name := range []string{"resume-MB/s", "encrypted-MB/s"} {
		b.ReportMetric(float64(n)*size/1e6/spent[i].Seconds(), name)
	}
	b.ReportMetric(0, "ns/op") // of all of it: says nothing
}

// way is a connection, from whom bytes come and where they arrive.
type way struct {
	from io.Writer
	to   io.Reader
}

const (
	// A turn is short: the machine changes under us from one to the next, and
	// what makes the median sure is how many ratios there are.
	turn = 4 << 20
	// freshPerOp is how many connections of each kind one op makes, and
	// pairsPerFresh how many ratios each gives: some connections are faster
	// than others of their kind all their life.
	freshPerOp, pairsPerFresh = 10, 80
	// chunk is what one Write is given.
	chunk = 64 << 10
)

// compare reports how much faster bytes go one way than another.
func compare(b *testing.B, ours, theirs func(*cable) way) {
	c := newCable(b)
	buf := make([]byte, chunk)
	var ratios []float64
	var spent [2]time.Duration
	for b.Loop() {
		for range freshPerOp {
			ways := [2]way{ours(c), theirs(c)}
			for _, w := range ways {
				w.move(b, buf) // slow start, buffers that grow
			}
			for i := range pairsPerFresh {
				var t [2]time.Duration
				for j := range t { // who goes first alternates
					k := (i + j) % 2
					t[k] = ways[k].move(b, buf)
					spent[k] += t[k]
				}
				ratios = append(ratios, float64(t[1])/float64(t[0]))
			}
		}
	}
	slices.Sort(ratios)
	rate := func(d time.Duration) float64 { return float64(len(ratios)) * turn / 1e6 / d.Seconds() }
	b.ReportMetric(0, "ns/op") // of both together: says nothing
	b.ReportMetric(ratios[len(ratios)/2], "ratio-p50")
	b.ReportMetric(ratios[len(ratios)/4], "ratio-p25")
	b.ReportMetric(ratios[len(ratios)*3/4], "ratio-p75")
	b.ReportMetric(rate(spent[0]), "first-MB/s")
	b.ReportMetric(rate(spent[1]), "second-MB/s")
}

// move sends a turn and returns how long it took until the last byte was read.
func (w way) move(b *testing.B, buf []byte) time.Duration { return w.moveAll(b, turn, buf) }

// moveAll is move for so many bytes.
func (w way) moveAll(b *testing.B, size int, buf []byte) time.Duration {
	done := make(chan error, 1)
	began := time.Now()
	go func() { // until all is written, or the connection is closed
		for n := 0; n < size; n += len(buf) {
			if _, err := w.from.Write(buf); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	into := make([]byte, chunk)
	for n := 0; n < size; {
		m, err := w.to.Read(into)
		if err != nil {
			require.NoError(b, err)
		}
		n += m
	}
	took := time.Since(began)
	require.NoError(b, <-done)
	return took
}
