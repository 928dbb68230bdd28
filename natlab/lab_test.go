package natlab

import (
	"io"
	"testing"
	"time"

	"github.com/gostunt/stunt/natlab/nat"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { Main(m) }

func TestHello(t *testing.T) {
	lab := Start(t, Config{})
	krouter := lab.KernelNAT("krouter", lab.Internet(), Plain, Link{Delay: 10 * time.Millisecond, Hops: 3})
	router := lab.NAT("router", lab.Internet(), nat.Config{}, Link{Delay: 10 * time.Millisecond, Hops: 3})
	_ = router
	alice := lab.Host("alice", krouter, Link{})
	server := lab.Host("server", nil, Link{Delay: 5 * time.Millisecond})
	for _, a := range []string{server.Addr().String() + ":80", "[" + server.Addr6().String() + "]:80"} {
		ln, err := server.Listen(t.Context(), "tcp", a)
		require.NoError(t, err)
		defer ln.Close()
		go func() {
			c, err := ln.Accept()
			if err == nil {
				io.WriteString(c, c.RemoteAddr().String())
				c.Close()
			}
		}()
		start := time.Now()
		c, err := alice.Dial(t.Context(), "tcp", ln.Addr().String())
		require.NoError(t, err)
		t.Log(time.Since(start))
		b, err := io.ReadAll(c)
		require.NoError(t, err)
		c.Close()
		t.Logf("%s", b)
	}
	t.Logf("%s", lab.trace)
}
