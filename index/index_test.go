package index

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
)

const (
	somePacks  = 12
	someFrames = 40
	someChunks = somePacks * someFrames
)

func wantReads(t testing.TB, repo *repository, want int) {
	t.Helper()
	if got := repo.takeReads(); got != want {
		t.Errorf("%d pack directories were read, want %d", got, want)
	}
}

func wantProblems(t testing.TB, x *Index, parts ...string) {
	t.Helper()
	problems := x.Problems()
	if len(problems) != len(parts) {
		t.Fatalf("got problems %v, want %d with %q", problems, len(parts), parts)
	}
	for i, part := range parts {
		if !strings.Contains(problems[i].Error(), part) {
			t.Errorf("got problem %q, want %q in it", problems[i], part)
		}
	}
}

// An index that is opened again reads no directory but those of new packs.
func TestOpen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	packs := manyPacks(somePacks, someFrames)
	repo := newRepository(packs[:10]...)
	first := open(t, dir, repo)
	wantReads(t, repo, 10)
	wantSame(t, first, inMemory(t, repo), someChunks)
	stats := first.Stats()
	if want := inMemory(t, repo).Stats(); stats.Packs != want.Packs || stats.Chunks != want.Chunks || stats.FileBytes == 0 {
		t.Errorf("got %+v, want %+v and a file", stats, want)
	}
	closeIndex(t, first)
	repo.takeReads()

	second := open(t, dir, repo)
	wantReads(t, repo, 0)
	wantSame(t, second, inMemory(t, repo), someChunks)
	closeIndex(t, second)

	repo.publish(packs[10:]...)
	repo.takeReads()
	third := open(t, dir, repo)
	wantReads(t, repo, 2)
	wantSame(t, third, inMemory(t, repo), someChunks)
	wantProblems(t, third)
}

func TestOpenEmpty(t *testing.T) {
	t.Parallel()
	dir, repo := t.TempDir(), newRepository()
	for range 2 {
		x := open(t, dir, repo)
		wantPack(t, x, chunk(1), cas.AnyDepth, -1)
		if got := x.Stats(); got.Packs != 0 || got.Chunks != 0 {
			t.Errorf("got %+v", got)
		}
		closeIndex(t, x)
		if err := x.Close(); err != nil {
			t.Errorf("closed twice: %v", err)
		}
	}
}

// Packs that vanish or are given up are not found, nor is what needs them; a
// pack that was given up and is taken back is found again.
func TestOpenGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repo := newRepository(pack(0, full(0)), pack(1, delta(1, 0, 1)), pack(2, full(2)), pack(3, full(3)))
	closeIndex(t, open(t, dir, repo))

	repo.kill(pack(0).ID)
	repo.remove(pack(2).ID)
	x := open(t, dir, repo)
	wantPack(t, x, chunk(0), cas.AnyDepth, -1)
	wantPack(t, x, chunk(1), cas.AnyDepth, -1)
	wantPack(t, x, chunk(2), cas.AnyDepth, -1)
	wantPack(t, x, chunk(3), cas.AnyDepth, 3)
	if got := x.Stats(); got.Packs != 2 || got.Chunks != 2 {
		t.Errorf("got %+v, want 2 packs with 2 chunks", got)
	}
	closeIndex(t, x)

	clear(repo.dead)
	repo.publish(pack(9, full(9))) // makes the file be written, and the vanished pack be forgotten
	repo.takeReads()
	x = open(t, dir, repo)
	wantReads(t, repo, 1)
	wantPack(t, x, chunk(0), cas.AnyDepth, 0)
	wantPack(t, x, chunk(1), cas.AnyDepth, 1)
	wantPack(t, x, chunk(2), cas.AnyDepth, -1)
	wantPack(t, x, chunk(9), cas.AnyDepth, 9)
	for _, r := range x.files.runs() {
		for _, p := range r.packs {
			if p.id == pack(2).ID {
				t.Error("the file still has the vanished pack")
			}
		}
	}
}

