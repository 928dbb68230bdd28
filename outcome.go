package stunt

import (
	"errors"
	"syscall"
	"time"

	"github.com/gostunt/stunt/internal/punch"
	"github.com/gostunt/stunt/rendezvous"
)

// outcome is what this end tells the server of a dial: of the path that was
// chosen, or else why there is none.
func (n *Node) outcome(race *punch.Race, p *punch.Path, err error, elapsed time.Duration) rendezvous.Outcome {
	out := rendezvous.Outcome{OK: err == nil, Elapsed: elapsed}
	if err != nil {
		out.Text = reason(err)
	} else {
		out.Method = string(race.Cheapest(p))
	}
	if n.Config.Relay == RelayOnly {
		out.Method = rendezvous.MethodRelayOnly // it shall not be taken for what the NATs do
	}
	return out
}

func reason(err error) string {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "refused"
	}
	return err.Error()
}
