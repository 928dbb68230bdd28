package crowd

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"sync"
	"time"

	"github.com/gostunt/stunt/relay"
)

// relayRaids are at the relay.
var relayRaids = []raid{
	{"relay hogs", "relayed connections, as many as are to be had, full of bytes",
		func(ctx context.Context, r *raiders) { r.hogs(ctx, 256) }},
	{"relay strays", "streams with tickets of nobody's, used ones, and good ones whose other end does not come",
		func(ctx context.Context, r *raiders) { r.strays(ctx) }},
}

// tickets has two raiders introduced to each other, again and again, and returns
// both tickets of each dial.
func (r *raiders) tickets(ctx context.Context, out chan<- [2][]byte) {
	callee, err := r.join(ctx, 1, frame{Kind: kindRegister, Ref: 1, ID: "raid-relay"})
	if err != nil {
		return
	}
	defer shut(ctx, callee)()
	caller, err := r.join(ctx, 0)
	if err != nil {
		return
	}
	defer shut(ctx, caller)()
	for ctx.Err() == nil {
		deadline := time.Now().Add(hangTime)
		caller.SetDeadline(deadline)
		callee.SetDeadline(deadline)
		id := newDialID()
		if _, err := caller.Write(encode(dialTo("raid-relay", id))); err != nil {
			return
		}
		ringing, err := await(caller, kindRinging)
		if err != nil {
			return
		}
		offer, err := await(callee, kindOffer)
		if err != nil {
			return
		}
		if _, err := callee.Write(encode(frame{Kind: kindAnswer, DialID: id, Noise: someNoise}, frame{Kind: kindOutcome, DialID: id})); err != nil {
			return
		}
		if _, err := caller.Write(encode(frame{Kind: kindOutcome, DialID: id})); err != nil {
			return
		}
		select {
		case out <- [2][]byte{ringing.Ticket, offer.Ticket}:
		case <-ctx.Done():
		}
	}
}

// await reads to the next frame of a kind.
func await(c io.Reader, kind uint8) (*frame, error) {
	for {
		f, err := readFrame(c, func() {})
		if err != nil || f.Kind == kind {
			return f, err
		}
		if f.Kind == kindError && kind != kindError {
			return nil, io.ErrUnexpectedEOF
		}
	}
}

// supply runs tickets until ctx is done, anew when a session has ended.
func (r *raiders) supply(ctx context.Context) (<-chan [2][]byte, func()) {
	out := make(chan [2][]byte)
	var wg sync.WaitGroup
	wg.Go(func() {
		for r.turn(ctx) {
			r.tickets(ctx, out)
		}
	})
	return out, wg.Wait
}

// hogs opens pairs and has bytes flow in them.
func (r *raiders) hogs(ctx context.Context, pairs int) {
	tickets, wait := r.supply(ctx)
	defer wait()
	r.each(ctx, pairs, func(ctx context.Context, i int) {
		select {
		case t := <-tickets:
			r.hog(ctx, i, t)
		case <-ctx.Done():
		}
	})
}

// hog sends through one pair for as long as it lasts.
func (r *raiders) hog(ctx context.Context, i int, tickets [2][]byte) {
	var ends [2]io.ReadWriter
	for side, ticket := range tickets {
		c, err := r.connect(ctx, i+side)
		if err != nil {
			r.score(false)
			return
		}
		defer shut(ctx, c)()
		preamble, err := relay.Preamble(ticket)
		if err == nil {
			_, err = c.Write(preamble)
		}
		if err != nil {
			r.score(false)
			return
		}
		ends[side] = c
	}
	for _, c := range ends {
		if relay.ReadStatus(c) != nil {
			r.score(false)
			return
		}
	}
	r.score(true)
	defer r.hold()()
	drained := make(chan struct{})
	go func() { // ends with its connection
		defer close(drained)
		io.Copy(io.Discard, ends[1])
	}()
	chunk := bytes.Repeat([]byte{7}, 16<<10)
	for r.turn(ctx) {
		if _, err := ends[0].Write(chunk); err != nil {
			break
		}
	}
}

// strays open streams that are of no use, and hold what they get.
func (r *raiders) strays(ctx context.Context) {
	tickets, wait := r.supply(ctx)
	defer wait()
	r.each(ctx, 400, func(ctx context.Context, i int) {
		ticket := make([]byte, relay.TicketSize)
		if i%2 == 0 {
			rand.Read(ticket)
		} else {
			select {
			case t := <-tickets:
				ticket = t[i/2%2]
			case <-ctx.Done():
				return
			}
		}
		r.stray(ctx, i, ticket)
		if i%2 != 0 {
			r.stray(ctx, i, ticket) // and once more
		}
	})
}

func (r *raiders) stray(ctx context.Context, i int, ticket []byte) {
	preamble, err := relay.Preamble(ticket)
	if err != nil {
		r.score(false)
		return
	}
	c, err := r.connect(ctx, i)
	if err != nil {
		r.score(false)
		return
	}
	defer shut(ctx, c)()
	defer r.hold()()
	c.Write(preamble)
	r.score(relay.ReadStatus(c) == nil)
}
