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
}

// How many messages that answer something else are read past. On a connection
// of our own there should be none.
const maxStray = 4

// exchange sends a Binding request and reads its response. It bounds both by
// ctx; when it returns an error the connection is of no further use.
func exchange(ctx context.Context, conn net.Conn, q ask) (answer, error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	a, err := roundTrip(conn, q)
	if !stop() {
		// The deadline of the past is set or about to be.
		return answer{}, context.Cause(ctx)
	}
	if err != nil {
		return answer{}, err
	}
	server := sock.AddrPort(conn.RemoteAddr())
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

func roundTrip(conn net.Conn, q ask) (answer, error) {
	req, err := stun.Build(stun.TransactionID, stun.BindingRequest, q)
	if err != nil {
		return answer{}, err
	}
	if _, err := conn.Write(req.Raw); err != nil {
		return answer{}, err
	}
	var m stun.Message
	for range maxStray {
		if err := readMessage(conn, &m); err != nil {
			return answer{}, err
		}
		if m.TransactionID == req.TransactionID {
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
	return a, nil
}