// A pack that is dead when it is new is not read, and read when it comes back.
func TestOpenDeadNew(t *testing.T) {
	t.Parallel()
	dir, repo := t.TempDir(), newRepository(pack(0, full(0)))
	repo.kill(pack(0).ID)
	x := open(t, dir, repo)
	wantReads(t, repo, 0)
	wantPack(t, x, chunk(0), cas.AnyDepth, -1)
	closeIndex(t, x)
	clear(repo.dead)
	wantPack(t, open(t, dir, repo), chunk(0), cas.AnyDepth, 0)
	wantReads(t, repo, 1)
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	dir, boom := t.TempDir(), errors.New("boom")
	repo := newRepository(pack(0, full(0)))
	repo.listErr = boom
	if _, err := Open(t.Context(), dir, repo); !errors.Is(err, boom) {
		t.Errorf("packs cannot be listed: got %v", err)
	}
	repo.listErr, repo.deadErr = nil, boom
	if _, err := Open(t.Context(), dir, repo); !errors.Is(err, boom) {
		t.Errorf("dead packs cannot be listed: got %v", err)
	}
	repo.deadErr = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, dir, repo); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	wantPack(t, open(t, dir, repo), chunk(0), cas.AnyDepth, 0)
}

// When the context ends in the middle, what was there stays good.
func TestOpenCanceled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	packs := manyPacks(200, 5)
	repo := newRepository(packs[:100]...)
	closeIndex(t, open(t, dir, repo))
	repo.publish(packs[100:]...)
	repo.takeReads()
	ctx, cancel := context.WithCancel(t.Context())
	repo.onRead = func(n int) {
		if n == 50 {
			cancel()
		}
	}
	if _, err := Open(ctx, dir, repo); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want the context's error", err)
	}
	repo.onRead = nil
	repo.takeReads()
	x := open(t, dir, repo)
	wantReads(t, repo, 100)
	wantSame(t, x, inMemory(t, repo), 1000)
	wantProblems(t, x)
}

// A pack whose directory cannot be read is left out and told; it is read again
// the next time.
func TestOpenUnreadablePack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repo := newRepository(pack(0, full(0)), pack(1, full(1)), pack(2, full(1), full(2)))
	repo.failing[pack(1).ID] = &cas.CorruptError{Pack: pack(1).ID, Reason: "cut"}
	repo.failing[pack(2).ID] = errors.New("input/output error")
	for range 2 {
		x := open(t, dir, repo)
		wantPack(t, x, chunk(0), cas.AnyDepth, 0)
		wantPack(t, x, chunk(1), cas.AnyDepth, -1)
		wantProblems(t, x, pack(1).ID.Short()+" is left out", pack(2).ID.Short()+" is left out of the index: input/output error")
		if err := x.Problems()[0]; !errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("got %v, want the cause in it", err)
		}
		closeIndex(t, x)
	}
	clear(repo.failing)
	x := open(t, dir, repo)
	wantPack(t, x, chunk(1), cas.AnyDepth, 1)
	wantProblems(t, x)
}

// A pack that is deleted between the listing and its reading is no problem.
func TestOpenDeletedPack(t *testing.T) {
	t.Parallel()
	repo := newRepository(pack(0, full(0)), pack(1, full(1)))
	repo.failing[pack(1).ID] = fmt.Errorf("open pack: %w", cas.ErrNotFound)
	x := open(t, t.TempDir(), repo)
	wantPack(t, x, chunk(0), cas.AnyDepth, 0)
	wantPack(t, x, chunk(1), cas.AnyDepth, -1)
	wantProblems(t, x)
}

