// Command stunt connects programs behind NATs from the command line, shows
// what the NAT in front of this machine does, and demonstrates both in a lab.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// command is one word after stunt.
type command struct {
	name, args, help string
	run              func(ctx context.Context, env *env, args []string) error
	hidden           bool // the demo's own programs
}

var commands = []command{
	{name: "demo", args: "[flags]", help: "a server and two hosts behind two NATs, in a lab on this machine", run: runDemo},
	{name: "probe", args: "[flags]", help: "what the NAT in front of this machine does, and whom it will reach", run: runProbe},
	{name: "listen", args: "ID --to host:port [flags]", help: "make a local TCP service reachable as ID", run: runListen},
	{name: "dial", args: "ID[:port] [flags]", help: "connect stdin and stdout, or a local port, to a peer", run: runDial},
	{name: "lookup", args: "ID [flags]", help: "whether a peer is there, and how it was reached from here", run: runLookup},
	{name: "lab", args: "grid [flags]", help: "the table of which NATs are crossed, measured in the lab", run: runLab},
	{name: "key", args: "[show|make] [flags]", help: "this machine's identity", run: runKey},
	{name: "serve", args: "[flags]", help: "the rendezvous server, as stuntd", run: runServe},
}

// env is what a command may use of the process.
type env struct {
	in       io.Reader
	out, err io.Writer
	cmd      command // which one it is
}

// errUsage is a mistake on the command line that has been explained already.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, env{in: os.Stdin, out: os.Stdout, err: os.Stderr}, os.Args[1:]))
}

// run returns the exit code: 0, 1 for what went wrong, 2 for a wrong command line.
func run(ctx context.Context, e env, args []string) int {
	if len(args) == 0 {
		usage(e.err)
		return 2
	}
	if slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]) {
		if len(args) == 1 {
			usage(e.out)
			return 0
		}
		args = append(slices.Clone(args[1:]), "-h") // help COMMAND
	}
	i := slices.IndexFunc(commands, func(c command) bool { return c.name == args[0] })
	if i < 0 {
		fmt.Fprintf(e.err, "stunt: there is no command %q; \"stunt help\" lists them\n", args[0])
		return 2
	}
	e.cmd = commands[i]
	err := e.cmd.run(ctx, &e, args[1:])
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	fmt.Fprintf(e.err, "stunt %s: %v\n", args[0], err)
	return 1
}

func usage(w io.Writer) {
	fmt.Fprint(w, "stunt: direct TCP connections between programs behind NATs\n\n")
	for _, c := range commands {
		if !c.hidden {
			fmt.Fprintf(w, "  stunt %-37s %s\n", c.name+" "+c.args, c.help)
		}
	}
	fmt.Fprint(w, "\n\"stunt COMMAND -h\" lists the flags of a command.\nThe server is named by --server or $STUNT_SERVER.\n")
}
