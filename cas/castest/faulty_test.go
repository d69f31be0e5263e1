package castest_test

import (
	"errors"
	"testing"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/cas/mem"
)

// TestConformance shows that a Faulty that fails nothing changes nothing.
func TestConformance(t *testing.T) {
	castest.TestBackend(t, func(testing.TB) cas.Backend { return castest.NewFaulty(new(mem.Backend)) })
}

// operations are all that a Faulty counts, on blobs "old" and "going", which are
// there, and "put" and "staged", which are not.
func operations(t *testing.T, b cas.Backend) []error {
	ctx := t.Context()
	errs := []error{b.Put(ctx, "put", []byte("x"))}
	_, err := b.List(ctx, ".")
	errs = append(errs, err)
	old, err := b.Open(ctx, "old")
	errs = append(errs, err)
	if err == nil {
		_, err := old.ReadAt(make([]byte, 1), 0)
		errs = append(errs, err, old.Close())
	}
	staged, err := b.Stage(ctx)
	errs = append(errs, err)
	if err == nil {
		_, err := staged.Write([]byte("x"))
		errs = append(errs, err, staged.Publish(ctx, "staged"), staged.Discard())
	}
	return append(errs, b.Remove(ctx, "going"))
}

func TestFaulty(t *testing.T) {
	for _, when := range []castest.When{castest.Before, castest.After} {
		for n := range 9 { // there are 8 operations; with 0 none fails
			backend := new(mem.Backend)
			backend.Overwrite("old", []byte("x"))
			backend.Overwrite("going", []byte("x"))
			faulty := castest.NewFaulty(backend)
			faulty.FailAt(n, when)
			errs := operations(t, faulty)
			failed := 0
			for _, err := range errs {
				if errors.Is(err, castest.ErrInjected) {
					failed++
				} else if err != nil {
					t.Errorf("operation %d fails: another says %v", n, err)
				}
			}
			if want := min(n, 1); failed != want {
				t.Errorf("operation %d fails: %d failed, want %d", n, failed, want)
			}
			if n == 0 && faulty.Ops() != 8 {
				t.Errorf("%d operations were counted, want 8", faulty.Ops())
			}
			if n == 1 && (backend.Bytes("put") != nil) != (when == castest.After) {
				t.Errorf("put failed at moment %d: blob is %q", when, backend.Bytes("put"))
			}
			if n == 8 && (backend.Bytes("going") == nil) != (when == castest.After) {
				t.Errorf("remove failed at moment %d: blob is %q", when, backend.Bytes("going"))
			}
			if n == 7 && (backend.Bytes("staged") != nil) != (when == castest.After) {
				t.Errorf("publish failed at moment %d: blob is %q", when, backend.Bytes("staged"))
			}
		}
	}
}

func TestFaultyDies(t *testing.T) {
	for _, when := range []castest.When{castest.Before, castest.After} {
		for n := 1; n <= 9; n++ {
			backend := new(mem.Backend)
			backend.Overwrite("old", []byte("x"))
			backend.Overwrite("going", []byte("x"))
			faulty := castest.NewFaulty(backend)
			faulty.DieAt(n, when)
			operations(t, faulty)
			done := func(op int) bool { return op < n || op == n && when == castest.After }
			for what, got := range map[string][2]bool{
				"put":     {backend.Bytes("put") != nil, done(1)},
				"publish": {backend.Bytes("staged") != nil, done(7)},
				"remove":  {backend.Bytes("going") == nil, done(8)},
			} {
				if got[0] != got[1] {
					t.Errorf("dies at operation %d, at moment %d: %s has its effect is %v, want %v", n, when, what, got[0], got[1])
				}
			}
		}
	}
}
