package cas_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/cas/mem"
)

const key = cas.Key("ks/-80/2026-11-23.040000.zone1-101")

func checkKeys(t *testing.T, repo *cas.Repository, want ...cas.Key) {
	t.Helper()
	got, err := repo.Keys(t.Context(), "ks", "-80")
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("keys: got %v, %v, want %v", got, err, want)
	}
}

func TestCommit(t *testing.T) {
	repo, _ := newRepo(t)
	session := begin(t, repo, key)
	if session.Key() != key {
		t.Errorf("key: got %s, want %s", session.Key(), key)
	}
	w := newWriter(t, session, cas.WriterOptions{})
	id := putOne(t, w, noise(1, 65536))
	if _, err := repo.Record(t.Context(), key); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("record before the commit: got %v, want ErrNotFound", err)
	}
	checkKeys(t, repo)
	if err := session.Commit(t.Context(), w, []byte("the record")); err != nil {
		t.Fatalf("commit: %v", err)
	}
	record, err := repo.Record(t.Context(), key)
	if err != nil || string(record) != "the record" {
		t.Errorf("record: got %q, %v", record, err)
	}
	checkKeys(t, repo, key)
	if _, err := castest.NewIndex(t, repo).Lookup(id, cas.AnyDepth); err != nil {
		t.Errorf("chunk: %v", err)
	}
	if err := session.Commit(t.Context(), w, []byte("another")); err == nil {
		t.Error("commit again: no error")
	}
	if record, err := repo.Record(t.Context(), key); err != nil || string(record) != "the record" {
		t.Errorf("record: got %q, %v", record, err)
	}
}

func TestCommitOfNothing(t *testing.T) {
	repo, _ := newRepo(t)
	commit(t, repo, key, cas.WriterOptions{})
	checkKeys(t, repo, key)
}

func TestBeginRefuses(t *testing.T) {
	repo, backend := newRepo(t)
	begin(t, repo, key)
	if _, err := repo.Begin(t.Context(), key, nil); !errors.Is(err, cas.ErrExists) {
		t.Errorf("key of a session: got %v, want ErrExists", err)
	}
	for _, dir := range []string{"manifests/", "forgotten/"} {
		taken := cas.Key("ks/-80/taken-by-" + strings.Trim(dir, "/"))
		backend.Overwrite(dir+taken.String(), nil)
		if _, err := repo.Begin(t.Context(), taken, nil); !errors.Is(err, cas.ErrExists) {
			t.Errorf("key in %s: got %v, want ErrExists", dir, err)
		}
	}
	for _, bad := range []cas.Key{"", "a/b", "../../x", "a/b/c/d"} {
		if _, err := repo.Begin(t.Context(), bad, nil); err == nil {
			t.Errorf("key %q: no error", bad)
		}
	}
}

