package turn

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v3"
	"github.com/stretchr/testify/require"
)

// A fake is a server that says whatever a test wants it to.
type fake struct {
	answer func(req *stun.Message) []byte // nil: the answer of an honest one

	mu    sync.Mutex // guards following
	asked map[stun.Method]int
}

const nonce, realm = "nonce", "example.com"

var key = stun.NewLongTermIntegrity("alice", realm, "secret")

// success is the answer of an honest server.
func success(req *stun.Message, attrs ...stun.Setter) []byte {
	all := append([]stun.Setter{stun.NewTransactionIDSetter(req.TransactionID), stun.NewType(req.Type.Method, stun.ClassSuccessResponse)}, attrs...)
	return build(append(all, key)...)
}

func refused(req *stun.Message, code stun.ErrorCode, attrs ...stun.Setter) []byte {
	return build(append([]stun.Setter{stun.NewTransactionIDSetter(req.TransactionID),
		stun.NewType(req.Type.Method, stun.ClassErrorResponse), code}, attrs...)...)
}

func build(all ...stun.Setter) []byte {
	m, err := stun.Build(all...)
	if err != nil {
		panic(err)
	}
	return m.Raw
}

var relayed = stun.XORMappedAddress{IP: net.IPv4(192, 0, 2, 1), Port: 50000}

type relayedAddr struct{}

func (relayedAddr) AddTo(m *stun.Message) error {
	return relayed.AddToAs(m, stun.AttrXORRelayedAddress)
}

func lifetime(seconds uint32) stun.Setter { return number{stun.AttrLifetime, seconds} }

func honest(req *stun.Message) []byte {
	switch {
	case !req.Contains(stun.AttrMessageIntegrity):
		return refused(req, stun.CodeUnauthorized, stun.NewRealm(realm), stun.NewNonce(nonce))
	case key.Check(req) != nil:
		return refused(req, stun.CodeUnauthorized, stun.NewRealm(realm), stun.NewNonce(nonce))
	}
	return success(req, relayedAddr{}, lifetime(600), number{stun.AttrConnectionID, 7})
}

// serve answers the requests on one connection until it ends.
func (f *fake) serve(conn net.Conn) {
	defer conn.Close()
	for {
		req, err := readMessage(conn)
		if err != nil {
			return
		}
		f.mu.Lock()
		if f.asked == nil {
			f.asked = make(map[stun.Method]int)
		}
		f.asked[req.Type.Method]++
		f.mu.Unlock()
		answer := honest
		if f.answer != nil {
			answer = f.answer
		}
		if _, err := conn.Write(answer(req)); err != nil {
			return
		}
	}
}

// dial is the Dial of a Config: each connection is to the fake. The goroutines
// end with their connections.
func (f *fake) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	go f.serve(there)
	return here, nil
}

func (f *fake) config() Config {
	return Config{Server: "fake", Username: "alice", Password: "secret", Dial: f.dial}
}

