package punch

import (
	"context"
	"io"
	"net"
	"time"

	"github.com/gostunt/stunt/internal/secure"
	"github.com/gostunt/stunt/internal/sock"
)

// agreeTime bounds how long the dialer waits for the listener's word that it
// goes over, too: a round trip, and three retransmissions of a lost segment
// (after 0.2, 0.6 and 1.4 s). Closing the connection may have to wait for it. It
// is well below the time that a secure.Conn waits for a Move.
const agreeTime = 2 * time.Second

// GoesOn reports whether the race goes on after p was chosen: a relay was, and
// something better may come of what is under way. Then the caller ends it with
// Upgrade, or with Stop.
func (r *Race) GoesOn(p *Path) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cfg.Moves && p.Method == Relay && !r.final
}

// Upgrade waits, until the end of the window, for a direct path on which both
// ends agree to go on; then the caller moves the connection there at once, as
// the other end does. It is called after a Wait whose path GoesOn. On an
// error there is no such path, and the connection stays where it is; the race
// is over in any case. Neither ctx nor Stop ends an agreement that is under way:
// the other end may be acting on it.
func (r *Race) Upgrade(ctx context.Context) (*Path, error) {
	p, err := r.upgrade(ctx)
	if err == nil {
		err = r.agree(p)
	}
	if err != nil {
		r.Stop()
		return nil, err
	}
	r.chosen.Store(true)
	r.caught()
	time.AfterFunc(linger, r.Stop)
	return p, nil
}

func (r *Race) upgrade(ctx context.Context) (*Path, error) {
	paths := r.moves
	if r.cfg.Dialer {
		paths = r.verified
	}
	for {
		select {
		case p := <-paths:
			if p.Method != Relay {
				return p, nil
			}
			sock.Abort(p.Conn) // a second relay
		case <-r.expired:
			return nil, ErrNoPath
		case <-r.ctx.Done():
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// agree has both ends know that the other goes over to a path. The dialer asks
// for one path only, and only once, so that both mean the same; if the answer is
// lost, the path is, and the connection with it.
func (r *Race) agree(p *Path) error {
	p.Conn.SetDeadline(time.Now().Add(agreeTime))
	var err error
	if r.cfg.Dialer {
		err = ask(p)
	} else {
		_, err = p.Conn.Write(p.Session.Moved(p.mine, p.theirs))
	}
	if err == nil {
		err = p.Conn.SetDeadline(time.Time{})
	}
	if err != nil {
		sock.Abort(p.Conn)
	}
	return err
}

// ask is the dialer's half of agree.
func ask(p *Path) error {
	if _, err := p.Conn.Write(p.Session.Move(p.mine, p.theirs)); err != nil {
		return err
	}
	var moved [secure.SelectSize]byte
	if _, err := io.ReadFull(p.Conn, moved[:]); err != nil {
		return hungUp(err)
	}
	return p.Session.CheckMoved(moved[:], p.mine, p.theirs)
}
