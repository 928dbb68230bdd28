package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gostunt/stunt"
)

// runProbe prints the NAT report: facts, one a line, then a verdict.
func runProbe(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "probe")
	nf := f.node()
	asJSON := f.Bool("json", false, "print the report as JSON")
	timeout := f.Duration("timeout", 20*time.Second, "give up after this `time`")
	if _, err := f.parse(args, 0, 0); err != nil {
		return err
	}
	c, err := nf.config(f)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	n := &stunt.Node{Config: c}
	defer n.Close()
	if err := n.Up(ctx); err != nil {
		return fmt.Errorf("no session with %s: %w", c.Server, err)
	}
	r, err := n.Report(ctx)
	if err != nil {
		return err
	}
	if *asJSON {
		enc := json.NewEncoder(e.out)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	return r.WriteText(e.out)
}