// A server that answers what it likes is told from one that is refused, and
// costs neither time nor memory.
func TestHostileAnswers(t *testing.T) {
	head := func(req *stun.Message, length uint16) []byte {
		b := success(req)[:headLen]
		binary.BigEndian.PutUint16(b[2:], length)
		return b
	}
	challenge := 0
	for name, tt := range map[string]struct {
		answer func(req *stun.Message) []byte
		is     error
		code   int
	}{
		"not signed": {answer: func(req *stun.Message) []byte {
			if !req.Contains(stun.AttrMessageIntegrity) {
				return honest(req)
			}
			return build(stun.NewTransactionIDSetter(req.TransactionID), stun.NewType(req.Type.Method, stun.ClassSuccessResponse),
				relayedAddr{}, lifetime(600))
		}, is: errUnsigned},
		"signed by another": {answer: func(req *stun.Message) []byte {
			if !req.Contains(stun.AttrMessageIntegrity) {
				return honest(req)
			}
			return build(stun.NewTransactionIDSetter(req.TransactionID), stun.NewType(req.Type.Method, stun.ClassSuccessResponse),
				relayedAddr{}, lifetime(600), stun.NewShortTermIntegrity("guess"))
		}, is: errUnsigned},
		"the address behind the signature": {answer: func(req *stun.Message) []byte {
			if !req.Contains(stun.AttrMessageIntegrity) {
				return honest(req)
			}
			return build(stun.NewTransactionIDSetter(req.TransactionID), stun.NewType(req.Type.Method, stun.ClassSuccessResponse),
				lifetime(600), key, relayedAddr{})
		}, is: errBadMessage},
		"no address":                {answer: func(req *stun.Message) []byte { return success(req, lifetime(600)) }, is: errBadMessage},
		"no lifetime":               {answer: func(req *stun.Message) []byte { return success(req, relayedAddr{}) }, is: errBadMessage},
		"a refusal without a nonce": {answer: func(req *stun.Message) []byte { return refused(req, stun.CodeUnauthorized) }, code: 401},
		"a new nonce each time": {answer: func(req *stun.Message) []byte {
			challenge++
			return refused(req, stun.CodeStaleNonce, stun.NewRealm(realm), stun.NewNonce(strings.Repeat("n", challenge)))
		}, code: 438},
		"another method": {answer: func(req *stun.Message) []byte {
			req.Type.Method = stun.MethodRefresh
			return success(req)
		}, is: errBadMessage},
		"a huge message": {answer: func(req *stun.Message) []byte { return head(req, 0xfffc) }, is: errLost},
		"an odd message": {answer: func(req *stun.Message) []byte { return head(req, 0xffff) }, is: errLost},
		"something else": {answer: func(*stun.Message) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }, is: errLost},
		"forbidden":      {answer: func(req *stun.Message) []byte { return refused(req, stun.CodeForbidden) }, code: 403},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{answer: tt.answer}
			_, err := Allocate(within(t), f.config())
			var oe *net.OpError
			require.ErrorAs(t, err, &oe)
			require.Equal(t, "allocate", oe.Op)
			if tt.code != 0 {
				var refusal *Error
				require.ErrorAs(t, err, &refusal)
				require.Equal(t, tt.code, refusal.Code)
				return
			}
			require.ErrorIs(t, err, tt.is)
		})
	}
	require.LessOrEqual(t, challenge, maxTries, "and no more")
}

func TestReasonIsCleaned(t *testing.T) {
	m := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodConnect, stun.ClassErrorResponse),
		stun.ErrorCodeAttribute{Code: 447, Reason: []byte("no\x1b[2J\xff")})
	require.Equal(t, "turn: 447 no [2J?", refusal(m).Error())
}

// ConnectionBind is answered on a connection of its own, by a server that may
// have waited for it.
func TestHostileBind(t *testing.T) {
	for name, answer := range map[string][]byte{
		"a length that overflows": append([]byte{0x01, 0x0b, 0xff, 0xff, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...),
		"another transaction":     success(&stun.Message{Type: stun.NewType(stun.MethodConnectionBind, stun.ClassRequest)}),
		"nothing":                 {},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{answer: func(req *stun.Message) []byte {
				if req.Type.Method == stun.MethodConnectionBind {
					return answer
				}
				return honest(req)
			}}
			cfg := f.config()
			cfg.Timeout = 300 * time.Millisecond
			a, err := Allocate(within(t), cfg)
			require.NoError(t, err)
			defer a.Close()
			_, err = a.DialContext(within(t), "tcp", "192.0.2.2:80")
			require.Error(t, err)
			require.NoError(t, a.Permit(within(t), netip.MustParseAddr("192.0.2.3")), "the allocation is as it was")
		})
	}
}