func TestBeginRace(t *testing.T) {
	repo, _ := newRepo(t)
	var group sync.WaitGroup
	var won atomic.Int32
	for range 8 {
		group.Go(func() {
			_, err := repo.Begin(t.Context(), key, nil)
			if err != nil && !errors.Is(err, cas.ErrExists) {
				t.Errorf("begin: %v", err)
			}
			if err == nil {
				won.Add(1)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 {
		t.Errorf("%d sessions won, want 1", won.Load())
	}
}

func TestRevokedSession(t *testing.T) {
	repo, backend := newRepo(t)
	session := begin(t, repo, key)
	w := newWriter(t, session, cas.WriterOptions{})
	putOne(t, w, noise(1, 1000))
	revocation := cas.EncodeObject(cas.ObjectRevoked, []byte("gc 7"))
	if err := backend.Put(t.Context(), "manifests/"+key.String(), revocation); err != nil {
		t.Fatalf("revoke: %v", err)
	}
	for range 2 {
		if err := session.Commit(t.Context(), w, []byte("late")); !errors.Is(err, cas.ErrRevoked) {
			t.Errorf("commit: got %v, want ErrRevoked", err)
		}
	}
	if _, err := repo.Record(t.Context(), key); !errors.Is(err, cas.ErrRevoked) {
		t.Errorf("record: got %v, want ErrRevoked", err)
	}
	if err := repo.Forget(t.Context(), key, nil); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("forget: got %v, want ErrNotFound", err)
	}
	checkKeys(t, repo)
}

// TestRegisterOfAnother has someone else's commit in the register, which the
// protocol excludes.
func TestRegisterOfAnother(t *testing.T) {
	repo, backend := newRepo(t)
	session := begin(t, repo, key)
	w := newWriter(t, session, cas.WriterOptions{})
	backend.Overwrite("manifests/"+key.String(), cas.EncodeObject(cas.ObjectCommit, []byte("not ours")))
	if err := session.Commit(t.Context(), w, []byte("ours")); !errors.Is(err, cas.ErrExists) {
		t.Errorf("commit: got %v, want ErrExists", err)
	}
	other := begin(t, repo, key+"-2")
	backend.Overwrite("manifests/"+key.String()+"-2", []byte("torn"))
	err := other.Commit(t.Context(), newWriter(t, other, cas.WriterOptions{}), []byte("ours"))
	if !errors.Is(err, cas.ErrExists) || !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("commit over damage: got %v, want ErrExists and ErrCorrupt", err)
	}
}

// retrying is a backend that loses the reply to a success and repeats the call,
// as a network file system may.
type retrying struct{ cas.Backend }

func (b retrying) Put(ctx context.Context, name string, data []byte) error {
	if err := b.Backend.Put(ctx, name, data); err != nil {
		return err
	}
	return b.Backend.Put(ctx, name, data)
}

func (b retrying) Stage(ctx context.Context) (cas.Blob, error) {
	blob, err := b.Backend.Stage(ctx)
	return retryingBlob{blob}, err
}

type retryingBlob struct{ cas.Blob }

func (b retryingBlob) Publish(ctx context.Context, name string) error {
	if err := b.Blob.Publish(ctx, name); err != nil {
		return err
	}
	return b.Blob.Publish(ctx, name)
}

func TestLostReplies(t *testing.T) {
	backend := retrying{new(mem.Backend)}
	repo, err := cas.Create(t.Context(), backend, cas.Config{}, random(3), clock)
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	commit(t, repo, key, cas.WriterOptions{}, noise(1, 1000), noise(2, 2000))
	checkKeys(t, repo, key)
	if gen, err := repo.SetValue(t.Context(), "v", nil); err != nil || gen != 1 {
		t.Errorf("set value: got generation %d, %v, want 1", gen, err)
	}
	if err := repo.Forget(t.Context(), key, nil); err != nil {
		t.Errorf("forget: %v", err)
	}
	castest.Check(t, repo, backend)
}

// TestCommitNeedsItsPacks takes a pack away that a backup relies on, in every
// way.
func TestCommitNeedsItsPacks(t *testing.T) {
	chunk := noise(1, 5000)
	list := func(id cas.ID) []byte { return cas.EncodeObject(cas.ObjectPackList, cas.EncodeIDs([]cas.ID{id})) }
	tests := []struct {
		name    string
		doom    func(*mem.Backend, cas.ID)
		refused bool
	}{
		{"gone", func(b *mem.Backend, id cas.ID) { b.Drop(cas.PackName(id)) }, true},
		{"damaged", func(b *mem.Backend, id cas.ID) { b.Overwrite("damaged/"+id.String(), nil) }, true},
		{"finally condemned", func(b *mem.Backend, id cas.ID) { b.Overwrite("gc/0000000001.final", list(id)) }, true},
		{"condemned since", func(b *mem.Backend, id cas.ID) { b.Overwrite("gc/0000000001.condemned", list(id)) }, false},
		{"condemned and rescued", func(b *mem.Backend, id cas.ID) {
			b.Overwrite("gc/0000000001.condemned", list(id))
			b.Overwrite("gc/0000000001.final", list(cas.ID{1}))
		}, false},
		{"list unreadable", func(b *mem.Backend, _ cas.ID) { b.Overwrite("gc/0000000001.final", []byte("torn")) }, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			repo, backend := newRepoUnchecked(t)
			pack := commit(t, repo, "ks/-80/first", cas.WriterOptions{}, chunk).Packs()[0].ID
			session := begin(t, repo, key)
			w := newWriter(t, session, cas.WriterOptions{Known: castest.NewIndex(t, repo)})
			putOne(t, w, chunk)
			if got := w.Relied(); !slices.Equal(got, []cas.ID{pack}) {
				t.Errorf("relied: got %v, want %v", got, pack)
			}
			test.doom(backend, pack)
			err := session.Commit(t.Context(), w, nil)
			if (err != nil) != test.refused {
				t.Errorf("commit: got %v, want refused=%t", err, test.refused)
			}
			if test.refused {
				checkKeys(t, repo, "ks/-80/first")
			}
		})
	}
}

// TestDeadPacksAreNotUsed has an index that is older than what was condemned
// before the session began: the chunk is stored again.
func TestDeadPacksAreNotUsed(t *testing.T) {
	for _, name := range []string{"gc/0000000003.condemned", "gc/0000000003.final", "damaged/"} {
		t.Run(name, func(t *testing.T) {
			repo, backend := newRepo(t)
			chunk := noise(1, 5000)
			pack := commit(t, repo, "ks/-80/first", cas.WriterOptions{}, chunk).Packs()[0].ID
			index := castest.NewIndex(t, repo)
			if name == "damaged/" {
				backend.Overwrite(name+pack.String(), nil)
			} else {
				backend.Overwrite(name, cas.EncodeObject(cas.ObjectPackList, cas.EncodeIDs([]cas.ID{pack})))
			}
			dead, err := repo.Dead(t.Context())
			if _, found := dead[pack]; err != nil || !found || len(dead) != 1 {
				t.Errorf("dead: got %v, %v, want %s", dead, err, pack.Short())
			}
			w := commit(t, repo, key, cas.WriterOptions{Known: index}, chunk)
			if len(w.Packs()) != 1 || slices.Contains(w.Relied(), pack) {
				t.Errorf("stored %d packs, relies on %v, which must not hold %s", len(w.Packs()), w.Relied(), pack.Short())
			}
			castest.NewIndex(t, repo)
		})
	}
}

func TestCommitOfAnotherSessionsWriter(t *testing.T) {
	repo, _ := newRepo(t)
	w := newWriter(t, begin(t, repo, "ks/-80/other"), cas.WriterOptions{})
	session := begin(t, repo, key)
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	_ = session.Commit(t.Context(), w, nil) // panics
}

func TestForget(t *testing.T) {
	repo, backend := newRepo(t)
	keys := []cas.Key{key + "-1", key + "-2", key + "-3"}
	for _, k := range keys {
		commit(t, repo, k, cas.WriterOptions{}, []byte(k))
	}
	if err := repo.Forget(t.Context(), keys[1], []byte("by me")); err != nil {
		t.Fatalf("forget: %v", err)
	}
	checkKeys(t, repo, keys[0], keys[2])
	if _, err := repo.Record(t.Context(), keys[1]); !errors.Is(err, cas.ErrNotFound) || !strings.Contains(err.Error(), "removed") {
		t.Errorf("record: got %v, want ErrNotFound that says removed", err)
	}
	for _, missing := range []cas.Key{keys[1], key + "-4"} {
		if err := repo.Forget(t.Context(), missing, nil); !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("forget %s: got %v, want ErrNotFound", missing, err)
		}
	}
	if _, err := repo.Begin(t.Context(), keys[1], nil); !errors.Is(err, cas.ErrExists) {
		t.Errorf("begin with a forgotten key: got %v, want ErrExists", err)
	}
	backend.Overwrite("manifests/"+keys[2].String(), []byte("torn"))
	checkKeys(t, repo, keys[0], keys[2])
	if _, err := repo.Record(t.Context(), keys[2]); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("record of a damaged backup: got %v, want ErrCorrupt", err)
	}
	if err := repo.Forget(t.Context(), keys[2], nil); err != nil {
		t.Errorf("forget a damaged backup: %v", err)
	}
	checkKeys(t, repo, keys[0])
	for _, bad := range []cas.Key{"", "x", "a/../c"} {
		if err := repo.Forget(t.Context(), bad, nil); err == nil {
			t.Errorf("forget %q: no error", bad)
		}
		if _, err := repo.Record(t.Context(), bad); err == nil {
			t.Errorf("record %q: no error", bad)
		}
	}
}

