package stuntd

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"
)

// options are what the command line says beyond a Config.
type options struct {
	Config
	level   slog.Level
	format  logFormat
	version bool
}

// list is a flag that may be given several times. The first use replaces what
// it held before; commas separate the values of an environment variable.
type list struct {
	p   *[]string
	set bool
}

func (l *list) String() string {
	if l.p == nil {
		return ""
	}
	return strings.Join(*l.p, ",")
}

func (l *list) Set(s string) error {
	if !l.set {
		*l.p, l.set = nil, true
	}
	for v := range strings.SplitSeq(s, ",") {
		if v = strings.TrimSpace(v); v == "" {
			return fmt.Errorf("an empty value")
		}
		*l.p = append(*l.p, v)
	}
	return nil
}

// logFormat is how log lines are written.
type logFormat string

const (
	logText logFormat = "text"
	logJSON logFormat = "json"
)

func (f *logFormat) String() string { return string(*f) }

func (f *logFormat) Set(s string) error {
	switch v := logFormat(s); v {
	case logText, logJSON:
		*f = v
		return nil
	}
	return fmt.Errorf("neither text nor json")
}

// flagSet returns the flags of the program, which fill in o, with their
// defaults. docs/server.md has the same table; a test compares the two.
func (o *options) flagSet() *flag.FlagSet {
	def, _ := Limits{}.withDefaults() // the zero value is never refused
	o.Listen, o.format, o.NameHold = []string{DefaultListen}, logText, time.Minute

	fs := flag.NewFlagSet("stuntd", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // parse returns the error; Main prints it in one line
	fs.Var(&list{p: &o.Listen}, "listen", "TCP `address` to listen on; repeat it for more")
	fs.Var(&list{p: &o.Public}, "public", "`host`[:port] that clients reach this server at; inside=outside, two IPs, for each address behind 1:1 NAT")
	fs.StringVar(&o.CertFile, "tls-cert", "", "PEM `file` with the certificate chain; without one, a self-signed certificate is made and kept")
	fs.StringVar(&o.KeyFile, "tls-key", "", "PEM `file` with the key of -tls-cert")
	o.acmeFlags(fs)
	fs.StringVar(&o.StateDir, "state", "", "`directory` for the self-signed certificate's key (default $STATE_DIRECTORY, or stuntd in the user's configuration directory)")
	fs.StringVar(&o.Record, "record", "", "`file` for what the outcomes of dials have taught; without one, it is kept in memory only")
	fs.StringVar(&o.Admin.Listen, "admin", "", "TCP `address` for the operator: metrics, a page, profiles; best on 127.0.0.1. Without one, there is none")
	fs.StringVar(&o.Admin.TokenFile, "admin-token", "", "`file` with a token that requests to -admin must name; needed where others reach it")
	fs.Var((*days)(&o.NameHold), "name-hold", "`duration`, as in 12h or 30d, that a name stays with its key after its session ended")
	fs.StringVar(&o.Names, "names", "", "`file` for which key each name belongs to; without one, it is kept in memory only")
	fs.TextVar(&o.level, "log-level", slog.LevelInfo, "least `level` to log: debug, info, warn or error")
	fs.Var(&o.format, "log-format", "`format` of the log on stderr: text or json")
	fs.DurationVar(&o.Drain, "drain", o.Config.drain(), "how long sessions get to say goodbye at SIGTERM")
	fs.DurationVar(&o.Keepalive, "keepalive", 25*time.Second, "how often nodes show that they are there; NATs that forget sooner need less")
	fs.IntVar(&o.ReturnRate, "return-rate", 0, "`nodes` per second that are to come back when all have lost the server; 0: 1600 for each core but one")
	fs.BoolVar(&o.version, "version", false, "print the version and exit")

	l := &o.Limits
	fs.IntVar(&l.Conns, "max-conns", def.Conns, "connections in all")
	fs.IntVar(&l.ConnsPerSource, "max-conns-per-source", def.ConnsPerSource, "connections of one IPv4 address or IPv6 /64")
	fs.Var((*size)(&l.Memory), "max-memory", "`size`, as in 512M or 2G, of what the process may hold; near it, the server refuses what is new (default three quarters of what there is)")
	fs.IntVar(&l.HalfOpen, "max-half-open", def.HalfOpen, "connections in all whose handshake is not finished")
	fs.IntVar(&l.HalfOpenPerSource, "max-half-open-per-source", def.HalfOpenPerSource, "connections of one source whose handshake is not finished")
	fs.DurationVar(&l.Handshake, "handshake-timeout", def.Handshake, "how long a client may take to finish its handshake")
	fs.IntVar(&l.HandshakeRate, "max-handshake-rate", def.HandshakeRate, "TLS handshakes per second of one source")
	fs.IntVar(&l.MessageRate, "max-message-rate", def.MessageRate, "messages per second of one session")
	fs.IntVar(&l.MessageRatePerSource, "max-message-rate-per-source", def.MessageRatePerSource, "messages per second of all sessions of one source")
	fs.IntVar(&l.IDsPerKey, "max-ids-per-key", def.IDsPerKey, "IDs that one key may hold")
	fs.IntVar(&l.SessionsPerKey, "max-sessions-per-key", def.SessionsPerKey, "sessions of one key at a time")
	fs.IntVar(&l.DialRate, "max-dial-rate", def.DialRate, "dials per second of one key")
	fs.IntVar(&l.PendingDials, "max-pending-dials", def.PendingDials, "unanswered dials of one caller, and to one callee")
	o.accessFlags(fs)
	o.relayFlags(fs)
	o.clusterFlags(fs)
	return fs
}

// envName is the environment variable that stands in for a flag.
func envName(flag string) string {
	return "STUNTD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// parse reads the command line, and for the flags that are not on it the
// environment. It returns [flag.ErrHelp] if asked for help.
func (o *options) parse(args []string) (*flag.FlagSet, error) {
	fs := o.flagSet()
	if err := fs.Parse(args); err != nil {
		return fs, err
	}
	if fs.NArg() > 0 {
		return fs, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if err := fromEnvironment(fs); err != nil {
		return fs, err
	}
	return fs, o.Config.check()
}

// fromEnvironment sets the flags that were not given.
func fromEnvironment(fs *flag.FlagSet) (err error) {
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	fs.VisitAll(func(f *flag.Flag) {
		v, ok := os.LookupEnv(envName(f.Name))
		if !ok || given[f.Name] || err != nil {
			return
		}
		if serr := fs.Set(f.Name, v); serr != nil {
			err = fmt.Errorf("invalid value %q for $%s: %w", v, envName(f.Name), serr)
		}
	})
	return err
}

// newLogger returns the logger that the command line asks for.
func (o *options) newLogger(w io.Writer) *slog.Logger {
	ho := &slog.HandlerOptions{Level: o.level}
	if o.format == logJSON {
		return slog.New(slog.NewJSONHandler(w, ho))
	}
	return slog.New(slog.NewTextHandler(w, ho))
}
