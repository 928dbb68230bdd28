//go:build !linux

package natlab

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"time"
)

// On other systems the package builds, so that programs with a lab in them do,
// and New returns this error: nothing below is ever reached.
var errNotLinux = errors.New("the lab needs Linux")

func hasIPv6() bool           { return false }
func supported() error        { return errNotLinux }
func reexec() (int, error)    { return 0, errNotLinux }
func prepareInside() error    { return errNotLinux }
func dieWithThread(*exec.Cmd) {}

type namespace struct{}

func newNamespace() (*namespace, error)                                       { return nil, errNotLinux }
func (*namespace) close()                                                     {}
func (*namespace) do(func() error) error                                      { return errNotLinux }
func (*namespace) tun(tunConfig) (*os.File, error)                            { return nil, errNotLinux }
func (*namespace) addAddr(string, netip.Prefix) error                         { return errNotLinux }
func (*namespace) renumber(string, []netip.Prefix, []netip.Prefix, hop) error { return errNotLinux }
func (*namespace) setGateway(string, netip.Addr) error                        { return errNotLinux }
func (*namespace) masquerade(Masquerade) error                                { return errNotLinux }
func (*namespace) veth(string, *namespace, netip.Prefix, netip.Prefix) error  { return errNotLinux }
func (*namespace) flushMappings() error                                       { return errNotLinux }
func (*namespace) age() error                                                 { return errNotLinux }

type alarm struct{}

func newAlarm() (*alarm, error)  { return nil, errNotLinux }
func (*alarm) set(time.Duration) {}
func (*alarm) wait() error       { return errNotLinux }
func (*alarm) close()            {}