func TestKeysAndShards(t *testing.T) {
	repo, backend := newRepo(t)
	for _, k := range []cas.Key{"b/0/x", "a/80-/2", "a/-80/9", "a/80-/1", "a/80-/10"} {
		commit(t, repo, k, cas.WriterOptions{})
	}
	backend.Overwrite("manifests/README", nil)
	backend.Overwrite("manifests/a/notes", nil)
	backend.Overwrite("manifests/a/80-/bad name", nil)
	backend.Overwrite("manifests/a/80-/folder/x", nil)
	backend.Overwrite("manifests/a/80-/3", make([]byte, 100))
	shards, err := repo.Shards(t.Context())
	if want := []string{"a/-80", "a/80-", "b/0"}; err != nil || !slices.Equal(shards, want) {
		t.Errorf("shards: got %v, %v, want %v", shards, err, want)
	}
	keys, err := repo.Keys(t.Context(), "a", "80-")
	if want := []cas.Key{"a/80-/1", "a/80-/10", "a/80-/2", "a/80-/3"}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("keys: got %v, %v, want %v", keys, err, want)
	}
	if keys, err := repo.Keys(t.Context(), "a", "no"); err != nil || len(keys) > 0 {
		t.Errorf("keys of an unknown shard: got %v, %v", keys, err)
	}
	if _, err := repo.Keys(t.Context(), "..", "no"); err == nil {
		t.Error("keys of a bad keyspace: no error")
	}
}

func TestRecordTooLarge(t *testing.T) {
	repo, _ := newRepo(t)
	session := begin(t, repo, key)
	w := newWriter(t, session, cas.WriterOptions{})
	if err := session.Commit(t.Context(), w, make([]byte, 65<<20)); err == nil {
		t.Error("commit of 65 MiB: no error")
	}
	if _, err := repo.SetValue(t.Context(), "v", make([]byte, 65<<20)); err == nil {
		t.Error("value of 65 MiB: no error")
	}
	if _, err := repo.Begin(t.Context(), key+"-2", make([]byte, 65<<20)); err == nil {
		t.Error("note of 65 MiB: no error")
	}
}
