package index

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/cas"
)

// runPaths returns the paths of an index's runs in a cache folder.
func runPaths(t testing.TB, dir string, repo *repository) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, repo.uuid.String(), "*"+runSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// builtIndex makes an index, closes it, and returns the path of its one run.
func builtIndex(t testing.TB, dir string, repo *repository) string {
	t.Helper()
	closeIndex(t, open(t, dir, repo))
	repo.takeReads()
	paths := runPaths(t, dir, repo)
	if len(paths) != 1 {
		t.Fatalf("runs %q, want one", paths)
	}
	return paths[0]
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// wantHealed checks that an index which was damaged answers right or, for what
// it cannot tell any more, not at all, and that it is made anew.
func wantHealed(t testing.TB, dir string, repo *repository, what string) {
	t.Helper()
	const chunks = 60
	x := open(t, dir, repo)
	read := repo.takeReads() == len(repo.packs)
	want := inMemory(t, repo)
	lost := 0
	for n := range uint64(chunks) {
		g, gErr := x.Lookup(chunk(n), cas.AnyDepth)
		w, _ := want.Lookup(chunk(n), cas.AnyDepth)
		if gErr != nil {
			lost++
		} else if !slices.Equal(g, w) && !x.files[0].bad.Load() {
			t.Errorf("%s: chunk %d: got %+v, want %+v", what, n, g, w)
		}
	}
	if problems := x.Problems(); lost > 0 && (read || len(problems) != 1 || !strings.Contains(problems[0].Error(), "cannot be read any more")) {
		t.Errorf("%s: %d chunks are not found, problems %v", what, lost, problems)
	}
	if err := x.Save(t.Context()); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	wantProblems(t, x)
	wantSame(t, x, want, chunks)
	closeIndex(t, x)
	repo.takeReads()
	x = open(t, dir, repo)
	wantReads(t, repo, 0)
	wantSame(t, x, want, chunks)
	wantProblems(t, x)
	closeIndex(t, x)
}

// Whatever happens to a file between two runs, the next one answers right.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	dir := fastDir(t)
	repo := newRepository(manyPacks(3, 60)...)
	good := readFile(t, builtIndex(t, dir, repo))
	rng := rand.New(rand.NewPCG(3, 4))
	damages := map[string][]byte{
		"empty": nil, "one byte": {0}, "cut in the first block": good[:100], "cut at a block": good[:4096], "cut by one": good[:len(good)-1],
		"longer": append(bytes.Clone(good), 0), "no block": make([]byte, len(good)), "text": []byte("hello\n"),
	}
	for i := 0; i < len(good); i += 4096 {
		zeroed := bytes.Clone(good)
		clear(zeroed[i:min(len(zeroed), i+4096)])
		damages[fmt.Sprintf("block %d zeroed", i/4096)] = zeroed
	}
	for range 40 {
		flipped, at := bytes.Clone(good), rng.IntN(len(good))
		flipped[at] ^= 1 << rng.IntN(8)
		damages[fmt.Sprintf("byte %d flipped", at)] = flipped
	}
	for what, data := range damages {
		if err := os.RemoveAll(filepath.Join(dir, repo.uuid.String())); err != nil {
			t.Fatal(err)
		}
		path := builtIndex(t, dir, repo)
		writeFile(t, path, data)
		wantHealed(t, dir, repo, what)
	}
}

// Runs of another repository, of another version and what is no run at all are
// replaced; files that a killed process left are removed; what is none of ours
// stays.
func TestForeignFiles(t *testing.T) {
	t.Parallel()
	dir := fastDir(t)
	repo, other := newRepository(manyPacks(3, 20)...), newRepository(manyPacks(4, 20)...)
	other.uuid = cas.UUID{9}
	path := builtIndex(t, dir, repo)
	foreign := readFile(t, builtIndex(t, dir, other))
	folder := filepath.Dir(path)
	writeFile(t, filepath.Join(folder, "a"+runSuffix), foreign)
	writeFile(t, filepath.Join(folder, ".tmp-killed"), foreign)
	writeFile(t, filepath.Join(folder, "README"), []byte("mine"))
	x := open(t, dir, repo)
	wantReads(t, repo, 0)
	wantSame(t, x, inMemory(t, repo), 60)
	wantProblems(t, x)
	closeIndex(t, x)
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	want := []string{"README", filepath.Base(path), lockName}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("the folder has %q, want %q", names, want)
	}
}

