package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/gostunt/stunt/stuntd/crowd"
)

// guest measures, if this process is the first of an emulated machine, and
// reports whether it was. It ends the machine.
func guest() bool {
	if os.Getpid() != 1 {
		return false
	}
	config, err := os.ReadFile(orders)
	if err != nil {
		return false // in a container, say
	}
	var r report
	r.Result, err = follow(config)
	if err != nil {
		r.Err = err.Error()
	}
	if err := hand(r); err != nil {
		fmt.Fprintln(os.Stderr, "crowd:", err)
	}
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	return true
}

// follow makes the machine one for processes, and measures.
func follow(config []byte) (*crowd.Result, error) {
	err := errors.Join(
		unix.Mount("proc", "/proc", "proc", 0, ""),
		unix.Mount("dev", "/dev", "devtmpfs", 0, ""),
		unix.Mount("tmp", "/tmp", "tmpfs", 0, ""),
		unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}))
	if err != nil {
		return nil, err
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	var c crowd.Config
	if err == nil {
		err = json.Unmarshal(config, &c)
	}
	if err != nil {
		return nil, err
	}
	c.Progress = os.Stderr
	return crowd.Run(context.Background(), c)
}

// hand gives the report to who waits for it, over the second serial line.
func hand(r report) error {
	f, err := os.OpenFile("/dev/ttyS1", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(json.NewEncoder(f).Encode(r), f.Close()) // which waits until all is out
}
