package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/shardseed/shardseed/replication"
)

const (
	tables      = 4
	bytesPerRow = 250 // of sysbench's table with its index, in MySQL's pages
	writes      = "oltp_write_only"
	inserts     = "oltp_insert"

	roundLoad      = "load"
	roundSkewed    = "skewed"
	roundUniform   = "uniform"
	roundInserts   = "inserts"
	roundNothing   = "nothing"
	roundUntouched = "untouched"
)

// round is one backup of a tool, after something has happened to the files.
type round struct {
	name     string
	title    string
	script   string // sysbench's, that changes the tables; empty: nothing happens
	events   int    // transactions of it, for 2 GiB and more
	spread   string // sysbench's --rand-type
	copied   bool   // the files are a new copy, else those of the round before
	restored bool   // this backup is restored too
}

// allRounds returns the rounds in order.
func allRounds() []round {
	return []round{
		{name: roundLoad, title: "load", copied: true, restored: true},
		{name: roundSkewed, title: "%d skewed write transactions", script: writes, events: 10_000, spread: "pareto", copied: true},
		{name: roundUniform, title: "%d uniform write transactions", script: writes, events: 10_000, spread: "uniform", copied: true},
		{name: roundInserts, title: "%d inserts", script: inserts, events: 200_000, spread: "uniform", copied: true, restored: true},
		{name: roundNothing, title: "nothing, copied files", copied: true},
		{name: roundUntouched, title: "nothing, same files"},
	}
}

// rounds returns those that the configuration names. The title has the number
// of transactions.
func (c config) chosenRounds() []round {
	rounds := slices.DeleteFunc(allRounds(), func(r round) bool { return !slices.Contains(c.rounds, r.name) })
	for i, r := range rounds {
		if r.script == "" {
			continue
		}
		rounds[i].events = c.scale(r.events)
		rounds[i].title = fmt.Sprintf(r.title, rounds[i].events)
	}
	return rounds
}

func roundNames() []string {
	var names []string
	for _, r := range allRounds() {
		names = append(names, r.name)
	}
	return names
}

// state returns the folder with the copy of the data directory of a round.
func (b *bench) state(round string) string {
	return filepath.Join(b.dir, "states", round)
}

// makeStates loads a MySQL server and copies its data directory after each
// round, always after a clean stop.
func (b *bench) makeStates(ctx context.Context) error {
	s, err := b.newServer(ctx, replication.MySQL, filepath.Join(b.dir, "origin"), false)
	if err != nil {
		return err
	}
	if err := b.initialize(ctx, s); err != nil {
		return err
	}
	if err := b.prepare(ctx, s); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(b.dir, "states"), 0o755); err != nil {
		return err
	}
	rounds := b.config.chosenRounds()
	if !b.config.measures(partFiles) {
		rounds = rounds[:1] // the other parts begin with the load
	}
	for i, r := range rounds {
		b.say("dataset: %s", r.title)
		if err := b.change(ctx, s, r, i); err != nil {
			return err
		}
		if !r.copied {
			continue
		}
		if err := b.run(ctx, "cp", "-aT", "--reflink=never", s.datadir(), b.state(r.name)); err != nil {
			return err
		}
		if err := strip(b.state(r.name)); err != nil {
			return err
		}
	}
	return os.RemoveAll(s.dir)
}

// change lets the round happen to the server, and leaves it stopped.
func (b *bench) change(ctx context.Context, s *server, r round, seed int) error {
	if r.script == "" {
		return s.stop(ctx)
	}
	if s.pid() == 0 {
		if err := s.start(ctx); err != nil {
			return err
		}
	}
	if err := b.transactions(ctx, s, r.script, r.spread, r.events, seed); err != nil {
		return err
	}
	return s.stop(ctx)
}

// rows returns the rows of each table.
func (c config) rows() int {
	return int(c.gib * (1 << 30) / tables / bytesPerRow)
}

// sysbench returns the arguments of sysbench, but for what it does.
func (b *bench) sysbench(s *server, script string, seed int) []string {
	return []string{
		filepath.Join(b.config.peers, "bin", "sysbench"), script,
		"--db-driver=mysql", "--mysql-socket=" + s.path("sock"), "--mysql-user=root", "--mysql-password=" + password, "--mysql-db=bench",
		fmt.Sprintf("--tables=%d", tables), fmt.Sprintf("--table-size=%d", b.config.rows()), fmt.Sprintf("--rand-seed=%d", seed+1),
	}
}

// prepare loads the tables.
func (b *bench) prepare(ctx context.Context, s *server) error {
	b.say("dataset: load %d rows into each of %d tables (%s)", b.config.rows(), tables, s.flavor)
	return b.run(ctx, append(b.sysbench(s, writes, 0), "--threads=2", "prepare")...)
}

// transactions runs a number of sysbench's transactions, one after the other,
// so that the same seed does the same.
func (b *bench) transactions(ctx context.Context, s *server, script, spread string, events, seed int) error {
	argv := append(b.sysbench(s, script, seed), "--threads=1", "--time=0",
		fmt.Sprintf("--events=%d", events), "--rand-type="+spread, "run")
	_, out, err := b.measure(ctx, command{argv: argv})
	if err != nil {
		return err
	}
	if done := transactionsDone(string(out)); done != events {
		return fmt.Errorf("sysbench %s did %d transactions, want %d\n%s", script, done, events, tail(string(out)))
	}
	return nil
}

var transactionsLine = regexp.MustCompile(`(?m)^\s*transactions:\s+(\d+)\s`)

// transactionsDone returns the number of transactions in sysbench's summary,
// or -1 if it has none.
func transactionsDone(summary string) int {
	match := transactionsLine.FindStringSubmatch(summary)
	if match == nil {
		return -1
	}
	n, err := strconv.Atoi(match[1])
	if err != nil {
		return -1
	}
	return n
}
