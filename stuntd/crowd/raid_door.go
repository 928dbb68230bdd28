package crowd

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"net"
	"time"

	"github.com/gostunt/stunt/rendezvous"
)

// doorRaids are by strangers who have no session, or do not want one.
var doorRaids = []raid{
	{"half-open", "connections that begin a TLS handshake and say no more", many(800, (*raiders).halfOpen)},
	{"handshakes", "whole TLS handshakes, with a key, and nothing after them", many(32, (*raiders).handshake)},
	{"slowloris", "handshakes, HTTP requests and messages that come byte by byte", many(300, (*raiders).slow)},
	{"garbage", "frames that are too long, that are no message, and bytes that are no protocol", many(32, (*raiders).garbage)},
}

// halfOpen says the first bytes of a TLS record and waits for what the server
// makes of it.
func (r *raiders) halfOpen(ctx context.Context, i int) {
	c, err := r.connect(ctx, i)
	if err != nil {
		r.score(false)
		return
	}
	defer shut(ctx, c)()
	defer r.hold()()
	began := time.Now()
	c.Write([]byte{0x16, 3, 1}) // where it was refused the read tells
	untilClosed(c)
	if ctx.Err() == nil {
		r.score(time.Since(began) > time.Second) // it had a place
	}
}

// handshake makes the server do all its public-key work.
func (r *raiders) handshake(ctx context.Context, i int) {
	c, err := r.join(ctx, i)
	if err == nil {
		shut(ctx, c)()
	}
	r.score(err == nil)
}

// slow says something that is all right, one byte in a tenth of a second.
func (r *raiders) slow(ctx context.Context, i int) {
	var c net.Conn
	var err error
	say := []byte("GET / HTTP/1.1\r\nHost: x\r\n")
	switch i % 3 {
	case 0: // to TLS
		c, err = r.connect(ctx, i)
		say = append([]byte{0x16, 3, 1, 2, 0}, make([]byte, 512)...)
	case 1: // in a session
		c, err = r.join(ctx, i)
		say = append(binary.BigEndian.AppendUint32(nil, rendezvous.MaxMessage), make([]byte, 512)...)
	default: // to HTTP, which is in TLS
		if c, err = r.connect(ctx, i); err == nil {
			c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		}
	}
	if err != nil {
		r.score(false)
		return
	}
	defer shut(ctx, c)()
	defer r.hold()()
	r.score(true)
	const step = 100 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	for _, b := range say {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		c.SetDeadline(time.Now().Add(hangTime))
		if _, err := c.Write([]byte{b}); err != nil {
			return // the server has had enough
		}
	}
}

// garbage says what is no message, in a session and without one.
func (r *raiders) garbage(ctx context.Context, i int) {
	noise := make([]byte, 300)
	rand.Read(noise) // never fails, by its documentation
	var c net.Conn
	var err error
	switch i % 4 {
	case 0: // no protocol, or one of ours that ends there
		c, err = r.connect(ctx, i)
		noise[0] = []byte{noise[0], 0, 1, 'r', 0x16}[int(noise[1])%5]
	case 1: // no length that a frame may have
		c, err = r.join(ctx, i)
		noise = binary.BigEndian.AppendUint32(nil, rendezvous.MaxMessage+1+uint32(noise[0]))
	case 2: // a length, and no message
		c, err = r.join(ctx, i)
		noise = append(binary.BigEndian.AppendUint32(nil, uint32(len(noise))), noise...)
	default: // a message that a client does not send
		c, err = r.join(ctx, i)
		noise = bytes.Repeat(encode(frame{Kind: kindWelcome}), 3)
	}
	if err != nil {
		r.score(false)
		return
	}
	defer shut(ctx, c)()
	c.Write(noise)
	if i%4 == 0 && int(noise[1])%5 > 0 {
		r.score(false) // of some beginnings the server waits for the rest, which does not come
		return
	}
	r.ends(ctx, c)
}
