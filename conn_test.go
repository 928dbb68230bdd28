package stunt_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	"github.com/gostunt/stunt"
)

// TestConn runs the definition of a net.Conn over every kind of path.
func TestConn(t *testing.T) {
	for _, tt := range []struct {
		name             string
		listener, dialer string // NATs; empty: a public host
		want             []stunt.Method
	}{
		{"simultaneous open", "eim-apdf", "eim-apdf", []stunt.Method{stunt.SimultaneousOpen}},
		{"accepted", "", "eim-apdf", []stunt.Method{stunt.Direct}},
	} {
		for _, security := range []stunt.Security{stunt.Encrypted, stunt.Raw} {
			t.Run(tt.name+"/"+security.String(), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 4*time.Millisecond)
				w.noIPv6 = true // whose firewalls would be crossed by simultaneous open in either case
				a := w.node(w.at("a", tt.listener), stunt.Config{ID: "a", Security: security})
				b := w.node(w.at("b", tt.dialer), stunt.Config{Security: security})
				ln := listen(t, a, 0)
				w.ready(a, b)
				nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
					l := connect(t, b, ln)
					require.Contains(t, tt.want, l.dialer.Path().Method, "%+v", l.dialer.Path())
					return l.dialer, l.listener, l.close, nil
				})
			})
		}
	}
}

// TestHalfClose shows that an end of one direction passes through, and that
// the other goes on.
func TestHalfClose(t *testing.T) {
	for _, security := range []stunt.Security{stunt.Encrypted, stunt.Raw} {
		t.Run(security.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 4*time.Millisecond)
			a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a", Security: security})
			b := w.node(w.behind("b", "eim-apdf"), stunt.Config{Security: security})
			l := connect(t, b, listen(t, a, 0))
			defer l.close()
			requireHalfClose(t, l)
		})
	}
}

// requireHalfClose shows that each direction of a link ends by itself.
func requireHalfClose(t testing.TB, l link) {
	t.Helper()
	_, err := l.dialer.Write([]byte("question"))
	require.NoError(t, err)
	require.NoError(t, l.dialer.CloseWrite())
	got, err := io.ReadAll(l.listener)
	require.NoError(t, err, "the end of the dialer's direction is a plain EOF")
	require.Equal(t, "question", string(got))
	_, err = l.listener.Write([]byte("answer"))
	require.NoError(t, err, "the other direction is still open")
	require.NoError(t, l.listener.Close())
	got, err = io.ReadAll(l.dialer)
	require.NoError(t, err)
	require.Equal(t, "answer", string(got))
}

// TestCopyFromFile moves a file with io.Copy. A Conn that offered its socket to
// os.File in Encrypted mode would have the kernel send the file in the clear.
func TestCopyFromFile(t *testing.T) {
	for _, security := range []stunt.Security{stunt.Encrypted, stunt.Raw} {
		t.Run(security.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 0)
			a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a", Security: security})
			b := w.node(w.behind("b", "eim-apdf"), stunt.Config{Security: security})
			l := connect(t, b, listen(t, a, 0))
			defer l.close()
			want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
			name := filepath.Join(t.TempDir(), "file")
			require.NoError(t, os.WriteFile(name, want, 0o600))
			f, err := os.Open(name)
			require.NoError(t, err)
			defer f.Close()
			done := make(chan error, 1)
			go func() {
				_, err := io.Copy(l.dialer, f)
				l.dialer.CloseWrite()
				done <- err
			}()
			var got bytes.Buffer
			_, err = io.Copy(&got, l.listener)
			require.NoError(t, err)
			require.NoError(t, <-done)
			require.True(t, bytes.Equal(want, got.Bytes()), "what arrives is what was sent")
		})
	}
}
