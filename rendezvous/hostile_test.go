package rendezvous

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stillServes shows that a server is none the worse for it.
func (h *host) stillServes(t *testing.T) {
	t.Helper()
	n := h.join(t, newKey(t))
	_, err := n.Lookup(within(t), "nobody")
	require.ErrorIs(t, err, CodeUnknownPeer)
}

func TestOversizeFrame(t *testing.T) {
	h := serve(t, &Server{})
	for _, n := range []uint32{MaxMessage + 1, 1 << 31, 1<<32 - 1} {
		for _, greeted := range []bool{false, true} {
			p := h.raw(t, newKey(t))
			if greeted {
				p = h.peer(t, newKey(t))
			}
			_, err := p.conn.Write(binary.BigEndian.AppendUint32(nil, n))
			require.NoError(t, err)
			p.refusal(CodeTooLarge)
			p.gone()
		}
	}
	h.stillServes(t)
}

func TestGarbage(t *testing.T) {
	h := serve(t, &Server{})
	for name, body := range garbage {
		for _, greeted := range []bool{false, true} {
			raw, err := hex.DecodeString(body)
			require.NoError(t, err)
			p := h.raw(t, newKey(t))
			if greeted {
				p = h.peer(t, newKey(t))
			}
			_, err = p.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...))
			require.NoError(t, err)
			require.ErrorIs(t, read[*Error](p), CodeBadMessage, name)
			p.gone()
		}
	}
	h.stillServes(t)
}

func TestMessagesThatAClientDoesNotSend(t *testing.T) {
	h := serve(t, &Server{})
	for _, m := range []message{&hello{}, &registered{}, &pong{}, &bye{}, &Error{}, &goAhead{DialID: DialID{1}}} {
		p := h.peer(t, newKey(t))
		p.send(m)
		p.refusal(CodeBadMessage)
		p.gone()
	}
	p := h.raw(t, newKey(t))
	p.send(&ping{})
	p.refusal(CodeBadMessage) // nothing comes before a Hello
	p.gone()
}

// What this version does not know is skipped: kinds and fields alike.
func TestUnknownIsSkipped(t *testing.T) {
	h := serve(t, &Server{})
	p := h.peer(t, newKey(t))
	for _, body := range []string{
		"a10018c8",                        // kind 200
		"a1001903e8",                      // kind 1000
		"a300110118631863a1616101",        // a ping with two keys more
		"a20011" + "1864" + "a1" + "0102", // and with a map in one
	} {
		raw, err := hex.DecodeString(body)
		require.NoError(t, err)
		_, err = p.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...))
		require.NoError(t, err)
	}
	read[*pong](p)
	read[*pong](p)
	p.register("alice")
}

// trickle writes the bytes one by one until the other end has had enough.
func trickle(conn net.Conn, b []byte) {
	for i := 0; ; i = (i + 1) % len(b) {
		if _, err := conn.Write(b[i : i+1]); err != nil {
			return
		}
		time.Sleep(time.Millisecond) // the slowness under test, not a wait for anything
	}
}

// A frame that comes byte by byte does not count as a sign of life.
func TestSlowFrame(t *testing.T) {
	h := serve(t, &Server{Keepalive: 20 * time.Millisecond})
	p := h.peer(t, newKey(t))
	p.conn.Write(binary.BigEndian.AppendUint32(nil, MaxMessage)) // may come too late already
	trickle(p.conn, []byte{0})
	require.ErrorIs(t, receive(t, h.ended, "the end"), os.ErrDeadlineExceeded)

	h = serve(t, &Server{Greeting: 300 * time.Millisecond})
	if conn := h.tryTLS(t); conn != nil {
		conn.Write(binary.BigEndian.AppendUint32(nil, MaxMessage))
		trickle(conn, []byte{0})
	}
	require.ErrorIs(t, receive(t, h.ended, "nor in a greeting"), os.ErrDeadlineExceeded)
}

// tryTLS connects to a host that may be too impatient for that; nil if it was.
func (h *host) tryTLS(t *testing.T) net.Conn {
	cert, err := Certificate(newKey(t))
	require.NoError(t, err)
	conn, err := tls.Dial("tcp", h.addr.HostPort(), h.addr.tlsConfig(cert, nil))
	if err != nil {
		return nil
	}
	t.Cleanup(func() { conn.NetConn().Close() })
	return conn
}

func TestNoHello(t *testing.T) {
	h := serve(t, &Server{Greeting: 50 * time.Millisecond})
	silent, err := net.Dial("tcp", h.addr.HostPort()) // not even TLS
	require.NoError(t, err)
	defer silent.Close()
	require.ErrorIs(t, receive(t, h.ended, "the end"), os.ErrDeadlineExceeded)
	h.tryTLS(t) // and nothing more
	require.ErrorIs(t, receive(t, h.ended, "the end"), os.ErrDeadlineExceeded)

	h = serve(t, &Server{})
	plain, err := net.Dial("tcp", h.addr.HostPort())
	require.NoError(t, err)
	defer plain.Close()
	_, err = plain.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	require.NoError(t, err)
	var notTLS tls.RecordHeaderError
	require.ErrorAs(t, receive(t, h.ended, "the end"), &notTLS)
}

