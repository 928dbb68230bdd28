package probe

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"github.com/gostunt/stunt/internal/sock"
)

func seeds() [][]byte {
	raw := func(s ...stun.Setter) []byte {
		return stun.MustBuild(append([]stun.Setter{stun.NewTransactionIDSetter([12]byte{1, 2, 3})}, s...)...).Raw
	}
	return [][]byte{
		raw(stun.BindingRequest),
		raw(stun.BindingRequest, stun.NewSoftware("x"), stun.Fingerprint),
		raw(stun.BindingRequest, ask{change: changeIP | changePort, port: 40000, close: true}),
		raw(stun.BindingRequest, ask{from: 40000, patience: time.Second, syn: true}),
		raw(stun.BindingRequest, ask{hold: time.Millisecond}),
		raw(stun.BindingSuccess, &stun.XORMappedAddress{IP: []byte{203, 0, 113, 7}, Port: 40000}, arrival{TTL: 58, Seq: 1}),
		raw(stun.BindingRequest, stun.RawAttribute{Type: 0x7001, Value: []byte{1}}),
		raw(stun.BindingSuccess, &stun.XORMappedAddress{IP: []byte{203, 0, 113, 7}, Port: 40000},
			&stun.OtherAddress{IP: []byte{192, 0, 2, 2}, Port: 3479}, dialled{outcome: connected, after: 21e6}),
		raw(stun.BindingError, stun.CodeUnknownAttribute, stun.UnknownAttributes{3}),
		append(raw(stun.BindingRequest), raw(stun.BindingRequest)...),
		{0, 1, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42},
	}
}

// A server survives any bytes, sends only messages, and opens no socket other
// than for a dial back.
func FuzzServeConn(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	s := &Server{MessageRate: -1, DialBackRate: 1e9, Net: &sock.Net{
		Open: func(func() error) error { return errors.New("no network") },
	}}
	f.Fuzz(func(t *testing.T, in []byte) {
		c := &script{in: in, local: "127.0.0.1:3478", remote: "203.0.113.7:40000"}
		s.ServeConn(context.Background(), c)
		if !c.closed {
			t.Fatal("not closed")
		}
		out := &script{in: c.out}
		var m stun.Message
		for {
			err := readMessage(out, &m)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("sent what is no message: %v", err)
			}
		}
	})
}

// A client survives any answer, and what it takes from one is in bounds.
func FuzzParseAnswer(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var m stun.Message
		if readMessage(&script{in: in}, &m) != nil {
			return
		}
		a, err := parseAnswer(&m)
		if err != nil {
			return
		}
		if !a.mapped.IsValid() || a.dialled.outcome >= outcomes || a.dialled.after.Milliseconds() > maxDialMS {
			t.Fatalf("%+v", a)
		}
	})
}

// The private attributes read back as they were written.
func FuzzAttributes(f *testing.F) {
	f.Add([]byte{0, 0, 0, 6}, []byte{0x9c, 0x40, 0, 0}, []byte{1, 0, 0, 0, 0, 0, 0, 21, 1, 2, 3, 4, 5, 6, 7, 8}, []byte{64, 0, 0, 0, 1, 2, 3, 4})
	f.Add([]byte{}, []byte{0, 80, 0, 0}, []byte{9}, []byte{1, 2})
	f.Fuzz(func(t *testing.T, change, port, result, syn []byte) {
		if len(change)+len(port)+len(result)+len(syn) > maxBody/3 {
			return
		}
		var m stun.Message
		m.WriteHeader()
		m.Add(stun.AttrChangeRequest, change)
		m.Add(attrDialPort, port)
		m.Add(attrDialFrom, port)
		m.Add(attrHold, port)
		m.Add(attrOutcome, result)
		m.Add(attrSYN, syn)

		var a, a2 ask
		if a.GetFrom(&m) == nil {
			b := stun.MustBuild(stun.BindingRequest, a)
			if err := a2.GetFrom(b); err != nil || a != a2 {
				t.Fatalf("%+v became %+v: %v", a, a2, err)
			}
		}
		var s, s2 arrival
		if s.GetFrom(&m) == nil {
			b := stun.MustBuild(stun.BindingSuccess, s)
			if err := s2.GetFrom(b); err != nil || s != s2 {
				t.Fatalf("%+v became %+v: %v", s, s2, err)
			}
		}
		var d, d2 dialled
		if d.GetFrom(&m) == nil {
			b := stun.MustBuild(stun.BindingSuccess, d)
			if err := d2.GetFrom(b); err != nil || d != d2 {
				t.Fatalf("%+v became %+v: %v", d, d2, err)
			}
		}
	})
}