// More attempts than anybody accepts hold up nothing.
func TestFloodOfAttempts(t *testing.T) {
	here, there := net.Pipe()
	f := &fake{}
	go f.serve(there) // ends with the connection
	cfg := f.config()
	binds := 0
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if binds++; binds == 1 {
			return here, nil
		}
		return f.dial(ctx, network, addr)
	}
	a, err := Allocate(within(t), cfg)
	require.NoError(t, err)
	defer a.Close()
	for i := range 3 * maxAttempts {
		_, err := there.Write(build(stun.TransactionID, stun.NewType(stun.MethodConnectionAttempt, stun.ClassIndication),
			peerAddr(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.9"), uint16(1000+i))), number{stun.AttrConnectionID, uint32(i)}))
		require.NoError(t, err)
	}
	require.NoError(t, a.Permit(within(t), netip.MustParseAddr("192.0.2.3")), "requests are answered all the same")
	require.Len(t, a.attempts, maxAttempts)
	c, err := a.Accept()
	require.NoError(t, err)
	require.Equal(t, "192.0.2.9:1000", c.RemoteAddr().String())
	require.NoError(t, c.Close())
}

// In the time of a day: the allocation is refreshed at half its life, its
// permissions before the server forgets them, and a server that refuses either
// has ended it.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		var deaf atomic.Bool
		f.answer = func(req *stun.Message) []byte {
			if deaf.Load() && req.Type.Method == stun.MethodRefresh {
				return refused(req, stun.CodeAllocMismatch)
			}
			return honest(req)
		}
		a, err := Allocate(t.Context(), f.config())
		require.NoError(t, err)
		for i := range 2 * permitBatch {
			require.NoError(t, a.Permit(t.Context(), netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})))
		}
		require.NoError(t, a.Permit(t.Context(), netip.AddrFrom4([4]byte{10, 0, 0, 1})), "asked for once")
		time.Sleep(time.Hour + time.Second)
		synctest.Wait()
		f.mu.Lock()
		require.Equal(t, map[stun.Method]int{stun.MethodAllocate: 2, stun.MethodRefresh: 12,
			stun.MethodCreatePermission: 2*permitBatch + 15*2}, f.asked)
		f.mu.Unlock()

		deaf.Store(true)
		_, err = a.Accept()
		var refusal *Error
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, 437, refusal.Code)
		require.ErrorIs(t, err, errLost)
		_, err = a.DialContext(t.Context(), "tcp", "192.0.2.2:80")
		require.ErrorIs(t, err, errLost)
		require.NoError(t, a.Close())
	})
}

// Each call that waits ends with its context, with its time, and with the
// allocation.
func TestWaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var silent atomic.Uint32 // the method that is not answered
		f := &fake{}
		f.answer = func(req *stun.Message) []byte {
			if uint32(req.Type.Method) == silent.Load() {
				return nil
			}
			return honest(req)
		}
		silent.Store(uint32(stun.MethodAllocate))
		_, err := Allocate(t.Context(), f.config())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		silent.Store(0)
		a, err := Allocate(t.Context(), f.config())
		require.NoError(t, err)

		for _, method := range []stun.Method{stun.MethodCreatePermission, stun.MethodConnect, stun.MethodConnectionBind} {
			silent.Store(uint32(method))
			done, cancel := context.WithCancel(t.Context())
			cancel()
			_, err = a.DialContext(done, "tcp", "192.0.2.2:80")
			require.ErrorIs(t, err, context.Canceled, "before")
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			_, err = a.DialContext(ctx, "tcp", "192.0.2.2:80")
			require.ErrorIs(t, err, context.Canceled, "during %v", method)
			_, err = a.DialContext(t.Context(), "tcp", "192.0.2.2:80")
			require.ErrorIs(t, err, context.DeadlineExceeded, "past its time in %v", method)
			var ne net.Error
			require.ErrorAs(t, err, &ne)
			require.True(t, ne.Timeout())
			silent.Store(0)
			require.NoError(t, a.Permit(t.Context(), netip.MustParseAddr("192.0.2.2")))
		}
		silent.Store(uint32(stun.MethodConnect))
		ended := make(chan error, 2)
		go func() {
			_, err := a.Accept()
			ended <- err
		}()
		go func() {
			_, err := a.DialContext(t.Context(), "tcp", "192.0.2.2:80")
			ended <- err
		}()
		synctest.Wait()
		require.NoError(t, a.Close())
		require.NoError(t, a.Close(), "again")
		require.ErrorIs(t, <-ended, net.ErrClosed)
		require.ErrorIs(t, <-ended, net.ErrClosed)
		require.ErrorIs(t, a.Permit(t.Context(), netip.MustParseAddr("192.0.2.4")), net.ErrClosed)
	})
}

