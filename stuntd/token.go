package stuntd

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gostunt/stunt/rendezvous"
	"github.com/gostunt/stunt/stuntd/access"
)

// accessFlags adds the flags about who may come in.
func (o *options) accessFlags(fs *flag.FlagSet) {
	a := &o.Access
	fs.BoolVar(&a.Tokens, "tokens", false, "let in only who has a token, as \"stuntd token new\" makes it")
	fs.StringVar(&a.TokenKey, "token-key", "", "PEM `file` with the key that tokens are signed with, or its public half (default token.key in -state, made if it is not there)")
	fs.StringVar(&a.File, "access", "", "`file` with rules on who may come in and who may dial whom, read again when it changes")
}

// tokenKeyPath returns where the key is that tokens are signed with.
func (c *Config) tokenKeyPath() (string, error) {
	if c.Access.TokenKey != "" {
		return c.Access.TokenKey, nil
	}
	dir, err := c.stateDir()
	return filepath.Join(dir, "token.key"), err
}

// openTokenKey returns the key at path, and makes it the first time. There is
// no private half where the file has only the public one.
func openTokenKey(path string) (ed25519.PublicKey, ed25519.PrivateKey, error) {
	public, private, err := readTokenKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if public, private, err = ed25519.GenerateKey(nil); err == nil {
			err = keepKey(path, private)
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("the key of tokens: %w", err)
	}
	return public, private, nil
}

func readTokenKey(path string) (ed25519.PublicKey, ed25519.PrivateKey, error) {
	text, err := readFile(path, 64<<10) // a key is some hundred bytes
	if err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode(text)
	var k any
	switch {
	case block == nil:
		return nil, nil, fmt.Errorf("%s holds no PEM key", path)
	case block.Type == "PUBLIC KEY":
		k, err = x509.ParsePKIXPublicKey(block.Bytes)
	default:
		k, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	switch k := k.(type) {
	case ed25519.PrivateKey:
		return k.Public().(ed25519.PublicKey), k, nil
	case ed25519.PublicKey:
		return k, nil, nil
	}
	if err == nil {
		err = fmt.Errorf("a %T is not an Ed25519 key", k)
	}
	return nil, nil, fmt.Errorf("%s: %w", path, err)
}

const tokenUsage = `Usage: stuntd token new  [flags]
       stuntd token show [flags] [token]

"new" prints a token of this server, "show" says what is in one, which it reads
from stdin if it is not given. Both need the server's state, not the server.

`

// tokenFlags are what the command line of stuntd token says.
type tokenFlags struct {
	Config
	names   []string
	expires span
	rights  [3]bool // listen, dial, relay
	key     string
}

// flagSet has all flags for either command: they are few.
func (o *tokenFlags) flagSet() *flag.FlagSet {
	fs := flag.NewFlagSet("stuntd token", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	o.expires = span(30 * 24 * time.Hour)
	fs.Var(&list{p: &o.names}, "names", "`pattern` of names that it is for, * for any characters; repeat it, or use commas. Without one: no name but the key's fingerprint")
	fs.Var(&o.expires, "expires", "`duration` that it is good for, as in 30d or 12h; never: until it is denied")
	fs.BoolVar(&o.rights[0], "listen", false, "it lets its holder be dialled")
	fs.BoolVar(&o.rights[1], "dial", false, "it lets its holder dial; without -listen, -dial and -relay: all three")
	fs.BoolVar(&o.rights[2], "relay", false, "it lets its holder use a relay")
	fs.StringVar(&o.key, "key", "", "`fingerprint` of whom it is for; without one, whoever has it")
	fs.StringVar(&o.StateDir, "state", "", "the server's `directory` (default $STATE_DIRECTORY, or stuntd in the user's configuration directory)")
	fs.StringVar(&o.Access.TokenKey, "token-key", "", "PEM `file` with the key to sign with (default token.key in -state, made if it is not there)")
	return fs
}

// days is a duration in which a day is a unit.
type days time.Duration

func (s *days) String() string {
	const day = 24 * time.Hour
	if d := time.Duration(*s); d == 0 || d%day != 0 {
		return d.String()
	}
	return strconv.Itoa(int(time.Duration(*s)/day)) + "d"
}

func (s *days) Set(text string) error {
	d, err := time.ParseDuration(text)
	if n, ok := strings.CutSuffix(text, "d"); ok {
		var many uint64
		many, err = strconv.ParseUint(n, 10, 16) // 180 years at most: it can't overflow
		d = time.Duration(many) * 24 * time.Hour
	}
	if err != nil || d < time.Second {
		return errors.New("neither 30d, 12h or the like")
	}
	*s = days(d)
	return nil
}

// span is one that may be without end.
type span time.Duration // zero: never over

func (s *span) String() string {
	if *s == 0 {
		return "never"
	}
	return (*days)(s).String()
}

func (s *span) Set(text string) error {
	if text == "never" {
		*s = 0
		return nil
	}
	return (*days)(s).Set(text)
}

// tokenMain is stuntd token; it returns the exit code as Main does.
func tokenMain(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var o tokenFlags
	fs := o.flagSet()
	wrong := func(format string, args ...any) int {
		fmt.Fprintf(stderr, "stuntd token: %s (stuntd token -help lists the flags)\n", fmt.Sprintf(format, args...))
		return 2
	}
	command := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, tokenUsage)
		fs.SetOutput(stdout)
		fs.PrintDefaults()
		return 0
	case err != nil:
		return wrong("%v", err)
	case command == "new" && fs.NArg() == 0:
		err = o.make(stdout)
	case command == "show" && fs.NArg() <= 1:
		err = o.show(fs.Arg(0), stdin, stdout)
	default:
		return wrong("wants new, or show and a token at most")
	}
	if err != nil {
		fmt.Fprintf(stderr, "stuntd token: %v\n", err)
		return 1
	}
	return 0
}

