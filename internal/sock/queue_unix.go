//go:build linux || darwin || freebsd

package sock

import (
	"os"

	"golang.org/x/sys/unix"
)

// count reports whether there is something to read. The poller tells of
// changes only, so this must look before it waits: what came before is no news.
func (q *Queue) count(fd uintptr) bool {
	if q.size = queued(int(fd)); q.size > 0 {
		return true
	}
	// Nothing, or the end, or an error: a look that takes nothing tells.
	_, _, err := unix.Recvfrom(int(fd), q.one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	q.size = 1
	if err != nil && err != unix.EAGAIN {
		q.err = os.NewSyscallError("recvfrom", err)
	}
	return err != unix.EAGAIN
}
