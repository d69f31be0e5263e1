package index_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/mem"
	"github.com/shardseed/shardseed/index"
)

// mute is a progress that tells nobody.
type mute struct{}

func (mute) Step(string, string) {}
func (mute) Warn(string)         {}
func (mute) Begin(string, int64) {}
func (mute) Advance(int64)       {}
func (mute) End()                {}

// collected is a repository of two backups that share half of their chunks, and
// what they need.
type collected struct {
	repo   *cas.Repository
	chunks [2][][]byte
	packs  [2][]cas.ID
}

func newCollected(t *testing.T) *collected {
	t.Helper()
	repo, err := cas.Create(t.Context(), new(mem.Backend), cas.Config{}, rand.NewChaCha8([32]byte{1}), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	c := &collected{repo: repo}
	for n := range c.chunks {
		chunks, err := index.Open(t.Context(), t.TempDir(), repo)
		if err != nil {
			t.Fatal(err)
		}
		session, err := repo.Begin(t.Context(), cas.Key([]string{"ks/0/a", "ks/0/b"}[n]), nil)
		if err != nil {
			t.Fatal(err)
		}
		w := session.NewWriter(cas.WriterOptions{Known: chunks})
		var record []byte
		for i := range 20 {
			chunk := make([]byte, 5000)
			if _, err := rand.NewChaCha8([32]byte{byte(n*10 + i)}).Read(chunk); err != nil {
				t.Fatal(err)
			}
			id := cas.Sum(chunk)
			c.chunks[n], record = append(c.chunks[n], chunk), append(record, id[:]...)
			if _, err := w.Put(t.Context(), cas.KindData, id, chunk); err != nil {
				t.Fatal(err)
			}
		}
		if err := session.Commit(t.Context(), w, record); err != nil {
			t.Fatal(err)
		}
		c.packs[n] = w.Relied()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := chunks.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// prune forgets the first backup and collects: the second's chunks move.
func (c *collected) prune(t *testing.T) {
	t.Helper()
	if err := c.repo.Forget(t.Context(), "ks/0/a", nil); err != nil {
		t.Fatal(err)
	}
	result, err := c.repo.Prune(t.Context(), cas.PruneOptions{
		Walk: func(_ context.Context, _ cas.Key, record []byte, _ *cas.Reader, visit func(cas.ID, bool) (bool, error)) error {
			for id := range slices.Chunk(record, len(cas.ID{})) {
				if _, err := visit(cas.ID(id), false); err != nil {
					return err
				}
			}
			return nil
		},
		Progress: mute{}, Now: time.Now,
	})
	if err != nil || result.Repacked == 0 {
		t.Fatalf("prune: got %+v, %v", result, err)
	}
}

// read reads the second backup; between its chunks it calls step.
func (c *collected) read(t *testing.T, chunks cas.Locator, step func(n int)) {
	t.Helper()
	reader := c.repo.NewReader(chunks)
	for n, want := range c.chunks[1] {
		step(n)
		got, err := reader.Chunk(t.Context(), cas.Sum(want), len(want))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("chunk %d: %v", n, err)
		}
	}
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
}

// TestBackupAfterPrune reads a backup whose record names packs that are gone.
func TestBackupAfterPrune(t *testing.T) {
	c := newCollected(t)
	c.prune(t)
	chunks, err := index.OfBackup(t.Context(), t.TempDir(), c.repo, c.packs[1])
	if err != nil {
		t.Fatal(err)
	}
	c.read(t, chunks, func(int) {})
	if err := chunks.Close(); err != nil {
		t.Error(err)
	}
}

// TestPruneWhileReading deletes packs under a reader.
func TestPruneWhileReading(t *testing.T) {
	for _, at := range []int{0, 1, 15} {
		c := newCollected(t)
		chunks, err := index.OfBackup(t.Context(), t.TempDir(), c.repo, c.packs[1])
		if err != nil {
			t.Fatal(err)
		}
		c.read(t, chunks, func(n int) {
			if n == at {
				c.prune(t)
			}
		})
		if err := chunks.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestIndexAfterPrune has a host's index that knows packs which another host has
// deleted, and none of those that replace them.
func TestIndexAfterPrune(t *testing.T) {
	c := newCollected(t)
	dir := t.TempDir()
	before, err := index.Open(t.Context(), dir, c.repo)
	if err != nil {
		t.Fatal(err)
	}
	if !before.HasPacks(c.packs[1]) {
		t.Error("packs are not known before they are deleted")
	}
	if err := before.Close(); err != nil {
		t.Error(err)
	}
	c.prune(t)
	after, err := index.Open(t.Context(), dir, c.repo)
	if err != nil {
		t.Fatal(err)
	}
	if after.HasPacks(c.packs[1]) {
		t.Error("deleted packs count as present: a backup would take unchanged files over that are gone")
	}
	c.read(t, after, func(int) {})
	if err := after.Close(); err != nil {
		t.Error(err)
	}
}
