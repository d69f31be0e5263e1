package local

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/internal/durable"
)

// silent is a progress that tells nobody.
type silent struct{}

func (silent) Step(string, string) {}
func (silent) Warn(string)         {}
func (silent) Begin(string, int64) {}
func (silent) Advance(int64)       {}
func (silent) End()                {}

// prune collects garbage in a repository whose records are lists of chunk IDs.
func prune(t *testing.T, b cas.Backend) error {
	t.Helper()
	repo, err := cas.Open(t.Context(), b)
	if err != nil {
		return err
	}
	_, err = repo.Prune(t.Context(), cas.PruneOptions{
		Walk: func(_ context.Context, _ cas.Key, record []byte, _ *cas.Reader, visit func(cas.ID, bool) (bool, error)) error {
			for id := range slices.Chunk(record, len(cas.ID{})) {
				if _, err := visit(cas.ID(id), false); err != nil {
					return err
				}
			}
			return nil
		},
		StaleAfter: time.Millisecond, Workers: 1, Progress: silent{}, Now: time.Now,
	})
	return err
}

// threeBackups makes a repository with three backups; what they share lies in
// packs with what they do not. The first is forgotten. A fourth is given up.
func threeBackups(t *testing.T, b cas.Backend) error {
	t.Helper()
	repo, err := cas.Create(t.Context(), b, cas.Config{}, rand.NewChaCha8([32]byte{7}), time.Now)
	if err != nil {
		return err
	}
	for n := range 4 {
		session, err := repo.Begin(t.Context(), backupKey(n), nil)
		if err != nil {
			return err
		}
		w := session.NewWriter(cas.WriterOptions{Known: castest.NewIndex(t, repo)})
		var record []byte
		for _, chunk := range backupChunks(n) {
			id := cas.Sum(chunk)
			record = append(record, id[:]...)
			if _, err := w.Put(t.Context(), cas.KindData, id, chunk); err != nil {
				return err
			}
		}
		if n < 3 {
			err = session.Commit(t.Context(), w, record)
		} else {
			err = errors.Join(w.Flush(t.Context()), session.Abandon(t.Context()))
		}
		if err := errors.Join(err, w.Close()); err != nil {
			return err
		}
	}
	return repo.Forget(t.Context(), backupKey(0), nil)
}

func backupKey(n int) cas.Key { return cas.Key(fmt.Sprintf("ks/-80/2026-11-2%d.040000.zone1-101", n)) }

func backupChunks(n int) [][]byte {
	var chunks [][]byte
	for seed := 2 * n; seed < 2*n+4; seed++ {
		chunks = append(chunks, noise(byte(seed), 3000))
	}
	return chunks
}

// checkThree proves that the two backups that were not forgotten can be read.
func checkThree(t *testing.T, b cas.Backend, what string) *cas.Repository {
	t.Helper()
	repo, err := cas.Open(t.Context(), b)
	if err != nil {
		t.Fatalf("%s: open: %v", what, err)
	}
	castest.Check(t, repo, b)
	keys, err := repo.Keys(t.Context(), "ks", "-80")
	if want := []cas.Key{backupKey(1), backupKey(2)}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("%s: listed %v, %v", what, keys, err)
	}
	everything := castest.Index{} // what is condemned can be read until it is deleted
	ids, err := repo.PackIDs(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for _, id := range ids {
		pack, err := repo.Pack(t.Context(), id)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		everything.Add(pack)
	}
	reader := repo.NewReader(everything)
	for _, n := range []int{1, 2} {
		for _, chunk := range backupChunks(n) {
			if _, err := reader.Chunk(t.Context(), cas.Sum(chunk), len(chunk)); err != nil {
				t.Errorf("%s: backup %d: %v", what, n, err)
			}
		}
	}
	if err := reader.Close(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	return repo
}

// checkLean proves that nothing but what is needed is stored.
func checkLean(t *testing.T, repo *cas.Repository, what string) {
	t.Helper()
	frames := 0
	ids, err := repo.PackIDs(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for _, id := range ids {
		pack, err := repo.Pack(t.Context(), id)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		frames += len(pack.Frames)
	}
	if frames != 6 {
		t.Errorf("%s: %d chunks are stored, 6 are needed", what, frames)
	}
}

// TestPrunePowerCut cuts the power after each call of a collection that repacks
// and deletes: the backups are whole, and the next collection comes to the end.
func TestPrunePowerCut(t *testing.T) {
	r := newRecorder(t)
	if err := threeBackups(t, r.backend()); err != nil {
		t.Fatalf("back up: %v", err)
	}
	begun := len(r.events)
	if err := prune(t, r.backend()); err != nil {
		t.Fatalf("prune: %v", err)
	}
	if len(r.events) < begun+30 {
		t.Fatalf("prune made only %d calls", len(r.events)-begun)
	}
	for _, keepNames := range []bool{false, true} {
		for n := begun; n <= len(r.events); n++ {
			what := fmt.Sprintf("after call %d, %q, names kept: %t", n, r.events[n-1], keepNames)
			dir := t.TempDir()
			survive(t, r.events[:n], dir, keepNames)
			b := quick(dir)
			checkThree(t, b, what)
			if err := prune(t, b); err != nil {
				t.Errorf("%s: prune again: %v", what, err)
			}
			checkLean(t, checkThree(t, b, what), what)
		}
	}
}

// TestPruneFaults fails each call of a collection: it says so, or it was a sign of
// life, and the collection comes to its end. The backups are whole, and the next
// one comes to the end in any case.
func TestPruneFaults(t *testing.T) {
	made := t.TempDir()
	if err := threeBackups(t, quick(made)); err != nil {
		t.Fatalf("back up: %v", err)
	}
	for n, told := 1, 0; ; n++ {
		r := newRecorder(t)
		if err := os.CopyFS(r.root, os.DirFS(made)); err != nil {
			t.Fatal(err)
		}
		r.failAt = n
		err := prune(t, r.backend())
		if len(r.events) < n {
			if told < 30 {
				t.Errorf("only %d of %d failures were told", told, n)
			}
			return
		}
		what := fmt.Sprintf("%q failed", r.events[n-1])
		b := quick(r.root)
		switch {
		case err == nil:
			checkLean(t, checkThree(t, b, what), what)
		case !errors.Is(err, errInjected):
			t.Errorf("%s: got %v, want the injected error", what, err)
		default:
			told++
		}
		checkThree(t, b, what)
		if err := prune(t, b); err != nil {
			t.Errorf("%s: prune again: %v", what, err)
		}
		checkLean(t, checkThree(t, b, what), what)
	}
}

// quick is a backend that does not wait for the disk.
func quick(root string) *Backend {
	calls := durable.Below(root).Calls
	calls.SyncDir = func(string) error { return noWait() }
	create := calls.CreateTemp
	calls.CreateTemp = func(dir, pattern string) (durable.File, error) {
		f, err := create(dir, pattern)
		return unsynced{f}, err
	}
	return newBackend(root, durable.System{Calls: calls})
}

type unsynced struct{ durable.File }

func (unsynced) Sync() error { return noWait() }
