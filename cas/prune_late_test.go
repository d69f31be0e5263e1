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
