package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/retention"
)

// stopping is a backend that runs do before its n-th operation.
type stopping struct {
	cas.Backend
	n  int // operations until then
	do func()
}

func (s *stopping) count() {
	if s.n--; s.n == 0 {
		s.do()
	}
}

func (s *stopping) Put(ctx context.Context, name string, data []byte) error {
	s.count()
	return s.Backend.Put(ctx, name, data)
}

func (s *stopping) Open(ctx context.Context, name string) (cas.BlobReader, error) {
	s.count()
	return s.Backend.Open(ctx, name)
}

func (s *stopping) List(ctx context.Context, dir string) ([]cas.Entry, error) {
	s.count()
	return s.Backend.List(ctx, dir)
}

// interrupted returns the shelf's repository as another host sees it, which
// does something before its n-th operation from now.
func (s *shelf) interrupted(t testing.TB, n int, do func()) (*cas.Repository, *stopping) {
	t.Helper()
	backend := &stopping{Backend: &s.backend, do: do}
	repo, err := cas.Open(t.Context(), backend)
	if err != nil {
		t.Fatal(err)
	}
	backend.n = n
	return repo, backend
}

func (s *shelf) removeOptions(repo *cas.Repository, minute int) RemoveOptions {
	return RemoveOptions{Repo: repo, Keyspace: "k", Shard: "-80", Name: nameAt(minute), Note: aNote("rm"), Now: clock}
}

func aNote(reason string) Note {
	return Note{Time: clock(), Host: "h", ToolVersion: "t", Reason: reason}
}

func keyAt(minute int) cas.Key { return manifest.Key("k", "-80", nameAt(minute)) }

// entry returns the entry of a backup, nil if it is not listed.
func (s *shelf) entry(t testing.TB, minute int) *Entry {
	t.Helper()
	entries, err := Catalog(t.Context(), s.Store.Repo, "k", "-80")
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		if entries[i].Key == keyAt(minute) {
			return &entries[i]
		}
	}
	return nil
}

// TestPinAgainstRemove pins a backup at every moment of its removal, and
// removes one at every moment of its pinning: exactly one of both succeeds.
func TestPinAgainstRemove(t *testing.T) {
	pin := func(s *shelf, repo *cas.Repository) error { return Pin(t.Context(), repo, keyAt(0), aNote("")) }
	remove := func(s *shelf, repo *cas.Repository) error { return Remove(t.Context(), s.removeOptions(repo, 0)) }
	forget := func(s *shelf, repo *cas.Repository) error {
		judged, err := Forget(t.Context(), ForgetOptions{Repo: repo, Keyspace: "k", Shard: "-80", Policy: retention.Policy{Last: 1}, Now: clock})
		if err == nil && !judged[0].Removed {
			if !judged[0].Keep() || judged[0].Pin == nil {
				t.Errorf("forget says %+v of a backup that stays", judged[0])
			}
			return errors.New("it was pinned")
		}
		if err != nil {
			t.Errorf("forget: %v", err)
		}
		return err
	}
	for name, c := range map[string]struct {
		first, second func(*shelf, *cas.Repository) error
		pinFirst      bool
	}{
		"pin during rm":     {remove, pin, false},
		"rm during pin":     {pin, remove, true},
		"pin during forget": {forget, pin, false},
		"forget during pin": {pin, forget, true},
	} {
		t.Run(name, func(t *testing.T) {
			n, both := 1, map[bool]int{}
			for ; n < 1000; n++ {
				s := newShelf(t)
				s.put(t, 0, good)
				s.put(t, 1, good)
				var inner error
				repo, backend := s.interrupted(t, n, func() { inner = c.second(s, s.Store.Repo) })
				outer := c.first(s, repo)
				if backend.n > 0 {
					break // there is no n-th operation
				}
				pinned, removed := inner, outer
				if c.pinFirst {
					pinned, removed = outer, inner
				}
				e := s.entry(t, 0)
				if (pinned == nil) == (removed == nil) || (pinned == nil) != (e != nil && e.Pin != nil) || (removed == nil) != (e == nil) {
					t.Errorf("operation %d: pin: %v; removal: %v; entry %+v", n, pinned, removed, e)
				}
				both[pinned == nil]++
			}
			if both[true] == 0 || both[false] == 0 {
				t.Errorf("of %d moments, the pin won %d, the removal %d", n, both[true], both[false])
			}
		})
	}
}

