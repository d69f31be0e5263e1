package mysqlbackup

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/cas/mem"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
)

// leaseRun returns a run of a tablet as far as a lease is concerned.
func leaseRun(repo *cas.Repository, uid uint32) *backupRun {
	b := &backupRun{BackupOptions: BackupOptions{
		Store: Store{Repo: repo}, Keyspace: "commerce", Shard: "-80", Alias: manifest.TabletAlias{Cell: "zone1", UID: uid},
		Host: "db", Now: time.Now,
	}}
	b.record.Keyspace, b.record.Shard = b.Keyspace, b.Shard
	b.record.Name = manifest.NewName(b.Now(), b.Alias)
	return b
}

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		repo, err := cas.Create(t.Context(), new(mem.Backend), cas.Config{ChunkSize: testChunk}, rand.NewChaCha8([32]byte{}), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		take := func(uid uint32) *backupRun {
			t.Helper()
			b := leaseRun(repo, uid)
			if err := b.takeLease(t.Context()); err != nil {
				t.Fatal(err)
			}
			return b
		}
		release := func(b *backupRun) {
			t.Helper()
			if err := b.lease.release(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		busy := func(uid uint32) {
			t.Helper()
			if err := leaseRun(repo, uid).takeLease(t.Context()); !errors.Is(err, ErrBusy) || len(hint.Of(err)) != 1 {
				t.Errorf("got %v, want a busy one with a hint", err)
			}
		}
		first := take(101)
		busy(102)
		time.Sleep(5 * leaseTime) // it is renewed
		busy(102)
		release(first)
		second := take(102)
		busy(101)

		// Its own tablet takes it over; what the earlier run does then changes nothing.
		time.Sleep(time.Second)
		again := take(102)
		release(second)
		busy(101)
		release(again)

		// One that has died keeps it until it expires.
		dead := take(101)
		close(dead.lease.stop)
		<-dead.lease.done
		busy(102)
		time.Sleep(leaseTime + time.Second)
		release(take(102))
		release(take(101))
		var none *lease
		if err := none.release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A lease by a clock that is a year ahead would block the shard for a year: it is told,
// until its backup has been published or ended.
func TestLeaseOfAWrongClock(t *testing.T) {
	repo, err := cas.Create(t.Context(), new(mem.Backend), cas.Config{ChunkSize: testChunk}, rand.NewChaCha8([32]byte{}), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func(*cas.Session) error{
		"revoked": func(s *cas.Session) error { return repo.EndSession(t.Context(), s.Key(), "") },
		"published": func(s *cas.Session) error {
			return s.Commit(t.Context(), s.NewWriter(cas.WriterOptions{}), []byte("{}"))
		},
	} {
		for what, ahead := range map[string]time.Duration{"a year ahead": 365 * 24 * time.Hour, "right": 0} {
			dead := leaseRun(repo, 101)
			dead.Keyspace, dead.Shard = manifest.Keyspace(name), manifest.Shard(what[:1])
			dead.record.Keyspace, dead.record.Shard = dead.Keyspace, dead.Shard
			dead.Now = func() time.Time { return time.Now().Add(ahead) }
			session, err := repo.Begin(t.Context(), dead.record.Key(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := dead.takeLease(t.Context()); err != nil {
				t.Fatal(err)
			}
			progress := &quiet{}
			other := leaseRun(repo, 102)
			other.Keyspace, other.Shard, other.Progress = dead.Keyspace, dead.Shard, progress
			want := ErrBusy
			if ahead > 0 {
				want = ErrRefused
			}
			if err := other.takeLease(t.Context()); !errors.Is(err, want) || len(hint.Of(err)) != 1 {
				t.Errorf("%s: at work: got %v, want %v with a hint", what, err, want)
			}
			if err := end(session); err != nil {
				t.Fatal(err)
			}
			err = other.takeLease(t.Context())
			switch free := name == "revoked" || ahead > 0; {
			case free != (err == nil), !free && !errors.Is(err, ErrBusy):
				t.Errorf("%s, %s: got %v", what, name, err)
			case (len(progress.warned) > 0) != (name == "published" && ahead > 0):
				t.Errorf("%s, %s: warnings %q", what, name, progress.warned)
			}
			if err := errors.Join(dead.lease.release(t.Context()), other.lease.release(t.Context())); err != nil {
				t.Error(err)
			}
		}
	}
}

// A lease is advice: one that cannot be read, written or given up is a warning.
func TestLeaseUnreadable(t *testing.T) {
	store := new(mem.Backend)
	repo, err := cas.Create(t.Context(), store, cas.Config{ChunkSize: testChunk}, rand.NewChaCha8([32]byte{}), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	spoil := map[string]func(name string){
		"damaged": func(name string) { store.Overwrite("values/"+name+"/0000000001", []byte("torn")) },
		"no JSON": func(name string) {
			if _, err := repo.SetValue(t.Context(), name, []byte("{")); err != nil {
				t.Fatal(err)
			}
		},
	}
	for what, spoil := range spoil {
		b, progress := leaseRun(repo, 101), &quiet{}
		b.Shard, b.Progress = manifest.Shard(what[:1]), progress
		spoil(b.leaseName())
		if err := b.takeLease(t.Context()); err != nil || len(progress.warned) != 1 || b.lease != nil {
			t.Errorf("%s: got %v, warnings %q, want one", what, err, progress.warned)
		}
		b.dropLease(t.Context())
	}
	faulty := castest.NewFaulty(store)
	broken, err := cas.Open(t.Context(), faulty)
	if err != nil {
		t.Fatal(err)
	}
	b, progress := leaseRun(broken, 101), &quiet{}
	b.Progress = progress
	if err := b.takeLease(t.Context()); err != nil || b.lease == nil {
		t.Fatalf("take: %v", err)
	}
	faulty.FailAt(1, castest.Before)
	b.dropLease(t.Context())
	if len(progress.warned) != 1 {
		t.Errorf("warnings %q, want one", progress.warned)
	}
}