// A file that goes bad while it is in use costs deduplication and nothing else,
// and Save makes it anew.
func TestFileGoesBad(t *testing.T) {
	t.Parallel()
	for what, damage := range map[string]func(f *os.File, size int64) error{
		"cut to nothing": func(f *os.File, _ int64) error { return f.Truncate(0) },
		"cut to a block": func(f *os.File, _ int64) error { return f.Truncate(4096) },
		"overwritten": func(f *os.File, size int64) error {
			_, err := f.WriteAt(bytes.Repeat([]byte{0xee}, int(size)), 0)
			return err
		},
	} {
		dir := t.TempDir()
		repo := newRepository(manyPacks(3, 2000)...)
		path := builtIndex(t, dir, repo)
		x := open(t, dir, repo)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if err := damage(f, info.Size()); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		found := 0
		for n := range uint64(6000) {
			if _, err := x.Lookup(chunk(n), cas.AnyDepth); err == nil {
				found++
			}
		}
		if found > 100 {
			t.Errorf("%s: %d chunks are found", what, found)
		}
		wantProblems(t, x, "cannot be read any more")
		if x.HasPacks([]cas.ID{pack(0).ID}) {
			t.Errorf("%s: the index vouches for a pack", what)
		}
		if err := x.Save(t.Context()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		wantProblems(t, x)
		wantSame(t, x, inMemory(t, repo), 60)
		if !x.HasPacks([]cas.ID{pack(0).ID}) {
			t.Errorf("%s: the new index does not vouch for a pack", what)
		}
		closeIndex(t, x)
	}
}

// A damaged run that is to be merged is left out, and its packs are read again.
func TestMergeDamaged(t *testing.T) {
	t.Parallel()
	dir := fastDir(t)
	repo := newRepository(manyPacks(3, 200)...)
	path := builtIndex(t, dir, repo)
	data := readFile(t, path)
	data[2*blockSize+100] ^= 4
	writeFile(t, path, data)
	repo.publish(pack(77, full(7)))
	x := open(t, dir, repo)
	wantReads(t, repo, 5) // the new one, then all
	wantProblems(t, x)
	wantSame(t, x, inMemory(t, repo), 600)
	closeIndex(t, x)
	if now := runPaths(t, dir, repo); len(now) != 1 || now[0] == path {
		t.Errorf("runs %q, want another than %q", now, path)
	}
}

// Another process merges runs away while the folder is looked through.
func TestFilesGoMeanwhile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := folder{dir: dir, repo: newRepository().uuid}
	if err := os.Symlink(filepath.Join(dir, "gone"), filepath.Join(dir, "x"+runSuffix)); err != nil {
		t.Fatal(err)
	}
	if runs, _, err := f.open(nil); err == nil {
		t.Errorf("got %v, want the error of what is gone", runs)
	}
	if _, _, err := (folder{dir: filepath.Join(dir, "none")}).open(nil); err != nil {
		t.Errorf("no folder: %v", err)
	}
}

