package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/grid"
)

// runLab is for commands about the lab itself; so far there is one.
func runLab(ctx context.Context, e *env, args []string) error {
	if len(args) == 0 || args[0] != "grid" {
		fmt.Fprint(e.err, "stunt lab: wants \"grid\"; \"stunt lab grid -h\" lists its flags\n")
		return errUsage
	}
	return runGrid(ctx, e, args[1:])
}

// runGrid measures which NATs are crossed and prints the table.
func runGrid(ctx context.Context, e *env, args []string) error {
	var c grid.Config
	var nats, into, lists list
	f := newFlags(e, "lab grid")
	format := f.String("format", "text", "`text`, markdown or svg")
	f.Var(&nats, "nats", "`names` of NATs for rows and columns, with commas; \"core\", which is the default, or \"all\"")
	f.IntVar(&c.N, "n", 20, "`dials` of each pair")
	f.Uint64Var(&c.Seed, "seed", 1, "`number` that decides every random choice of the NATs")
	f.DurationVar(&c.RTT, "rtt", 100*time.Millisecond, "round trip `time` between any two of the server and the NATs")
	f.IntVar(&c.Jobs, "jobs", 20, "`labs` at once")
	f.Var(&lists, "lists", "`names` of what is measured beside the table, with commas: shared, links, far, orders; \"none\"; all is the default")
	output := f.String("o", "", "write to this `file` instead of stdout")
	f.Var(&into, "into", "write as Markdown into this `file`, between <!-- grid --> and <!-- /grid -->, or what matters most between <!-- grid summary --> and <!-- /grid summary -->; may be given several times")
	f.StringVar(&c.TraceDir, "trace", "", "`folder` for a file per lab with what happens to every packet")
	if _, err := f.parse(args, 0, 0); err != nil {
		return err
	}
	write, ok := map[string]func(*grid.Grid, io.Writer) error{
		"text": (*grid.Grid).WriteText, "markdown": (*grid.Grid).WriteMarkdown, "svg": (*grid.Grid).WriteSVG,
	}[*format]
	if !ok {
		return f.wrong("there is no format %q", *format)
	}
	var err error
	if c.Sides, err = gridSides(nats); err != nil {
		return f.wrong("%v", err)
	}
	if c.Lists, err = gridLists(lists); err != nil {
		return f.wrong("%v", err)
	}
	if err := natlab.Enter(); err != nil {
		return err
	}
	c.Progress = func(done, total int) { fmt.Fprintf(e.err, "\r%d/%d", done, total) }
	g, failed := grid.Run(ctx, c)
	fmt.Fprintln(e.err)
	if g == nil {
		return failed
	}
	return errors.Join(failed, writeGrid(e, *output, into, func(w io.Writer) error { return write(g, w) }, g.Insert))
}

func gridSides(names []string) ([]grid.Side, error) {
	switch {
	case len(names) == 0, len(names) == 1 && names[0] == "core":
		return grid.Core(), nil
	case len(names) == 1 && names[0] == "all":
		return grid.Sides(), nil
	}
	return grid.Find(names...)
}

func gridLists(names []string) ([]grid.List, error) {
	switch {
	case len(names) == 0, len(names) == 1 && names[0] == "all":
		return grid.Lists(), nil
	case len(names) == 1 && names[0] == "none":
		return []grid.List{}, nil
	}
	return grid.FindLists(names...)
}

// writeGrid writes the grid to a file, or to stdout unless it went into
// documents, and into these.
func writeGrid(e *env, output string, into []string, write func(io.Writer) error, insert func([]byte) ([]byte, error)) error {
	for _, name := range into {
		doc, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if doc, err = insert(doc); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(name, doc, 0o644); err != nil {
			return err
		}
	}
	if output == "" {
		if len(into) > 0 {
			return nil
		}
		return write(e.out)
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	return os.WriteFile(output, b.Bytes(), 0o644)
}
