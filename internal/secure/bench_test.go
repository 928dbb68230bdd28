package secure

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The benchmarks put records beside crypto/tls (TLS 1.3, AES-128-GCM) and plain TCP, over the same loopback.
var transports = []struct {
	name string
	pair func(testing.TB) (net.Conn, net.Conn)
}{
	{"secure", func(t testing.TB) (net.Conn, net.Conn) {
		a, b := tcpPair(t)
		c1, c2 := testConns(t, a, b)
		return c1, c2
	}},
	{"tls", tlsPair},
	{"tcp", func(t testing.TB) (net.Conn, net.Conn) { return tcpPair(t) }},
}

func tlsPair(t testing.TB) (net.Conn, net.Conn) {
	key := testKey("tls")
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(testRandom("tls"), template, template, key.Public(), key)
	require.NoError(t, err)
	a, b := tcpPair(t)
	server := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	client := tls.Client(a, &tls.Config{InsecureSkipVerify: true}) // the benchmark is about records
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	require.NoError(t, client.Handshake())
	require.NoError(t, <-done)
	require.Equal(t, tls.TLS_AES_128_GCM_SHA256, client.ConnectionState().CipherSuite)
	return client, server
}

// BenchmarkConn is one direction: b.N writes of a size, read with the buffer of io.Copy.
func BenchmarkConn(b *testing.B) {
	for _, size := range []int{1 << 10, 32 << 10, 64 << 10, 1 << 20} {
		for _, tr := range transports {
			b.Run(strconv.Itoa(size>>10)+"KiB/"+tr.name, func(b *testing.B) {
				from, to := tr.pair(b)
				defer to.Close()
				defer from.Close()
				done := make(chan error, 1)
				go func() { done <- drain(to, make([]byte, 32<<10), 0) }()
				p := make([]byte, size)
				_, err := from.Write(p)
				require.NoError(b, err)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := from.Write(p); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				from.(interface{ CloseWrite() error }).CloseWrite()
				require.NoError(b, <-done)
			})
		}
	}
}

// BenchmarkConnBoth is both directions at once.
func BenchmarkConnBoth(b *testing.B) {
	const size = 64 << 10
	for _, tr := range transports {
		b.Run(tr.name, func(b *testing.B) {
			x, y := tr.pair(b)
			defer y.Close()
			defer x.Close()
			done := make(chan error, 3)
			n := int64(b.N) * size
			go func() { done <- drain(x, make([]byte, 32<<10), n) }()
			go func() { done <- drain(y, make([]byte, 32<<10), n) }()
			go func() { done <- pour(y, make([]byte, size), b.N) }()
			b.SetBytes(2 * size)
			b.ReportAllocs()
			b.ResetTimer()
			require.NoError(b, pour(x, make([]byte, size), b.N))
			for range cap(done) {
				require.NoError(b, <-done)
			}
		})
	}
}

// BenchmarkConnPing is one byte there and back.
func BenchmarkConnPing(b *testing.B) {
	for _, tr := range transports {
		b.Run(tr.name, func(b *testing.B) {
			x, y := tr.pair(b)
			defer y.Close()
			defer x.Close()
			go echo(y)
			p := make([]byte, 1)
			b.ReportAllocs()
			for b.Loop() {
				if err := pour(x, p, 1); err != nil {
					b.Fatal(err)
				}
				if _, err := x.Read(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// drain reads n bytes, or to the end if n is 0.
func drain(c net.Conn, p []byte, n int64) error {
	for got := int64(0); n == 0 || got < n; {
		m, err := c.Read(p)
		got += int64(m)
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// pour writes p times times.
func pour(c net.Conn, p []byte, times int) error {
	for range times {
		if _, err := c.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// echo answers each byte until the connection ends.
func echo(c net.Conn) {
	p := make([]byte, 1)
	for {
		if _, err := c.Read(p); err != nil {
			return
		}
		if _, err := c.Write(p); err != nil {
			return
		}
	}
}
