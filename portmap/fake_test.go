package portmap

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// lastGateway makes each fake a loopback address of its own.
var lastGateway atomic.Uint32

func newAddr() netip.Addr {
	n := lastGateway.Add(1)
	return netip.AddrFrom4([4]byte{127, 0, byte(1 + n/200), byte(1 + n%200)})
}

// fake is a gateway on loopback that answers datagrams as it is told to.
type fake struct {
	addr netip.Addr
	conn *net.UDPConn
	asks chan []byte // every request; more than that many are dropped

	mu     sync.Mutex // guards following
	answer func(request []byte) [][]byte
}

// newFake starts one at a port; it ends with the test.
func newFake(t *testing.T, port uint16, answer func(request []byte) [][]byte) *fake {
	t.Helper()
	f := &fake{addr: newAddr(), asks: make(chan []byte, 1000), answer: answer}
	f.open(t, port)
	return f
}

func (f *fake) open(t *testing.T, port uint16) {
	t.Helper()
	var err error
	f.conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.addr, port)))
	require.NoError(t, err)
	var done sync.WaitGroup
	done.Go(f.serve)
	t.Cleanup(func() { f.conn.Close(); done.Wait() })
}

// serve ends when the socket is closed.
func (f *fake) serve() {
	buf := make([]byte, 2048)
	for {
		n, src, err := f.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		request := append([]byte(nil), buf[:n]...)
		f.mu.Lock()
		answer := f.answer
		f.mu.Unlock()
		select {
		case f.asks <- request:
		default:
		}
		for _, b := range answer(request) {
			f.conn.WriteToUDPAddrPort(b, src)
		}
	}
}

func (f *fake) set(answer func(request []byte) [][]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// silent answers nothing.
func silent([]byte) [][]byte { return nil }

// pcpGateway answers PCP as a good gateway does, but for what spoil changes in
// its answers to MAP.
func pcpGateway(spoil func(reply []byte) [][]byte) func([]byte) [][]byte {
	return func(q []byte) [][]byte {
		if len(q) < pcpHeader || q[0] != pcpVersion {
			return [][]byte{{0, q[1] | pmpResponse, 0, 1, 0, 0, 0, 0}} // unsupported version, in NAT-PMP's words
		}
		r := append([]byte(nil), q...)
		r[1] |= pcpResponse
		r[3] = 0
		clear(r[8:24])
		binary.BigEndian.PutUint32(r[8:], 1000) // epoch
		if q[1] != pcpMap {
			return [][]byte{r}
		}
		copy(r[44:], []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 7})
		if spoil == nil || binary.BigEndian.Uint32(q[4:]) == 0 {
			return [][]byte{r}
		}
		return spoil(r)
	}
}

// pmpGateway is the same for NAT-PMP.
func pmpGateway(spoil func(reply []byte) [][]byte) func([]byte) [][]byte {
	return func(q []byte) [][]byte {
		r := []byte{0, q[1] | pmpResponse, 0, 0, 0, 0, 3, 232}
		switch {
		case q[0] != pmpVersion:
			r[3] = 1
			return [][]byte{r}
		case q[1] == pmpAddress:
			r = append(r, 203, 0, 113, 7)
		default:
			r = append(r, q[4:12]...)
			if spoil != nil && binary.BigEndian.Uint32(q[8:]) != 0 {
				return spoil(r)
			}
		}
		return [][]byte{r}
	}
}

// put writes big-endian bytes over a reply.
func put(at int, b ...byte) func(reply []byte) [][]byte {
	return func(reply []byte) [][]byte {
		copy(reply[at:], b)
		return [][]byte{reply}
	}
}
