package access

import (
	"crypto/ed25519"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/rendezvous"
)

// A desk is a gate with its key, and a node at it.
type desk struct {
	t       *testing.T
	gate    *Gate
	private ed25519.PrivateKey
	node    ed25519.PublicKey
	now     time.Time
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, now: at}
	public, private := newKey(t)
	d.private = private
	d.node, _ = newKey(t)
	d.gate = &Gate{Tokens: public, Now: func() time.Time { return d.now }}
	return d
}

func (d *desk) sign(token Token) string {
	d.t.Helper()
	token.Issued = at
	text, err := token.Sign(d.private)
	require.NoError(d.t, err)
	return text
}

func (d *desk) admit(token string) (rendezvous.Pass, error) {
	return d.gate.Admit(rendezvous.Applicant{Key: d.node, From: netip.AddrPortFrom(here, 4000), Token: token})
}

func TestZeroGateIsOpen(t *testing.T) {
	d := newDesk(t)
	d.gate = &Gate{}
	p, err := d.admit("whatever")
	require.NoError(t, err)
	require.NoError(t, p.Stands())
	require.NoError(t, p.MayListen("alice"))
	require.NoError(t, p.MayListen(""))
	require.NoError(t, p.MayDial("bob", nil))
	require.True(t, p.MayRelay())
}

func TestTokenLetsIn(t *testing.T) {
	d := newDesk(t)
	_, err := d.admit("")
	require.ErrorIs(t, err, rendezvous.CodeTokenRequired)
	_, err = d.admit("stunt1.abcd")
	require.ErrorIs(t, err, rendezvous.CodeBadToken)

	p, err := d.admit(d.sign(Token{Names: []string{"team-*"}, Rights: All}))
	require.NoError(t, err)
	require.NoError(t, p.MayListen("team-a"))
	require.NoError(t, p.MayListen(""))
	require.NoError(t, p.MayListen(rendezvous.Fingerprint(d.node)))
	require.ErrorIs(t, p.MayListen("alice"), rendezvous.CodeNotAllowed)
	require.ErrorIs(t, p.MayListen(keyA), rendezvous.CodeNotAllowed)
	require.NoError(t, p.MayDial("alice", nil))
	require.True(t, p.MayRelay())
}

func TestRightsAreSeparate(t *testing.T) {
	d := newDesk(t)
	for _, rights := range []Rights{Listen, Dial, Relay, Listen | Dial, Dial | Relay} {
		p, err := d.admit(d.sign(Token{Rights: rights}))
		require.NoError(t, err)
		require.Equal(t, rights&Listen != 0, p.MayListen("") == nil, rights)
		require.Equal(t, rights&Dial != 0, p.MayDial("bob", nil) == nil, rights)
		require.Equal(t, rights&Relay != 0, p.MayRelay(), rights)
	}
	p, err := d.admit(d.sign(Token{Rights: Listen}))
	require.NoError(t, err)
	require.ErrorIs(t, p.MayDial("bob", nil), rendezvous.CodeNotAllowed, "which is about the caller alone, and no secret")
}

func TestTokenForOneKey(t *testing.T) {
	d := newDesk(t)
	_, err := d.admit(d.sign(Token{Rights: All, Key: rendezvous.Fingerprint(d.node)}))
	require.NoError(t, err)
	_, err = d.admit(d.sign(Token{Rights: All, Key: keyA}))
	require.ErrorIs(t, err, rendezvous.CodeBadToken)
}

func TestTokenEnds(t *testing.T) {
	d := newDesk(t)
	text := d.sign(Token{Rights: All, Expires: at.Add(time.Minute)})
	p, err := d.admit(text)
	require.NoError(t, err)
	d.now = at.Add(59 * time.Second)
	require.NoError(t, p.Stands())
	d.now = at.Add(time.Minute)
	require.ErrorIs(t, p.Stands(), rendezvous.CodeTokenExpired, "in the middle of the session")
	_, err = d.admit(text)
	require.ErrorIs(t, err, rendezvous.CodeTokenExpired)
}

// Rules that are changed hold for those who are in.
func TestRevocation(t *testing.T) {
	d := newDesk(t)
	token := Token{Rights: All, Issued: at}
	text, err := token.Sign(d.private)
	require.NoError(t, err)
	p, err := d.admit(text)
	require.NoError(t, err)
	for _, tt := range []struct {
		rule string
		want rendezvous.Code
	}{
		{"deny token " + token.ID, rendezvous.CodeBadToken},
		{"deny key " + rendezvous.Fingerprint(d.node), rendezvous.CodeNotAllowed},
		{"deny from " + here.String(), rendezvous.CodeNotAllowed},
		{"allow key " + keyA, rendezvous.CodeNotAllowed},
	} {
		d.gate.Use(parse(t, tt.rule))
		require.ErrorIs(t, p.Stands(), tt.want, tt.rule)
		_, err = d.admit(text)
		require.ErrorIs(t, err, tt.want, tt.rule)
		d.gate.Use(nil)
		require.NoError(t, p.Stands())
	}
}

// A dial that no rule allows ends as one of a name that nobody has, to the letter.
func TestForbiddenPeerIsUnknown(t *testing.T) {
	d := newDesk(t)
	d.gate.Use(parse(t, "dial * -> public"))
	p, err := d.admit(d.sign(Token{Rights: All}))
	require.NoError(t, err)
	require.NoError(t, p.MayDial("public", nil))
	require.Equal(t, &rendezvous.Error{Code: rendezvous.CodeUnknownPeer}, p.MayDial("bob", nil))
}

// Who only dials has no name registered, and is known by those of its token.
func TestDialerIsKnownByItsToken(t *testing.T) {
	d := newDesk(t)
	d.gate.Use(parse(t, "dial team-* -> db", "dial team-a* -> a", "dial guest -> printer", "dial * -> public"))
	for _, tt := range []struct {
		names []string
		may   []string
		not   []string
	}{
		{nil, []string{"public"}, []string{"db", "a", "printer"}},
		{[]string{"guest"}, []string{"public", "printer"}, []string{"db", "a"}},
		{[]string{"team-*"}, []string{"public", "db"}, []string{"a", "printer"}}, // not all of the team may
		{[]string{"team-a*"}, []string{"public", "db", "a"}, []string{"printer"}},
		{[]string{"team-*-x"}, []string{"db"}, []string{"a"}},
		{[]string{"*"}, []string{"public"}, []string{"db", "a", "printer"}},
		{[]string{"x", "guest"}, []string{"printer"}, []string{"db"}},
	} {
		p, err := d.admit(d.sign(Token{Names: tt.names, Rights: All}))
		require.NoError(t, err)
		for _, whom := range tt.may {
			require.NoError(t, p.MayDial(whom, nil), "%v dials %s", tt.names, whom)
		}
		for _, whom := range tt.not {
			require.ErrorIs(t, p.MayDial(whom, nil), rendezvous.CodeUnknownPeer, "%v dials %s", tt.names, whom)
		}
	}
}
