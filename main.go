// Command shardseed backs up the data directories of MySQL and MariaDB
// replicas into a deduplicating repository and seeds replicas from it.
package main

import (
	"context"
	"crypto/rand"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/shardseed/shardseed/commands"
	"github.com/shardseed/shardseed/internal/cpus"
)

func main() {
	cpus.ForSystemCalls()
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup has its way
		signals = append(signals, syscall.SIGHUP)
	}
	// Once caught, a broken pipe is an error of write and no longer ends the
	// process while a server is stopped.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	code := commands.Main(ctx, commands.Options{
		Args:   os.Args,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		Now:    time.Now,
		Random: rand.Reader,
	})
	stop()
	os.Exit(code)
}
