package durable_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/internal/durable"
)

var errInjected = errors.New("injected fault")

// watch logs the calls of a System with paths relative to root, temporary
// names as "temp", and makes the n-th fail.
type watch struct {
	root   string
	log    []string
	failAt int
}

func (w *watch) do(format string, args ...any) error {
	for i, arg := range args {
		if path, ok := arg.(string); ok {
			args[i] = w.relative(path)
		}
	}
	w.log = append(w.log, fmt.Sprintf(format, args...))
	if len(w.log) == w.failAt {
		return errInjected
	}
	return nil
}

func (w *watch) relative(path string) string {
	rel, err := filepath.Rel(w.root, path)
	if err != nil {
		return path
	}
	if strings.HasPrefix(filepath.Base(rel), ".tmp-") {
		return filepath.Join(filepath.Dir(rel), "temp")
	}
	return rel
}

// watchedFile is a file whose calls are logged.
type watchedFile struct {
	durable.File
	watch *watch
}

func (f watchedFile) Write(data []byte) (int, error) {
	if err := f.watch.do("write %s", f.Name()); err != nil {
		return 0, err
	}
	return f.File.Write(data)
}

func (f watchedFile) Chmod(perm fs.FileMode) error {
	return errors.Join(f.watch.do("chmod %s %o", f.Name(), perm), f.File.Chmod(perm))
}

func (f watchedFile) Sync() error {
	return errors.Join(f.watch.do("sync %s", f.Name()), f.File.Sync())
}

func (f watchedFile) Close() error {
	return errors.Join(f.watch.do("close %s", f.Name()), f.File.Close())
}

// system returns a System that calls the operating system through w.
func (w *watch) system() durable.System {
	real := durable.OS().Calls
	or := func(err error, call func() error) error {
		if err != nil {
			return err
		}
		return call()
	}
	return durable.System{Calls: durable.Calls{
		CreateTemp: func(dir, pattern string) (durable.File, error) {
			if err := w.do("create in %s", dir); err != nil {
				return nil, err
			}
			f, err := real.CreateTemp(dir, pattern)
			return watchedFile{f, w}, err
		},
		Mkdir: func(dir string, perm fs.FileMode) error {
			return or(w.do("mkdir %s %o", dir, perm), func() error { return real.Mkdir(dir, perm) })
		},
		Link: func(from, to string) error {
			return or(w.do("link %s %s", from, to), func() error { return real.Link(from, to) })
		},
		Rename: func(from, to string) error {
			return or(w.do("rename %s %s", from, to), func() error { return real.Rename(from, to) })
		},
		Remove: func(path string) error {
			return or(w.do("remove %s", path), func() error { return real.Remove(path) })
		},
		SyncDir: func(dir string) error {
			return or(w.do("syncdir %s", dir), func() error { return real.SyncDir(dir) })
		},
	}}
}

func (w *watch) check(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, w.log); diff != "" {
		t.Errorf("calls, want - got +:\n%s", diff)
	}
	w.log = nil
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestCreate(t *testing.T) {
	w := &watch{root: t.TempDir()}
	path := filepath.Join(w.root, "file")
	if err := w.system().Create(path, []byte("data"), 0o440); err != nil {
		t.Fatalf("create: %v", err)
	}
	w.check(t, "create in .", "write temp", "chmod temp 440", "sync temp", "close temp", "link temp file", "syncdir .", "remove temp")
	if got := content(t, path); got != "data" {
		t.Errorf("content: got %q", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o440 {
		t.Errorf("mode: got %v, %v, want 0440", info.Mode(), err)
	}
	if err := w.system().Create(path, []byte("other"), 0o440); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create again: got %v, want fs.ErrExist", err)
	}
	w.check(t, "create in .", "write temp", "chmod temp 440", "sync temp", "close temp", "link temp file", "remove temp")
	if got := content(t, path); got != "data" {
		t.Errorf("content after a second create: got %q", got)
	}
	if got := names(t, w.root); !slices.Equal(got, []string{"file"}) {
		t.Errorf("left %v", got)
	}
}

func TestReplace(t *testing.T) {
	w := &watch{root: t.TempDir()}
	path := filepath.Join(w.root, "file")
	for _, want := range []string{"first", "second", ""} {
		if err := w.system().Replace(path, []byte(want), 0o600); err != nil {
			t.Fatalf("replace: %v", err)
		}
		w.check(t, "create in .", "write temp", "chmod temp 600", "sync temp", "close temp", "rename temp file", "syncdir .")
		if got := content(t, path); got != want {
			t.Errorf("content: got %q, want %q", got, want)
		}
	}
}

func TestRemove(t *testing.T) {
	w := &watch{root: t.TempDir()}
	path := filepath.Join(w.root, "file")
	if err := w.system().Remove(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove nothing: got %v, want fs.ErrNotExist", err)
	}
	w.check(t, "remove file")
	if err := w.system().Create(path, nil, 0o440); err != nil {
		t.Fatalf("create: %v", err)
	}
	w.log = nil
	if err := w.system().Remove(path); err != nil {
		t.Errorf("remove: %v", err)
	}
	w.check(t, "remove file", "syncdir .")
}

func TestMkdir(t *testing.T) {
	w := &watch{root: t.TempDir()}
	deep := filepath.Join(w.root, "a", "b", "c")
	if err := w.system().MkdirAll(deep, 0o750); err != nil {
		t.Fatalf("make folders: %v", err)
	}
	w.check(t, "mkdir a 750", "syncdir .", "mkdir a/b 750", "syncdir a", "mkdir a/b/c 750", "syncdir a/b")
	if err := w.system().MkdirAll(deep, 0o750); err != nil {
		t.Errorf("make folders again: %v", err)
	}
	w.check(t)
	if err := w.system().Mkdir(deep, 0o750); err != nil {
		t.Errorf("make a folder that is there: %v", err)
	}
	w.check(t, "mkdir a/b/c 750", "syncdir a/b") // whoever made it may have crashed
	file := filepath.Join(w.root, "file")
	if err := w.system().Create(file, nil, 0o440); err != nil {
		t.Fatalf("create: %v", err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		if err := w.system().MkdirAll(dir, 0o750); err == nil {
			t.Errorf("make folder %s: no error", dir)
		}
	}
	if err := w.system().Mkdir(file, 0o750); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("make a folder where a file is: got %v", err)
	}
}

func TestStage(t *testing.T) {
	w := &watch{root: t.TempDir()}
	staged, err := w.system().Stage(w.root, 0o440)
	if err != nil {
		t.Fatalf("stage: %v", err)
	}
	for _, part := range []string{"one ", "two"} {
		if n, err := staged.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("write: got %d, %v", n, err)
		}
	}
	path := filepath.Join(w.root, "file")
	if err := staged.Publish(path); err != nil {
		t.Fatalf("publish: %v", err)
	}
	if err := staged.Discard(); err != nil {
		t.Errorf("discard after publish: %v", err)
	}
	if got := content(t, path); got != "one two" {
		t.Errorf("content: got %q", got)
	}
	for name, misuse := range map[string]func(){
		"write":   func() { _, _ = staged.Write(nil) },
		"publish": func() { _ = staged.Publish(path) },
	} {
		if !panics(misuse) {
			t.Errorf("%s to a finished file: no panic", name)
		}
	}
	if staged, err = w.system().Stage(w.root, 0o440); err != nil {
		t.Fatalf("stage: %v", err)
	}
	for range 2 {
		if err := staged.Discard(); err != nil {
			t.Errorf("discard: %v", err)
		}
	}
	if got := names(t, w.root); !slices.Equal(got, []string{"file"}) {
		t.Errorf("left %v", got)
	}
}

