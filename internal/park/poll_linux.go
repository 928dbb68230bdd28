package park

import (
	"cmp"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gostunt/stunt/internal/sock"
)

// New returns an empty lot. It costs a file descriptor and a goroutine, which
// Close ends. Where the system has no file left for it, it is one of
// [NewSplit], which needs none.
func New() Lot {
	if l, err := newPoll(); err == nil {
		return l
	}
	return NewSplit()
}

// A poll is a set of connections of which the kernel tells those that have
// something to read: epoll(7). The set's own descriptor waits in the runtime's
// poller, which is an epoll set too: a goroutine that blocks in epoll_wait
// would hold a thread, and was ten times slower.
//
// A connection that is armed is told of once (EPOLLONESHOT) and at once if it
// is readable already (no EPOLLET), so nothing is missed between a read and
// the wait.
type poll struct {
	file *os.File
	raw  syscall.RawConn
	ran  sync.WaitGroup // run

	mu    sync.Mutex           // guards following
	spots map[uint64]*pollSpot // by number
	last  uint64               // number given out; none is given twice, so that no event reaches a successor
}

func newPoll() (*poll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// For os.NewFile: this is what makes it a file that the runtime polls.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	l := &poll{file: os.NewFile(uintptr(fd), "epoll"), spots: make(map[uint64]*pollSpot)}
	if l.raw, err = l.file.SyscallConn(); err == nil {
		err = l.raw.Read(func(uintptr) bool { return true }) // fails if it is not polled after all
	}
	if err != nil {
		l.file.Close()
		return nil, err
	}
	l.ran.Go(l.run)
	return l, nil
}

// run wakes those that have something to read, until Close.
func (l *poll) run() {
	events := make([]unix.EpollEvent, 128)
	for {
		n := 0
		err := l.raw.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events, 0)
			return n > 0 || err != nil // EINTR: once more around
		})
		if err != nil {
			return // closed
		}
		for _, e := range events[:max(n, 0)] {
			if s := l.spot(e); s != nil && s.end() {
				go s.wake(true) // serves, and ends in the next wait or with the connection
			}
		}
	}
}

func (l *poll) spot(e unix.EpollEvent) *pollSpot {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spots[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]
}

func (l *poll) Close() {
	l.file.Close()
	l.ran.Wait()
}

// A pollSpot is armed only while it waits.
type pollSpot struct {
	turn
	lot    *poll
	raw    syscall.RawConn
	number uint64
	listed bool // the kernel knows the connection; guarded by mu
}

func (l *poll) Enter(c net.Conn, wake func(bool)) (Spot, error) {
	tcp := sock.TCPOf(c)
	if tcp == nil {
		return nil, errNotTCP
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &pollSpot{turn: turn{wake: wake}, lot: l, raw: raw}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	s.number = l.last
	l.spots[s.number] = s
	return s, nil
}

func (s *pollSpot) Wait() { s.begin(s.arm) }

// arm has the kernel tell of the connection, once. Caller holds mu.
func (s *pollSpot) arm() error {
	op := unix.EPOLL_CTL_MOD
	if !s.listed {
		op = unix.EPOLL_CTL_ADD
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT,
		Fd: int32(uint32(s.number)), Pad: int32(uint32(s.number >> 32))}
	var inner, err error
	// Within both, neither descriptor can be closed and become another file's.
	outer := s.lot.raw.Control(func(set uintptr) {
		inner = s.raw.Control(func(fd uintptr) {
			err = os.NewSyscallError("epoll_ctl", unix.EpollCtl(int(set), op, int(fd), &e))
		})
	})
	if err = cmp.Or(outer, inner, err); err == nil {
		s.listed = true
	}
	return err
}

func (s *pollSpot) Rest(d time.Duration) {
	s.begin(func() error {
		s.rest = time.AfterFunc(d, s.Wake)
		return nil
	})
}

func (s *pollSpot) Wake() {
	if s.poke() {
		go s.wake(false)
	}
}

// Leave: the kernel forgets the connection by itself when it is closed.
func (s *pollSpot) Leave() {
	s.lot.mu.Lock()
	defer s.lot.mu.Unlock()
	delete(s.lot.spots, s.number)
}
