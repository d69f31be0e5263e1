package cas_test

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/mem"
)

// TestValueLimit: a value is small, also for whoever writes it.
func TestValueLimit(t *testing.T) {
	repo, err := cas.Create(t.Context(), &mem.Backend{}, cas.Config{}, rand.Reader, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.SetValue(t.Context(), "a", make([]byte, 1<<20)); err != nil {
		t.Error(err)
	}
	if _, err := repo.SetValue(t.Context(), "a", make([]byte, 1<<20+1)); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("a longer one: %v", err)
	}
	if err := repo.SetValueAfter(t.Context(), "a", 1, make([]byte, 1<<20+1)); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("a longer one after it: %v", err)
	}
	if value, gen, err := repo.Value(t.Context(), "a"); err != nil || gen != 1 || len(value) != 1<<20 {
		t.Errorf("got %d bytes, generation %d, %v", len(value), gen, err)
	}
}
