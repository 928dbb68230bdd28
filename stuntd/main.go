package stuntd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"
)

// Main is the program stuntd: it reads args (without the program's name) and
// the environment, runs a server until ctx is done, says goodbye to its
// sessions, and returns the exit code: 0, 1 if the server could not start, 2
// if args are wrong. SIGHUP has it read its files again; all other signals are
// the caller's business. With "token" as the first of args it makes one, or shows
// what is in one; with "check" it says whether a server is right. No server runs then.
//
// When the server can be used it prints one line to stdout, "ready" and the
// address for clients; stdout gets nothing else. Logs go to stderr. The
// listeners are opened on the calling goroutine, so that a caller that locked
// it to a thread in another network namespace gets them there.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "token" {
		return tokenMain(args[1:], os.Stdin, stdout, stderr)
	}
	if len(args) > 0 && args[0] == "check" {
		return checkMain(ctx, args[1:], stdout, stderr)
	}
	var o options
	fs, err := o.parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		usage(fs, stdout)
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "stuntd: %v (stuntd -help lists the flags)\n", err)
		return 2
	case o.version:
		fmt.Fprintln(stdout, "stuntd", version())
		return 0
	}
	o.Logger = o.newLogger(stderr)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // before the line that says that it can be used
	defer signal.Stop(hup)
	LeanHeap()
	collectEarly(o.Limits.memory())
	s, err := Start(o.Config)
	if err != nil {
		fmt.Fprintf(stderr, "stuntd: %v\n", err)
		return 1
	}
	fmt.Fprintln(stdout, "ready", s.Address())

	for ctx.Err() == nil {
		select {
		case <-hup:
			s.Reload()
		case <-ctx.Done():
		}
	}
	// Longer than the drain itself, which ends with the sessions cut: this
	// bounds only what should not happen.
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.Config.drain()+5*time.Second)
	defer cancel()
	if err := s.Shutdown(bye); err != nil {
		fmt.Fprintf(stderr, "stuntd: %v\n", err)
		return 1
	}
	return 0
}

func usage(fs *flag.FlagSet, w io.Writer) {
	fmt.Fprint(w, `Usage: stuntd [flags]
       stuntd check [flags] [address]
       stuntd token new|show [flags]

The server that stunt nodes meet at: rendezvous (TLS), STUN and relay on one TCP port.
It runs without any flag. Every flag has an environment variable, as in
STUNTD_LISTEN for -listen; the command line comes first.

`)
	fs.SetOutput(w)
	fs.PrintDefaults()
}

// version is that of the module and, for a build from a checkout, its commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" {
		v = "(devel)"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && v == "(devel)" {
			v += " " + s.Value
		}
	}
	return v + " " + info.GoVersion
}