// Whatever place a run cannot be written to, what is made stays whole or is not
// there.
func TestPublishFails(t *testing.T) {
	t.Parallel()
	f := folder{dir: t.TempDir(), repo: newRepository().uuid}
	for _, limit := range []int{0, 1, writeBuffer - 1, writeBuffer + 1} {
		_, err := f.publish(func(w io.Writer) (int64, error) {
			n, err := w.Write(make([]byte, limit))
			if err != nil {
				return 0, err
			}
			return int64(n), unix.ENOSPC
		})
		if err == nil {
			t.Errorf("after %d bytes: want an error", limit)
		}
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	missing := folder{dir: filepath.Join(f.dir, "missing")}
	if _, err := missing.publish(func(io.Writer) (int64, error) { return 0, nil }); err == nil {
		t.Error("no folder: want an error")
	}
}

// Batches do not change what is found.
func TestBatches(t *testing.T) {
	t.Parallel()
	repo := newRepository(manyPacks(9, 500)...)
	for _, batch := range []int{1, 1300, 1 << 20} {
		dir := fastDir(t)
		x := newIndex(dir, repo)
		x.batch = batch
		if err := x.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantSame(t, x, inMemory(t, repo), 4500)
		wantProblems(t, x)
		if n := len(runPaths(t, dir, repo)); n != 1 {
			t.Errorf("batches of %d: %d runs, want 1", batch, n)
		}
		closeIndex(t, x)
	}
}

// A file that is mostly about packs that are gone is made anew, smaller, and no
// directory is read for that.
func TestWasteful(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var frames []cas.Frame
	for n := range uint64(minGarbage + 10_000) {
		frames = append(frames, full(n+1000))
	}
	repo := newRepository(pack(0, full(0)), pack(1, frames...))
	before := builtIndex(t, dir, repo)
	x := open(t, dir, repo)
	wantPack(t, x, chunk(1000), cas.AnyDepth, 1)
	closeIndex(t, x)
	size := len(readFile(t, before))
	repo.remove(pack(1).ID)
	x = open(t, dir, repo)
	wantReads(t, repo, 0)
	wantPack(t, x, chunk(0), cas.AnyDepth, 0)
	wantPack(t, x, chunk(1000), cas.AnyDepth, -1)
	closeIndex(t, x)
	after := builtIndex(t, dir, repo)
	if now := len(readFile(t, after)); now*10 > size {
		t.Errorf("the file had %d bytes and has %d", size, now)
	}
	if _, err := os.Stat(before); !os.IsNotExist(err) {
		t.Errorf("the old file: %v, want %v", err, fs.ErrNotExist)
	}
	repo.remove(pack(0).ID)
	for n := range uint32(3) { // nothing is left of a large run
		repo.publish(pack(10+n, frames...))
		closeIndex(t, open(t, dir, repo))
		repo.remove(pack(10 + n).ID)
		closeIndex(t, open(t, dir, repo))
		if paths := runPaths(t, dir, repo); len(paths) != 0 {
			t.Errorf("runs %q, want none", paths)
		}
	}
}

// On a full disk everything is found all the same, and nothing half-written is
// left; when there is room again it is written. Mounts, and so runs as root.
func TestFolderFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"); err != nil {
		t.Fatalf("mount a small file system (these tests run as root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	repo := newRepository(manyPacks(9, 500)...) // 300 KB
	x := newIndex(dir, repo)
	defer closeIndex(t, x)
	x.batch = 1000 // so that runs are spilled, too
	for range 2 {
		if err := x.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantProblems(t, x, "index files are not used: write ")
		wantSame(t, x, inMemory(t, repo), 4500)
		entries, err := os.ReadDir(x.folder.dir)
		if err != nil || len(entries) != 1 || entries[0].Name() != lockName {
			t.Errorf("the folder has %v, %v, want the lock alone", entries, err)
		}
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
	repo.takeReads()
	if err := x.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantReads(t, repo, 0)
	wantProblems(t, x)
	wantSame(t, x, inMemory(t, repo), 4500)
	if len(x.overlay) > 0 || x.Stats().FileBytes == 0 {
		t.Errorf("%d runs elsewhere, %d bytes in the folder", len(x.overlay), x.Stats().FileBytes)
	}
}

// A process that is killed between a merge and the removal of what was merged
// leaves packs in two runs: they count once.
func TestPackInTwoRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repo := newRepository(manyPacks(3, 20)...)
	path := builtIndex(t, dir, repo)
	writeFile(t, filepath.Join(filepath.Dir(path), "a"+runSuffix), readFile(t, path))
	x := open(t, dir, repo)
	wantReads(t, repo, 0)
	want := inMemory(t, repo)
	if got := x.Stats(); got.Packs != 3 || got.Chunks != want.Stats().Chunks {
		t.Errorf("got %+v, want %+v", got, want.Stats())
	}
	wantSame(t, x, want, 60)
	repo.publish(pack(77, full(7)))
	if err := x.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeIndex(t, x)
	want = inMemory(t, repo)
	x = open(t, dir, repo)
	if got := x.Stats(); len(runPaths(t, dir, repo)) != 1 || got.Packs != 4 || got.Chunks != want.Stats().Chunks {
		t.Errorf("got %+v in %q, want %+v in one run", got, runPaths(t, dir, repo), want.Stats())
	}
	wantSame(t, x, want, 60)
}
