// Stuntd is the server that stunt nodes meet at: rendezvous and STUN on one
// TCP port. See docs/server.md, or run it with -help.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/gostunt/stunt/stuntd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal drains, a second one ends the process at once
	os.Exit(stuntd.Main(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
