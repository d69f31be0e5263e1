package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/shardseed/shardseed/replication"
)

// write writes the whole page: what was measured, where, how, and the targets.
func (b *bench) write(w io.Writer, facts []fact, failed error) {
	fmt.Fprintf(w, "# Benchmark\n\nWritten by `make bench`; do not edit.\n\n")
	for _, f := range facts {
		fmt.Fprintf(w, "* %s: %s\n", f.name, f.value)
	}
	fmt.Fprintf(w, "* size: BENCH_GB=%g (%d tables of %d rows), BENCH_RUNS=%d, BENCH_DAYS=%d; it took %.0f minutes\n",
		b.config.gib, tables, b.config.rows(), b.config.runs, b.config.days, b.now().Sub(b.start).Minutes())
	if failed != nil {
		first, _, _ := strings.Cut(failed.Error(), "\n")
		fmt.Fprintf(w, "* **not complete**: %s\n", first)
	}
	if b.config.measures(partFiles) {
		b.writeFiles(w)
	}
	if b.config.measures(partLive) {
		b.writeLive(w)
	}
	if b.config.measures(partDaily) {
		b.writeDaily(w)
	}
	if len(b.index) > 0 {
		b.writeIndex(w)
	}
	if b.config.needsDataset() {
		b.writeTargets(w)
	}
}

func (b *bench) writeFiles(w io.Writer) {
	cache := "Backups read files that are not in the page cache; a cold restore reads a repository that is not in it, a warm one a repository that is."
	if !b.cold {
		cache = "The page cache could not be emptied (not root): every figure is warm, also where it says cold."
	}
	fmt.Fprintf(w, "\n## Files of a stopped server\n\n%s\n", paragraph(
		"Made by sysbench on MySQL without a binary log, which would be new data to every tool; copied after a clean stop, "+
			"less what shardseed leaves out (keys, auto.cnf, doublewrite files, spare redo files), so that all tools see the same files under the same path.",
		"In each run every tool takes its turn at each round. Values are medians over the runs. "+cache+" The programs themselves are always in it.",
		"Time includes the sync, by the tool itself or after it. CPU is user and system time of all processes, peak RSS that of the largest one and never below this program's own few MiB. "+
			"MiB is what the backup added below the root. The first restore of each was compared with the source byte by byte. x is the ratio to shardseed. "+
			"restic encrypts and borg checksums only (no encryption); shardseed decodes and compares every frame before it is written.",
	))
	t := table{head: []string{"round", "tool", "s", "CPU s", "RSS MiB", "MiB", "x time", "x MiB", "cold restore s", "warm", "RSS MiB", "x cold", "x warm"}}
	for _, r := range b.config.chosenRounds() {
		for _, tool := range b.config.chosenTools() {
			if s, ok := b.results.median(r.name, tool.name, doBackup); ok {
				t.add(b.fileRow(r, tool, s)...)
			}
		}
	}
	t.writeTo(w, 2)
}

// fileRow is the line of a tool in a round.
func (b *bench) fileRow(r round, t tool, s sample) []string {
	own, _ := b.results.median(r.name, ours, doBackup)
	row := []string{
		r.title, t.title, number(s.seconds), number(s.cpu), mebibytes(s.rss), mebibytes(s.bytes),
		times(s.seconds, own.seconds), times(float64(s.bytes), float64(own.bytes)),
	}
	cold, ok := b.results.median(r.name, t.name, doCold)
	warm, _ := b.results.median(r.name, t.name, doWarm)
	if !ok {
		return append(row, "", "", "", "", "")
	}
	ownCold, _ := b.results.median(r.name, ours, doCold)
	ownWarm, _ := b.results.median(r.name, ours, doWarm)
	return append(row, number(cold.seconds), number(warm.seconds), mebibytes(max(cold.rss, warm.rss)),
		times(cold.seconds, ownCold.seconds), times(warm.seconds, ownWarm.seconds))
}

func (b *bench) writeLive(w io.Writer) {
	text := fmt.Sprintf("A replica with the same tables and a binary log, whose primary takes %d write transactions a second all the time; "+
		"the increment follows %d skewed ones. Downtime is that of the replica's mysqld; the whole run ends when it has caught up. CPU and RSS are without the server's. "+
		"mariadb-backup stops nothing; what it makes must still be prepared before a server starts on it.", writesPerSecond, b.config.scale(10_000))
	if !b.preCopy {
		text += " This shardseed has no pre-copy yet."
	}
	fmt.Fprintf(w, "\n## Running servers\n\n%s\n", paragraph(text))
	t := table{head: []string{"server", "tool", "what", "downtime s", "s", "CPU s", "RSS MiB", "MiB"}}
	names := map[replication.Flavor]string{replication.MySQL: "MySQL", replication.MariaDB: "MariaDB"}
	for _, flavor := range []replication.Flavor{replication.MySQL, replication.MariaDB} {
		for _, what := range []string{doRestart, doAgain} {
			for _, tool := range []string{toolPreCopy, toolNoPreCopy, mariadbBackup} {
				if s, ok := b.results.median(liveRound(flavor), tool, what); ok {
					t.add(names[flavor], tool, what, number(s.downtime), number(s.seconds), number(s.cpu), mebibytes(s.rss), mebibytes(s.bytes))
				}
			}
		}
	}
	t.writeTo(w, 3)
}

func (b *bench) writeDaily(w io.Writer) {
	fmt.Fprintf(w, "\n## Daily backups\n\n%s\n", paragraph(fmt.Sprintf(
		"%d backups of a stopped MySQL by shardseed, %d uniform write transactions before each but the first; everything cold.",
		b.config.days, b.config.scale(10_000))))
	t := table{head: []string{"what", "s", "CPU s", "RSS MiB", "MiB"}}
	for _, row := range []struct{ what, title string }{
		{doBackup, "first backup"}, {doAgain, "later backup"}, {doFirst, doFirst}, {doLast, doLast},
	} {
		if s, ok := b.results.median(roundDaily, ours, row.what); ok {
			t.add(row.title, number(s.seconds), number(s.cpu), mebibytes(s.rss), added(s.bytes))
		}
	}
	var total int64
	for _, what := range []string{doBackup, doAgain} {
		for _, s := range b.results[cell{roundDaily, ours, what}] {
			total += s.bytes
		}
	}
	t.add("all backups", "", "", "", added(total))
	t.writeTo(w, 1)
}

func (b *bench) writeTargets(w io.Writer) {
	fmt.Fprintf(w, "\n## Targets\n\n")
	t := table{head: []string{"what", "target", "measured", "verdict"}}
	for _, target := range b.results.targets(b.config.days) {
		t.add(target.what, target.want, target.measured, target.verdict())
	}
	t.writeTo(w, 4)
	fmt.Fprintf(w, "\n%s", paragraph("Bytes and seconds in brackets are MiB and s: shardseed's, then the other's. Increments are the skewed, the uniform and the inserts together. "+
		"The peak of memory at 20 GiB: BENCH_GB=20 BENCH_PARTS=files BENCH_TOOLS=shardseed BENCH_ROUNDS=load."))
}

// paragraph joins sentences that stand in one paragraph and ends it.
func paragraph(sentences ...string) string {
	return strings.Join(sentences, " ") + "\n"
}
