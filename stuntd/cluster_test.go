package stuntd

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/rendezvous"
)

// patience bounds what should happen soon. Reaching it is a failure.
const patience = 20 * time.Second

// together starts n servers of one cluster, in this process, and waits until
// they know each other.
func together(t *testing.T, n int) []*Server { return togetherAs(t, make([]Config, n)...) }

// togetherAs starts one for each Config.
func togetherAs(t *testing.T, cfgs ...Config) []*Server {
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("0123456789abcdef0123456789abcdef"), 0o600))
	var all []*Server
	for _, cfg := range cfgs {
		cfg.Cluster.Name, cfg.Cluster.SecretFile = "test", secret
		if len(cfg.Cluster.NATS) == 0 {
			cfg.Cluster.Listen = "127.0.0.1:0"
		}
		if len(all) > 0 && len(cfg.Cluster.NATS) == 0 { // one is enough: they tell of each other
			cfg.Cluster.Routes = []string{all[0].bus.Addr().String()}
		}
		all = append(all, start(t, cfg))
	}
	for _, s := range all {
		knows(t, s, len(cfgs)-1)
	}
	return all
}

// knows waits until a server has so many others.
func knows(t *testing.T, s *Server, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return len(s.Cluster().Members) == n }, patience, time.Millisecond)
}

// A peer is a node at one server of several.
type peer struct {
	*rendezvous.Client
	key    ed25519.PrivateKey
	offers chan *rendezvous.Offer // capacity 16
	lost   chan error             // capacity 16
	ups    chan rendezvous.Welcome
	stop   func()
}

func (p *peer) public() ed25519.PublicKey { return p.key.Public().(ed25519.PublicKey) }
func (p *peer) fingerprint() string       { return rendezvous.Fingerprint(p.public()) }

// meet starts a node at a server; it ends with the test. key may be nil.
func meet(t *testing.T, s *Server, key ed25519.PrivateKey, ids ...string) *peer {
	t.Helper()
	if key == nil {
		var err error
		_, key, err = ed25519.GenerateKey(nil)
		require.NoError(t, err)
	}
	servers, err := rendezvous.ParseServers(s.Address())
	require.NoError(t, err)
	p := &peer{key: key, offers: make(chan *rendezvous.Offer, 16), lost: make(chan error, 16), ups: make(chan rendezvous.Welcome, 16)}
	p.Client = rendezvous.NewClient(rendezvous.ClientConfig{Servers: servers, Key: key,
		OnOffer:   func(o *rendezvous.Offer) { p.offers <- o },
		OnLost:    func(_ string, err error) { p.lost <- err },
		OnSession: func(w rendezvous.Welcome, _ net.Conn) { p.ups <- w }})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx) })
	p.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(p.stop)
	require.NoError(t, p.Update(rendezvous.Info{Candidates: []byte("candidates of " + fmt.Sprint(ids)), Report: []byte("report"), Kind: "eim"}))
	for _, id := range ids {
		require.NoError(t, p.Register(soon(t), id))
	}
	return p
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func receive[T any](t *testing.T, ch <-chan T, why string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		require.FailNow(t, "nothing came", why)
	}
	return v
}

func dialled(t *testing.T, from *peer, id string) *rendezvous.Call {
	t.Helper()
	call, err := from.Dial(soon(t), rendezvous.DialRequest{Peer: id, Port: 80, Noise: []byte("noise 1"),
		Candidates: []byte("candidates a"), Report: []byte("report a"), Kind: "apdm"})
	require.NoError(t, err)
	return call
}

// noDial waits for the end of a dial that cannot come about.
func noDial(t *testing.T, from *peer, id string, code rendezvous.Code) {
	t.Helper()
	call := dialled(t, from, id)
	receive(t, call.Done, "the end of a dial")
	require.ErrorIs(t, call.Err(), code)
}

