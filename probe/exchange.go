package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"

	"github.com/gostunt/stunt/internal/sock"
)

// answer is what a server says to a Binding request.
type answer struct {
	mapped  netip.AddrPort // where the request came from
	other   netip.AddrPort // OTHER-ADDRESS; invalid if the server has none
	dialled dialled        // untried if nothing was asked for
	syn     arrival        // TTL 0: not seen
}

// How many messages that answer something else are read past. On a connection
// of our own there should be none.
const maxStray = 4

// request is a message that was sent and not answered yet. A server answers in
// the order of the requests.
type request struct {
	conn net.Conn
	id   [stun.TransactionIDSize]byte
}

// exchange sends a Binding request and reads its response. It bounds both by
// ctx; when it returns an error the connection is of no further use.
func exchange(ctx context.Context, conn net.Conn, q ask) (answer, error) {
	r, err := send(conn, q)
	if err != nil {
		return answer{}, err
	}
	return r.receive(ctx)
}

// send sends a Binding request. One fits any socket buffer.
func send(conn net.Conn, q ask) (request, error) {
	m, err := stun.Build(stun.TransactionID, stun.BindingRequest, q)
	if err != nil {
		return request{}, err
	}
	_, err = conn.Write(m.Raw)
	return request{conn, m.TransactionID}, err
}

// receive reads the response, in the time that ctx has.
func (r request) receive(ctx context.Context) (answer, error) {
	stop := context.AfterFunc(ctx, func() { r.conn.SetDeadline(time.Unix(1, 0)) })
	a, err := r.read()
	if !stop() {
		// The deadline of the past is set or about to be.
		return answer{}, context.Cause(ctx)
	}
	if err != nil {
		return answer{}, err
	}
	server := sock.AddrPort(r.conn.RemoteAddr())
	if !host(a.mapped.Addr()) || a.mapped.Port() == 0 || a.mapped.Addr().Is4() != server.Addr().Is4() {
		return answer{}, fmt.Errorf("STUN server says that we are %v", a.mapped)
	}
	if !alike(a.other.Addr(), server.Addr()) {
		a.other = netip.AddrPort{}
	}
	return a, nil
}

// alike reports whether a server may send its clients to its other address: a
// public one shall not have them connect to hosts of their own network.
func alike(other, server netip.Addr) bool {
	return other.IsValid() && host(other) && other.Is4() == server.Is4() &&
		other.IsPrivate() == server.IsPrivate() && other.IsLoopback() == server.IsLoopback()
}

func (r request) read() (answer, error) {
	var m stun.Message
	for range maxStray {
		if err := readMessage(r.conn, &m); err != nil {
			return answer{}, err
		}
		if m.TransactionID == r.id {
			return parseAnswer(&m)
		}
	}
	return answer{}, errNotSTUN
}

func parseAnswer(m *stun.Message) (answer, error) {
	switch m.Type {
	case stun.BindingSuccess:
	case stun.BindingError:
		var e stun.ErrorCodeAttribute
		if err := e.GetFrom(m); err != nil {
			return answer{}, err
		}
		return answer{}, fmt.Errorf("STUN error %d", e.Code)
	default:
		return answer{}, errNotSTUN
	}
	mapped, err := mappedOf(m)
	if err != nil {
		return answer{}, err
	}
	a := answer{mapped: mapped}
	if m.Contains(stun.AttrOtherAddress) {
		if a.other, err = addressOf(m, stun.AttrOtherAddress); err != nil {
			return answer{}, err
		}
	}
	if m.Contains(attrOutcome) {
		if err := a.dialled.GetFrom(m); err != nil {
			return answer{}, err
		}
	}
	if m.Contains(attrSYN) {
		if err := a.syn.GetFrom(m); err != nil {
			return answer{}, err
		}
	}
	return a, nil
}
