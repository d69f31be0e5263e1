package cas_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
)

// learner is a Locator that finds what lay in packs when it last learned.
type learner struct {
	tb      testing.TB
	repo    *cas.Repository
	lessons atomic.Int64
	fails   error

	mu    sync.Mutex // guards known
	known castest.Index
}

func (l *learner) Lookup(id cas.ID, below uint8) (cas.Chain, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known.Lookup(id, below)
}

func (l *learner) learn(context.Context) error {
	l.lessons.Add(1)
	known := castest.NewIndex(l.tb, l.repo)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = known
	return l.fails
}

// TestLearn stores many chunks, each several times and from several goroutines:
// the writer remembers few of them, and none is stored twice.
func TestLearn(t *testing.T) {
	repo, _ := newRepo(t)
	session := begin(t, repo, key)
	l := &learner{tb: t, repo: repo}
	w := newWriter(t, session, cas.WriterOptions{Known: l, Learn: l.learn})
	const chunks, remember = 4000, 200
	w.SetPackTarget(20 << 10)
	w.SetRemember(remember)
	most, isNew := 0, 0
	for round := range 3 {
		for n := range chunks {
			plain := noise(uint64(n), 1000)
			put, err := w.Put(t.Context(), cas.KindData, cas.Sum(plain), plain)
			if err != nil {
				t.Fatal(err)
			}
			if put.New {
				isNew++
			}
			most = max(most, w.Remembered())
			if put.New && round > 0 && l.lessons.Load() == 0 {
				t.Fatalf("chunk %d is new in round %d", n, round)
			}
		}
	}
	// Packs are sealed while chunks go on coming, so the bound is not sharp.
	if most > chunks/2 || most < remember || l.lessons.Load() < 5 {
		t.Errorf("at most %d of %d chunks were remembered, learned %d times", most, chunks, l.lessons.Load())
	}
	if err := session.Commit(t.Context(), w, nil); err != nil {
		t.Fatal(err)
	}
	seen := map[cas.ID]int{}
	for _, copies := range castest.NewIndex(t, repo) {
		for _, loc := range copies {
			seen[loc.ID]++
		}
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("chunk %s is stored %d times", id.Short(), times)
		}
	}
	if len(seen) != chunks || isNew != chunks {
		t.Errorf("%d chunks are stored, %d were new, want %d", len(seen), isNew, chunks)
	}
	for _, pack := range w.Packs() {
		if pack.Frames != nil || pack.Size == 0 {
			t.Fatalf("pack %s: %d frames, %d bytes", pack.ID.Short(), len(pack.Frames), pack.Size)
		}
	}
	if got, want := len(w.Relied()), len(w.Packs()); got != want {
		t.Errorf("relies on %d packs, has written %d", got, want)
	}
}

// TestLearnConcurrently: several goroutines put the same chunks while the writer
// learns. A chunk may be stored twice when it is forgotten between the question
// and the answer, which is seldom, and is never missing.
func TestLearnConcurrently(t *testing.T) {
	repo, _ := newRepo(t)
	session := begin(t, repo, key)
	l := &learner{tb: t, repo: repo}
	w := newWriter(t, session, cas.WriterOptions{Known: l, Learn: l.learn})
	const chunks = 1000
	w.SetPackTarget(20 << 10)
	w.SetRemember(100)
	group, ctx := errgroup.WithContext(t.Context())
	for range 4 {
		group.Go(func() error {
			for n := range chunks {
				plain := noise(uint64(n), 1000)
				if _, err := w.Put(ctx, cas.KindData, cas.Sum(plain), plain); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := session.Commit(t.Context(), w, nil); err != nil {
		t.Fatal(err)
	}
	index := castest.NewIndex(t, repo)
	copies := 0
	for _, locations := range index {
		copies += len(locations)
	}
	if len(index) != chunks || copies > chunks+chunks/10 {
		t.Errorf("%d chunks in %d copies, want %d", len(index), copies, chunks)
	}
}

// TestLearnFails: what cannot be learned now is remembered, and learned later.
func TestLearnFails(t *testing.T) {
	repo, _ := newRepo(t)
	l := &learner{tb: t, repo: repo, fails: errors.New("no listing")}
	session := begin(t, repo, key)
	w := newWriter(t, session, cas.WriterOptions{Known: l, Learn: l.learn})
	w.SetRemember(10)
	put := func(wantNew bool) {
		for n := range 100 {
			plain := noise(uint64(n), 10)
			if got, err := w.Put(t.Context(), cas.KindData, cas.Sum(plain), plain); err != nil || got.New != wantNew {
				t.Fatalf("chunk %d: got %+v, %v, want new %v", n, got, err, wantNew)
			}
		}
		flush(t, w)
	}
	put(true)
	if got := w.Remembered(); got != 100 || l.lessons.Load() != 1 {
		t.Errorf("%d chunks are remembered after %d lessons, want all", got, l.lessons.Load())
	}
	put(false)
	l.fails = nil
	putOne(t, w, noise(777, 10))
	flush(t, w)
	if got := w.Remembered(); got != 0 {
		t.Errorf("%d chunks are remembered, want none", got)
	}
	put(false)
	if err := session.Commit(t.Context(), w, nil); err != nil {
		t.Fatal(err)
	}
}
