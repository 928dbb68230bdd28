package sock

import "golang.org/x/sys/unix"

// queued returns how many bytes wait to be read (tcp(7), SIOCINQ), 0 if none
// or not known.
func queued(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return n
}
