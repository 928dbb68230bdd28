package main

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestOutOfFiles takes all files from a running server: it must neither exit
// nor fill its log, and serve again when there are files.
func TestOutOfFiles(t *testing.T) {
	p := run(t, "-listen", "127.0.0.1:0", "-state", t.TempDir(), "-max-half-open-per-source", "200", "-max-conns-per-source", "200", "-drain", "1s")
	pid := p.cmd.Process.Pid
	open, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	require.NoError(t, err)
	files := uint64(len(open) + 4)
	var was unix.Rlimit
	require.NoError(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &was))
	require.NoError(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: was.Max}, nil))

	var conns []net.Conn
	for range 40 { // those without a file wait in the kernel's queue
		c, err := net.Dial("tcp", hostPort(p.address))
		require.NoError(t, err)
		defer c.Close()
		conns = append(conns, c)
	}
	p.waitLog(t, "not accepting connections")
	for _, c := range conns {
		c.Close()
	}
	p.waitLog(t, "accepting connections again")
	client(t, p.address, nil)
	require.Equal(t, 1, strings.Count(p.logged(t), "not accepting"), "not a line for each of many errors")
	require.NoError(t, p.cmd.Process.Signal(unix.SIGTERM))
	<-p.done
	require.True(t, p.cmd.ProcessState.Success(), "%s", p.logged(t))
}