func TestDialBetweenServers(t *testing.T) {
	t.Parallel()
	all := together(t, 3)
	a, b := meet(t, all[0], nil, "alice"), meet(t, all[1], nil, "bob")
	for _, id := range []string{"bob", b.fingerprint()} {
		call := dialled(t, a, id)
		ringing := receive(t, call.Ringing, "a Ringing at alice")
		require.Equal(t, b.public(), ringing.Key)
		require.Equal(t, "candidates of [bob]", string(ringing.Candidates))
		require.Equal(t, "report", string(ringing.Report))
		offer := receive(t, b.offers, "an Offer at bob")
		require.Equal(t, call.DialID, offer.DialID)
		require.Equal(t, a.public(), offer.From)
		require.Equal(t, []string{"alice"}, offer.FromIDs)
		require.Equal(t, id, offer.To)
		require.Equal(t, uint16(80), offer.Port)
		require.Equal(t, "noise 1", string(offer.Noise))
		require.Equal(t, "candidates a", string(offer.Candidates))
		require.NotEmpty(t, ringing.Ticket)
		require.NotEmpty(t, offer.Ticket)
		require.NoError(t, offer.Answer(rendezvous.Answer{Noise: []byte("noise 2"), Candidates: []byte("fresh")}))
		answer := receive(t, call.Answer, "an Answer at alice")
		require.NoError(t, answer.Err())
		require.Equal(t, "noise 2", string(answer.Noise))
		require.Equal(t, "fresh", string(answer.Candidates))
		call.Conclude(rendezvous.Outcome{OK: true, Method: "direct"})
		offer.Conclude(rendezvous.Outcome{OK: true, Method: "direct"})
	}
	noDial(t, a, "carol", rendezvous.CodeUnknownPeer)

	for i, s := range all[:2] {
		require.Eventually(t, func() bool { return len(s.meet.Hints()) == 1 }, patience, time.Millisecond, "server %d learns from both ends", i)
	}
	require.Equal(t, []rendezvous.OutcomeCount{{Method: "direct", OK: true, Count: 2}}, all[0].meet.Outcomes(), "a dial counts once")
	require.Empty(t, all[1].meet.Outcomes())
	p, err := b.Lookup(soon(t), "alice")
	require.NoError(t, err)
	require.Equal(t, a.public(), p.Key)
	require.Equal(t, "direct", p.Last, "who was called knows how they met, too")
	_, err = b.Lookup(soon(t), "carol")
	require.ErrorIs(t, err, rendezvous.CodeUnknownPeer)

	require.Equal(t, "direct", receive(t, dialled(t, b, "alice").Ringing, "the way back").Hint)
}

// A NATS server of somebody else's does the same.
func TestDialOverNATS(t *testing.T) {
	t.Parallel()
	n, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, Authorization: "token", NoSigs: true, NoLog: true})
	require.NoError(t, err)
	n.Start()
	t.Cleanup(func() {
		n.Shutdown()
		n.WaitForShutdown()
	})
	require.True(t, n.ReadyForConnections(patience))
	cfg := Config{Cluster: Cluster{NATS: []string{"nats://token@" + n.Addr().String()}}}
	all := togetherAs(t, cfg, cfg)
	a, b := meet(t, all[0], nil), meet(t, all[1], nil, "bob")
	call := dialled(t, a, "bob")
	require.NoError(t, receive(t, b.offers, "an Offer").Answer(rendezvous.Answer{}))
	require.NoError(t, receive(t, call.Answer, "an Answer").Err())
	require.ErrorIs(t, a.Register(soon(t), "bob"), rendezvous.CodeIDTaken)
}

// What goes wrong between two servers is told as it is at one.
func TestRefusalsBetweenServers(t *testing.T) {
	t.Parallel()
	all := together(t, 2)
	a, b := meet(t, all[0], nil), meet(t, all[1], nil, "bob")
	ring := func() (*rendezvous.Call, *rendezvous.Offer) {
		call := dialled(t, a, "bob")
		return call, receive(t, b.offers, "an Offer")
	}
	call, offer := ring()
	require.NoError(t, offer.Answer(rendezvous.Answer{Code: rendezvous.CodePortClosed, Text: "no"}))
	require.ErrorIs(t, receive(t, call.Answer, "an Answer").Err(), rendezvous.CodePortClosed)

	call, offer = ring()
	call.Cancel()
	receive(t, offer.Done, "a Cancel")
	require.ErrorIs(t, offer.Err(), rendezvous.CodeCanceled)

	_, offer = ring()
	a.stop()
	receive(t, offer.Done, "a Cancel")
	require.ErrorIs(t, offer.Err(), rendezvous.CodePeerGone)

	a = meet(t, all[0], nil)
	call, _ = ring()
	b.stop()
	receive(t, call.Done, "an Error")
	require.ErrorIs(t, call.Err(), rendezvous.CodePeerGone)
	noDial(t, a, "bob", rendezvous.CodeUnknownPeer)
}

