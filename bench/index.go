package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// indexRow is what was measured of an index of that many chunks.
type indexRow struct {
	chunks  int
	figures map[string]figures // by case
	rss     map[string]int64   // peak, bytes, by case
}

// measureIndex measures an index at each size. It needs neither servers nor
// other programs.
func (b *bench) measureIndex(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, chunks := range b.config.chunks {
		row := indexRow{chunks: chunks, figures: map[string]figures{}, rss: map[string]int64{}}
		for _, what := range []string{caseLoad, caseLookup, caseDay, casePlan, caseWrite} {
			if err := b.measureCase(ctx, self, what, &row); err != nil {
				return err
			}
		}
		b.index = append(b.index, row)
		if err := os.RemoveAll(filepath.Join(b.dir, partIndex)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) measureCase(ctx context.Context, self, what string, row *indexRow) error {
	dir := filepath.Join(b.dir, partIndex)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	u, out, err := b.measure(ctx, command{argv: []string{self, what, strconv.Itoa(row.chunks), dir}})
	if err != nil {
		return err
	}
	f := figures{}
	if err := json.Unmarshal(out, &f); err != nil {
		return fmt.Errorf("parse figures %q: %w", out, err)
	}
	row.figures[what], row.rss[what] = f, u.rss
	b.say("index: %d chunks: %s: %v, %s MiB", row.chunks, what, f, mebibytes(u.rss))
	return nil
}

func (b *bench) writeIndex(w io.Writer) {
	fmt.Fprintf(w, "\n## Index\n\n%s\n", paragraph(
		"17 million chunks of 64 KiB are 1 TiB. The directories of packs are made up by the benchmark: random IDs, 30 % deltas in chains of up to eight. "+
			"Each column group is a process of its own with its peak RSS, in MiB.",
		fmt.Sprintf("Load: make the index. Lookups: one goroutine, in random order, everything in the page cache; a hit counts once with its whole chain of bases. "+
			"A day: open it when there are packs with %d more chunks. Restore plan: read the directories of all packs without an index, then find every chunk in the order of the file. "+
			"Write: as many new chunks of %d bytes through a writer into a real repository.", dayChunks, plainSize),
	))
	t := table{head: []string{"million chunks", "load s", "file MiB", "RSS", "open s", "hits/s", "misses/s", "RSS", "a day s", "RSS", "plan s", "all lookups s", "RSS", "write s", "RSS"}}
	for _, row := range b.index {
		f := row.figures
		t.add(number(float64(row.chunks)/1e6),
			number(f[caseLoad]["seconds"]), number(f[caseLoad]["bytes"]/mib), mebibytes(row.rss[caseLoad]),
			number(f[caseLookup]["open"]), number(f[caseLookup]["hits"]), number(f[caseLookup]["misses"]), mebibytes(row.rss[caseLookup]),
			number(f[caseDay]["seconds"]), mebibytes(row.rss[caseDay]),
			number(f[casePlan]["seconds"]), number(f[casePlan]["lookups"]), mebibytes(row.rss[casePlan]),
			number(f[caseWrite]["seconds"]), mebibytes(row.rss[caseWrite]))
	}
	t.writeTo(w, 1)
}
