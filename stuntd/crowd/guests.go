package crowd

import "time"

// Nodes are the nodes of one process, for net/rpc.
type Nodes struct{ nodes *nodes }

// NodesConfig says where they belong.
type NodesConfig struct {
	Server    string
	Keepalive time.Duration
}

// Start prepares them.
func (n *Nodes) Start(c NodesConfig, _ *Nothing) (err error) {
	n.nodes, err = newNodes(c.Server, c.Keepalive)
	return err
}

// Growth is more nodes: with every so-manieth index from the first to before the
// last, so many at once.
type Growth struct{ First, Last, Step, Abreast int }

// Grow has them come, and returns when each has tried once.
func (n *Nodes) Grow(g Growth, _ *Nothing) error { return n.nodes.grow(g) }

// Count says how it is with them.
type Count struct {
	Standing int64
	Failed   int64 // attempts, so far
	Lost     int64 // sessions, so far
}

func (c *Count) add(more Count) {
	c.Standing, c.Failed, c.Lost = c.Standing+more.Standing, c.Failed+more.Failed, c.Lost+more.Lost
}

// Count counts.
func (n *Nodes) Count(_ Nothing, c *Count) error {
	*c = Count{n.nodes.standing.Load(), n.nodes.failed.Load(), n.nodes.lost.Load()}
	return nil
}

// Dialling is dials of so many a second, each to any of the nodes with every
// so-manieth index from the first to before the last.
type Dialling struct {
	Rate, First, Last, Step int
	For                     time.Duration
}

// Dial dials, and returns what came of it.
func (n *Nodes) Dial(d Dialling, done *Dialled) error {
	*done = n.nodes.run(d)
	return nil
}

// GoHome ends all.
func (n *Nodes) GoHome(Nothing, *Nothing) error {
	n.nodes.goHome()
	return nil
}
