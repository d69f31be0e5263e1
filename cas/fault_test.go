package cas_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/cas/mem"
)

// smallBackup begins a session, stores 100 chunks from a few goroutines, and
// commits.
func smallBackup(t *testing.T, repo *cas.Repository, known cas.Locator, workers int) error {
	session, err := repo.Begin(t.Context(), key, nil)
	if err != nil {
		return err
	}
	w := session.NewWriter(cas.WriterOptions{Known: known})
	w.SetPackTarget(20 << 10)
	group, ctx := errgroup.WithContext(t.Context())
	for worker := range workers {
		group.Go(func() error {
			for n := worker; n < 100; n += workers {
				plain := noise(uint64(n), 1000)
				if _, err := w.Put(ctx, cas.KindData, cas.Sum(plain), plain); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err = group.Wait()
	if err == nil {
		err = w.Flush(t.Context())
	}
	if err == nil {
		err = session.Commit(t.Context(), w, []byte("the record"))
	}
	return errors.Join(err, w.Close())
}

// TestFaults fails every operation of a backup, before and after its effect:
// then either the backup is listed and every chunk of it can be read, or
// nothing is listed. A backup that reported success is listed.
func TestFaults(t *testing.T) {
	for _, workers := range []int{1, 3} {
		for _, when := range []castest.When{castest.Before, castest.After} {
			t.Run(fmt.Sprintf("%d workers, moment %d", workers, when), func(t *testing.T) {
				n := 1
				for ; failOperation(t, n, when, workers); n++ {
				}
				if n < 20 {
					t.Errorf("only %d operations were failed", n)
				}
			})
		}
	}
}

// failOperation makes a backup whose n-th operation fails. It returns false if
// the backup has fewer.
func failOperation(t *testing.T, n int, when castest.When, workers int) bool {
	t.Helper()
	repo, backend := newRepoUnchecked(t)
	commit(t, repo, "ks/-80/earlier", cas.WriterOptions{}, noise(0, 1000), noise(50, 1000))
	known := castest.NewIndex(t, repo)
	faulty := castest.NewFaulty(backend)
	opened, err := cas.Open(t.Context(), faulty)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	faulty.FailAt(n, when)
	err = smallBackup(t, opened, known, workers)
	failed := faulty.Ops() >= n
	if failed && !errors.Is(err, castest.ErrInjected) {
		t.Errorf("operation %d: got %v, want the injected error", n, err)
	}
	checkAfterFault(t, backend, fmt.Sprint("operation ", n), err)
	return failed
}

// checkAfterFault opens the repository anew and checks it.
func checkAfterFault(t *testing.T, backend *mem.Backend, what string, backupErr error) {
	t.Helper()
	repo, err := cas.Open(t.Context(), backend)
	if err != nil {
		t.Fatalf("%s: open again: %v", what, err)
	}
	castest.Check(t, repo, backend)
	keys, err := repo.Keys(t.Context(), "ks", "-80")
	if err != nil {
		t.Fatalf("%s: keys: %v", what, err)
	}
	listed := len(keys) == 2
	if backupErr == nil && !listed {
		t.Errorf("%s: the backup reported success and is not listed", what)
	}
	if !listed {
		return
	}
	if record, err := repo.Record(t.Context(), key); err != nil || string(record) != "the record" {
		t.Errorf("%s: record: got %q, %v", what, record, err)
	}
	reader := newReader(t, repo, castest.NewIndex(t, repo))
	for n := range 100 {
		want := noise(uint64(n), 1000)
		got, err := reader.Chunk(t.Context(), cas.Sum(want), 1000)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: chunk %d of a listed backup: %v", what, n, err)
		}
	}
}

// TestReadFaults fails every operation of reading: the error comes out, and the
// next try succeeds.
func TestReadFaults(t *testing.T) {
	repo, backend := newRepo(t)
	commit(t, repo, key, cas.WriterOptions{}, noise(1, 1000))
	if _, err := repo.SetValue(t.Context(), "v", nil); err != nil {
		t.Fatalf("set value: %v", err)
	}
	index := castest.NewIndex(t, repo)
	faulty := castest.NewFaulty(backend)
	read := func() error {
		repo, err := cas.Open(t.Context(), faulty)
		if err != nil {
			return err
		}
		_, recordErr := repo.Record(t.Context(), key)
		_, keysErr := repo.Keys(t.Context(), "ks", "-80")
		_, shardsErr := repo.Shards(t.Context())
		_, _, valueErr := repo.Value(t.Context(), "v")
		_, deadErr := repo.Dead(t.Context())
		ids, idsErr := repo.PackIDs(t.Context())
		err = errors.Join(recordErr, keysErr, shardsErr, valueErr, deadErr, idsErr)
		for _, id := range ids {
			_, packErr := repo.Pack(t.Context(), id)
			err = errors.Join(err, packErr)
		}
		reader := repo.NewReader(index)
		chunk, chunkErr := reader.Chunk(t.Context(), cas.Sum(noise(1, 1000)), 1000)
		if chunkErr == nil && !bytes.Equal(chunk, noise(1, 1000)) {
			t.Error("other bytes, and no error")
		}
		return errors.Join(err, chunkErr, reader.Close())
	}
	for _, when := range []castest.When{castest.Before, castest.After} {
		again := 0
		for n := 1; ; n++ {
			faulty.FailAt(n, when)
			err := read()
			if faulty.Ops() < n {
				break
			}
			if err == nil {
				again++
				continue
			}
			if !errors.Is(err, castest.ErrInjected) {
				t.Errorf("operation %d: got %v, want the injected error", n, err)
			}
			faulty.FailAt(0, when)
			if err := read(); err != nil {
				t.Errorf("after operation %d failed: %v", n, err)
			}
		}
		if again != 2 {
			t.Errorf("%d operations were tried again, want 2: a frame's pack is opened, and read, a second time", again)
		}
	}
}
