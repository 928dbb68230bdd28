//go:build darwin || freebsd

package sock

// apply has nothing to set: time exceeded is no end here, and no system call
// tells of an ICMP error.
func (Opening) apply(int, bool) {}

func explain(_ int, err error) error { return err }
