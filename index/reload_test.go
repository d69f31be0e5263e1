package index

import (
	"testing"

	"github.com/shardseed/shardseed/cas"
)

// TestReloadMeanwhile looks chunks up while the packs are read that hold them now:
// at no moment are they nowhere.
func TestReloadMeanwhile(t *testing.T) {
	old, now := pack(1, full(1), delta(2, 1, 1)), pack(2, full(1), delta(2, 1, 1))
	repo := newRepository(old)
	m, err := OfBackup(t.Context(), t.TempDir(), repo, []cas.ID{old.ID})
	if err != nil {
		t.Fatal(err)
	}
	repo.publish(now)
	repo.remove(old.ID)
	looked := 0
	repo.onRead = func(int) {
		looked++
		for n := range uint64(2) {
			if _, err := m.Lookup(chunk(n+1), cas.AnyDepth); err != nil {
				t.Errorf("while %s is read: %v", now.ID.Short(), err)
			}
		}
	}
	if err := m.Reload(t.Context(), old.ID); err != nil || looked == 0 {
		t.Fatalf("reload: %v; looked %d times", err, looked)
	}
	for n := range uint64(2) {
		if chain, err := m.Lookup(chunk(n+1), cas.AnyDepth); err != nil || chain[0].Pack != now.ID {
			t.Errorf("chunk %d: %v, %v", n+1, chain, err)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
