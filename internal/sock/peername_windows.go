package sock

import "golang.org/x/sys/windows"

// peername fails if the socket has no other end.
func peername(fd uintptr) error {
	_, err := windows.Getpeername(windows.Handle(fd))
	return err
}
