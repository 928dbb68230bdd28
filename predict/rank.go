package predict

import "time"

// Ranked is a port and the probability that the next mapping gets it.
type Ranked struct {
	Port uint16
	Mass float64
}

// Rank returns at most n ports that the next mapping of a socket with the given
// local port may get, the likeliest first, when elapsed has passed since m.At.
func (m Model) Rank(local uint16, elapsed time.Duration, n int) []Ranked { return nil }

// Window returns the fewest ports that hold the wanted mass, the likeliest
// first. It is nil where the model cannot tell.
func (m Model) Window(local uint16, elapsed time.Duration, mass float64) []uint16 { return nil }

// Space returns where the next mapping is drawn from if its port is not known.
func (m Model) Space() Space { return Space{} }
