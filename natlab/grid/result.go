package grid

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/gostunt/stunt"
)

// Dial is one dial.
type Dial struct {
	Method stunt.Method  // empty if no connection stood
	Took   time.Duration // until it stood, or the dial gave up
	SYNs   int           // that both ends sent to each other meanwhile
	Err    error         // nil if bytes passed both ways
}

// Result is what became of a case.
type Result struct {
	Case  Case
	RTT   time.Duration // as in Config
	Dials []Dial
	// Relayed are as many dials that may take the server's relay, where none
	// of Dials, which may not, was answered.
	Relayed []Dial

	why string // no direct path; of what Shown returns
}

// Shown returns the result as tables show it: how the two meet, directly or
// over the relay, and then why not directly.
func (r *Result) Shown() *Result {
	if r.OK() > 0 || len(r.Relayed) == 0 {
		return r
	}
	return &Result{Case: r.Case, RTT: r.RTT, Dials: r.Relayed, why: r.Reason()}
}

// OK returns how many dials gave a connection that worked.
func (r *Result) OK() int {
	n := 0
	for _, d := range r.Dials {
		if d.Err == nil {
			n++
		}
	}
	return n
}

// Methods returns how these came about, the most frequent way first.
func (r *Result) Methods() []stunt.Method {
	count := map[stunt.Method]int{}
	var all []stunt.Method
	for _, d := range r.Dials {
		if d.Err != nil {
			continue
		}
		if count[d.Method]++; count[d.Method] == 1 {
			all = append(all, d.Method)
		}
	}
	slices.SortFunc(all, func(a, b stunt.Method) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
	return all
}

// Median returns how many round trips a dial took that succeeded, from the
// call until its return. Hosts that share a LAN are near each other, so it is
// mostly the server's that they spend. 0: none succeeded.
func (r *Result) Median() float64 {
	var trips []float64
	for _, d := range r.Dials {
		if d.Err == nil {
			trips = append(trips, float64(d.Took)/float64(r.RTT))
		}
	}
	return median(trips)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// SYNs returns how many SYNs both ends sent for a dial, on average, with those
// that their kernels repeated.
func (r *Result) SYNs() float64 {
	if len(r.Dials) == 0 {
		return 0
	}
	sum := 0
	for _, d := range r.Dials {
		sum += d.SYNs
	}
	return float64(sum) / float64(len(r.Dials))
}

// failure returns the error of the first dial that failed; nil: none did.
func (r *Result) failure() error {
	i := slices.IndexFunc(r.Dials, func(d Dial) bool { return d.Err != nil })
	if i < 0 {
		return nil
	}
	return r.Dials[i].Err
}

// Reason says why the first dial that failed did, in the words of the dialer,
// or why those over a relay were needed. Empty: none failed.
func (r *Result) Reason() string {
	if r.why != "" {
		return r.why
	}
	err := r.failure()
	var de *stunt.DialError
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &de):
		return err.Error()
	case de.Help == "":
		return de.Err.Error()
	}
	return de.Help
}
