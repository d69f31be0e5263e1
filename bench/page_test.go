package main

import (
	"errors"
	"strings"
	"testing"
)

// page returns what is written of the results, with all defaults.
func page(tb testing.TB, b *bench, failed error) string {
	tb.Helper()
	var err error
	if b.config, err = newConfig(from(nil)); err != nil {
		tb.Fatal(err)
	}
	b.start = b.now()
	var out strings.Builder
	b.write(&out, []fact{{"machine", "two CPUs"}}, failed)
	return out.String()
}

func TestPage(t *testing.T) {
	b := newBench(t)
	b.cold = true
	b.results.add(cell{roundLoad, ours, doBackup}, took(2, 3, 50*mib, 100*mib))
	b.results.add(cell{roundLoad, ours, doCold}, took(1, 3, 60*mib, 0))
	b.results.add(cell{roundLoad, ours, doWarm}, took(0.5, 3, 70*mib, 0))
	b.results.add(cell{roundLoad, restic, doBackup}, took(5, 3, 90*mib, 150*mib))
	b.results.add(cell{liveRound("mysql"), toolNoPreCopy, doAgain}, sample{usage: usage{seconds: 9}, downtime: 4})
	b.results.add(cell{roundDaily, ours, doBackup}, took(8, 1, mib, 70*mib))
	b.results.add(cell{roundDaily, ours, doAgain}, took(8, 1, mib, 2*mib))
	b.results.add(cell{roundDaily, ours, doAgain}, took(8, 1, mib, 3*mib))
	b.results.add(cell{roundDaily, ours, doLast}, took(8, 1, mib, 0))
	got := strings.Join(strings.Fields(page(t, b, errors.New("part live: broken\nmore"))), " ") // widths do not count here
	for _, want := range []string{
		"* machine: two CPUs",
		"BENCH_GB=2 (4 tables of 2147483 rows)",
		"**not complete**: part live: broken",
		"| load | shardseed | 2.0 | 3.0 | 50.0 | 100 | 1.0 | 1.0 | 1.0 | 0.50 | 70.0 | 1.0 | 1.0 |",
		"| load | restic, fastest | 5.0 | 3.0 | 90.0 | 150 | 2.5 | 1.5 | | | | | |",
		"| MySQL | shardseed, without pre-copy | backup, increment | 4.0 | 9.0 |",
		"| restore of the last | 8.0 | 1.0 | 1.0 | |",
		"| all backups | | | | 75.0 |",
		"| first backup, to restic | <= 1/2 x | 1/2.5 x (2.0 / 5.0) | pass |",
		"has no pre-copy yet",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "broken more") {
		t.Error("the page has more than the first line of the error")
	}
}

func TestPageSaysWarm(t *testing.T) {
	if got := page(t, newBench(t), nil); !strings.Contains(got, "every figure is warm") || strings.Contains(got, "not complete") {
		t.Errorf("got %s", got)
	}
}

// TestTools makes each tool's commands: they name its own places.
func TestTools(t *testing.T) {
	b := newBench(t)
	var err error
	if b.config, err = newConfig(from(nil)); err != nil {
		t.Fatal(err)
	}
	for _, tool := range b.config.chosenTools() {
		p := b.place(tool.name)
		backup := strings.Join(tool.backup(p, roundLoad).argv, " ") + " " + tool.backup(p, roundLoad).dir
		if !strings.Contains(backup, p.source) {
			t.Errorf("%s: backup does not name the source: %s", tool.name, backup)
		}
		if tool.restore == nil {
			continue
		}
		c := tool.restore(p, roundLoad)
		if restore := strings.Join(c.argv, " "); !strings.Contains(restore, p.root) || !strings.Contains(restore+c.dir, p.target) && !strings.Contains(restore, p.cnf) {
			t.Errorf("%s: restore does not name root and target: %s", tool.name, restore)
		}
	}
}