// The rules of the caller's server hold for peers at others, and who may not dial one
// hears there, too, what it hears of a name that nobody has. What a key may have is
// looked at at every server, whoever held it.
func TestRulesBetweenServers(t *testing.T) {
	t.Parallel()
	book := newBook(t, "dial alice -> bob")
	all := togetherAs(t, Config{Access: Access{File: book.path}, Logger: slog.New(slog.NewTextHandler(book, nil))}, Config{})
	bob := meet(t, all[1], nil, "bob")
	alice, eve := meet(t, all[0], nil, "alice"), meet(t, all[0], nil, "eve")
	dialled(t, alice, "bob")
	receive(t, bob.offers, "an Offer")
	look := func(whom string) string {
		_, err := eve.Lookup(soon(t), whom)
		require.ErrorIs(t, err, rendezvous.CodeUnknownPeer)
		return strings.ReplaceAll(err.Error(), whom, "")
	}
	require.Equal(t, look("nobody"), look("bob"))
	require.Equal(t, look("nobody"), look(bob.fingerprint()))
	noDial(t, eve, "bob", rendezvous.CodeUnknownPeer)
	noDial(t, eve, "nobody", rendezvous.CodeUnknownPeer)
	require.Empty(t, bob.offers)

	// Bob's server is gone, and its name is held for bob everywhere: until bob is denied.
	require.NoError(t, all[1].Close())
	other := meet(t, all[0], nil)
	require.ErrorIs(t, other.Register(soon(t), "bob"), rendezvous.CodeIDTaken)
	book.write("deny key " + bob.fingerprint())
	all[0].Reload()
	book.waitLog("access rules read")
	require.Eventually(t, func() bool { return other.Register(soon(t), "bob") == nil }, patience, 5*time.Millisecond)
}

// A peer that asks first is asked by its own server, and nothing of it leaves
// before it has said yes.
func TestAskBetweenServers(t *testing.T) {
	t.Parallel()
	all := together(t, 2)
	a, b := meet(t, all[0], nil), meet(t, all[1], nil)
	require.NoError(t, b.Update(rendezvous.Info{Candidates: []byte("secret"), Report: []byte("secret"), Ask: true}))
	require.NoError(t, b.Register(soon(t), "bob"))
	p, err := a.Lookup(soon(t), "bob")
	require.NoError(t, err)
	require.Empty(t, p.Report)
	call := dialled(t, a, "bob")
	offer := receive(t, b.offers, "an Offer")
	require.True(t, offer.Ask)
	ringing := receive(t, call.Ringing, "a Ringing")
	require.Equal(t, b.public(), ringing.Key)
	require.Empty(t, ringing.Candidates)
	require.Empty(t, ringing.Ticket)
	select {
	case <-offer.Go:
		require.FailNow(t, "Go before the answer")
	default:
	}
	require.NoError(t, offer.Answer(rendezvous.Answer{Candidates: []byte("now")}))
	answer := receive(t, call.Answer, "an Answer")
	require.Equal(t, "now", string(answer.Candidates))
	require.NotEmpty(t, answer.Ticket)
	receive(t, offer.Go, "Go")
}

func TestNamesOfServers(t *testing.T) {
	t.Parallel()
	all := together(t, 3)
	a, b := meet(t, all[0], nil, "alice"), meet(t, all[1], nil)
	require.ErrorIs(t, b.Register(soon(t), "alice"), rendezvous.CodeIDTaken)

	t.Run("the newer of two sessions", func(t *testing.T) {
		newer := meet(t, all[1], a.key, "alice")
		require.ErrorIs(t, receive(t, a.lost, "the older is told"), rendezvous.CodeReplaced)
		dialled(t, b, "alice")
		receive(t, newer.offers, "an Offer at the newer")
		dialled(t, b, a.fingerprint())
		receive(t, newer.offers, "under the fingerprint, too")
		require.Empty(t, a.offers)
		newer.stop()
		require.ErrorIs(t, b.Register(soon(t), "alice"), rendezvous.CodeIDTaken, "it is held where it was last")
		c := meet(t, all[2], nil)
		require.ErrorIs(t, c.Register(soon(t), "alice"), rendezvous.CodeIDTaken, "for all servers")
		meet(t, all[2], a.key, "alice")
	})
	t.Run("given up", func(t *testing.T) {
		d := meet(t, all[0], nil, "dora")
		require.NoError(t, d.Deregister(soon(t), "dora"))
		require.NoError(t, b.Register(soon(t), "dora"))
	})
	t.Run("the fingerprint comes back", func(t *testing.T) {
		older := meet(t, all[0], nil, "")
		newer := meet(t, all[1], older.key, "")
		dialled(t, meet(t, all[2], nil), older.fingerprint())
		receive(t, newer.offers, "an Offer at the newer")
		newer.stop()
		for back := false; !back; {
			call := dialled(t, b, older.fingerprint())
			select {
			case <-older.offers:
				back = true
			case <-call.Done: // the newer's server has yet to notice
			case <-soon(t).Done():
				require.FailNow(t, "nothing came", "an Offer at the older")
			}
		}
	})
}

