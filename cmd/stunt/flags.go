package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/rendezvous"
)

// flags is a flag set whose flags may stand before and after the other
// arguments, and whose mistakes end in one line.
type flags struct {
	*flag.FlagSet
	env *env
}

func newFlags(e *env, name string) *flags {
	fs := flag.NewFlagSet("stunt "+name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // parse says in one line what is wrong
	return &flags{fs, e}
}

// parse returns the arguments that are not flags; it wants between least and
// most of them.
func (f *flags) parse(args []string, least, most int) ([]string, error) {
	var rest []string
	for {
		if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
			f.help()
			return nil, err
		} else if err != nil {
			return nil, f.wrong("%v", err)
		}
		if f.NArg() == 0 {
			break
		}
		rest, args = append(rest, f.Arg(0)), f.Args()[1:]
	}
	if len(rest) < least || len(rest) > most {
		return nil, f.wrong("wants %s, not %d: stunt %s %s", count(least, most), len(rest), f.env.cmd.name, f.env.cmd.args)
	}
	return rest, nil
}

// help explains the command and its flags.
func (f *flags) help() {
	c := f.env.cmd
	fmt.Fprintf(f.env.out, "Usage: stunt %s %s\n\n%s\n\n", c.name, c.args, c.help)
	f.SetOutput(f.env.out)
	f.PrintDefaults()
}

// wrong explains a mistake on the command line.
func (f *flags) wrong(format string, args ...any) error {
	fmt.Fprintf(f.env.err, "%s: %s; \"%s -h\" lists the flags\n", f.Name(), fmt.Sprintf(format, args...), f.Name())
	return errUsage
}

func count(least, most int) string {
	switch {
	case most == 0:
		return "no arguments"
	case least == most:
		return fmt.Sprintf("%d argument", least)
	}
	return fmt.Sprintf("%d to %d arguments", least, most)
}

// nodeFlags are those of every command that talks to a server.
type nodeFlags struct {
	server, key string
	token       string
	verbose     bool
	listens     bool // makes no calls once it is there: only the log can tell it
	noPortmap   bool // see portmap
	raw, resume bool // of commands that have connections, as relay
	relay       relayFlag
}

func (f *flags) node() *nodeFlags {
	var n nodeFlags
	f.StringVar(&n.server, "server", "", "`host[:port][#pin]` of the server, several separated by commas; default $STUNT_SERVER")
	f.StringVar(&n.key, "key", "", "`file` with the identity; default key.pem in the configuration directory")
	f.StringVar(&n.token, "token", "", "`token` that lets this machine in, or @ and the file that it is in; default $STUNT_TOKEN")
	f.BoolVar(&n.verbose, "v", false, "say what happens, on stderr")
	return &n
}

// portmap is for commands that have connections, or look at the router.
func (n *nodeFlags) portmap(f *flags) {
	f.BoolVar(&n.noPortmap, "no-portmap", false, "do not ask the router for a public port")
}

// config makes the configuration of the command's node.
func (n *nodeFlags) config(f *flags) (stunt.Config, error) {
	if n.server == "" {
		n.server = os.Getenv("STUNT_SERVER")
	}
	if n.server == "" {
		return stunt.Config{}, f.wrong("no server: set --server or $STUNT_SERVER")
	}
	if _, err := rendezvous.ParseServers(n.server); err != nil {
		return stunt.Config{}, f.wrong("%v", err)
	}
	if n.token == "" {
		n.token = os.Getenv("STUNT_TOKEN")
	}
	path, err := keyPath(n.key)
	if err != nil {
		return stunt.Config{}, err
	}
	key, err := stunt.LoadKey(path)
	if err != nil {
		return stunt.Config{}, err
	}
	// Without -v only what needs somebody to act, as a name that another
	// session took. Who makes calls has it from them, in one line.
	level := slog.LevelError
	switch {
	case n.verbose:
		level = slog.LevelDebug
	case n.listens:
		level = slog.LevelWarn
	}
	c := stunt.Config{
		CacheDir: cacheDir(),
		Server:   n.server,
		Token:    n.token,
		Key:      key,

		NoPortMapping: n.noPortmap,
		Logger:        slog.New(slog.NewTextHandler(f.env.err, &slog.HandlerOptions{Level: level})),
	}
	c.Relay, c.Resume = stunt.RelayPolicy(n.relay), n.resume
	if n.raw {
		c.Security = stunt.Raw
	}
	return c, nil
}

// relayFlag is a relay policy by its name.
type relayFlag stunt.RelayPolicy

func (r *relayFlag) String() string { return stunt.RelayPolicy(*r).String() }

func (r *relayFlag) Set(s string) error {
	for p := stunt.RelayAuto; p <= stunt.RelayOnly; p++ {
		if s == p.String() {
			*r = relayFlag(p)
			return nil
		}
	}
	return errors.New("neither auto, never nor only")
}

// up waits for a session with the server, for as long as there is hope, and
// says on stderr why it takes long: a service may well start before the
// network does.
func up(ctx context.Context, e *env, n *stunt.Node) error {
	const often, seldom = 2 * time.Second, time.Minute
	for wait := often; ; wait = min(2*wait, seldom) {
		within, cancel := context.WithTimeout(ctx, wait)
		err := n.Up(within)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		fmt.Fprintf(e.err, "still trying: %v\n", err)
	}
}

// checkHostPort says what is wrong with a host:port, before anything is done.
func checkHostPort(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return err
	}
	if port == "" {
		return &net.AddrError{Err: "missing port in address", Addr: s}
	}
	_, err = net.LookupPort("tcp", port)
	return err
}

// cacheDir is where this user's programs keep what can be found out again.
func cacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "" // then nothing is kept
	}
	return filepath.Join(dir, "stunt")
}

// keyPath is the file of this machine's identity.
func keyPath(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no place for the identity: %w; name a file with --key", err)
	}
	return filepath.Join(dir, "stunt", "key.pem"), nil
}

// list is a flag that may be given several times, or once with commas.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(s string) error {
	for _, v := range strings.Split(s, ",") {
		if v = strings.TrimSpace(v); v != "" {
			*l = append(*l, v)
		}
	}
	return nil
}