func TestPin(t *testing.T) {
	s := newShelf(t)
	s.put(t, 0, nil) // damaged: may be pinned, and unpinned
	s.put(t, 1, good)
	repo := s.Store.Repo
	for range 2 {
		if err := Pin(t.Context(), repo, keyAt(0), aNote("a\nb")); err != nil {
			t.Fatal(err)
		}
		if e := s.entry(t, 0); e.Pin == nil || e.Pin.Reason != "a b" || e.Err == nil {
			t.Errorf("pinned: %+v", e)
		}
	}
	err := Remove(t.Context(), s.removeOptions(repo, 0))
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "it is pinned since") || len(hint.Of(err)) != 1 {
		t.Errorf("remove pinned: %v", err)
	}
	for _, want := range []bool{true, false} {
		if was, err := Unpin(t.Context(), repo, keyAt(0), Note{}); err != nil || was != want {
			t.Errorf("unpin: %t, %v, want %t", was, err, want)
		}
	}
	if err := Remove(t.Context(), s.removeOptions(repo, 0)); err != nil {
		t.Errorf("remove a damaged one: %v", err)
	}
	for name, do := range map[string]func() error{
		"pin":    func() error { return Pin(t.Context(), repo, keyAt(0), Note{}) },
		"unpin":  func() error { _, err := Unpin(t.Context(), repo, keyAt(0), Note{}); return err },
		"remove": func() error { return Remove(t.Context(), s.removeOptions(repo, 0)) },
	} {
		if err := do(); !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("%s what is gone: %v", name, err)
		}
	}
}

// A hold of a newer program holds, whatever it says.
func TestHoldOfNewerProgram(t *testing.T) {
	s := newShelf(t)
	s.put(t, 0, good)
	s.put(t, 1, good)
	repo := s.Store.Repo
	if _, err := repo.SetValue(t.Context(), holdName(keyAt(0)), []byte(`{"version":2,"state":"embargo"}`)); err != nil {
		t.Fatal(err)
	}
	var newer *manifest.VersionError
	if err := Remove(t.Context(), s.removeOptions(repo, 0)); !errors.As(err, &newer) {
		t.Errorf("remove: %v", err)
	}
	judged, err := Forget(t.Context(), ForgetOptions{Repo: repo, Keyspace: "k", Shard: "-80", Policy: retention.Policy{Last: 1}, Now: clock})
	if !errors.As(err, &newer) || len(judged) != 2 || !judged[0].Keep() {
		t.Errorf("forget: %+v, %v", judged, err)
	}
	if err := Pin(t.Context(), repo, keyAt(0), Note{}); !errors.As(err, &newer) {
		t.Errorf("pin: %v", err)
	}
}

// TestRemoveNewestGood: marked, failed and leaving backups are not good.
func TestRemoveNewestGood(t *testing.T) {
	s := newShelf(t)
	s.put(t, 0, good)
	s.put(t, 1, good)
	s.put(t, 2, marked)
	s.put(t, 3, good) // its drill failed
	s.put(t, 4, good) // leaving
	s.put(t, 5, nil)
	repo := s.Store.Repo
	if err := writeDrill(t.Context(), repo, &Drill{Keyspace: "k", Shard: "-80", Name: nameAt(3), Outcome: DrillFailed}); err != nil {
		t.Fatal(err)
	}
	if err := setHold(t.Context(), repo, keyAt(4), 0, holdRemoving, Note{}); err != nil {
		t.Fatal(err)
	}
	err := Remove(t.Context(), s.removeOptions(repo, 1))
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "newest good") {
		t.Errorf("the newest good one: %v", err)
	}
	if names, err := repo.ValueNames(t.Context(), "holds/k/-80"); err != nil || len(names) != 1 {
		t.Errorf("a refused removal has written something: %q, %v", names, err)
	}
	for _, minute := range []int{0, 2, 3, 5} {
		if err := Remove(t.Context(), s.removeOptions(repo, minute)); err != nil {
			t.Errorf("backup %d: %v", minute, err)
		}
	}
	opts := s.removeOptions(repo, 4) // a good one whose removal was begun, and no newer one
	if err := Remove(t.Context(), opts); !errors.Is(err, ErrRefused) {
		t.Errorf("leaving: %v", err)
	}
	for _, minute := range []int{4, 1} {
		opts := s.removeOptions(repo, minute)
		opts.Force = true
		if err := Remove(t.Context(), opts); err != nil {
			t.Errorf("by force: %v", err)
		}
	}
}

