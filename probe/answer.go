package probe

import (
	"context"
	"net"

	"github.com/pion/stun/v3"
)

var bindingRequest = stun.NewType(stun.MethodBinding, stun.ClassRequest)

// answer returns the response to a message, nil if there is none to give, and
// whether the connection ends with it. The error is for what is not worth an
// answer.
func (s *Server) answer(ctx context.Context, f flow, req *stun.Message) (resp *stun.Message, last bool, err error) {
	// RFC 8489 section 6.3: what is no request of a known method is discarded;
	// indications are keepalives.
	if req.Type != bindingRequest {
		s.counts.discarded.Add(1)
		return nil, false, nil
	}
	marked := req.Contains(stun.AttrFingerprint)
	if marked {
		if err := stun.Fingerprint.Check(req); err != nil {
			return nil, false, err
		}
	}
	if unknown := unknownAttributes(req); len(unknown) > 0 {
		resp, err = s.refuse(req, stun.CodeUnknownAttribute, unknown, marked)
		return resp, false, err
	}
	var a ask
	if err := a.GetFrom(req); err != nil {
		resp, err = s.refuse(req, stun.CodeBadRequest, nil, marked)
		return resp, true, err
	}
	if a.hold > 0 {
		if err := s.hold(f, a.hold); err != nil {
			return nil, false, err
		}
	}
	var more []stun.Setter
	if a.syn {
		if syn, ok := f.syn(); ok {
			more = append(more, arrival(syn))
		}
	}
	if a.dialsBack() {
		from, ok := s.source(f, a)
		if !ok {
			// RFC 5780 section 6.1: a server without another address says
			// that it does not know the attribute.
			resp, err = s.refuse(req, stun.CodeUnknownAttribute, stun.UnknownAttributes{stun.AttrChangeRequest}, marked)
			return resp, false, err
		}
		more = append(more, s.dialBack(ctx, f, from, a))
	}
	resp, err = s.success(req, f, more, marked)
	return resp, a.close, err
}

// success is the Binding response. It carries MAPPED-ADDRESS as well, for
// clients of RFC 3489; a NAT that rewrites addresses in payloads spoils only
// that one.
func (s *Server) success(req *stun.Message, f flow, more []stun.Setter, marked bool) (*stun.Message, error) {
	s.counts.answered.Add(1)
	m, err := stun.Build(req, stun.BindingSuccess,
		&stun.XORMappedAddress{IP: net.IP(f.remote.Addr().AsSlice()), Port: int(f.remote.Port())})
	if err != nil {
		return nil, err
	}
	if err := addAddress(m, stun.AttrMappedAddress, f.remote); err != nil {
		return nil, err
	}
	if o := s.other(f.around); o.IsValid() {
		if err := addAddress(m, stun.AttrOtherAddress, o); err != nil {
			return nil, err
		}
		if err := addAddress(m, stun.AttrResponseOrigin, s.public(f.local)); err != nil {
			return nil, err
		}
	}
	return s.seal(m, more, marked)
}

// refuse is the Binding error response (RFC 8489 sections 6.3.1 and 14.8).
func (s *Server) refuse(req *stun.Message, code stun.ErrorCode, unknown stun.UnknownAttributes, marked bool) (*stun.Message, error) {
	s.counts.refused.Add(1)
	m, err := stun.Build(req, stun.BindingError, code)
	if err != nil {
		return nil, err
	}
	var more []stun.Setter
	if len(unknown) > 0 {
		more = append(more, unknown)
	}
	return s.seal(m, more, marked)
}

// seal adds what every response ends with. FINGERPRINT answers FINGERPRINT
// (RFC 8489 section 7) and must be the last.
func (s *Server) seal(m *stun.Message, more []stun.Setter, marked bool) (*stun.Message, error) {
	name := s.Software
	if name == "" {
		name = "stunt"
	}
	more = append(more, stun.NewSoftware(name))
	if marked {
		more = append(more, stun.Fingerprint)
	}
	for _, a := range more {
		if err := a.AddTo(m); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// understood are the comprehension-required attributes of RFC 8489, and of RFC
// 5780 the one that has a meaning over TCP. Credentials are read past: a
// Binding needs none here.
var understood = map[stun.AttrType]bool{
	stun.AttrMappedAddress:          true,
	stun.AttrChangeRequest:          true,
	stun.AttrUsername:               true,
	stun.AttrMessageIntegrity:       true,
	stun.AttrErrorCode:              true,
	stun.AttrUnknownAttributes:      true,
	stun.AttrRealm:                  true,
	stun.AttrNonce:                  true,
	stun.AttrMessageIntegritySHA256: true,
	stun.AttrPasswordAlgorithm:      true,
	stun.AttrUserhash:               true,
	stun.AttrXORMappedAddress:       true,
}

// The list goes back to the sender, so it is no longer than what an honest
// client could fail to know.
const maxUnknown = 32

func unknownAttributes(m *stun.Message) stun.UnknownAttributes {
	var u stun.UnknownAttributes
	for _, a := range m.Attributes {
		if a.Type.Required() && !understood[a.Type] && len(u) < maxUnknown {
			u = append(u, a.Type)
		}
	}
	return u
}
