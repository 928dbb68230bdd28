package rendezvous

import (
	"crypto/ed25519"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// bounds collects the first field of a message that breaks its bound. The same
// check runs before a message is sent and after it was received.
type bounds struct{ err error }

func (b *bounds) fail(format string, args ...any) {
	if b.err == nil {
		b.err = errorf(CodeBadMessage, format, args...)
	}
}

func (b *bounds) blob(name string, v []byte, limit int) *bounds {
	if len(v) > limit {
		b.fail("%s of %d bytes, at most %d are allowed", name, len(v), limit)
	}
	return b
}

// text refuses control characters as well: it ends in logs and on terminals.
func (b *bounds) text(v string) *bounds {
	if len(v) > MaxText || strings.ContainsFunc(v, unicode.IsControl) {
		b.fail("a text over %d bytes or with control characters", MaxText)
	}
	return b
}

func (b *bounds) dial(id DialID) *bounds {
	if id == (DialID{}) {
		b.fail("a dial id is missing")
	}
	return b
}

// key insists on the length: crypto/ed25519 panics on any other.
func (b *bounds) key(k ed25519.PublicKey) *bounds {
	if len(k) != ed25519.PublicKeySize {
		b.fail("a key of %d bytes", len(k))
	}
	return b
}

// label checks a name that may be left out.
func (b *bounds) label(id string) *bounds {
	if id != "" && b.err == nil {
		b.err = ValidID(id)
	}
	return b
}

// words checks a label that may be left out and may have parts.
func (b *bounds) words(v string) *bounds {
	if len(v) > MaxLabel {
		b.fail("a label of %d bytes, at most %d are allowed", len(v), MaxLabel)
	}
	for _, c := range []byte(v) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '/') {
			b.fail("a label with something other than a-z, 0-9, hyphens and slashes")
			break
		}
	}
	return b
}

func (b *bounds) ticket(v []byte) *bounds { return b.blob("ticket", v, MaxTicket) }

// seen checks an address that may be left out.
func (b *bounds) seen(a netip.AddrPort) *bounds {
	if a.Addr().Zone() != "" {
		b.fail("an address with a zone")
	}
	return b
}

func (b *bounds) span(d time.Duration) *bounds {
	if d < 0 {
		b.fail("a negative duration")
	}
	return b
}

func (m *hello) check() error {
	b := &bounds{}
	if m.Min > m.Max {
		b.fail("versions %d to %d", m.Min, m.Max)
	}
	if len(m.Token) > MaxToken || strings.ContainsFunc(m.Token, unicode.IsControl) {
		b.fail("a token over %d bytes or with control characters", MaxToken)
	}
	return b.text(m.Agent).err
}

func (m *Welcome) check() error {
	b := &bounds{}
	if !m.Observed.IsValid() || m.Observed.Addr().Zone() != "" {
		b.fail("a welcome without an address")
	}
	if len(m.Relays) > MaxRelays {
		b.fail("%d relays, at most %d are allowed", len(m.Relays), MaxRelays)
	}
	for _, r := range m.Relays {
		b.text(r)
	}
	return b.span(m.Keepalive).span(m.Spread).text(m.Agent).err
}

func (m *Info) check() error {
	return (&bounds{}).blob("report", m.Report, MaxBlob).blob("candidates", m.Candidates, MaxBlob).words(m.Kind).err
}

// The name in a register is judged by the directory, which answers that one
// request, where an error here would end the session.
func (m *register) check() error     { return (&bounds{}).text(m.ID).err }
func (m *registered) check() error   { return (&bounds{}).label(m.ID).err }
func (m *deregister) check() error   { return (&bounds{}).text(m.ID).err }
func (m *deregistered) check() error { return nil }
func (m *lookup) check() error       { return (&bounds{}).text(m.ID).err }

func (m *Presence) check() error {
	return (&bounds{}).label(m.ID).key(m.Key).blob("report", m.Report, MaxBlob).words(m.Last).err
}

func (m *DialRequest) check() error {
	return (&bounds{}).dial(m.DialID).text(m.Peer).blob("noise", m.Noise, MaxNoise).
		blob("candidates", m.Candidates, MaxBlob).blob("report", m.Report, MaxBlob).words(m.Kind).err
}

func (m *Ringing) check() error {
	return (&bounds{}).dial(m.DialID).key(m.Key).
		blob("candidates", m.Candidates, MaxBlob).blob("report", m.Report, MaxBlob).words(m.Hint).ticket(m.Ticket).seen(m.Observed).err
}

func (m *Offer) check() error {
	b := &bounds{}
	if len(m.FromIDs) > MaxIDs {
		b.fail("%d names, at most %d are allowed", len(m.FromIDs), MaxIDs)
	}
	for _, id := range m.FromIDs {
		b.label(id)
	}
	return b.dial(m.DialID).key(m.From).label(m.To).blob("noise", m.Noise, MaxNoise).
		blob("candidates", m.Candidates, MaxBlob).blob("report", m.Report, MaxBlob).words(m.Hint).ticket(m.Ticket).seen(m.Observed).err
}

func (m *Answer) check() error {
	return (&bounds{}).dial(m.DialID).text(m.Text).blob("noise", m.Noise, MaxNoise).
		blob("candidates", m.Candidates, MaxBlob).blob("report", m.Report, MaxBlob).words(m.Hint).ticket(m.Ticket).seen(m.Observed).err
}

func (m *goAhead) check() error { return (&bounds{}).dial(m.DialID).err }
func (m *cancel) check() error  { return (&bounds{}).dial(m.DialID).err }

func (m *Outcome) check() error {
	return (&bounds{}).dial(m.DialID).label(m.Method).span(m.Elapsed).text(m.Text).err
}

func (m *ping) check() error    { return nil }
func (m *pong) check() error    { return (&bounds{}).span(m.Spread).err }
func (m *bye) check() error     { return (&bounds{}).span(m.Spread).err }
func (m *Error) check() error   { return (&bounds{}).text(m.Text).text(m.ID).err }
func (m *unknown) check() error { return nil }

// clip makes any text fit to be sent: valid, without control characters, and
// no longer than limit bytes.
func clip(s string, limit int) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