// make prints a new token.
func (o *tokenFlags) make(w io.Writer) error {
	path, err := o.tokenKeyPath()
	if err != nil {
		return err
	}
	_, private, err := openTokenKey(path)
	if err != nil {
		return err
	}
	if private == nil {
		return fmt.Errorf("%s has only the public half of the key: it can't sign", path)
	}
	t := access.Token{Names: o.names, Key: o.key, Issued: time.Now()}
	for i, right := range []access.Rights{access.Listen, access.Dial, access.Relay} {
		if o.rights[i] {
			t.Rights |= right
		}
	}
	if t.Rights == 0 {
		t.Rights = access.All
	}
	if o.expires != 0 {
		t.Expires = t.Issued.Add(time.Duration(o.expires))
	}
	text, err := t.Sign(private)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, text)
	return err
}

// show prints what is in a token.
func (o *tokenFlags) show(text string, stdin io.Reader, w io.Writer) error {
	if text == "" {
		b, err := io.ReadAll(io.LimitReader(stdin, rendezvous.MaxToken+2))
		if err != nil {
			return err
		}
		text = string(bytes.TrimSpace(b))
	}
	path, err := o.tokenKeyPath()
	if err != nil {
		return err
	}
	public, _, err := readTokenKey(path)
	if err != nil {
		return fmt.Errorf("the key of tokens: %w", err)
	}
	t, err := access.Open(text, public)
	if err != nil {
		return fmt.Errorf("not a good token of this server: %w", err)
	}
	names, holder, expires := strings.Join(t.Names, ", "), t.Key, "never"
	if names == "" {
		names = "none"
	}
	if holder == "" {
		holder = "whoever has it"
	}
	if !t.Expires.IsZero() {
		expires = t.Expires.Format(time.RFC3339)
		if t.Expired(time.Now()) {
			expires += ", which is over"
		}
	}
	_, err = fmt.Fprintf(w, "id       %s\nnames    %s\nrights   %s\nfor      %s\nissued   %s\nexpires  %s\n",
		t.ID, names, t.Rights, holder, t.Issued.Format(time.RFC3339), expires)
	return err
}
