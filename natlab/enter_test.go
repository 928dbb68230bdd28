package natlab

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// envChild makes this binary a program that calls Enter.
const envChild = "NATLAB_TEST_CHILD"

// childMain is that program: it says what it finds inside, then exits with
// code 7 at once, or when a signal comes.
func childMain() {
	what := os.Getenv(envChild)
	if what == "" {
		return
	}
	if err := Enter(); err != nil {
		fmt.Println("refused:", err)
		os.Exit(1)
	}
	addrs, _ := net.InterfaceAddrs()
	fmt.Println("inside:", os.Args[1:], addrs, os.Getuid())
	if what == "wait" {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("ready")
		<-c
	}
	os.Exit(7)
}

// child starts the program outside of this lab's own namespaces' mark, so that
// it enters further ones.
func child(t *testing.T, what string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	Need(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	c := exec.Command(exe, "some", "args")
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, envInside+"=") {
			c.Env = append(c.Env, e)
		}
	}
	c.Env = append(c.Env, envChild+"="+what)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	return c, bufio.NewReader(out)
}

func TestEnter(t *testing.T) {
	t.Parallel()
	c, out := child(t, "exit")
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "inside: [some args] [127.0.0.1/8 ::1/128] 0\n", line)
	require.Error(t, c.Wait())
	require.Equal(t, 7, c.ProcessState.ExitCode(), "the exit code is the child's")
}

func TestEnterForwardsSignals(t *testing.T) {
	t.Parallel()
	c, out := child(t, "wait")
	_, err := out.ReadString('\n')
	require.NoError(t, err)
	_, err = out.ReadString('\n')
	require.NoError(t, err, "ready")
	require.NoError(t, c.Process.Signal(syscall.SIGTERM))
	c.Wait()
	require.Equal(t, 7, c.ProcessState.ExitCode())
}
