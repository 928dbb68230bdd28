package main

import (
	"context"
	"fmt"

	"github.com/gostunt/stunt/stuntd"
)

// runServe is stuntd under another name, so that one binary is enough.
func runServe(ctx context.Context, e *env, args []string) error {
	switch code := stuntd.Main(ctx, args, e.out, e.err); code {
	case 0:
		return nil
	case 2:
		return errUsage
	default:
		return fmt.Errorf("the server ended with code %d", code)
	}
}
