package faults

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	stride    = flag.Int("stride", 251, "of the cases try each of this number only")
	cutStride = flag.Int("cut-stride", 7, "of the power cuts try each of this number only")
	flavor    = flag.String("flavor", "mariadb", "whose files")
)

// fault is what happens to one call.
type fault struct {
	name string
	verdict
	to func(c *call) bool // the calls that it can happen to
	// harmless faults must not be noticed.
	harmless func(c *call) bool
	// often is of how many calls one is hit by chance, in as many runs; 0: one call
	// is, in a run for each.
	often int
}

func never(*call) bool  { return false }
func always(*call) bool { return true }

func takesRoom(c *call) bool {
	switch c.name {
	case "write", "sync", "allocate", "truncate", "mkdir", "link", "rename", "symlink", "begin to sync":
		return true
	}
	return c.name == "open" && c.creates
}

func (c *call) reads() bool { return !c.changes && c.name != "lock" && c.name != "close" }

// inRoot tells calls on the repository.
func (c *call) inRoot() bool { return c.path == "root" || strings.HasPrefix(c.path, "root/") }

func faults() []fault {
	return []fault{
		{name: "kill", verdict: verdict{kill: true}, to: always, harmless: never},
		{name: "EIO", verdict: verdict{errno: unix.EIO}, to: always, harmless: never},
		{name: "EIO after the effect", verdict: verdict{errno: unix.EIO, after: true}, to: func(c *call) bool { return c.changes }, harmless: never},
		{name: "ENOSPC", verdict: verdict{errno: unix.ENOSPC}, to: takesRoom, harmless: never},
		{name: "EDQUOT", verdict: verdict{errno: unix.EDQUOT}, to: takesRoom, harmless: never},
		{name: "ESTALE", verdict: verdict{errno: unix.ESTALE}, to: always, harmless: func(c *call) bool { return c.inRoot() && c.reads() }},
		{name: "EINTR", verdict: verdict{errno: unix.EINTR}, to: func(c *call) bool { return c.name != "close" }, harmless: always, often: 7},
		{name: "short", verdict: verdict{short: true}, to: func(c *call) bool { return c.moves > 0 }, harmless: always, often: 3},
	}
}

// TestFaults disturbs each command at each of its calls, once.
func TestFaults(t *testing.T) {
	var cases atomic.Int64
	t.Run("commands", func(t *testing.T) {
		eachStage(t, func(t *testing.T, s *stage) { cases.Add(int64(s.disturb(t))) })
	})
	t.Logf("%d cases", cases.Load())
}

// disturb runs all cases of a command, but for those that the stride leaves out.
func (s *stage) disturb(t *testing.T) int {
	calls := s.record(t)
	tried := 0
	for i, f := range faults() {
		for n, c := range calls {
			if f.often > 0 && n >= f.often {
				break
			}
			if f.often == 0 && (!f.to(c) || (n*len(faults())+i)%*stride != 0) {
				continue
			}
			tried++
			s.try(t, f, n+1)
		}
	}
	t.Logf("%d calls, %d cases", len(calls), tried)
	return tried
}

// record runs the command undisturbed and returns its calls.
func (s *stage) record(t *testing.T) []*call {
	w := s.fresh(t)
	var calls []*call
	o := s.trace(t, w, func(c *call) verdict {
		calls = append(calls, c)
		return verdict{}
	})
	if wrong := s.verify(t, w, o); o.code != 0 || len(wrong) > 0 {
		t.Fatalf("undisturbed: %+v\n%s", o, strings.Join(wrong, "\n"))
	}
	s.drop(t, w)
	return calls
}

func (s *stage) drop(t *testing.T, w *world) {
	if err := os.RemoveAll(w.dir); err != nil {
		t.Fatal(err)
	}
}

func (s *stage) trace(t *testing.T, w *world, decide func(*call) verdict) outcome {
	tr := &tracer{watched: w.dir, args: s.args(s, w), env: []string{clockVariable + "=0s"}, decide: decide}
	o, err := tr.run(filepath.Join(s.dir, "output"))
	if err != nil {
		t.Fatalf("trace: %v", err)
	}
	return o
}

// try disturbs the n-th call, or the first after it that the fault can happen to:
// the calls of two runs are not in the same order.
func (s *stage) try(t *testing.T, f fault, n int) {
	w := s.fresh(t)
	var hit *call
	count, chance := 0, rand.New(rand.NewPCG(uint64(n), 0))
	o := s.trace(t, w, func(c *call) verdict {
		count++
		if count < n || hit != nil && (f.often == 0 || chance.IntN(f.often) > 0) || !f.to(c) {
			return verdict{}
		}
		hit = c
		return f.verdict
	})
	if hit == nil {
		s.drop(t, w)
		return
	}
	var wrong []string
	if f.harmless(hit) && o.code != 0 {
		wrong = append(wrong, "it should have gone on")
	}
	wrong = append(wrong, f.told(w, hit, o)...)
	wrong = append(wrong, s.verify(t, w, o)...)
	if len(wrong) > 0 {
		t.Errorf("%s at call %d, %q: %+v\n\t%s", f.name, n, hit, o, strings.Join(wrong, "\n\t"))
	}
	s.drop(t, w)
}

// tellsPacks tells the end of a check or repair that says which packs it could not
// read: on standard output, or as a warning.
func (o *outcome) tellsPacks() bool {
	return o.code == 12 && (strings.HasPrefix(o.stdout, "pack ") || strings.Contains(o.stderr, "warning: pack "))
}

// told verifies that a failure is told: what failed, with what, and how.
func (f *fault) told(w *world, c *call, o outcome) []string {
	var wrong []string
	if o.code == 0 || f.kill || f.errno == 0 {
		return nil
	}
	text := o.stderr
	if o.tellsPacks() {
		if strings.HasPrefix(o.stdout, "pack ") {
			text = o.stdout
		}
		o.code = 1
	}
	if !strings.Contains(text, f.errno.Error()) && (!f.after || c.name != "remove") { // what has been removed can't be found then
		wrong = append(wrong, fmt.Sprintf("it does not say %q", f.errno.Error()))
	}
	name, folder := filepath.Base(w.in(c.path)), filepath.Dir(w.in(c.path))
	if c.name == "stat" && strings.Contains(text, folder+": ") { // of a name that a listing of the folder has found
		name = ""
	}
	if !strings.Contains(text, name) && (c.another == "" || !strings.Contains(text, filepath.Base(c.another))) {
		wrong = append(wrong, fmt.Sprintf("it does not name %q", name))
	}
	if o.code != 1 {
		wrong = append(wrong, fmt.Sprintf("the exit code is %d", o.code))
	}
	return wrong
}
