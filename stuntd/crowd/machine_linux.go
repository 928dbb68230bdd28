package crowd

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// resident returns how many bytes of memory this process has.
func resident() int64 { return field("/proc/self/status", "VmRSS:") << 10 }

// processorTime returns how much of it this process has used, the kernel's work
// for it included.
func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// kernelMemory returns how many bytes the kernel has for its objects, sockets
// among them, and for what is in their buffers. Other things of the machine
// count as well: only what changes means something.
func kernelMemory() int64 {
	b, _ := os.ReadFile("/proc/net/sockstat")
	var buffers int64 // in pages
	for line := range strings.Lines(string(b)) {
		if _, mem, found := strings.Cut(line, " mem "); found && strings.HasPrefix(line, "TCP:") {
			buffers, _ = strconv.ParseInt(strings.TrimSpace(mem), 10, 64)
		}
	}
	return field("/proc/meminfo", "Slab:")<<10 + buffers*int64(os.Getpagesize())
}

// field returns the number after a word in a file of /proc; 0 if it is not there.
func field(file, word string) int64 {
	b, _ := os.ReadFile(file)
	_, rest, _ := strings.Cut(string(b), word)
	var n int64
	fmt.Sscan(rest, &n)
	return n
}

// filesOpen returns how many files this process has open.
func filesOpen() int {
	open, _ := os.ReadDir("/proc/self/fd")
	return max(len(open)-1, 0) // but for the one that this took
}

// openFiles returns how many files a process may have open.
func openFiles() (int, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	return int(min(l.Max, 1<<30)), nil // the Go runtime raises what there is to the maximum
}

// stepBack has this process run only where nobody else on the machine wants to:
// raiders, who would bring machines of their own.
func stepBack() {
	all, _ := os.ReadDir("/proc/self/task")
	for _, t := range all { // those that come are as the one that makes them
		if id, err := strconv.Atoi(t.Name()); err == nil {
			unix.SchedSetAttr(id, &unix.SchedAttr{Policy: unix.SCHED_IDLE}, 0) // anybody may
		}
	}
}
