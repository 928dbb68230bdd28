//go:build unix

package sock

import "golang.org/x/sys/unix"

// peername fails if the socket has no other end.
func peername(fd uintptr) error {
	_, err := unix.Getpeername(int(fd))
	return err
}
