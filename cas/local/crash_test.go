package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/internal/durable"
)

// recorder notes the calls that change a file system, in order, and makes the
// n-th fail. Paths are relative to root; the n-th temporary file is "tmp/n".
type recorder struct {
	root string

	mu     sync.Mutex // guards what follows
	events []event
	temps  map[string]string
	failAt int
}

var errInjected = errors.New("injected fault")

// event is one call.
type event struct {
	op      string
	path    string
	target  string // of a link
	content []byte // of the file, at a sync
}

func (e event) String() string { return strings.TrimSpace(e.op + " " + e.path + " " + e.target) }

func (r *recorder) name(path string) string {
	rel, err := filepath.Rel(r.root, path)
	if err != nil {
		return path
	}
	if !strings.HasPrefix(filepath.Base(rel), ".tmp-") {
		return rel
	}
	if r.temps[rel] == "" {
		r.temps[rel] = fmt.Sprint("tmp/", len(r.temps)+1)
	}
	return r.temps[rel]
}

// do notes a call and makes it, unless it is to fail.
func (r *recorder) do(op, path, target string, call func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := event{op: op, path: r.name(path)}
	if target != "" {
		e.target = r.name(target)
	}
	if op == "sync" {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		e.content = data
	}
	r.events = append(r.events, e)
	if len(r.events) == r.failAt {
		return errInjected
	}
	return call()
}

// recordedFile notes what matters of a file. Writes are left out: only what a
// sync finds counts.
type recordedFile struct {
	durable.File
	recorder *recorder
}

func (f recordedFile) Sync() error { return f.recorder.do("sync", f.Name(), "", noWait) }

// noWait takes the place of a sync: what the disk would hold is worked out.
func noWait() error { return nil }

func (r *recorder) backend() *Backend {
	calls := durable.Below(r.root).Calls
	return newBackend(r.root, durable.System{Calls: durable.Calls{
		CreateTemp: func(dir, pattern string) (durable.File, error) {
			f, err := calls.CreateTemp(dir, pattern)
			if err != nil {
				return nil, err
			}
			if err := r.do("create", f.Name(), "", func() error { return nil }); err != nil {
				return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
			}
			return recordedFile{f, r}, nil
		},
		Mkdir: func(dir string, perm fs.FileMode) error {
			return r.do("mkdir", dir, "", func() error { return calls.Mkdir(dir, perm) })
		},
		Link: func(from, to string) error {
			return r.do("link", from, to, func() error { return calls.Link(from, to) })
		},
		Remove: func(path string) error {
			return r.do("remove", path, "", func() error { return calls.Remove(path) })
		},
		SyncDir: func(dir string) error {
			return r.do("syncdir", dir, "", noWait)
		},
	}})
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	return &recorder{root: t.TempDir(), temps: map[string]string{}}
}

// TestDurabilityLog compares the calls of a small backup with a log that has
// been read by people: every file is synced before it is linked, every folder
// after; packs come before the register.
func TestDurabilityLog(t *testing.T) {
	r := newRecorder(t)
	if err := backUp(t, r.backend()); err != nil {
		t.Fatalf("back up: %v", err)
	}
	var log strings.Builder
	for _, e := range r.events {
		fmt.Fprintln(&log, e)
	}
	pack := regexp.MustCompile(`packs/[0-9a-f]{2}(/[0-9a-f]{64})?`)
	got := pack.ReplaceAllStringFunc(log.String(), func(name string) string {
		return "packs/xx" + map[bool]string{true: "/PACK"}[strings.Count(name, "/") == 2]
	})
	want, err := os.ReadFile("testdata/session.log")
	if err != nil {
		t.Fatalf("%v; the log is now:\n%s", err, got)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("log, want - got +:\n%s", diff)
	}
}

// survive makes in dir what a power cut after the events leaves at the least:
// names whose folder was synced, content that was synced. With keepNames, names
// survive without a sync of their folder.
func survive(t *testing.T, events []event, dir string, keepNames bool) {
	t.Helper()
	content := map[string][]byte{}     // by temporary name
	pending := map[string][]event{}    // by folder
	durableNames := []event{{op: "."}} // in order
	for _, e := range events {
		switch e.op {
		case "sync":
			content[e.path] = e.content
		case "mkdir":
			pending[filepath.Dir(e.path)] = append(pending[filepath.Dir(e.path)], e)
		case "remove":
			pending[filepath.Dir(e.path)] = append(pending[filepath.Dir(e.path)], e)
		case "link":
			pending[filepath.Dir(e.target)] = append(pending[filepath.Dir(e.target)], e)
		case "syncdir":
			durableNames = append(durableNames, pending[e.path]...)
			delete(pending, e.path)
		}
	}
	if keepNames {
		durableNames = nil
		for _, e := range events {
			if e.op == "mkdir" || e.op == "link" || e.op == "remove" {
				durableNames = append(durableNames, e)
			}
		}
	}
	for _, e := range durableNames {
		var err error
		switch e.op {
		case "mkdir":
			err = os.Mkdir(filepath.Join(dir, e.path), 0o700)
		case "link":
			err = os.WriteFile(filepath.Join(dir, e.target), content[e.path], 0o600)
		case "remove":
			err = os.Remove(filepath.Join(dir, e.path))
		}
		// A name in a folder that is lost is lost with it.
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
}

// TestPowerCut cuts the power after each call of a small backup: what is left
// is no repository, one without the backup, or one with a whole backup; and a
// backup that reported success is there.
func TestPowerCut(t *testing.T) {
	r := newRecorder(t)
	if err := backUp(t, r.backend()); err != nil {
		t.Fatalf("back up: %v", err)
	}
	for _, keepNames := range []bool{false, true} {
		listed := false
		for n := range len(r.events) + 1 {
			dir := t.TempDir()
			survive(t, r.events[:n], dir, keepNames)
			now := isListed(t, dir)
			if listed && !now {
				t.Errorf("after %q the backup is gone again", r.events[n-1])
			}
			listed = now
		}
		if !listed {
			t.Error("the backup reported success and is gone")
		}
	}
}

// isListed tells whether the folder holds a repository that lists a backup,
// which must be whole then.
func isListed(t *testing.T, dir string) bool {
	t.Helper()
	b, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := cas.Open(t.Context(), b)
	if errors.Is(err, cas.ErrNoRepository) {
		return false
	}
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	castest.Check(t, repo, b)
	keys, err := repo.Keys(t.Context(), "ks", "-80")
	if err != nil {
		t.Fatalf("keys: %v", err)
	}
	if len(keys) > 0 {
		checkBackup(t, b)
	}
	return len(keys) > 0
}

// TestFaults fails every call of a small backup: the backup fails, and is
// listed only if it is whole. A sync that failed is not tried again.
func TestFaults(t *testing.T) {
	for n := 1; ; n++ {
		r := newRecorder(t)
		r.failAt = n
		err := backUp(t, r.backend())
		if len(r.events) < n {
			break
		}
		failed := r.events[n-1]
		if !errors.Is(err, errInjected) {
			t.Errorf("%q failed: got %v, want the injected error", failed, err)
		}
		for _, later := range r.events[n:] {
			if failed.op == "sync" && later.op == "sync" && later.path == failed.path {
				t.Errorf("%q failed and was tried again", failed)
			}
		}
		isListed(t, r.root)
	}
}
