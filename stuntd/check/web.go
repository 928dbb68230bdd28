package check

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/gostunt/stunt/rendezvous"
)

const (
	// renewBefore is when a certificate should have been renewed: those of the
	// usual authorities are, a month before their end.
	renewBefore = 14 * 24 * time.Hour

	// Clocks that differ by a minute break the relay between servers with one
	// secret; long before that something is wrong with one of them.
	clockBad, clockOdd = time.Minute, 5 * time.Second

	// answerTime is for one answer.
	answerTime = 10 * time.Second
)

// web looks at the certificate, the health check and the clock, over one
// connection.
func (v *visit) web(ctx context.Context) {
	raw, err := connect(ctx, v.reached[0])
	if err != nil {
		v.Bad("tls", "", "it accepted one connection, and then no other: %v", plain(err))
		return
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(answerTime))
	c := tls.Client(raw, &tls.Config{
		ServerName: v.target.Server.Host, NextProtos: []string{"http/1.1"},
		InsecureSkipVerify: true, // judged below, so that more can be said than that it is wrong
	})
	if err := c.HandshakeContext(ctx); err != nil {
		v.Bad("tls", "see that it is stuntd, and that no proxy stands before it", "no TLS: %v", plain(err))
		return
	}
	v.certificate(c.ConnectionState().PeerCertificates)
	v.health(c)
}

func (v *visit) certificate(chain []*x509.Certificate) {
	leaf, pin := chain[0], v.target.Server.Pin
	here := v.target.Server
	here.Pin = rendezvous.PinOf(leaf)
	if pin != (rendezvous.Pin{}) {
		if pin != here.Pin {
			v.Bad("certificate", "give nodes this address if it is your server, else find out whose it is", "its key is another than the pinned one: %v", here)
			return
		}
		v.Good("certificate", "it has the pinned key")
		return
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	left := time.Until(leaf.NotAfter)
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: v.target.Server.Host, Roots: v.target.RootCAs, Intermediates: between})
	switch {
	case left < 0:
		v.Bad("certificate", "renew it", "it has ended on %s", leaf.NotAfter.UTC().Format(time.DateOnly))
	case err != nil:
		v.Bad("certificate", "give nodes the address with its pin, "+here.String()+", or a certificate that they trust", "it is not trusted: %v", err)
	case left < renewBefore:
		v.Doubt("certificate", "see why it was not renewed", "it ends in %d days", int(left.Hours()/24))
	default:
		v.Good("certificate", "it is good for %s until %s", v.target.Server.Host, leaf.NotAfter.UTC().Format(time.DateOnly))
	}
}

// health asks what a load balancer would, and takes the time from the answer.
func (v *visit) health(c *tls.Conn) {
	req, err := http.NewRequest("GET", "https://"+v.target.Server.HostPort()+"/healthz", nil)
	if err == nil {
		err = req.Write(c)
	}
	if err != nil {
		v.Bad("health", "", "%v", plain(err))
		return
	}
	asked := time.Now()
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		v.Bad("health", "see that it is stuntd", "no answer to /healthz: %v", plain(err))
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64))
	if err != nil || resp.StatusCode != http.StatusOK || strings.TrimSpace(string(body)) != "ok" {
		v.Bad("health", "see that it is stuntd", "/healthz answers %s %q", resp.Status, body)
	} else {
		v.Good("health", "/healthz answers ok")
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		v.clock(date, asked, time.Now())
	}
}

// clock compares clocks. date is in whole seconds, and was read between asked and
// heard.
func (v *visit) clock(date, asked, heard time.Time) {
	ahead := max(date.Sub(heard), 0) // at least
	if behind := asked.Sub(date.Add(time.Second)); behind > 0 {
		ahead = -behind
	}
	const do = "let NTP set the clocks of both hosts; relays of several servers and tokens need them"
	switch off := ahead.Abs(); {
	case off >= clockBad:
		v.Bad("clock", do, "it differs from the one here by %v", ahead.Round(time.Second))
	case off >= clockOdd:
		v.Doubt("clock", do, "it differs from the one here by %v", ahead.Round(time.Second))
	default:
		v.Good("clock", "it agrees with the one here")
	}
}
