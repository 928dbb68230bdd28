package resume

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzControl holds that whatever control records and data an authenticated peer sends, the connection keeps within its
// bounds, and believes only what can be.
func FuzzControl(f *testing.F) {
	f.Add(state{received: 100, limit: 2 * window}.append([]byte{stateSize}), true)
	f.Add(state{answer: true, stop: true, received: 300, limit: 1 << 63}.append([]byte{stateSize}), false)
	f.Add(append(appendEnd([]byte{endSize}, 0), 0, 1), true)
	f.Add(bytes.Repeat([]byte{0, 255}, 5), true) // more than there is room for
	f.Fuzz(func(t *testing.T, b []byte, synced bool) {
		c := New(Config{Timeout: time.Hour, Idle: time.Hour, Silence: time.Hour, Lost: func(error) {}, Over: func() {}})
		p := &path{synced: synced, timer: time.NewTimer(time.Hour)}
		defer p.timer.Stop()
		c.path = p
		c.out.add(make([]byte, 300))
		c.out.next, c.out.most = 200, 250
		for len(b) > 0 {
			// A zero and a size are data, everything else is the size of a control record.
			n := min(int(b[0]), len(b)-1)
			var err error
			if b[0] != 0 {
				err = c.control(p, b[1:1+n])
				b = b[1+n:]
			} else if len(b) > 1 {
				err = c.arrived(p, bytes.Repeat([]byte{1}, 1+int(b[1])<<10))
				b = b[2:]
			} else {
				b = nil
			}
			require.True(t, err == nil || errors.Is(err, ErrProtocol))
			require.LessOrEqual(t, c.in.len(), window)
			require.LessOrEqual(t, c.out.acked, c.out.most)
			require.True(t, c.out.begin <= c.out.end && c.out.next <= c.out.end)
			if !c.out.stopped {
				require.LessOrEqual(t, c.out.begin, c.out.acked)
			}
			if err != nil {
				break
			}
		}
		if p.delay != nil {
			p.delay.Stop()
		}
	})
}
