package cas_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/shardseed/shardseed/cas"
)

// busy is a backend at which a backup is made before each listing of sessions.
type busy struct {
	cas.Backend
	backUp func()
}

// List implements cas.Backend.
func (b busy) List(ctx context.Context, dir string) ([]cas.Entry, error) {
	if dir == "sessions" {
		b.backUp()
	}
	return b.Backend.List(ctx, dir)
}

// A backup that is made between a collection's listings of packs and of
// registers does not look as if its packs were lost.
func TestPruneWhileBackupsCome(t *testing.T) {
	repo, backend := newRepo(t)
	model := map[cas.Key][][]byte{}
	more := func() {
		n := uint64(len(model))
		k := cas.Key(fmt.Sprintf("ks/-80/%04d", n))
		model[k] = noises(10*n, 10*n+3, 1000)
		backUp(t, repo, k, model[k], nil)
	}
	more()
	if err := repo.Forget(t.Context(), "ks/-80/0000", nil); err != nil {
		t.Fatal(err)
	}
	onBusy, err := cas.Open(t.Context(), busy{backend, more})
	if err != nil {
		t.Fatal(err)
	}
	if result := mustPrune(t, onBusy, pruneOptions(&hooks{})); result.Packs == 0 || len(model) < 3 {
		t.Errorf("%d packs deleted beside %d backups, want some", result.Packs, len(model))
	}
	delete(model, "ks/-80/0000")
	checkModel(t, repo, model)
}

// staged is a backend at which a backup is made in two parts: at the second
// listing of packs, and at the listing of sessions after that.
type staged struct {
	cas.Backend
	packs         *int
	first, second func()
}

// List implements cas.Backend.
func (b staged) List(ctx context.Context, dir string) ([]cas.Entry, error) {
	if dir == "packs" {
		*b.packs++
		if *b.packs == 2 {
			b.first()
		}
	}
	if dir == "sessions" && *b.packs == 2 {
		*b.packs++
		b.second()
	}
	return b.Backend.List(ctx, dir)
}

// A recipe's node whose pack is listed leads to chunks whose packs are not yet:
// when they are, it is followed once more.
func TestPruneFollowsNodesAgain(t *testing.T) {
	repo, backend := newRepo(t)
	backUp(t, repo, key+"-1", noises(0, 3, 1000), nil)
	if err := repo.Forget(t.Context(), key+"-1", nil); err != nil {
		t.Fatal(err)
	}
	chunks := noises(10, 13, 1000)
	var session *cas.Session
	var w *cas.Writer
	put := func(part [][]byte) {
		for _, chunk := range part {
			if _, err := w.Put(t.Context(), cas.KindData, cas.Sum(chunk), chunk); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	first := func() {
		var err error
		if session, err = repo.Begin(t.Context(), key+"-2", nil); err != nil {
			t.Fatal(err)
		}
		w = session.NewWriter(cas.WriterOptions{})
		put(chunks[:1])
	}
	second := func() {
		put(chunks[1:])
		if err := session.Commit(t.Context(), w, recordOf(chunks)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	onStaged, err := cas.Open(t.Context(), staged{backend, new(int), first, second})
	if err != nil {
		t.Fatal(err)
	}
	opts := pruneOptions(&hooks{})
	opts.Walk = func(_ context.Context, _ cas.Key, _ []byte, _ *cas.Reader, visit func(cas.ID, bool) (bool, error)) error {
		below, err := visit(cas.Sum(chunks[0]), true)
		for _, chunk := range chunks[1:] {
			if below && err == nil {
				_, err = visit(cas.Sum(chunk), false)
			}
		}
		return err
	}
	mustPrune(t, onStaged, opts)
	checkModel(t, repo, map[cas.Key][][]byte{key + "-2": chunks})
}
