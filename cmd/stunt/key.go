package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/gostunt/stunt"
)

// runKey shows this machine's identity; "make" makes it first if there is none.
func runKey(_ context.Context, e *env, args []string) error {
	f := newFlags(e, "key")
	file := f.String("key", "", "`file` with the identity; default key.pem in the configuration directory")
	rest, err := f.parse(args, 0, 1)
	if err != nil {
		return err
	}
	verb := "show"
	if len(rest) == 1 {
		verb = rest[0]
	}
	path, err := keyPath(*file)
	if err != nil {
		return err
	}
	switch _, statErr := os.Stat(path); {
	case verb != "show" && verb != "make":
		return f.wrong("%q is neither show nor make", verb)
	case verb == "show" && errors.Is(statErr, fs.ErrNotExist):
		return fmt.Errorf("no identity in %s yet; \"stunt key make\" makes one", path)
	}
	key, err := stunt.LoadKey(path)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "fingerprint: %s\nfile: %s\n", stunt.Fingerprint(key.Public().(ed25519.PublicKey)), path)
	return nil
}
