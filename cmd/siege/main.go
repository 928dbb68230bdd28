// Command siege attacks a server of its own while honest nodes dial each other
// through it, and prints what that cost them. docs/attacks.md has what it says.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/gostunt/stunt/stuntd/crowd"
)

func main() {
	if crowd.Child() {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	c := crowd.SiegeConfig{Progress: os.Stderr}
	attacks := flag.String("attacks", "", "`names` of attacks, with commas: "+strings.Join(crowd.Raids(), ", ")+"; all is the default")
	flag.IntVar(&c.Nodes, "nodes", 1000, "honest `nodes`, which dial all the time")
	flag.IntVar(&c.Rate, "rate", 400, "their `dials` per second")
	flag.IntVar(&c.PerSecond, "blows", 1000, "`blows` per second of an attack: connections or messages")
	flag.DurationVar(&c.For, "for", 10*time.Second, "how long each attack lasts, in six rounds; before each of these as long a quiet, and the same attack on another server")
	into := flag.String("into", "", "write into this Markdown `file`, between <!-- siege --> and <!-- /siege -->, instead of stdout")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "siege: too many arguments; -h lists the flags")
		os.Exit(2)
	}
	if *attacks != "" {
		c.Attacks = strings.Split(*attacks, ",")
	}
	res, err := crowd.Besiege(ctx, c)
	write := func(w io.Writer) error { return crowd.WriteSieges(w, res) }
	if *into == "" {
		write(os.Stdout)
	} else if err == nil {
		err = crowd.WriteInto(*into, "siege", write)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "siege:", err)
		os.Exit(1)
	}
}
