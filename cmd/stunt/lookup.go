package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/probe"
)

// found is a stunt.Presence as it is printed.
type found struct {
	ID          string        `json:"id"`
	Fingerprint string        `json:"fingerprint"`
	Since       time.Time     `json:"since"`
	NAT         *probe.Report `json:"nat,omitempty"`
	Reach       string        `json:"reach"`
	Method      string        `json:"method,omitempty"`
	Met         time.Time     `json:"met,omitzero"`
}

// runLookup prints what the server says of a peer, and how it was reached from
// here.
func runLookup(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "lookup")
	nf := f.node()
	asJSON := f.Bool("json", false, "print it as JSON, with the whole report on the NAT")
	timeout := f.Duration("timeout", 20*time.Second, "give up after this `time`")
	rest, err := f.parse(args, 1, 1)
	if err != nil {
		return err
	}
	c, err := nf.config(f)
	if err != nil {
		return err
	}
	c.NoPortMapping = true // it only asks
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	n := &stunt.Node{Config: c}
	defer n.Close()
	p, err := n.Lookup(ctx, rest[0])
	if err != nil {
		return err
	}
	is := found{ID: p.ID, Fingerprint: stunt.Fingerprint(p.Key), Since: p.Since.UTC(), NAT: p.Report,
		Reach: p.Reach.String(), Method: string(p.Method), Met: p.Met.UTC()}
	if *asJSON {
		enc := json.NewEncoder(e.out)
		enc.SetIndent("", "  ")
		return enc.Encode(is)
	}
	return is.writeText(e.out)
}

// writeText writes one "key: value" a line, always the same keys.
func (f found) writeText(w io.Writer) error {
	nat, met := "", ""
	if f.NAT != nil {
		nat = f.NAT.Summary()
	}
	if !f.Met.IsZero() {
		met = f.Met.Format(time.RFC3339)
	}
	for _, line := range [][2]string{
		{"id", f.ID},
		{"fingerprint", f.Fingerprint},
		{"since", f.Since.Format(time.RFC3339)},
		{"nat", nat},
		{"reach", f.Reach},
		{"method", f.Method},
		{"met", met},
	} {
		if _, err := fmt.Fprintf(w, "%s: %s\n", line[0], cmp.Or(line[1], "unknown")); err != nil {
			return err
		}
	}
	return nil
}