// Packs that were published meanwhile are found after Save, by the next Open
// too, and by lookups that go on.
func TestSave(t *testing.T) {
	t.Parallel()
	dir, repo := t.TempDir(), newRepository(pack(0, full(0)))
	x := open(t, dir, repo)
	repo.publish(pack(1, delta(1, 0, 1)), pack(2, full(2)))
	wantPack(t, x, chunk(1), cas.AnyDepth, -1)
	repo.takeReads()
	for range 2 {
		if err := x.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wantReads(t, repo, 2)
	wantPack(t, x, chunk(1), cas.AnyDepth, 1)
	wantPack(t, x, chunk(2), cas.AnyDepth, 2)
	if got := x.Stats(); got.Packs != 3 || got.Chunks != 3 {
		t.Errorf("got %+v", got)
	}
	repo.kill(pack(0).ID)
	if err := x.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantPack(t, x, chunk(1), cas.AnyDepth, -1)
	clear(repo.dead)
	closeIndex(t, x)
	repo.takeReads()
	wantSame(t, open(t, dir, repo), inMemory(t, repo), 4)
	wantReads(t, repo, 3) // of inMemory
}

func TestSaveErrors(t *testing.T) {
	t.Parallel()
	dir, repo := t.TempDir(), newRepository(pack(0, full(0)))
	x := open(t, dir, repo)
	repo.listErr = errors.New("boom")
	if err := x.Save(t.Context()); !errors.Is(err, repo.listErr) {
		t.Errorf("got %v, want %v", err, repo.listErr)
	}
	repo.listErr = nil
	wantPack(t, x, chunk(0), cas.AnyDepth, 0)
	ctx, cancel := context.WithCancel(t.Context())
	repo.onRead = func(int) { cancel() }
	repo.publish(pack(1, full(1)))
	if err := x.Save(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	wantPack(t, x, chunk(0), cas.AnyDepth, 0)
	if err := x.Save(t.Context()); err != nil {
		t.Error(err)
	}
	wantPack(t, x, chunk(1), cas.AnyDepth, 1)
}

// A folder that takes no files any more is done without, with a word, and used
// again when it does.
func TestSaveFails(t *testing.T) {
	t.Parallel()
	dir, repo := t.TempDir(), newRepository(pack(0, full(0)))
	x := open(t, dir, repo)
	if err := os.RemoveAll(x.folder.dir); err != nil {
		t.Fatal(err)
	}
	writeFile(t, x.folder.dir, nil)
	for n := range uint32(3) {
		repo.publish(pack(n+1, full(uint64(n+1)), delta(uint64(n+11), uint64(n), 1)))
		repo.takeReads()
		if err := x.Save(t.Context()); err != nil {
			t.Error(err)
		}
		want := 1
		if n == 0 {
			want = 2 // the file has gone
		}
		wantReads(t, repo, want)
		wantSame(t, x, inMemory(t, repo), 20)
		wantProblems(t, x, "index files are not used: ")
		if got := x.Stats(); got.Packs != int(n)+2 || got.FileBytes != 0 {
			t.Errorf("got %+v, want %d packs and no file", got, n+2)
		}
	}
	if err := os.Remove(x.folder.dir); err != nil {
		t.Fatal(err)
	}
	repo.takeReads()
	if err := x.Save(t.Context()); err != nil {
		t.Error(err)
	}
	wantReads(t, repo, 0) // what was kept elsewhere is written
	wantProblems(t, x)
	wantSame(t, x, inMemory(t, repo), 20)
	if got := x.Stats(); got.Packs != 4 || got.FileBytes == 0 || len(x.overlay) != 0 {
		t.Errorf("got %+v and %d runs elsewhere, want a file", got, len(x.overlay))
	}
}

// Several indexes are open at once, and each writes what it finds.
func TestTwoOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	packs := manyPacks(somePacks, someFrames)
	repo := newRepository(packs[:6]...)
	first := open(t, dir, repo)
	before := inMemory(t, repo)
	repo.publish(packs[6:]...)
	repo.takeReads()

	second := open(t, dir, repo)
	wantReads(t, repo, 6)
	wantSame(t, second, inMemory(t, repo), someChunks)
	wantSame(t, first, before, someChunks) // although its file has been merged into another
	repo.takeReads()
	if err := first.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantReads(t, repo, 0)
	wantSame(t, first, inMemory(t, repo), someChunks)
	closeIndex(t, first)
	wantSame(t, second, inMemory(t, repo), someChunks)
	repo.takeReads()
	third := open(t, dir, repo)
	wantReads(t, repo, 0)
	wantSame(t, third, inMemory(t, repo), someChunks)
	for _, x := range []*Index{first, second, third} {
		wantProblems(t, x)
	}
}

// While another run writes, the index is used as it is; what it lacks is found
// all the same, and written when the other is done.
func TestOpenBusy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	packs := manyPacks(somePacks, someFrames)
	repo := newRepository(packs[:6]...)
	closeIndex(t, open(t, dir, repo))
	f := newIndex(dir, repo).folder
	held, err := f.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	repo.publish(packs[6:]...)
	repo.takeReads()
	x := open(t, dir, repo)
	wantReads(t, repo, 6)
	wantProblems(t, x)
	wantSame(t, x, inMemory(t, repo), someChunks)
	if got, want := x.Stats(), inMemory(t, repo).Stats(); got.Packs != want.Packs || got.Chunks != want.Chunks {
		t.Errorf("got %+v, want %+v", got, want)
	}
	repo.takeReads()
	if err := x.Save(t.Context()); err != nil {
		t.Error(err)
	}
	wantReads(t, repo, 0)
	wantSame(t, x, inMemory(t, repo), someChunks)
	if _, err := Rebuild(t.Context(), dir, repo); !errors.Is(err, errBusy) || len(hint.Of(err)) != 1 {
		t.Errorf("Rebuild: got %v, hints %q", err, hint.Of(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.lock(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	repo.takeReads()
	if err := x.Save(t.Context()); err != nil {
		t.Error(err)
	}
	closeIndex(t, x)
	closeIndex(t, open(t, dir, repo))
	wantReads(t, repo, 0)
}

// notifying is a context that tells when somebody begins to wait for its end.
type notifying struct {
	context.Context
	once    sync.Once
	waiting chan struct{}
}

func (n *notifying) Done() <-chan struct{} {
	n.once.Do(func() { close(n.waiting) })
	return n.Context.Done()
}

// Whoever has waited for the lock takes what the other has written meanwhile.
func TestOpenAfterOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repo := newRepository(manyPacks(6, someFrames)...)
	first := newIndex(dir, repo)
	held, err := first.folder.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second := newIndex(dir, repo)
	second.folder.tries = 1 << 30
	ctx := &notifying{Context: t.Context(), waiting: make(chan struct{})}
	saved := make(chan error)
	go func() { saved <- second.Save(ctx) }()
	<-ctx.waiting
	if err := first.refresh(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	wantReads(t, repo, 6)
	if err := errors.Join(held.Close(), <-saved); err != nil {
		t.Fatal(err)
	}
	wantReads(t, repo, 0)
	wantSame(t, second, inMemory(t, repo), someChunks)
	if paths := runPaths(t, dir, repo); len(paths) != 1 {
		t.Errorf("runs %q, want one", paths)
	}
	closeIndex(t, first)
	closeIndex(t, second)
}

// What is kept outside the folder may go bad too.
func TestOverlayGoesBad(t *testing.T) {
	t.Parallel()
	repo := newRepository(manyPacks(6, someFrames)...)
	x := newIndex(t.TempDir(), repo)
	defer closeIndex(t, x)
	x.folder.tries, x.batch = 1, 10
	held, err := x.folder.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(x.overlay) != 1 || len(x.files) != 0 {
		t.Fatalf("%d runs in the folder, %d elsewhere, want one elsewhere", len(x.files), len(x.overlay))
	}
	file, isFile := x.overlay[0].file.(*os.File)
	if !isFile {
		t.Fatalf("the run is in a %T", x.overlay[0].file)
	}
	if err := file.Truncate(0); err != nil {
		t.Fatal(err)
	}
	wantPack(t, x, chunk(0), cas.AnyDepth, -1)
	wantProblems(t, x, "cannot be read any more")
	for range 2 { // without the folder, and with it
		repo.takeReads()
		if err := x.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantProblems(t, x)
		wantSame(t, x, inMemory(t, repo), someChunks)
		if err := held.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Fatal(err)
		}
	}
	if len(x.overlay) != 0 || len(x.files) != 1 {
		t.Errorf("%d runs in the folder, %d elsewhere, want one in the folder", len(x.files), len(x.overlay))
	}
}

// TestHelperProcess is no test: it is another process with an open index.
func TestHelperProcess(t *testing.T) {
	dir := os.Getenv("SHARDSEED_INDEX_TEST_DIR")
	if dir == "" {
		return
	}
	x, err := Open(t.Context(), dir, newRepository(manyPacks(6, someFrames)...))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("open:", x.Stats().Packs, len(x.Problems()))
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	wantSame(t, x, inMemory(t, newRepository(manyPacks(6, someFrames)...)), 6*someFrames)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOtherProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repo := newRepository(manyPacks(6, someFrames)...)
	closeIndex(t, open(t, dir, repo))

	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$") //nolint:noctx // ended by its input below
	cmd.Env = append(os.Environ(), "SHARDSEED_INDEX_TEST_DIR="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "open: 6 0\n" {
		t.Errorf("the other process says %q, %v, %s", line, err, &stderr)
	}

	repo.publish(pack(100, full(5000)))
	x := open(t, dir, repo)
	wantPack(t, x, chunk(5000), cas.AnyDepth, 100)
	wantPack(t, x, chunk(0), cas.AnyDepth, 0)
	wantProblems(t, x)
	if _, err := stdin.Write([]byte("\n")); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the other process: %v, %s", err, &stderr)
	}
	closeIndex(t, x)
	repo.takeReads()
	closeIndex(t, open(t, dir, repo))
	wantReads(t, repo, 0)
}

// A folder that cannot be made leaves everything elsewhere.
func TestOpenUnwritable(t *testing.T) {
	t.Parallel()
	repo := newRepository(manyPacks(3, 9)...)
	blocked := filepath.Join(t.TempDir(), "file")
	writeFile(t, blocked, nil)
	for _, dir := range []string{blocked, filepath.Join(blocked, "below")} {
		x := open(t, dir, repo)
		wantProblems(t, x, "index files are not used: ")
		wantSame(t, x, inMemory(t, repo), 27)
		repo.takeReads()
		if err := x.Save(t.Context()); err != nil {
			t.Error(err)
		}
		wantReads(t, repo, 0)
		if _, err := Rebuild(t.Context(), dir, repo); err == nil {
			t.Error("Rebuild: want an error")
		}
	}
	dir := t.TempDir()
	inTheWay := filepath.Join(dir, repo.uuid.String(), "a"+runSuffix, "x")
	if err := os.MkdirAll(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	x := open(t, dir, repo) // a folder is no run, and cannot be removed like one
	wantProblems(t, x, "index files are not used: drop index file: ")
	wantSame(t, x, inMemory(t, repo), 27)
	closeIndex(t, x)
	if _, err := Rebuild(t.Context(), dir, repo); err == nil {
		t.Error("Rebuild over a folder: want an error")
	}
}

func TestRebuild(t *testing.T) {
	t.Parallel()
	dir, repo := t.TempDir(), newRepository(manyPacks(somePacks, someFrames)...)
	old := builtIndex(t, dir, repo)
	before := open(t, dir, repo)
	want := inMemory(t, repo)
	repo.remove(pack(2).ID)
	repo.failing[pack(3).ID] = errors.New("boom")
	repo.takeReads()
	x, err := Rebuild(t.Context(), dir, repo)
	if err != nil {
		t.Fatal(err)
	}
	wantReads(t, repo, somePacks-1)
	wantProblems(t, x, "boom")
	clear(repo.failing)
	wantPack(t, x, chunk(0), cas.AnyDepth, 0)
	wantSame(t, before, want, someChunks)
	if paths := runPaths(t, dir, repo); len(paths) != 1 || paths[0] == old {
		t.Errorf("runs %q, want another than %q", paths, old)
	}
	second := open(t, dir, repo)
	wantSame(t, second, inMemory(t, repo), someChunks)
	closeIndex(t, x)
	repo.listErr = errors.New("boom")
	if _, err := Rebuild(t.Context(), dir, repo); !errors.Is(err, repo.listErr) {
		t.Errorf("got %v, want %v", err, repo.listErr)
	}
}

func TestConcurrentLookups(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	packs := manyPacks(somePacks, someFrames)
	repo := newRepository(packs[:6]...)
	x := open(t, dir, repo)
	repo.publish(packs[6:]...)
	want := inMemory(t, repo)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := range uint64(someChunks) {
				if got, err := x.Lookup(chunk(n), cas.AnyDepth); err == nil && got[0].ID != chunk(n) {
					t.Errorf("chunk %d: got %+v", n, got)
				}
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			if err := x.Save(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantSame(t, x, want, someChunks)
}

// model is what a repository's chunks are, written down plainly.
type model struct{ repo *repository }

func (m model) Lookup(id cas.ID, below uint8) (cas.Chain, error) {
	var best cas.Chain
	for packID, p := range m.repo.packs {
		if _, dead := m.repo.dead[packID]; dead {
			continue
		}
		for _, f := range p.Frames {
			candidate := cas.Location{Pack: packID, Frame: f}
			if f.ID != id || f.Depth >= below {
				continue
			}
			var bases cas.Chain
			if f.Codec == cas.CodecDelta {
				var err error
				if bases, err = m.Lookup(f.Base, f.Depth); err != nil {
					continue
				}
			}
			if best == nil || compareLocations(candidate, best[0]) < 0 {
				best = append(cas.Chain{candidate}, bases...)
			}
		}
	}
	if best == nil {
		return nil, cas.ErrNotFound
	}
	return best, nil
}

// Random histories: packs appear, vanish, die and come back, indexes are
// opened, written and thrown away; what they find is what the model finds.
func TestModel(t *testing.T) {
	t.Parallel()
	base := fastDir(t)
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		const chunks = 12
		runs++
		dir := filepath.Join(base, fmt.Sprint(runs))
		repo := newRepository()
		var x *Index
		next := uint32(0)
		reopen := func() {
			var err error
			if x != nil {
				err = x.Close()
			}
			if err == nil {
				x, err = Open(context.Background(), dir, repo)
			}
			if err != nil || len(x.Problems()) != 0 {
				rt.Fatal(err, x.Problems())
			}
		}
		draw := func() *cas.Pack {
			var frames []cas.Frame
			for range rapid.IntRange(1, 6).Draw(rt, "frames") {
				n := rapid.Uint64Range(0, chunks-1).Draw(rt, "chunk")
				if depth := rapid.IntRange(0, 3).Draw(rt, "depth"); depth > 0 {
					frames = append(frames, delta(n, rapid.Uint64Range(0, chunks-1).Draw(rt, "base"), uint8(depth)))
				} else {
					frames = append(frames, full(n))
				}
			}
			next++
			return pack(next*7919%10007, frames...)
		}
		some := func() cas.ID {
			ids, _ := repo.PackIDs(context.Background())
			if len(ids) == 0 {
				rt.Skip("no packs")
			}
			return rapid.SampledFrom(ids).Draw(rt, "pack")
		}
		reopen()
		rt.Repeat(map[string]func(*rapid.T){
			"foreign pack": func(*rapid.T) { repo.publish(draw()); reopen() },
			"own pack": func(*rapid.T) {
				p := draw()
				repo.publish(p)
				if err := x.Save(context.Background()); err != nil {
					rt.Fatal(err)
				}
			},
			"vanish": func(*rapid.T) { repo.remove(some()); reopen() },
			"die":    func(*rapid.T) { repo.kill(some()); reopen() },
			"revive": func(*rapid.T) { clear(repo.dead); reopen() },
			"own packs, busy folder": func(*rapid.T) {
				held, err := x.folder.lock(context.Background())
				if err != nil {
					rt.Fatal(err)
				}
				repo.publish(draw(), draw())
				x.folder.tries = 1
				err = x.Save(context.Background())
				if err := errors.Join(err, held.Close()); err != nil {
					rt.Fatal(err)
				}
			},
			"damage": func(*rapid.T) {
				paths := runPaths(t, dir, repo)
				if len(paths) == 0 {
					rt.Skip("no runs")
				}
				path := rapid.SampledFrom(paths).Draw(rt, "run")
				data := readFile(t, path)
				data[rapid.IntRange(0, len(data)-1).Draw(rt, "byte")] ^= 0x10
				writeFile(t, path, data)
				for n := range uint64(chunks) { // what notices the damage
					_, _ = x.Lookup(chunk(n), cas.AnyDepth)
				}
				if err := x.Save(context.Background()); err != nil {
					rt.Fatal(err)
				}
				if len(x.Problems()) > 0 {
					rt.Fatal(x.Problems())
				}
			},
			"lose cache": func(*rapid.T) {
				if err := os.RemoveAll(dir); err != nil {
					rt.Fatal(err)
				}
				reopen()
			},
			"": func(*rapid.T) {
				for n := range uint64(chunks) {
					for below := range uint8(5) {
						got, gotErr := x.Lookup(chunk(n), below)
						want, wantErr := model{repo}.Lookup(chunk(n), below)
						if !slices.Equal(got, want) || (gotErr == nil) != (wantErr == nil) {
							rt.Fatalf("chunk %d below %d: got %+v, %v, want %+v, %v", n, below, got, gotErr, want, wantErr)
						}
					}
				}
			},
		})
		if err := x.Close(); err != nil {
			rt.Fatal(err)
		}
	})
}

// HasPacks knows packs from the file and those outside it, and no dead ones.
func TestHasPacks(t *testing.T) {
	dir := fastDir(t)
	repo := newRepository(pack(1, full(1)), pack(2, full(2)), pack(3, full(3)))
	repo.kill(pack(3).ID)
	x := open(t, dir, repo)
	held, err := x.folder.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	repo.publish(pack(4, full(4)))
	if err := errors.Join(x.Save(t.Context()), held.Close()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		packs []uint32
		want  bool
	}{{nil, true}, {[]uint32{1}, true}, {[]uint32{2, 1, 4}, true}, {[]uint32{1, 3}, false}, {[]uint32{5}, false}} {
		var ids []cas.ID
		for _, n := range test.packs {
			ids = append(ids, pack(n).ID)
		}
		if got := x.HasPacks(ids); got != test.want {
			t.Errorf("packs %v: got %v, want %v", test.packs, got, test.want)
		}
	}
}
