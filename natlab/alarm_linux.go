package natlab

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// alarm is a timer of the kernel that the runtime's poller waits for.
type alarm struct {
	file *os.File
	fd   int
	buf  [8]byte
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &alarm{file: os.NewFile(uintptr(fd), "timerfd"), fd: fd}, nil
}

// set makes wait return after d, which is positive, and forgets the time set
// before. It must not be called after close.
func (a *alarm) set(d time.Duration) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	unix.TimerfdSettime(a.fd, 0, &spec, nil) // fails for bad arguments only
}

// wait blocks until the time set, or returns an error after close.
func (a *alarm) wait() error {
	_, err := a.file.Read(a.buf[:])
	return err
}

func (a *alarm) close() { a.file.Close() }