func TestRefusals(t *testing.T) {
	_, err := Allocate(within(t), Config{})
	require.ErrorContains(t, err, "Config.Server")
	s := startCoturn(t, "--denied-peer-ip", "127.0.0.2")
	codeOf := func(err error) int {
		var refusal *Error
		require.ErrorAs(t, err, &refusal)
		return refusal.Code
	}
	wrong := s.config(false)
	wrong.Password = "guess"
	_, err = Allocate(within(t), wrong)
	require.Equal(t, 401, codeOf(err))
	nobody := s.config(false)
	nobody.Username = ""
	_, err = Allocate(within(t), nobody)
	require.Equal(t, 401, codeOf(err))
	unknown := s.config(true)
	unknown.TLS.RootCAs = nil
	_, err = Allocate(within(t), unknown)
	require.Error(t, err, "a certificate of nobody we know")

	a := allocate(t, s.config(false))
	ln := echo(t)
	require.NoError(t, ln.Close())
	_, err = a.DialContext(within(t), "tcp", ln.Addr().String())
	require.Equal(t, 447, codeOf(err), "nobody listens there")
	_, err = a.DialContext(within(t), "tcp", "127.0.0.2:80")
	require.Equal(t, 403, codeOf(err))
	for _, address := range []string{"example.com:80", "127.0.0.1", ""} {
		_, err = a.DialContext(within(t), "tcp", address)
		var ae *net.AddrError
		require.ErrorAs(t, err, &ae)
	}
	_, err = a.DialContext(within(t), "udp", "127.0.0.1:80")
	require.ErrorIs(t, err, net.UnknownNetworkError("udp"))

	elsewhere := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 3)}}
	peer, err := elsewhere.DialContext(within(t), "tcp", a.Addr().String())
	if err == nil { // else it was as quick as that
		defer peer.Close()
		require.NoError(t, peer.SetDeadline(time.Now().Add(patience)))
		_, err = peer.Read(make([]byte, 1))
	}
	require.ErrorIs(t, err, syscall.ECONNRESET, "who has no permission is dropped by the server")
}

// A server that dies ends what it relayed, at once.
func TestServerDies(t *testing.T) {
	s := startCoturn(t)
	a := allocate(t, s.config(false))
	c, err := a.DialContext(within(t), "tcp", echo(t).Addr().String())
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, "hello", say(t, c, "hello"))
	require.NoError(t, s.process.Kill())
	_, err = a.Accept()
	require.ErrorIs(t, err, errLost)
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

// Whatever comes from a server is bounded, and leaves what follows alone.
func FuzzMessage(f *testing.F) {
	req := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest))
	f.Add(success(req, relayedAddr{}, lifetime(600), number{stun.AttrConnectionID, 7}))
	f.Add(refused(req, stun.CodeUnauthorized, stun.NewRealm(realm), stun.NewNonce(nonce)))
	f.Add(build(stun.TransactionID, stun.NewType(stun.MethodConnectionAttempt, stun.ClassIndication),
		peerAddr(netip.MustParseAddrPort("[2001:db8::1]:80")), number{stun.AttrConnectionID, 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(append(b, "rest"...))
		m, err := readMessage(r)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(m.Raw), maxMessage)
		rest, _ := io.ReadAll(r)
		require.Equal(t, len(b)+len("rest"), len(m.Raw)+len(rest))
		refusal(m)
		for _, attr := range []stun.AttrType{stun.AttrXORRelayedAddress, stun.AttrXORMappedAddress, stun.AttrXORPeerAddress} {
			if a, err := addressIn(m, attr); err == nil {
				require.True(t, a.IsValid())
			}
		}
		lifetimeIn(m)
		numberIn(m, stun.AttrConnectionID)
		c := &credentials{username: "alice", password: "secret"}
		if c.challenged(m) {
			_, _, err := c.request(stun.MethodRefresh, nil)
			require.NoError(t, err, "what a server names can be sent back")
		}
		verified(m, key)
	})
}
