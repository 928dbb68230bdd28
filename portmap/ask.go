package portmap

import (
	"context"
	"errors"
	"math"
	"net"
	"time"
)

const (
	// serverPort is where gateways hear NAT-PMP and PCP.
	serverPort = 5351

	// firstWait is how long the first datagram waits for an answer, and each
	// that repeats it twice as long (RFC 6886 section 3.1). A gateway is one
	// hop away: who has not answered three does not speak the protocol.
	firstWait = 250 * time.Millisecond
	sends     = 3

	// maxStray bounds the datagrams on our socket that answer nothing of ours.
	maxStray = 32
)

var errSilence = errors.New("no answer")

// ask sends a request, repeats it, and has accept look at what comes until it
// is done, or nobody answers.
func ask(ctx context.Context, c *net.UDPConn, request []byte, accept func([]byte) (done bool, err error)) error {
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, pcpMax+1)
	stray := 0
	for i := range sends {
		c.SetReadDeadline(time.Now().Add(firstWait << i))
		if ctx.Err() != nil {
			return ctx.Err() // the deadline above undid the one that ends us
		}
		if _, err := c.Write(request); err != nil {
			return err
		}
		for {
			n, err := c.Read(buf)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				break
			}
			if err != nil {
				return err // port unreachable: nobody is there
			}
			if done, err := accept(buf[:n]); done {
				return err
			}
			if stray++; stray > maxStray {
				return errors.New("too many answers to what was not asked")
			}
		}
	}
	return errSilence
}

// seconds rounds up: what is asked for in full seconds must not become 0, which
// ends a mapping.
func seconds(d time.Duration) uint32 {
	return uint32(min(math.Ceil(d.Seconds()), math.MaxUint32))
}

// epoch is a gateway's clock, which counts the seconds since it has begun to
// keep mappings (RFC 6887 section 8.5): one that goes back, or on at another
// pace than ours, belongs to a gateway that has lost them.
type epoch struct {
	value uint32
	at    time.Time // zero: not seen yet
}

// restarted notes a value and reports whether it says so.
func (e *epoch) restarted(value uint32, now time.Time) bool {
	last := *e
	e.value, e.at = value, now
	if last.at.IsZero() {
		return false
	}
	theirs, ours := int64(value)-int64(last.value), int64(now.Sub(last.at).Seconds())
	return theirs < -1 || ours+2 < theirs-theirs/16 || theirs+2 < ours-ours/16
}
