package local

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/internal/durable"
)

func TestBackend(t *testing.T) {
	open := func(tb testing.TB) cas.Backend {
		b, err := Create(filepath.Join(tb.TempDir(), "deep", "root"))
		if err != nil {
			tb.Fatalf("create: %v", err)
		}
		return b
	}
	castest.TestBackend(t, open)
	t.Run("through Faulty", func(t *testing.T) {
		castest.TestBackend(t, func(tb testing.TB) cas.Backend { return castest.NewFaulty(open(tb)) })
	})
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{filepath.Join(dir, "missing"), file} {
		if _, err := New(root); !errors.Is(err, cas.ErrNoRepository) {
			t.Errorf("%s: got %v, want ErrNoRepository", root, err)
		}
	}
	if _, err := New(filepath.Join(file, "below")); err == nil {
		t.Error("below a file: no error")
	}
	if _, err := Create(file); err == nil {
		t.Error("create where a file is: no error")
	}
}

func TestModes(t *testing.T) {
	root := t.TempDir()
	b, err := New(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "a/b/file", []byte("x")); err != nil {
		t.Fatalf("put: %v", err)
	}
	for name, want := range map[string]fs.FileMode{"a": 0o750, "a/b": 0o750, "a/b/file": 0o440, "tmp": 0o750} {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil || info.Mode().Perm()&^want != 0 || info.Mode().Perm()&0o400 == 0 {
			t.Errorf("%s: got mode %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
}

func TestOddFiles(t *testing.T) {
	root := t.TempDir()
	b, err := New(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"folder", ".snapshot", "folder/.nfs0001"} {
		if err := os.Mkdir(filepath.Join(root, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Open(t.Context(), "folder"); err == nil || errors.Is(err, cas.ErrNotFound) {
		t.Errorf("open a folder: got %v, want an error", err)
	}
	entries, err := b.List(t.Context(), ".")
	if err != nil || len(entries) != 1 || entries[0] != (cas.Entry{Name: "folder", Dir: true}) {
		t.Errorf("list: got %v, %v, want the folder", entries, err)
	}
	if entries, err := b.List(t.Context(), "folder"); err != nil || len(entries) != 0 {
		t.Errorf("list the folder: got %v, %v, want nothing", entries, err)
	}
	if err := os.WriteFile(filepath.Join(root, "packs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.List(t.Context(), "packs"); err == nil {
		t.Error("list a file: no error")
	}
	if err := b.Put(t.Context(), "packs/x", nil); err == nil {
		t.Error("put below a file: no error")
	}
}

const key = cas.Key("ks/-80/2026-11-23.040000.zone1-101")

// noise returns bytes that do not compress.
func noise(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data) // never fails
	return data
}

func chunks() [][]byte {
	return [][]byte{noise(1, 100), noise(2, 5000), bytes.Repeat([]byte("x"), 3000)}
}

// backUp makes a repository and one small backup in it.
func backUp(t *testing.T, b cas.Backend) error {
	t.Helper()
	now := func() time.Time { return time.Unix(1795406400, 0) }
	repo, err := cas.Create(t.Context(), b, cas.Config{}, rand.NewChaCha8([32]byte{}), now)
	if err != nil {
		return err
	}
	session, err := repo.Begin(t.Context(), key, []byte("test"))
	if err != nil {
		return err
	}
	w := session.NewWriter(cas.WriterOptions{})
	for _, chunk := range chunks() {
		if _, err := w.Put(t.Context(), cas.KindData, cas.Sum(chunk), chunk); err != nil {
			return errors.Join(err, w.Close())
		}
	}
	return errors.Join(session.Commit(t.Context(), w, []byte("the record")), w.Close())
}

// checkBackup proves that the backup is listed and whole.
func checkBackup(t *testing.T, b cas.Backend) {
	t.Helper()
	repo, err := cas.Open(t.Context(), b)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	keys, err := repo.Keys(t.Context(), "ks", "-80")
	if err != nil || len(keys) != 1 || keys[0] != key {
		t.Fatalf("keys: got %v, %v, want %s", keys, err, key)
	}
	if record, err := repo.Record(t.Context(), key); err != nil || string(record) != "the record" {
		t.Errorf("record: got %q, %v", record, err)
	}
	castest.Check(t, repo, b)
	reader := repo.NewReader(castest.NewIndex(t, repo))
	for n, chunk := range chunks() {
		got, err := reader.Chunk(t.Context(), cas.Sum(chunk), len(chunk))
		if err != nil || !bytes.Equal(got, chunk) {
			t.Errorf("chunk %d: %v", n, err)
		}
	}
	if err := reader.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestReadOnly reads a repository through a backend that cannot change
// anything.
func TestReadOnly(t *testing.T) {
	root := t.TempDir()
	b, err := New(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := backUp(t, b); err != nil {
		t.Fatalf("back up: %v", err)
	}
	checkBackup(t, newBackend(root, durable.System{})) // a call would panic
}

// TestTwoProcesses writes to one root through two backends, as two hosts do.
func TestTwoProcesses(t *testing.T) {
	root := t.TempDir()
	first, err := New(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := backUp(t, first); err != nil {
		t.Fatalf("back up: %v", err)
	}
	second, err := New(root)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := cas.Open(t.Context(), second)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	if _, err := repo.Begin(t.Context(), key, nil); !errors.Is(err, cas.ErrExists) {
		t.Errorf("begin with the same key: got %v, want ErrExists", err)
	}
	session, err := repo.Begin(t.Context(), key+"-2", nil)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	w := session.NewWriter(cas.WriterOptions{Known: castest.NewIndex(t, repo)})
	for _, chunk := range chunks() {
		put, err := w.Put(t.Context(), cas.KindData, cas.Sum(chunk), chunk)
		if err != nil || put.New {
			t.Errorf("put: got %+v, %v, want a known chunk", put, err)
		}
	}
	if err := errors.Join(session.Commit(t.Context(), w, nil), w.Close()); err != nil {
		t.Errorf("commit: %v", err)
	}
}

// TestRootGone moves the root away, and puts an empty folder there as an unmount
// does: nothing is missing or empty then, it is unknown.
func TestRootGone(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	b, err := Create(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "folder/blob", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(root, root+".away"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := b.Open(t.Context(), "folder/blob"); err == nil || errors.Is(err, cas.ErrNotFound) {
			t.Errorf("open: got %v, want an error that is no ErrNotFound", err)
		}
		if entries, err := b.List(t.Context(), "folder"); err == nil {
			t.Errorf("list: got %v, want an error", entries)
		}
		if err := b.Remove(t.Context(), "folder/blob"); err == nil {
			t.Error("remove: no error")
		}
		_ = os.Mkdir(root, 0o750) // the second time it is there
	}
}

// TestHostileFiles: what is no regular file is not read, nobody waits for it, and no
// link leads out of the root, neither to read nor to write.
func TestHostileFiles(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "outside", "secret")
	if err := errors.Join(os.Mkdir(filepath.Dir(secret), 0o700), os.WriteFile(secret, []byte("secret"), 0o600)); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]func(path string) error{
		"pipe":          func(path string) error { return unix.Mkfifo(path, 0o600) },
		"socket":        func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) },
		"folder":        func(path string) error { return os.Mkdir(path, 0o700) },
		"link out":      func(path string) error { return os.Symlink("../../outside/secret", path) },
		"absolute link": func(path string) error { return os.Symlink(secret, path) },
		"endless file":  func(path string) error { return os.Symlink("/dev/zero", path) },
		"circle":        func(path string) error { return os.Symlink("blob", path) },
		"nowhere":       func(path string) error { return os.Symlink("nothing", path) },
	}
	for name, make := range kinds {
		root := filepath.Join(t.TempDir(), "root")
		if err := os.MkdirAll(root+"/a", 0o700); err != nil {
			t.Fatal(err)
		}
		b, err := New(root)
		if err != nil {
			t.Fatal(err)
		}
		if err := make(root + "/a/blob"); err != nil {
			t.Fatal(err)
		}
		if blob, err := b.Open(t.Context(), "a/blob"); err == nil || errors.Is(err, cas.ErrNotFound) {
			t.Errorf("%s: open: got %v, %v", name, blob, err)
		}
		if err := b.Put(t.Context(), "a/blob", []byte("x")); !errors.Is(err, cas.ErrExists) {
			t.Errorf("%s: put: %v, want that it exists", name, err)
		}
		if _, err := b.List(t.Context(), "a/blob"); err == nil && name != "folder" {
			t.Errorf("%s: listed", name)
		}
	}
	text, err := os.ReadFile(secret)
	if err != nil || string(text) != "secret" {
		t.Errorf("what lies outside is %q, %v", text, err)
	}
}

// TestHostileFolders: links in the place of folders.
func TestHostileFolders(t *testing.T) {
	for _, folder := range []string{"packs", "tmp", "manifests"} {
		dir := t.TempDir()
		outside, root := filepath.Join(dir, "outside"), filepath.Join(dir, "root")
		if err := errors.Join(os.MkdirAll(outside+"/ab", 0o700), os.Mkdir(root, 0o700), os.WriteFile(outside+"/ab/blob", []byte("x"), 0o600),
			os.Symlink(outside, filepath.Join(root, folder))); err != nil {
			t.Fatal(err)
		}
		b, err := New(root)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Open(t.Context(), folder+"/ab/blob"); !errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("%s: open: %v", folder, err)
		}
		if _, err := b.List(t.Context(), folder+"/ab"); !errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("%s: list: %v", folder, err)
		}
		if err := b.Put(t.Context(), folder+"/ab/new", nil); err == nil {
			t.Errorf("%s: put: no error", folder)
		}
		if err := b.Remove(t.Context(), folder+"/ab/blob"); err == nil {
			t.Errorf("%s: remove: no error", folder)
		}
		found, err := os.ReadDir(outside + "/ab")
		if err != nil || len(found) != 1 {
			t.Errorf("%s: outside are %v, %v", folder, found, err)
		}
	}
}

// TestUmask: what is made is for nobody but the owner and the group, whatever the
// umask is.
func TestUmask(t *testing.T) {
	for _, mask := range []int{0, 0o022, 0o077} {
		old := unix.Umask(mask)
		root := filepath.Join(t.TempDir(), "root")
		b, err := Create(root)
		if err == nil {
			err = backUp(t, b)
		}
		unix.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		if err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			allowed := fs.FileMode(0o640)
			if entry.IsDir() {
				allowed = 0o750
			}
			if err == nil && info.Mode().Perm()&^allowed != 0 {
				t.Errorf("umask %#o: %s has mode %v", mask, path, info.Mode())
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
}

// TestSweep: what nobody has written to for a day goes, and its writer is told should it
// come back; what is newer stays, and can be published.
func TestSweep(t *testing.T) {
	b, err := Create(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	stalled, err := b.Stage(t.Context())
	if err == nil {
		_, err = stalled.Write([]byte("stalled"))
	}
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(b.path("tmp") + "/.*")
	if err != nil || len(names) != 1 {
		t.Fatalf("staged: %v, %v", names, err)
	}
	past := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(names[0], past, past); err != nil {
		t.Fatal(err)
	}
	working, err := b.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if files, size, err := b.Sweep(t.Context(), 26*time.Hour); files != 0 || size != 0 || err != nil {
		t.Errorf("too early: %d files, %d bytes, %v", files, size, err)
	}
	if files, size, err := b.Sweep(t.Context(), 24*time.Hour); files != 1 || size != 7 || err != nil {
		t.Errorf("got %d files, %d bytes, %v; want 1 and 7", files, size, err)
	}
	if err := working.Publish(t.Context(), "working"); err != nil {
		t.Errorf("publish what is at work: %v", err)
	}
	if err := stalled.Publish(t.Context(), "stalled"); err == nil {
		t.Error("published what is gone")
	}
	if _, err := b.Open(t.Context(), "stalled"); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("open: got %v, want ErrNotFound", err)
	}
	left, err := os.ReadDir(b.path("tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
