//go:build !linux

package park

// New returns an empty lot.
func New() Lot { return NewSplit() }