// TestRemoveNewestByPosition: newest is what a restore takes, whatever the clocks of
// hosts said, and this one's says.
func TestRemoveNewestByPosition(t *testing.T) {
	const year = 365 * 24 * 60
	s := newShelf(t)
	s.put(t, -20, at(10))
	s.put(t, -10, at(20))
	s.put(t, year, at(15))
	s.put(t, -year, at(5))
	for _, off := range []time.Duration{0, year * time.Minute, 2 * year * time.Minute, -year * time.Minute, -2 * year * time.Minute} {
		opts := s.removeOptions(s.Store.Repo, -10)
		opts.Now = func() time.Time { return clock().Add(off) }
		if err := Remove(t.Context(), opts); !errors.Is(err, ErrRefused) {
			t.Errorf("clock %s off: %v", off, err)
		}
	}
	for _, minute := range []int{-year, year, -20} {
		if err := Remove(t.Context(), s.removeOptions(s.Store.Repo, minute)); err != nil {
			t.Errorf("backup %d: %v", minute, err)
		}
	}
}

// TestForgetWithoutKeeper: somebody removes the newest good backup by force
// while forget runs. One is left, unless the very last was about to be marked.
func TestForgetWithoutKeeper(t *testing.T) {
	lost := 0
	for n := 1; ; n++ {
		s := newShelf(t)
		for minute := range 4 {
			s.put(t, minute, good)
		}
		gone := 0 // good backups that were removed before the newest
		repo, backend := s.interrupted(t, n, func() {
			for minute := range 3 {
				if s.entry(t, minute) == nil {
					gone++
				}
			}
			opts := s.removeOptions(s.Store.Repo, 3)
			opts.Force = true
			if err := Remove(t.Context(), opts); err != nil {
				t.Fatal(err)
			}
		})
		_, err := Forget(t.Context(), ForgetOptions{Repo: repo, Keyspace: "k", Shard: "-80", Policy: retention.Policy{Last: 1}, Now: clock})
		if backend.n > 0 {
			break
		}
		left := 0
		for minute := range 4 {
			if e := s.entry(t, minute); e != nil && e.Good() {
				left++
			}
		}
		switch {
		case left == 0 && gone == 2:
			lost++
		case left == 0:
			t.Errorf("operation %d: nothing is left; %d were gone before; %v", n, gone, err)
		case gone < 3 && err == nil && n > 20: // it had seen the newest
			t.Errorf("operation %d: nothing was said", n)
		}
	}
	if lost > 3 {
		t.Errorf("at %d moments all was lost, want the last ones only", lost)
	}
}

