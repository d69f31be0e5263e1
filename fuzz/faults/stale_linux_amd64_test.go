package faults

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStalePacks lets another host remove packs that the command has open, on a
// file system that calls such files stale from then on.
func TestStalePacks(t *testing.T) {
	f := newFixture(t, scratch(t))
	collect := func(t *testing.T, w *world) {
		other := *w
		if err := os.Mkdir(other.in("cache2"), 0o750); err != nil {
			t.Fatal(err)
		}
		args := []string{"prune", "--max-unused", "0%", "--root", w.in("root"), "--cache-dir", w.in("cache2"), "--quiet"}
		if o := calmly(t, afterward, args...); o.code != 0 || !strings.HasPrefix(o.stdout, "deleted ") || strings.HasPrefix(o.stdout, "deleted 0 ") {
			t.Fatalf("the other host's prune: %+v", o)
		}
	}
	lose := func(t *testing.T, w *world) {
		if err := os.RemoveAll(w.in("root/packs")); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(w.in("root/packs"), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		what   string
		sc     scenario
		remove func(t *testing.T, w *world)
		code   int
		says   string
		last   int // of the reads at which it is tried
	}{
		{"what is needed is elsewhere", scenario{make: (*stage).removed, args: restore(), done: (*stage).isRestored, writes: true, already: "is not empty"}, collect, 0, "restored", 11},
		{"it is nowhere", scenario{make: (*stage).removed, args: restore(), done: (*stage).isRestored, writes: true}, lose, 1, "index pack ", 3},
		{"the session has been ended for it", scenario{make: (*stage).removedAndChanged, args: (*stage).backupArgs, done: (*stage).hasMore, adds: true, cleans: true}, collect, 1, "revoked by garbage collection", 5},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, f, test.sc)
			all := 0
			for first := 1; first <= test.last; first += 2 {
				w := s.fresh(t)
				reads, stale, gone := 0, 0, map[string]bool{}
				o := s.trace(t, w, func(c *call) verdict {
					if c.name != "read" || !strings.HasPrefix(c.path, "root/packs/") {
						return verdict{}
					}
					if reads++; reads == first {
						test.remove(t, w)
					}
					if reads < first {
						return verdict{}
					}
					if _, err := os.Lstat(filepath.Join(w.dir, c.path)); err == nil && !gone[c.path] {
						return verdict{}
					}
					gone[c.path] = true
					stale++
					return verdict{errno: unix.ESTALE}
				})
				all += stale
				nowhere := test.says == "index pack "
				// Packs that are told as missing, and none as stale, are damage.
				isDamage := nowhere && o.code == 12 && strings.Contains(o.stderr, ": not found") && !strings.Contains(o.stderr, unix.ESTALE.Error())
				if o.code != test.code && !isDamage || !strings.Contains(o.stdout+o.stderr, test.says) {
					t.Errorf("read %d: %d stale reads, %+v", first, stale, o)
				}
				if !nowhere {
					if wrong := s.verify(t, w, o); len(wrong) > 0 {
						t.Errorf("read %d: %+v\n\t%s", first, o, strings.Join(wrong, "\n\t"))
					}
				} else if wrong := s.verifyTarget(w); len(wrong) > 0 || shardseed(0, w.everywhere("check")...).code != 12 {
					t.Errorf("read %d: %q", first, wrong)
				}
				s.drop(t, w)
			}
			if all == 0 && !test.sc.adds {
				t.Error("no file was stale")
			}
		})
	}
}

// removedAndChanged has removed the first backup, and the server has changed.
func (s *stage) removedAndChanged(t *testing.T, w *world) {
	s.removed(t, w)
	w.source(t, newDay)
}
