package main

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/cas"
)

// The synthetic repository is what it says: every base is there, in an earlier
// pack, one less deep, and nothing is there twice.
func TestSynthetic(t *testing.T) {
	const chunks = 30 * baseDistance
	s := &synthetic{chunks: chunks}
	packs, err := s.PackIDs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	known := map[cas.ID]uint8{} // depth of the chunks of earlier packs
	var depths [cas.AnyDepth]int
	for _, id := range packs {
		p, err := s.Pack(t.Context(), id)
		if err != nil || len(p.Frames) != packChunks || p.ID != id {
			t.Fatalf("pack %s: %d frames, %v", id.Short(), len(p.Frames), err)
		}
		for _, f := range p.Frames {
			if depth, found := known[f.Base]; f.Codec == cas.CodecDelta && (!found || depth+1 != f.Depth) {
				t.Fatalf("chunk %s of depth %d: base is there: %v, of depth %d", f.ID.Short(), f.Depth, found, depth)
			}
			depths[f.Depth]++
		}
		for _, f := range p.Frames {
			if _, twice := known[f.ID]; twice {
				t.Fatalf("chunk %s is there twice", f.ID.Short())
			}
			known[f.ID] = f.Depth
		}
	}
	deltas := chunks - depths[0]
	if share := float64(deltas) / chunks; len(known) != chunks || share < 0.25 || share > 0.3 || depths[cas.MaxDepth] == 0 {
		t.Errorf("%d chunks, a share of %.2f deltas, depths %v", len(known), share, depths)
	}
	if _, err := s.Pack(t.Context(), randomID(1)); err == nil {
		t.Error("a pack that is not there: want an error")
	}
}

// Every case, with few chunks, on one folder as measureIndex does.
func TestRunCase(t *testing.T) {
	b := newBench(t)
	dir := t.TempDir()
	for what, want := range map[string][]string{
		caseLoad: {"seconds", "bytes"}, casePlan: {"seconds", "lookups"}, caseWrite: {"seconds"},
	} {
		checkCase(t, b, what, dir, want)
	}
	checkCase(t, b, caseLookup, dir, []string{"open", "hits", "misses"}) // of what load has made
	checkCase(t, b, caseDay, dir, []string{"seconds"})
	for _, arguments := range [][]string{{"load"}, {"load", "x", dir}, {"nothing", "1", dir}} {
		if err := b.runCase(t.Context(), arguments); err == nil {
			t.Errorf("arguments %q: want an error", arguments)
		}
	}
}

func checkCase(t *testing.T, b *bench, what, dir string, want []string) {
	t.Helper()
	var out bytes.Buffer
	b.stdout = &out
	const chunks = 20 * packChunks
	if err := b.runCase(t.Context(), []string{what, strconv.Itoa(chunks + 1), dir}); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	f := figures{}
	if err := json.Unmarshal(out.Bytes(), &f); err != nil || len(f) != len(want) {
		t.Fatalf("%s: got %q, %v, want %q", what, out.Bytes(), err, want)
	}
	for _, name := range want {
		if f[name] <= 0 {
			t.Errorf("%s: %s is %g", what, name, f[name])
		}
	}
}

func TestIndexPage(t *testing.T) {
	b := newBench(t)
	b.index = []indexRow{{
		chunks: 17_000_000,
		figures: map[string]figures{
			caseLoad: {"seconds": 12, "bytes": 1000 * mib}, caseLookup: {"open": 0.02, "hits": 200_000, "misses": 300_000},
			caseDay: {"seconds": 0.4}, casePlan: {"seconds": 14, "lookups": 90}, caseWrite: {"seconds": 100},
		},
		rss: map[string]int64{caseLoad: 80 * mib, caseLookup: 20 * mib, caseDay: 50 * mib, casePlan: 70 * mib, caseWrite: 140 * mib},
	}}
	got := strings.Join(strings.Fields(page(t, b, nil)), " ")
	if want := "| 17.0 | 12.0 | 1000 | 80.0 | 0.02 | 200000 | 300000 | 20.0 | 0.40 | 50.0 | 14.0 | 90.0 | 70.0 | 100 | 140 |"; !strings.Contains(got, want) {
		t.Errorf("the page lacks %q:\n%s", want, got)
	}
}

func TestConfigIndex(t *testing.T) {
	c, err := newConfig(from(map[string]string{"BENCH_PARTS": "index", "BENCH_CHUNKS": "0.05, 2"}))
	if err != nil || len(c.chunks) != 2 || c.chunks[0] != 50_000 || c.chunks[1] != 2_000_000 || c.needsDataset() {
		t.Errorf("got %v chunks, a dataset is needed: %v, %v", c.chunks, c.needsDataset(), err)
	}
	if c, err := newConfig(from(nil)); err != nil || len(c.chunks) != 3 || !c.needsDataset() {
		t.Errorf("got %v chunks, a dataset is needed: %v, %v", c.chunks, c.needsDataset(), err)
	}
	if _, err := newConfig(from(map[string]string{"BENCH_CHUNKS": "1,x,0"})); err == nil || !strings.Contains(err.Error(), `has "x"`) || !strings.Contains(err.Error(), `has "0"`) {
		t.Errorf("got %v", err)
	}
}
