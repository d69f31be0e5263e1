package check_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/check"
	"github.com/shardseed/shardseed/mysqlbackup"
)

// at is a found that does something when a step begins, once.
type at struct {
	*found
	step string
	do   func()
}

// Step implements check.Progress.
func (a *at) Step(name, detail string) {
	a.found.Step(name, detail)
	if name == a.step {
		a.step = ""
		a.do()
	}
}

// remote is a backend on a network: what another host has removed cannot be read any
// more, though it is open.
type remote struct{ cas.Backend }

type remoteBlob struct {
	cas.BlobReader
	backend cas.Backend
	name    string
}

// ReadAt implements io.ReaderAt.
func (b *remoteBlob) ReadAt(buf []byte, offset int64) (int, error) {
	now, err := b.backend.Open(context.Background(), b.name)
	if err != nil {
		return 0, err
	}
	n, err := b.BlobReader.ReadAt(buf, offset)
	return n, errors.Join(err, now.Close())
}

// Open implements cas.Backend.
func (r remote) Open(ctx context.Context, name string) (cas.BlobReader, error) {
	blob, err := r.Backend.Open(ctx, name)
	return &remoteBlob{blob, r.Backend, name}, err
}

// What is removed and collected between any two steps of a check, or of a repair, is
// no damage, and nothing is marked for it.
func TestCollectedBetweenSteps(t *testing.T) {
	for _, forgotten := range [][]int{{0}, {0, 1}, {1, 2}} {
		for _, step := range []string{"records", "packs", "recipes", "mark", "salvage"} {
			for _, dry := range []bool{false, true} {
				s, before, after := history(t), new(found), new(found)
				s.remote(t)
				opts := check.RepairOptions{Options: s.options(before), Random: s.noise(8), After: after, DryRun: dry}
				hook := &at{found: before, step: step, do: func() { s.removeAndPrune(t, forgotten) }}
				opts.Progress = hook
				result, err := check.Repair(t.Context(), opts)
				if err != nil || before.any() || after.any() || !result.After.Whole() || len(result.Marked)+result.Salvaged > 0 || hook.step != "" {
					t.Errorf("repair, %v gone at %q, dry %v: %+v, %v\n%s%s", forgotten, step, dry, result, err, before, after)
				}
			}
			if step == "mark" || step == "salvage" {
				continue
			}
			s, f := history(t), new(found)
			s.remote(t)
			opts := s.options(f)
			hook := &at{found: f, step: step, do: func() { s.removeAndPrune(t, forgotten) }}
			opts.Progress = hook
			summary, err := check.Check(t.Context(), opts)
			if err != nil || f.any() || !summary.Whole() || hook.step != "" {
				t.Errorf("check, %v gone at %q: %+v, %v\n%s", forgotten, step, summary, err, f)
			}
		}
	}
}

// removeAndPrune removes backups and frees what only they need.
func (s *site) removeAndPrune(t testing.TB, forgotten []int) {
	t.Helper()
	for _, n := range forgotten {
		if err := s.repo.Forget(t.Context(), s.made[n].Key(), nil); err != nil {
			t.Error(err)
		}
	}
	result, err := mysqlbackup.Prune(t.Context(), s.repo, cas.PruneOptions{Workers: 1, Progress: new(found), Now: time.Now})
	if err != nil || result.Packs == 0 {
		t.Errorf("pruned %+v, %v", result, err)
	}
}

// remote opens the repository as on another host.
func (s *site) remote(t testing.TB) {
	t.Helper()
	var err error
	if s.repo, err = cas.Open(t.Context(), remote{s.backend}); err != nil {
		t.Fatal(err)
	}
}
