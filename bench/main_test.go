//go:build linux

package bench

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each relay is a process of its own, so that its CPU time can be told from
// ours. Those that are not somebody's program are this test binary again, which
// then does what this variable says.
const roleVariable = "STUNT_BENCH_ROLE"

func TestMain(m *testing.M) {
	switch role, arg, _ := strings.Cut(os.Getenv(roleVariable), " "); role {
	case "":
		os.Exit(m.Run())
	case "splice":
		spliceLoop()
	case "pairs":
		holdPairs(arg)
	}
}

// role starts this binary in a role and returns the first line that it prints.
// It ends with the benchmark, or when stdin is closed.
func role(b *testing.B, r string) (pid int, line string) {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), roleVariable+"="+r)
	return begin(b, c)
}

// begin starts a program that prints a line when it is ready.
func begin(b *testing.B, c *exec.Cmd) (pid int, line string) {
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	require.NoError(b, err)
	in, err := c.StdinPipe()
	require.NoError(b, err)
	require.NoError(b, c.Start())
	b.Cleanup(func() {
		in.Close()
		c.Process.Signal(syscall.SIGTERM)
		c.Wait()
	})
	line, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(b, err)
	return c.Process.Pid, strings.TrimSpace(line)
}

// spliceLoop is what a relay would be without pairing, limits and thrift: it
// listens, and joins each connection with the next one by io.Copy, which
// splices. It ends when stdin does.
func spliceLoop() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(ln.Addr())
	go io.Copy(exitAtEnd{}, os.Stdin)
	for {
		a, err := ln.Accept()
		if err != nil {
			return
		}
		b, err := ln.Accept()
		if err != nil {
			return
		}
		for _, x := range [][2]*net.TCPConn{{a.(*net.TCPConn), b.(*net.TCPConn)}, {b.(*net.TCPConn), a.(*net.TCPConn)}} {
			go func() { // until its source ends
				io.Copy(x[0], x[1])
				x[0].CloseWrite()
			}()
		}
	}
}

// exitAtEnd ends the process when what is copied to it has ended.
type exitAtEnd struct{}

func (exitAtEnd) Write(p []byte) (int, error) { return len(p), nil }

// ReadFrom reads to the end, and is the end.
func (exitAtEnd) ReadFrom(r io.Reader) (int64, error) {
	io.Copy(io.Discard, r)
	os.Exit(0)
	return 0, nil
}

// cpu returns what a process has used of the CPU, in clock ticks.
func cpu(b *testing.B, pid int) float64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(b, err)
	_, rest, ok := strings.Cut(string(stat), ") ") // the name before may have spaces
	require.True(b, ok)
	f := strings.Fields(rest)
	user, err := strconv.Atoi(f[11])
	require.NoError(b, err)
	system, err := strconv.Atoi(f[12])
	require.NoError(b, err)
	return float64(user + system)
}
