package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// from returns a getenv that knows these settings.
func from(settings map[string]string) func(string) string {
	return func(name string) string { return settings[name] }
}

func TestConfigDefaults(t *testing.T) {
	c, err := newConfig(from(nil))
	if err != nil {
		t.Fatal(err)
	}
	if c.gib != 2 || c.runs != 3 || c.days != 30 {
		t.Errorf("got %g GiB, %d runs, %d days, want 2, 3, 30", c.gib, c.runs, c.days)
	}
	if !c.measures(partFiles) || !c.measures(partDaily) || !c.measures(partLive) {
		t.Errorf("got parts %q, want all", c.parts)
	}
	if len(c.chosenTools()) != 7 || len(c.chosenRounds()) != 6 {
		t.Errorf("got %d tools and %d rounds, want 7 and 6", len(c.chosenTools()), len(c.chosenRounds()))
	}
	if c.dir != os.TempDir() || !filepath.IsAbs(c.results) || !filepath.IsAbs(c.program) {
		t.Errorf("got folder %q, results %q, program %q", c.dir, c.results, c.program)
	}
	if got := c.scale(10_000); got != 10_000 {
		t.Errorf("at 2 GiB there are %d transactions, want 10000", got)
	}
}

func TestConfigChosen(t *testing.T) {
	c, err := newConfig(from(map[string]string{
		"BENCH_GB": "0.5", "BENCH_RUNS": "1", "BENCH_DAYS": "2",
		"BENCH_PARTS": "live", "BENCH_TOOLS": "cp, restic", "BENCH_ROUNDS": "inserts,skewed",
		"BENCH_RESULTS": "/tmp/results.md",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{ours, restic, copying}; !slices.Equal(c.tools, want) {
		t.Errorf("got tools %q, want %q: ours and those in the order of the table", c.tools, want)
	}
	if want := []string{roundLoad, roundSkewed, roundInserts}; !slices.Equal(c.rounds, want) {
		t.Errorf("got rounds %q, want %q: load and those in order", c.rounds, want)
	}
	if c.measures(partFiles) || !c.measures(partLive) || c.results != "/tmp/results.md" {
		t.Errorf("got parts %q, results %q", c.parts, c.results)
	}
	if got := c.chosenRounds()[1]; got.events != 2500 || got.title != "2500 skewed write transactions" {
		t.Errorf("at 0.5 GiB: got %d transactions, title %q, want 2500", got.events, got.title)
	}
	if got := c.scale(1); got != 1 {
		t.Errorf("scale(1) = %d, want 1", got)
	}
}

func TestConfigLargeIsNotScaled(t *testing.T) {
	if got := (config{gib: 20}).scale(10_000); got != 10_000 {
		t.Errorf("at 20 GiB there are %d transactions, want 10000", got)
	}
}

func TestConfigTellsAllErrors(t *testing.T) {
	_, err := newConfig(from(map[string]string{
		"BENCH_GB": "much", "BENCH_RUNS": "0", "BENCH_DAYS": "NaN", "BENCH_PARTS": "all", "BENCH_TOOLS": "rsync", "BENCH_ROUNDS": "load,x",
	}))
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{`BENCH_GB is "much"`, `BENCH_RUNS is "0"`, `BENCH_DAYS is "NaN"`, `BENCH_PARTS has "all"`, `BENCH_TOOLS has "rsync"`, `BENCH_ROUNDS has "x"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want %q in it", err, want)
		}
	}
}