// Of many who want one name at one moment, at all servers, one gets it.
func TestOneNameForOne(t *testing.T) {
	t.Parallel()
	all := together(t, 3)
	given := 0
	for round := range 5 {
		const n = 9
		errs := make(chan error, n)
		var peers []*peer
		for i := range n {
			peers = append(peers, meet(t, all[i%3], nil))
		}
		for _, p := range peers {
			go func() { errs <- p.Register(soon(t), fmt.Sprint("name", round)) }()
		}
		got := 0
		for range n {
			if err := receive(t, errs, "an answer"); err == nil {
				got++
			} else {
				require.ErrorIs(t, err, rendezvous.CodeIDTaken)
			}
		}
		require.LessOrEqual(t, got, 1, "one name for two keys")
		given += got
		for _, p := range peers {
			p.stop()
		}
	}
	require.Positive(t, given, "all got in the way of each other, each time")
}

// A server that comes learns of all names, however many there are, and holds them
// when the one that had them is gone.
func TestManyNames(t *testing.T) {
	t.Parallel()
	const names = 40_000
	path, many := filepath.Join(t.TempDir(), "names"), &bytes.Buffer{}
	for i := range names {
		owner := rendezvous.Fingerprint(ed25519.PublicKey(fmt.Sprintf("%032d", i)))
		fmt.Fprintln(many, fmt.Sprint("name-", i), owner, "-")
	}
	require.NoError(t, os.WriteFile(path, many.Bytes(), 0o600))
	all := togetherAs(t, Config{Names: path, NameHold: time.Hour}, Config{NameHold: time.Hour})
	require.Eventually(t, func() bool { return all[1].Cluster().Known == names }, patience, 5*time.Millisecond)
	require.NoError(t, all[0].Close())
	p := meet(t, all[1], nil)
	for _, i := range []int{0, names / 2, names - 1} {
		require.ErrorIs(t, p.Register(soon(t), fmt.Sprint("name-", i)), rendezvous.CodeIDTaken)
	}
	require.NoError(t, p.Register(soon(t), "another"))
}

// Nodes of all servers are told of all relays, and the tickets of one server are
// good at the others'.
func TestRelaysOfServers(t *testing.T) {
	t.Parallel()
	all := together(t, 2)
	a := meet(t, all[0], nil)
	var relays []string
	for _, s := range all {
		relays = append(relays, s.Addrs()[0].String())
	}
	relays[0] = rendezvous.RelayHere + relays[0]
	require.Equal(t, relays, receive(t, a.ups, "a Welcome").Relays)
	require.Equal(t, all[0].relay.Secret, all[1].relay.Secret)
}

// Who has another secret does not come in.
// A stranger who does not care who we are is refused by us, with a certificate or
// without.
func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	s := together(t, 1)[0]
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	foreign, err := rendezvous.Certificate(key)
	require.NoError(t, err)
	for what, certs := range map[string][]tls.Certificate{"none": nil, "another's": {foreign}} {
		conn, err := net.Dial("tcp", s.bus.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if certs == nil {
				return &tls.Certificate{}, nil
			}
			return &certs[0], nil
		}})
		if err = c.Handshake(); err == nil { // in TLS 1.3 the refusal comes after our end of it
			_, err = c.Read(make([]byte, 1))
		}
		require.ErrorContains(t, err, "remote error: tls: ", what)
	}
	require.Empty(t, s.Cluster().Members)
}

func TestStrangersAreNoServers(t *testing.T) {
	t.Parallel()
	s := together(t, 1)[0]
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("another secret that is long enough"), 0o600))
	var mu sync.Mutex
	var log bytes.Buffer
	other := start(t, Config{Logger: slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil)),
		Cluster: Cluster{Name: "test", SecretFile: secret, Listen: "127.0.0.1:0", Routes: []string{s.bus.Addr().String()}}})
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(log.String(), "certificate")
	}, patience, 5*time.Millisecond, "it is said why")
	require.Empty(t, other.Cluster().Members)
	require.Empty(t, s.Cluster().Members)
}
