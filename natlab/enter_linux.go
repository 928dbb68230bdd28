package natlab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// reexec runs the program again in new user and network namespaces, where it
// is root over nothing but them, and returns its exit code.
func reexec() (code int, err error) {
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Args[0] = os.Args[0]
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), envInside+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	signals := make(chan os.Signal, 16) // more than the kinds there are
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	runtime.LockOSThread() // Pdeathsig means the death of this thread
	if err := c.Start(); err != nil {
		runtime.UnlockOSThread()
		signal.Stop(signals)
		return 0, explain(err)
	}
	go forward(signals, c.Process) // until the program ends, with the child
	c.Wait()                       // its error is the exit code
	state := c.ProcessState.Sys().(syscall.WaitStatus)
	if state.Signaled() {
		return 128 + int(state.Signal()), nil // as shells say it
	}
	return state.ExitStatus(), nil
}

// forward passes signals on to the child, but those that a terminal has sent
// to the whole foreground group already.
func forward(signals <-chan os.Signal, child *os.Process) {
	for s := range signals {
		group, err := unix.IoctlGetInt(int(os.Stdin.Fd()), unix.TIOCGPGRP)
		if err == nil && group == unix.Getpgrp() && (s == syscall.SIGINT || s == syscall.SIGQUIT) {
			continue
		}
		child.Signal(s)
	}
}

// prepareInside brings the loopback device up, for tests that need no lab.
func prepareInside() error {
	if err := loopbackUp(); err != nil {
		return explain(err)
	}
	return nil
}

// supported tries what can be tried and reads the settings of the rest.
func supported() error {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err == nil {
		f.Close()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("no lab: /dev/net/tun is missing: run `modprobe tun`, or docker with --device /dev/net/tun")
	case err != nil:
		return fmt.Errorf("no lab: %w: run `chmod 0666 /dev/net/tun` as root", err)
	case inside():
		return nil
	case setting("user/max_user_namespaces") == "0":
		return errors.New("no lab: user namespaces are off: run `sysctl -w user.max_user_namespaces=10000` as root")
	case setting("kernel/unprivileged_userns_clone") == "0" && os.Getuid() != 0:
		return errors.New("no lab: user namespaces are for root: run `sysctl -w kernel.unprivileged_userns_clone=1` as root")
	}
	return nil
}

// explain adds to an error of the kernel which setting is behind it.
func explain(err error) error {
	hint := "in docker, run with --security-opt seccomp=unconfined --security-opt apparmor=unconfined --device /dev/net/tun"
	switch {
	case setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
		hint = "run `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` as root"
	case errors.Is(err, unix.ENOSPC):
		hint = "run `sysctl -w user.max_user_namespaces=10000 user.max_net_namespaces=10000` as root"
	case errors.Is(err, unix.EINVAL):
		hint = "the kernel was built without user or network namespaces"
	}
	return fmt.Errorf("no lab: new namespaces: %w: %s", err, hint)
}

// setting returns a sysctl, empty where this kernel does not have it.
func setting(name string) string {
	b, _ := os.ReadFile("/proc/sys/" + name)
	return strings.TrimSpace(string(b))
}
