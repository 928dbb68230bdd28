// Command soak keeps a server under the load of everything at once, for long, and
// says whether it has grown by it. docs/attacks.md says what is in that.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
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
	c := crowd.SoakConfig{Progress: os.Stderr}
	flag.DurationVar(&c.For, "for", 20*time.Second, "how long, in all")
	flag.IntVar(&c.Nodes, "nodes", 500, "`nodes` that stay all the time, and dial")
	flag.IntVar(&c.Mortals, "mortals", 100, "`nodes` that are killed with each turn of the attacks")
	flag.IntVar(&c.Rate, "rate", 100, "`dials` per second")
	flag.IntVar(&c.PerSecond, "blows", 50, "`blows` per second of the attack of the moment")
	into := flag.String("into", "", "write into this Markdown `file`, between <!-- soak --> and <!-- /soak -->, instead of stdout")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "soak: too many arguments; -h lists the flags")
		os.Exit(2)
	}
	res, err := crowd.Soak(ctx, c)
	switch {
	case res != nil && *into == "":
		res.WriteMarkdown(os.Stdout)
	case err == nil && *into != "":
		err = crowd.WriteInto(*into, "soak", res.WriteMarkdown)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
	if grown := res.Grown(); grown != nil {
		for _, g := range grown {
			fmt.Println("not flat:", g)
		}
		os.Exit(1)
	}
	fmt.Println("flat")
}
