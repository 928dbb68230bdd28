package netwatch

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gostunt/stunt/internal/sock"
)

// groups are those of rtnetlink(7) that tell of addresses, routes and rules,
// which VPNs steer by.
const groups = 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1) |
	1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1) |
	1<<(unix.RTNLGRP_IPV4_RULE-1) | 1<<(unix.RTNLGRP_IPV6_RULE-1)

// kernel is what Linux tells by itself.
type kernel struct {
	routes *os.File       // a netlink socket
	clock  *os.File       // see jumpTimer; nil: none to be had
	wg     sync.WaitGroup // the goroutine that waits for clock
	jumped atomic.Bool    // clock has something that wait has not passed on

	// Owned by who calls wait and slept:
	buf    [4096]byte
	asleep time.Duration // at the last slept
}

func listen(n *sock.Net) (news, error) {
	fd := -1
	err := n.Do(func() (err error) {
		fd, err = routeSocket(groups)
		return err
	})
	if err != nil {
		return nil, err
	}
	k := &kernel{routes: os.NewFile(uintptr(fd), "netlink"), asleep: asleep()}
	if k.clock, err = jumpTimer(); err == nil {
		k.wg.Go(k.jumps)
	}
	return k, nil
}

// wait takes no notice of what the news is: whoever looks sees it all.
func (k *kernel) wait(t time.Time) error {
	for {
		if err := k.routes.SetReadDeadline(t); err != nil {
			return err
		}
		if k.jumped.Swap(false) {
			return nil
		}
		_, err := k.routes.Read(k.buf[:])
		switch {
		case errors.Is(err, unix.ENOBUFS): // more of it than the socket holds
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case k.jumped.Swap(false):
			return nil
		case !t.IsZero() && !time.Now().Before(t):
			return err
		}
		// It was the deadline of a jump that has been passed on already.
	}
}

// slept leaves short sleep to the next call: a machine may sleep in many
// pieces.
func (k *kernel) slept() time.Duration {
	now := asleep()
	slept := now - k.asleep
	if slept < leastSleep {
		return 0
	}
	k.asleep = now
	return slept
}

func (k *kernel) close() {
	k.routes.Close()
	if k.clock != nil {
		k.clock.Close()
	}
	k.wg.Wait()
}

// routeSocket opens a netlink socket of the thread's network namespace.
func routeSocket(groups uint32) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// asleep returns how long the machine has slept since it was started, to
// within the time between two system calls.
func asleep() time.Duration {
	var boot, mono unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono) != nil {
		return 0 // not with these clocks
	}
	return time.Duration(boot.Nano() - mono.Nano())
}

// jumpTimer makes a timer that nobody waits for to end: reading from it fails
// with ECANCELED when the wall clock was set, by hand or after sleep
// (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET).
func jumpTimer() (*os.File, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	if err := armJump(fd); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "timerfd"), nil
}

func armJump(fd int) error {
	// Some years from now. The largest time would do for the kernel; here it
	// is one that has no overflow in it for anybody.
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(time.Now().AddDate(10, 0, 0).UnixNano())}
	const flags = unix.TFD_TIMER_ABSTIME | unix.TFD_TIMER_CANCEL_ON_SET
	return os.NewSyscallError("timerfd_settime", unix.TimerfdSettime(fd, flags, &spec, nil))
}

// jumps wakes wait after each jump of the clock, until close, which waits.
func (k *kernel) jumps() {
	var buf [8]byte
	for {
		_, err := k.clock.Read(buf[:])
		if err != nil && !errors.Is(err, unix.ECANCELED) {
			return
		}
		k.jumped.Store(true)
		k.routes.SetReadDeadline(time.Unix(1, 0)) // now
	}
}
