package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shardseed/shardseed/replication"
)

const (
	roundDaily = "daily"
	doFirst    = "restore of the first"
	doLast     = "restore of the last"
)

// measureDaily makes a backup after each day of a churning database, with
// shardseed alone, and measures restores of the first and of the last. The
// churn is uniform: of all there is, it scatters a file over the packs most.
func (b *bench) measureDaily(ctx context.Context) error {
	s, err := b.newServer(ctx, replication.MySQL, filepath.Join(b.dir, roundDaily), false)
	if err != nil {
		return err
	}
	if err := b.run(ctx, "cp", "-aT", "--reflink=never", b.state(roundLoad), s.datadir()); err != nil {
		return err
	}
	t := b.config.shardseed()
	if err := b.open(ctx, t); err != nil {
		return err
	}
	p := b.place(t.name)
	p.source = s.datadir()
	for day := range b.config.days {
		if err := b.day(ctx, t, p, s, day); err != nil {
			return fmt.Errorf("day %d: %w", day+1, err)
		}
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return err
	}
	return b.measureDays(ctx, p)
}

// day changes the database, but for the first day, and backs it up.
func (b *bench) day(ctx context.Context, t tool, p place, origin *server, day int) error {
	if day > 0 {
		churn := round{script: writes, spread: "uniform", events: b.config.scale(10_000)}
		if err := b.change(ctx, origin, churn, 100+day); err != nil {
			return err
		}
	}
	s, err := b.backup(ctx, t, p, roundDaily)
	if err != nil {
		return err
	}
	what := doAgain
	if day == 0 {
		what = doBackup
	}
	b.results.add(cell{roundDaily, ours, what}, s)
	b.say("daily: backup %d/%d: %.2f s, %.1f MiB", day+1, b.config.days, s.seconds, float64(s.bytes)/mib)
	return nil
}

// measureDays measures restores of the first and the last backup, in turn.
func (b *bench) measureDays(ctx context.Context, p place) error {
	names, err := b.backupNames(ctx, p)
	if err != nil {
		return err
	}
	if len(names) != b.config.days {
		return fmt.Errorf("list has %d backups, want %d", len(names), b.config.days)
	}
	for range b.config.runs {
		if err := b.restoreDay(ctx, p, doFirst, names[0]); err != nil {
			return err
		}
		if err := b.restoreDay(ctx, p, doLast, names[len(names)-1]); err != nil {
			return err
		}
	}
	return os.RemoveAll(filepath.Join(b.dir, "tools"))
}

// restoreDay measures a restore of the backup with that name.
func (b *bench) restoreDay(ctx context.Context, p place, what, name string) error {
	t := b.config.shardseed()
	t.restore = func(p place, _ string) command {
		return command{argv: b.config.shardseedRestore(p, "--backup", name)}
	}
	u, err := b.restore(ctx, t, p, roundDaily, doCold)
	if err != nil {
		return err
	}
	b.results.add(cell{roundDaily, ours, what}, sample{usage: u})
	b.say("daily: %s: %.2f s", what, u.seconds)
	return nil
}

// backupNames returns the names of the backups in the repository, oldest first.
func (b *bench) backupNames(ctx context.Context, p place) ([]string, error) {
	_, out, err := b.measure(ctx, command{argv: b.config.shardseedArgs(p, "list", backupName)})
	if err != nil {
		return nil, err
	}
	answers, err := parseAnswers(out)
	var names []string
	for _, a := range answers {
		names = append(names, a.Name)
	}
	return names, err
}

// answer is a line that shardseed answers about a backup.
type answer struct {
	Type            string  `json:"type"`
	Name            string  `json:"name"`
	DowntimeSeconds float64 `json:"downtime_seconds"`
}

// parseAnswers returns the lines of type "backup".
func parseAnswers(lines []byte) ([]answer, error) {
	var answers []answer
	for line := range bytes.Lines(lines) {
		var a answer
		if err := json.Unmarshal(line, &a); err != nil {
			return nil, fmt.Errorf("parse answer %q: %w", line, err)
		}
		if a.Type == "backup" {
			answers = append(answers, a)
		}
	}
	return answers, nil
}
