package secure

import (
	"io"
	"sync"
	"time"
)

// lingerTimeout is how long a connection that was closed may take to bring the peer what was written: what a kernel holds for a
// path of 1 Mbit/s goes out in that time, and with what is left then it goes on as long as the peer says nothing. A peer that
// writes and never reads sees that much later that nobody is there, so it is no longer.
const lingerTimeout = 5 * time.Second

// Linger does what Close has left: it writes the rest and the end of the stream, and takes what the peer still sends, to its
// end. A TCP connection that is closed before answers any byte that comes with a reset, and the kernel, or a relay, throws
// away what the peer has not got. In plain TCP that is the price of not reading; here a peer that does no more than end
// its own stream would ask for it, as that is a byte and not a FIN. It returns after lingerTimeout at most, or after Leave.
func (c *Conn) Linger() {
	end := time.Now().Add(lingerTimeout)
	c.legs.setDeadlines(end, end) // if it fails, so does all else: Leave was called
	l := &c.legs
	l.mu.Lock()
	all := l.all
	l.mu.Unlock()
	var wg sync.WaitGroup
	for _, leg := range all { // all at once, and now: the peer may have to write before it reads, here or there
		wg.Go(func() { io.Copy(io.Discard, leg) }) // until the deadline, or Leave
	}
	// Without the lock, for which a Write may wait: of a dead connection nobody else writes anything.
	if c.goodbye() == nil {
		for _, leg := range all {
			if half, ok := leg.(interface{ CloseWrite() error }); ok {
				half.CloseWrite()
			}
		}
	} else {
		l.close()
	}
	wg.Wait()
	l.close()
}

// Leave ends Linger.
func (c *Conn) Leave() { c.legs.close() }
