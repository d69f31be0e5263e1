package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/replication"
)

const mib = 1 << 20

// bench is one run of the benchmark.
type bench struct {
	stdout io.Writer // the tables
	stderr io.Writer // what is being done
	now    func() time.Time

	config  config
	dir     string // temporary folder, holds everything
	cold    bool   // the page cache can be emptied
	preCopy bool   // shardseed backup knows --pre-copy
	start   time.Time
	shown   string // round whose files are at source, or empty
	started []*server
	results results
	index   []indexRow
}

// main measures what the environment asks for and reports it. What was
// measured before something failed is reported too, unless it was interrupted.
func (b *bench) main(ctx context.Context, getenv func(string) string) (err error) {
	if b.config, err = newConfig(getenv); err != nil {
		return err
	}
	// Sockets lie below it, and their paths must be short.
	if b.dir, err = os.MkdirTemp(b.config.dir, "shardseed-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.clean(ctx)) }()
	b.start, b.cold, b.results = b.now(), canDrop(), results{}
	facts, err := b.facts(ctx)
	if err != nil {
		return err
	}
	if b.preCopy, err = b.knowsPreCopy(ctx); err != nil {
		return err
	}
	err = b.measureAll(ctx)
	if len(b.results)+len(b.index) == 0 || ctx.Err() != nil {
		return err
	}
	return errors.Join(err, b.report(facts, err))
}

// measureAll measures the parts that are asked for, also after one failed.
func (b *bench) measureAll(ctx context.Context) error {
	if b.config.needsDataset() {
		if err := b.makeStates(ctx); err != nil {
			return fmt.Errorf("make the dataset: %w", err)
		}
	}
	var errs []error
	for _, step := range []struct {
		part    string
		measure func() error
	}{
		{partFiles, func() error { return b.measureFiles(ctx) }},
		{partDaily, func() error { return b.measureDaily(ctx) }},
		{partLive, func() error { return b.measureLive(ctx, replication.MySQL) }},
		{partLive, func() error { return b.measureLive(ctx, replication.MariaDB) }},
		{partIndex, func() error { return b.measureIndex(ctx) }},
	} {
		if ctx.Err() != nil || !b.config.measures(step.part) {
			continue
		}
		if err := step.measure(); err != nil {
			errs = append(errs, fmt.Errorf("part %s: %w", step.part, err))
		}
	}
	return errors.Join(errs...)
}

func (b *bench) report(facts []fact, failed error) error {
	var page bytes.Buffer
	b.write(&page, facts, failed)
	if _, err := b.stdout.Write(page.Bytes()); err != nil {
		return err
	}
	return durable.OS().Replace(b.config.results, page.Bytes(), 0o644)
}

// clean ends every server and removes every file.
func (b *bench) clean(ctx context.Context) error {
	var errs []error
	for _, s := range slices.Backward(b.started) {
		_ = s.db.Close()                                        // has no idle connections
		errs = append(errs, s.kill(context.WithoutCancel(ctx))) // also after a signal
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// say tells what has been done, with the seconds since the start.
func (b *bench) say(format string, arguments ...any) {
	fmt.Fprintf(b.stderr, "bench: %4.0f s: %s\n", b.now().Sub(b.start).Seconds(), fmt.Sprintf(format, arguments...))
}
