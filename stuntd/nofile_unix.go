//go:build unix

package stuntd

import "golang.org/x/sys/unix"

// raiseFiles raises the limit on open files as far as the system lets it and
// returns it; 0 is unknown.
func raiseFiles() (uint64, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, err
	}
	was := uint64(l.Cur)
	l.Cur = l.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return was, err // macOS refuses what it reports as the maximum; what there is may do
	}
	return uint64(l.Cur), nil
}
