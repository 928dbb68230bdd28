package stuntd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/gostunt/stunt/rendezvous"
	"github.com/gostunt/stunt/stuntd/check"
)

// checkTime bounds all of a check. What is slow in it is silence, of which there
// may be some in a row.
const checkTime = 2 * time.Minute

const checkUsage = `Usage: stuntd check [flags]                 on the server's own machine, with its flags
       stuntd check [-token token] address  from anywhere

Says of each thing that nodes need whether it is ok, missing something (warning) or
wrong, and what to do. The exit code is 1 if anything is wrong.

`

// checkMain is the command "stuntd check".
func checkMain(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	fs := o.flagSet()
	token := fs.String("token", "", "`token` to be let in with (default $STUNT_TOKEN)")
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, checkUsage)
		fs.SetOutput(stdout)
		fs.PrintDefaults()
		return 0
	}
	if *token == "" {
		*token = os.Getenv("STUNT_TOKEN")
	}
	var servers []rendezvous.ServerAddr
	switch {
	case err != nil:
	case fs.NArg() > 1:
		err = fmt.Errorf("unexpected argument %q", fs.Arg(1))
	case fs.NArg() == 1:
		servers, err = rendezvous.ParseServers(fs.Arg(0))
	default:
		if err = fromEnvironment(fs); err == nil {
			err = o.Config.check()
		}
	}
	if err != nil {
		fmt.Fprintf(stderr, "stuntd: %v (stuntd check -help lists the flags)\n", err)
		return 2
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	r := &check.Report{W: stdout}
	for _, s := range servers {
		check.Remote(ctx, check.Target{Server: s, Token: *token}, r)
	}
	if len(servers) == 0 {
		o.Config.look(ctx, r)
	}
	if r.Worst == check.Wrong {
		return 1
	}
	return 0
}
