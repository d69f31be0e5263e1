package check_test

import (
	"context"
	"errors"
	"testing"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/check"
)

var errUnmounted = errors.New("unmounted")

// unmounted is a backend that is away as soon as it has gone.
type unmounted struct {
	cas.Backend
	gone bool
}

// Open implements cas.Backend.
func (u *unmounted) Open(ctx context.Context, name string) (cas.BlobReader, error) {
	if u.gone {
		return nil, errUnmounted
	}
	return u.Backend.Open(ctx, name)
}

// TestRepositoryGoes lets the repository go in the middle: what can't be read then is
// no damage, and the check could not be done.
func TestRepositoryGoes(t *testing.T) {
	for _, step := range []string{"records", "packs", "recipes", "read"} {
		for _, repair := range []bool{false, true} {
			s, f := history(t), new(found)
			backend := &unmounted{Backend: s.backend}
			var err error
			if s.repo, err = cas.Open(t.Context(), backend); err != nil {
				t.Fatal(err)
			}
			opts := s.options(f)
			all := check.All()
			opts.Read = &all
			hook := &at{found: f, step: step, do: func() { backend.gone = true }}
			opts.Progress = hook
			if repair {
				_, err = check.Repair(t.Context(), check.RepairOptions{Options: opts, Random: s.noise(8), After: new(found)})
			} else {
				_, err = check.Check(t.Context(), opts)
			}
			if !errors.Is(err, errUnmounted) || hook.step != "" {
				t.Errorf("gone at %q, repair %t: %v\n%s", step, repair, err, f)
			}
			if marked, err := s.backend.List(t.Context(), "damaged"); err != nil || len(marked) > 0 {
				t.Errorf("gone at %q: marked %v, %v", step, marked, err)
			}
		}
	}
}
