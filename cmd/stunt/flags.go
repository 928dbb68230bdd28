package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/gostunt/stunt"
)

// flags is a flag set whose flags may stand before and after the other
// arguments, and whose mistakes end in one line.
type flags struct {
	*flag.FlagSet
	env *env
}

func newFlags(e *env, name string) *flags {
	fs := flag.NewFlagSet("stunt "+name, flag.ContinueOnError)
	fs.SetOutput(e.err)
	return &flags{fs, e}
}

// parse returns the arguments that are not flags; it wants between least and
// most of them.
func (f *flags) parse(args []string, least, most int) ([]string, error) {
	var rest []string
	for {
		if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			return nil, errUsage // flag has said why
		}
		if f.NArg() == 0 {
			break
		}
		rest, args = append(rest, f.Arg(0)), f.Args()[1:]
	}
	if len(rest) < least || len(rest) > most {
		return nil, f.wrong("wants %s, not %q", count(least, most), rest)
	}
	return rest, nil
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
	raw         bool
	verbose     bool
}

func (f *flags) node() *nodeFlags {
	var n nodeFlags
	f.StringVar(&n.server, "server", os.Getenv("STUNT_SERVER"), "`host[:port][#pin]` of the server, several separated by commas; default $STUNT_SERVER")
	f.StringVar(&n.key, "key", "", "`file` with the identity; default key.pem in the configuration directory")
	f.BoolVar(&n.raw, "raw", false, "authenticate, but leave the bytes to plain TCP")
	f.BoolVar(&n.verbose, "v", false, "say what happens, on stderr")
	return &n
}

// config makes the configuration of the command's node.
func (n *nodeFlags) config(f *flags) (stunt.Config, error) {
	if n.server == "" {
		return stunt.Config{}, f.wrong("no server: set --server or $STUNT_SERVER")
	}
	path, err := keyPath(n.key)
	if err != nil {
		return stunt.Config{}, err
	}
	key, err := stunt.LoadKey(path)
	if err != nil {
		return stunt.Config{}, err
	}
	c := stunt.Config{Server: n.server, Key: key}
	if n.raw {
		c.Security = stunt.Raw
	}
	if n.verbose {
		c.Logger = slog.New(slog.NewTextHandler(f.env.err, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return c, nil
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