// An abandoned removal is taken back, unless somebody else removes it too.
func TestReopen(t *testing.T) {
	s := newShelf(t)
	s.put(t, 0, good)
	r := remover{RemoveOptions: s.removeOptions(s.Store.Repo, 0), key: keyAt(0)}
	gen, err := r.close(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other, err := r.close(t.Context())
	if err != nil || other != gen+1 {
		t.Fatalf("generation %d after %d, %v", other, gen, err)
	}
	if err := r.reopen(t.Context(), gen); err != nil || !s.entry(t, 0).Removing {
		t.Errorf("the other's removal was taken back: %v", err)
	}
	if err := r.reopen(t.Context(), other); err != nil || !s.entry(t, 0).Removing {
		t.Errorf("the removal that was begun first was taken back: %v", err)
	}
	s.put(t, 1, good)
	r = remover{RemoveOptions: s.removeOptions(s.Store.Repo, 1), key: keyAt(1)}
	if gen, err = r.close(t.Context()); err != nil || !s.entry(t, 1).Removing {
		t.Fatal(err)
	}
	if err := r.reopen(t.Context(), gen); err != nil || s.entry(t, 1).Removing {
		t.Errorf("it was not taken back: %v", err)
	}
}

func TestForgetFinishesRemovals(t *testing.T) {
	s := newShelf(t)
	s.put(t, 0, good)
	s.put(t, 1, good)
	if err := setHold(t.Context(), s.Store.Repo, keyAt(1), 0, holdRemoving, Note{}); err != nil {
		t.Fatal(err)
	}
	opts := ForgetOptions{Repo: s.Store.Repo, Keyspace: "k", Shard: "-80", Policy: retention.Policy{Last: 5}, Now: clock}
	judged, err := Forget(t.Context(), opts) // no newer good one
	if err != nil || len(judged) != 2 || judged[1].Removed || s.entry(t, 1) == nil || s.entry(t, 1).Good() {
		t.Fatalf("got %+v, %v", judged, err)
	}
	s.put(t, 2, good)
	judged, err = Forget(t.Context(), opts)
	if err != nil || !judged[1].Removed || s.entry(t, 1) != nil || s.entry(t, 0) == nil {
		t.Errorf("got %+v, %v", judged, err)
	}
}

func TestDrillRecord(t *testing.T) {
	s := newShelf(t)
	s.put(t, 0, good)
	repo := s.Store.Repo
	if d, err := LastDrill(t.Context(), repo, keyAt(0)); d != nil || err != nil {
		t.Errorf("never drilled: %v, %v", d, err)
	}
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	failed := &Drill{
		Keyspace: "k", Shard: "-80", Name: nameAt(0), Outcome: DrillFailed, Time: at, Problems: []string{"x"},
		Tables: TableCounts{OK: 40, Bad: 1, Unchecked: 2}, Findings: []TableFinding{{"shop", "orders", true, "Corrupt"}},
	}
	for _, d := range []*Drill{failed, {Keyspace: "k", Shard: "-80", Name: nameAt(0), Outcome: DrillPassed, Time: at, Tables: TableCounts{OK: 41}}} {
		if err := writeDrill(t.Context(), repo, d); err != nil {
			t.Fatal(err)
		}
		if e := s.entry(t, 0); e.Err != nil || e.Good() != d.Passed() || e.Drill.String() != d.String() {
			t.Errorf("got %+v, %v", e.Drill, e.Err)
		}
	}
	for want, d := range map[string]Drill{
		"FAILED 2026-11-23: 40 tables OK, 2 could not be checked, 1 BAD": *failed,
		"FAILED 2026-11-23":                                         {Outcome: DrillFailed, Time: at},
		"verified 2026-11-23: 41 tables OK":                         {Outcome: DrillPassed, Time: at, Tables: TableCounts{OK: 41}},
		"verified 2026-11-23: 1 tables OK, caught up with db1:3306": {Outcome: DrillPassed, Time: at, Tables: TableCounts{OK: 1}, CaughtUp: &DrillCatchUp{Source: "db1:3306"}},
	} {
		if got := d.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

const aDrill = `{"version":1,"keyspace":"k","shard":"-80","name":"%s","outcome":"%s","tables":{"ok":%d,"bad":%d}}`

func TestDecodeDrillRefuses(t *testing.T) {
	name := nameAt(0).String()
	if d, err := decodeDrill(keyAt(0), fmt.Appendf(nil, aDrill, name, "passed", 3, 0)); err != nil || d.Tables.OK != 3 {
		t.Fatalf("got %+v, %v", d, err)
	}
	for why, text := range map[string]string{
		"another backup's": fmt.Sprintf(aDrill, nameAt(1), "passed", 3, 0),
		"no outcome":       fmt.Sprintf(aDrill, name, "", 3, 0),
		"passed with bad":  fmt.Sprintf(aDrill, name, "passed", 3, 1),
		"negative":         fmt.Sprintf(aDrill, name, "failed", -3, 1),
		"version 0":        strings.Replace(fmt.Sprintf(aDrill, name, "passed", 3, 0), `"version":1`, `"version":0`, 1),
		"cut":              fmt.Sprintf(aDrill, name, "passed", 3, 0)[:60],
	} {
		if d, err := decodeDrill(keyAt(0), []byte(text)); !errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("%s: got %+v, %v", why, d, err)
		}
	}
	var newer *manifest.VersionError
	if _, err := decodeDrill(keyAt(0), []byte(`{"version":2}`)); !errors.As(err, &newer) {
		t.Errorf("newer: %v", err)
	}
}

func FuzzDecodeHold(f *testing.F) {
	f.Add([]byte(`{"version":1,"state":"pinned","time":"2026-11-23T08:00:00Z","host":"h","tool_version":"t","reason":"r"}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := decodeHold("v", data)
		if known := h.State == holdPinned || h.State == holdOpen || h.State == holdRemoving; known != (err == nil) {
			t.Errorf("got %+v, %v", h, err)
		}
	})
}

func FuzzDecodeDrill(f *testing.F) {
	f.Add(fmt.Appendf(nil, aDrill, nameAt(0), "passed", 3, 0))
	f.Add(fmt.Appendf(nil, aDrill, nameAt(0), "failed", 3, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := decodeDrill(keyAt(0), data)
		if (d == nil) == (err == nil) || err == nil && (d.Key() != keyAt(0) || len(d.Findings) > maxFindings || d.String() == "") {
			t.Errorf("got %+v, %v", d, err)
		}
	})
}
