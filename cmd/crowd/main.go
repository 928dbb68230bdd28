// Command crowd measures what many nodes cost a server: memory, the time of a
// dial, and how long they take to come back to a server that was killed.
// docs/scale.md has what it says, and what that means.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gostunt/stunt/stuntd/crowd"
)

func main() {
	if crowd.Child() || guest() {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	c := crowd.Config{Progress: os.Stderr}
	sizes := flag.String("sizes", "500,2000", "`numbers` of nodes, rising, with commas")
	flag.IntVar(&c.Servers, "servers", 1, "`number` of servers that share the nodes, as a cluster")
	flag.BoolVar(&c.Apart, "apart", false, "these servers are no cluster: each has nodes of its own, which dial each other")
	kernel := flag.String("emulate", "", "do all of it in a machine that qemu-system-x86_64 emulates, with this Linux `kernel`; a process may have a million files there")
	flag.DurationVar(&c.Idle, "idle", 3*time.Second, "how long nothing but pings happens at each of them")
	flag.IntVar(&c.Rate, "rate", 200, "`dials` per second at each of them; 0: none")
	flag.DurationVar(&c.For, "for", 5*time.Second, "how long they last")
	flag.IntVar(&c.Abreast, "abreast", 256, "`nodes` that come at once at first")
	flag.DurationVar(&c.Keepalive, "keepalive", 25*time.Second, "how often they ping")
	flag.BoolVar(&c.Kill, "kill", true, "at the end kill the server (SIGKILL), start it again, and see all come back")
	flag.DurationVar(&c.Drain, "drain", 0, "then stop it with so much time for the nodes to leave in, start it again, and see all come back; 0: don't")
	flag.DurationVar(&c.Patience, "patience", 5*time.Minute, "how long all may take, each time")
	into := flag.String("into", "", "write the tables into this Markdown `file`, between <!-- crowd --> and <!-- /crowd --> and so on, instead of stdout")
	svg := flag.String("svg", "", "draw what a node costs against their number into this `file`")
	flag.Parse()
	if err := parse(*sizes, &c.Sizes); err != nil || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "crowd: wrong arguments; -h lists the flags")
		os.Exit(2)
	}
	run := crowd.Run
	if *kernel != "" {
		run = func(ctx context.Context, c crowd.Config) (*crowd.Result, error) { return emulate(ctx, *kernel, c) }
	}
	res, err := run(ctx, c)
	if *into == "" && res != nil {
		res.WriteMarkdown(os.Stdout)
	} else if err == nil {
		err = res.WriteInto(*into)
	}
	if *svg != "" && err == nil {
		err = draw(*svg, res)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "crowd:", err)
		os.Exit(1)
	}
}

func parse(s string, sizes *[]int) error {
	for f := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(f))
		if err != nil {
			return err
		}
		*sizes = append(*sizes, n)
	}
	return nil
}

func draw(file string, res *crowd.Result) error {
	var b bytes.Buffer
	if err := res.WriteSVG(&b); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}