// Who sends more than the rate is not read, and holds up nobody else.
func TestFlood(t *testing.T) {
	met := make(chan string, 1)
	h, a, b := pair(t, &Server{Limits: Limits{MessageRate: 20}, Trace: &Trace{Limited: func(name string) {
		select {
		case met <- name:
		default:
		}
	}}})
	flooder := h.peer(t, newKey(t))
	frame, err := encode(&Info{Report: make([]byte, MaxBlob)})
	require.NoError(t, err)
	batch := bytes.Repeat(frame, 64)
	for err == nil { // until its own buffers are full
		require.NoError(t, flooder.conn.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
		_, err = flooder.conn.Write(batch)
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "the server leaves it waiting")
	require.Equal(t, limitMessageRate, receive(t, met, "the limit"))
	call, err := a.Dial(within(t), DialRequest{Peer: "bob"})
	require.NoError(t, err)
	receive(t, call.Ringing, "a dial beside the flood")
	receive(t, b.offers, "an Offer")
}

// Who does not read is cut before it costs more than its queue.
func TestSlowReaderIsCut(t *testing.T) {
	met := make(chan string, 1)
	h, _, b := pair(t, &Server{Limits: Limits{MessageRate: -1, MessageRatePerSource: -1, DialRate: -1}, Trace: &Trace{Limited: func(name string) { met <- name }}})
	require.NoError(t, b.Update(Info{Report: make([]byte, MaxBlob)}))
	p := h.peer(t, newKey(t))
	frame, err := encode(&lookup{Ref: 1, ID: "bob"})
	require.NoError(t, err)
	batch := bytes.Repeat(frame, 100)
	for err == nil {
		_, err = p.conn.Write(batch)
	}
	require.ErrorIs(t, receive(t, h.ended, "the end"), errSlow)
	require.Equal(t, limitUnread, receive(t, met, "the limit"))
	h.stillServes(t)
}

// What a client may ask for in a moment is more than we and the kernel keep for
// it, also with the limits that a server has.
func TestSlowReaderIsCutWithinItsRates(t *testing.T) {
	h, _, b := pair(t, &Server{})
	require.NoError(t, b.Update(Info{Report: make([]byte, MaxBlob)}))
	require.NoError(t, b.Register(within(t), "bob2")) // the update is in force once this is answered
	p := h.peer(t, newKey(t))
	frame, err := encode(&lookup{Ref: 1, ID: "bob"})
	require.NoError(t, err)
	_, err = p.conn.Write(bytes.Repeat(frame, 4*(&Limits{}).dialRate())) // a burst
	require.NoError(t, err)
	require.ErrorIs(t, receive(t, h.ended, "the end"), errSlow)
}

func TestLinkDoesNotWaitForReader(t *testing.T) {
	near, far := net.Pipe() // without any buffer: the first write blocks
	defer far.Close()
	l := newLink(near, near, maxQueue)
	for range 2*maxQueue/1024 + 2 { // one queue waits, one may be with the writer
		l.send(make([]byte, 1024))
	}
	l.wait()
	require.ErrorIs(t, l.reason(nil), errSlow)
	_, err := far.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	l.send([]byte("after the end")) // nothing happens
}

// Strangers who dial a node that reads slowly are refused; it is not cut.
func TestDialsDoNotCutSlowReader(t *testing.T) {
	h := serve(t, &Server{Limits: Limits{DialRate: -1, MessageRate: -1, MessageRatePerSource: -1, PendingDials: -1}})
	slow, caller := h.peer(t, newKey(t)), h.peer(t, newKey(t))
	slow.register("slow")
	dial := func() message {
		caller.send(&DialRequest{DialID: NewDialID(), Peer: "slow", Candidates: make([]byte, MaxBlob), Report: make([]byte, MaxBlob)})
		m, err := readMessage(caller.conn, func() {})
		require.NoError(t, err)
		return m
	}
	sent := 0
	for ; ; sent++ {
		if e, ok := dial().(*Error); ok {
			require.ErrorIs(t, e, CodeBusy)
			break
		}
	}
	for range sent {
		read[*Offer](slow)
	}
	require.IsType(t, &Ringing{}, dial(), "when it has read, it can be dialled")
}

// An idle session has one goroutine on the server, and sessions leave none.
func TestGoroutinesPerSession(t *testing.T) {
	h := serve(t, &Server{})
	h.peer(t, newKey(t)).register("warm-up")
	before := runtime.NumGoroutine()
	const n = 20
	for i := range n {
		p := h.peer(t, newKey(t))
		for range 50 {
			p.register("x" + string(rune('a'+i)))
			p.send(&ping{})
			read[*pong](p)
		}
	}
	for late := time.Now().Add(patience); runtime.NumGoroutine() > before+n; runtime.Gosched() {
		require.True(t, time.Now().Before(late), "%d goroutines more for %d sessions", runtime.NumGoroutine()-before, n)
	}
}
