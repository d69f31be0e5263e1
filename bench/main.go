// Command bench measures shardseed beside restic, borg, tar with zstd and cp,
// on the data directory of a real MySQL, and on running servers. "make bench"
// gets the programs and runs it; it prints what it writes to bench/results.md.
// The environment sets its size, see newConfig.
//
// Everything lies below one temporary folder, which is removed at the end.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) //nolint:forbidigo // the program's one context
	b := &bench{
		stdout: os.Stdout, //nolint:forbidigo // the program's own stream
		stderr: os.Stderr, //nolint:forbidigo // the program's own stream
		now:    time.Now,  //nolint:forbidigo // the program's one clock
	}
	var err error
	if len(os.Args) > 1 { // measureIndex has started this process, to measure it
		err = b.runCase(ctx, os.Args[1:])
	} else {
		err = b.main(ctx, os.Getenv)
	}
	stop()
	if err != nil {
		fmt.Fprintf(b.stderr, "bench: error: %v\n", err)
		os.Exit(1) //nolint:forbidigo // the program's exit code
	}
}
