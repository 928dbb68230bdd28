package rendezvous

import "time"

// maxKnown bounds the titles of other servers that are remembered, some 300 bytes
// each. Names beyond it are not held when their server is gone.
const maxKnown = 1 << 20

// elsewhere are the names that other servers say they have. While a server is
// there it speaks for itself; what it had is held for its keys when it is not.
type elsewhere struct {
	known  map[string]known
	fading []fading // in the order of their times, as the hold time is constant
}

// known is a title of another server.
type known struct {
	title
	until time.Time // the server is gone, and the name is held until then; zero: it is there
}

// held reports whether a name waits for its key, as its server is gone.
func (k known) held(now time.Time) bool { return now.Before(k.until) }

// fading is a known title that may be forgotten.
type fading struct {
	id    string
	until time.Time
}

// remember keeps a title.
func (e *elsewhere) remember(t *title) {
	if e.known == nil {
		e.known = make(map[string]known)
	}
	if _, ok := e.known[t.ID]; ok || len(e.known) < maxKnown {
		e.known[t.ID] = known{title: *t}
	}
}

// freed forgets a name, if that server had it.
func (e *elsewhere) freed(server, id string) {
	if k, ok := e.known[id]; ok && k.Server == server {
		delete(e.known, id)
	}
}

// lost holds the names of a server.
func (e *elsewhere) lost(server string, until time.Time) {
	for id, k := range e.known {
		if k.Server == server && k.until.IsZero() {
			k.until = until
			e.known[id] = k
			e.fading = append(e.fading, fading{id, until})
		}
	}
}

// back has a server speak for itself again.
func (e *elsewhere) back(server string) {
	for id, k := range e.known {
		if k.Server == server {
			k.until = time.Time{}
			e.known[id] = k
		}
	}
}

// fade forgets what was held long enough.
func (e *elsewhere) fade(now time.Time) {
	for len(e.fading) > 0 && !now.Before(e.fading[0].until) {
		if f := e.fading[0]; e.known[f.id].until.Equal(f.until) {
			delete(e.known, f.id)
		}
		e.fading = e.fading[1:]
	}
}
