package index

import (
	"errors"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/cas"
)

// A backup is read from the packs that its record names; if one of them is gone,
// unreadable or given up, from all others too.
func TestOfBackup(t *testing.T) {
	first, second := pack(1, full(1)), pack(2, delta(2, 1, 1))
	again, foreign := pack(3, full(1)), pack(4, full(9))
	named := []cas.ID{first.ID, second.ID}
	unreadable := errors.New("unreadable")
	tests := []struct {
		name  string
		spoil func(r *repository)
		reads int
		found int // pack of chunk 1
		lacks string
	}{
		{"whole", func(*repository) {}, 2, 1, ""},
		{"gone", func(r *repository) { r.remove(first.ID) }, 4, 3, "not found"},
		{"unreadable", func(r *repository) { r.failing[first.ID] = unreadable }, 4, 3, "unreadable"},
		{"given up", func(r *repository) { r.kill(first.ID) }, 4, 1, ""},
		{"others are unreadable", func(r *repository) { r.remove(second.ID); r.failing[again.ID] = unreadable }, 4, 1, "not found"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			repo := newRepository(first, second, again, foreign)
			test.spoil(repo)
			m, err := OfBackup(t.Context(), t.TempDir(), repo, named)
			if err != nil {
				t.Fatal(err)
			}
			if got := repo.takeReads(); got != test.reads {
				t.Errorf("%d directories were read, want %d", got, test.reads)
			}
			wantPack(t, m, chunk(1), 1, test.found)
			_, err = m.Lookup(chunk(77), cas.AnyDepth)
			if !errors.Is(err, cas.ErrNotFound) || !strings.Contains(err.Error(), test.lacks) {
				t.Errorf("a chunk that is nowhere: %v, want %q", err, test.lacks)
			}
		})
	}
	repo := newRepository(first, second)
	repo.remove(first.ID)
	repo.listErr = errors.New("no listing")
	if _, err := OfBackup(t.Context(), t.TempDir(), repo, named); !errors.Is(err, repo.listErr) {
		t.Errorf("got %v, want the listing's error", err)
	}
	repo = newRepository(first, second)
	repo.deadErr = errors.New("no marks")
	if m, err := OfBackup(t.Context(), t.TempDir(), repo, named); err != nil {
		t.Errorf("the marks cannot be read: %v", err)
	} else {
		wantPack(t, m, chunk(1), 1, 1)
	}
}