func panics(f func()) (panicked bool) {
	defer func() { panicked = recover() != nil }()
	f()
	return false
}

// TestLostReply has a file system that repeats a link whose reply was lost, as
// network file systems do: the second says that the name is taken, by us.
func TestLostReply(t *testing.T) {
	calls := durable.OS().Calls
	synced := false
	calls.Link = func(from, to string) error {
		return errors.Join(os.Link(from, to), os.Link(from, to))
	}
	calls.SyncDir = func(string) error {
		synced = true
		return nil
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := (durable.System{Calls: calls}).Create(path, []byte("x"), 0o440); err != nil || !synced {
		t.Errorf("got %v, folder synced: %t", err, synced)
	}
}

// TestFaults fails every call of every operation: the operation fails, what was
// there is there, and no sync is tried twice.
func TestFaults(t *testing.T) {
	operations := map[string]func(durable.System, string) error{
		"create": func(s durable.System, dir string) error {
			return s.Create(filepath.Join(dir, "new"), []byte("new"), 0o440)
		},
		"replace": func(s durable.System, dir string) error {
			return s.Replace(filepath.Join(dir, "old"), []byte("new"), 0o440)
		},
		"remove": func(s durable.System, dir string) error { return s.Remove(filepath.Join(dir, "other")) },
		"mkdir":  func(s durable.System, dir string) error { return s.MkdirAll(filepath.Join(dir, "a/b"), 0o750) },
	}
	for name, operation := range operations {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				w := &watch{root: t.TempDir()}
				for _, file := range []string{"old", "other"} {
					if err := w.system().Create(filepath.Join(w.root, file), []byte("old"), 0o440); err != nil {
						t.Fatalf("create: %v", err)
					}
				}
				w.log, w.failAt = nil, n
				err := operation(w.system(), w.root)
				if len(w.log) < n {
					break
				}
				if !errors.Is(err, errInjected) {
					t.Errorf("%q failed: got %v", w.log[n-1], err)
				}
				checkAfterFault(t, w)
			}
		})
	}
}

func checkAfterFault(t *testing.T, w *watch) {
	t.Helper()
	failed := w.log[w.failAt-1]
	if got := content(t, filepath.Join(w.root, "old")); got != "old" && got != "new" {
		t.Errorf("%q failed: content is %q", failed, got)
	}
	for _, name := range names(t, w.root) {
		if strings.HasPrefix(name, ".tmp-") && !strings.HasPrefix(failed, "remove") {
			t.Errorf("%q failed: left %s", failed, name)
		}
	}
	if strings.HasPrefix(failed, "sync") && slices.Contains(w.log[w.failAt:], failed) {
		t.Errorf("%q failed and was tried again: %q", failed, w.log)
	}
}

// TestBelowNames: an error names the file with its root.
func TestBelowNames(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	calls := durable.Below(root).Calls
	if err := calls.Remove(filepath.Join(root, "gone")); err == nil || !strings.Contains(err.Error(), filepath.Join(root, "gone")) {
		t.Errorf("remove: %v", err)
	}
	if err := calls.SyncDir(filepath.Join(root, "away")); err == nil || !strings.Contains(err.Error(), filepath.Join(root, "away")) {
		t.Errorf("sync: %v", err)
	}
}
