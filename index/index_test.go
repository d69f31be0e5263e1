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

	"golang.org/x/sys/unix"
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
	if len(x.file.packs) != 4 {
		t.Errorf("the file lists %d packs, want 4", len(x.file.packs))
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

// When the context ends in the middle, the file stays good.
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

// Packs that were added are found at once, and are in the file after Save.
func TestAddSave(t *testing.T) {
	t.Parallel()
	dir, repo := t.TempDir(), newRepository(pack(0, full(0)))
	x := open(t, dir, repo)
	added := []*cas.Pack{pack(1, delta(1, 0, 1)), pack(2, full(2))}
	repo.publish(added...)
	if err := x.Add(added); err != nil {
		t.Fatal(err)
	}
	wantPack(t, x, chunk(1), cas.AnyDepth, 1)
	wantPack(t, x, chunk(2), cas.AnyDepth, 2)
	if got := x.Stats(); got.Packs != 3 || got.Chunks != 3 {
		t.Errorf("before Save: got %+v", got)
	}
	if err := x.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantPack(t, x, chunk(1), cas.AnyDepth, 1)
	if got := x.Stats(); got.Packs != 3 || got.Chunks != 3 {
		t.Errorf("after Save: got %+v", got)
	}
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
	closeIndex(t, x)
	repo.publish(pack(1, full(1)))
	closed := x.Save(t.Context()) // nothing to save to
	if closed != nil {
		t.Error(closed)
	}
}

// A file that cannot be written any more is given up, with a word.
func TestSaveFails(t *testing.T) {
	t.Parallel()
	dir, repo := t.TempDir(), newRepository(pack(0, full(0)))
	x := open(t, dir, repo)
	own := pack(1, full(1))
	repo.publish(own)
	if err := errors.Join(x.Add([]*cas.Pack{own}), x.seal.close()); err != nil {
		t.Fatal(err)
	}
	if err := x.Save(t.Context()); err != nil {
		t.Error(err)
	}
	wantPack(t, x, chunk(0), cas.AnyDepth, -1)
	wantPack(t, x, chunk(1), cas.AnyDepth, 1)
	wantProblems(t, x, "index file is not used: lock ")
	if err := x.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v, want %v", err, os.ErrClosed)
	}
	wantSame(t, open(t, dir, repo), inMemory(t, repo), 2)
}

// While one index is open, another is not kept waiting, and finds everything.
func TestTwoOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	packs := manyPacks(somePacks, someFrames)
	repo := newRepository(packs[:6]...)
	first := open(t, dir, repo)
	repo.publish(packs[6:]...)
	repo.takeReads()

	second := open(t, dir, repo)
	wantReads(t, repo, 6)
	wantSame(t, second, inMemory(t, repo), someChunks)
	if got, want := second.Stats(), inMemory(t, repo).Stats(); got.Packs != want.Packs || got.Chunks != want.Chunks {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := second.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSame(t, second, inMemory(t, repo), someChunks)
	if n := len(second.file.packs); n != 6 {
		t.Errorf("the file in use was written: %d packs", n)
	}
	closeIndex(t, first)

	if err := second.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSame(t, second, inMemory(t, repo), someChunks)
	closeIndex(t, second)
	repo.takeReads()
	third := open(t, dir, repo)
	wantReads(t, repo, 0)
	wantSame(t, third, inMemory(t, repo), someChunks)
	for _, x := range []*Index{first, second, third} {
		wantProblems(t, x)
	}
}

// An index that is being written is not waited for.
func TestOpenBusy(t *testing.T) {
	t.Parallel()
	dir, repo := t.TempDir(), newRepository(manyPacks(3, 9)...)
	closeIndex(t, open(t, dir, repo))
	s, err := openSeal(filepath.Join(dir, repo.uuid.String()+".seal"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.lock(unix.F_WRLCK); err != nil {
		t.Fatal(err)
	}
	x := open(t, dir, repo)
	wantProblems(t, x, "index file is not used: index file is in use by another run")
	wantSame(t, x, inMemory(t, repo), 27)
	if _, err := Rebuild(t.Context(), dir, repo); !errors.Is(err, errBusy) || len(hint.Of(err)) != 1 {
		t.Errorf("Rebuild: got %v, hints %q", err, hint.Of(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.lockSoon(ctx, unix.F_WRLCK); err != nil {
		t.Errorf("the lock that is held: %v", err)
	}
	other, err := openSeal(filepath.Join(dir, repo.uuid.String()+".seal"))
	if err != nil {
		t.Fatal(err)
	}
	if err := other.lockSoon(ctx, unix.F_RDLCK); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if err := errors.Join(other.close(), s.close()); err != nil {
		t.Fatal(err)
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
	if len(x.file.packs) != 6 {
		t.Errorf("the file in use lists %d packs, want 6", len(x.file.packs))
	}
	wantProblems(t, x)
	if _, err := stdin.Write([]byte("\n")); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the other process: %v, %s", err, &stderr)
	}
	if err := x.Save(t.Context()); err != nil || len(x.file.packs) != 7 {
		t.Errorf("after it has ended: %d packs in the file, %v", len(x.file.packs), err)
	}
}

// A folder that cannot be made, and a database that cannot be written, leave
// everything in memory.
func TestOpenUnwritable(t *testing.T) {
	t.Parallel()
	repo := newRepository(manyPacks(3, 9)...)
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{blocked, filepath.Join(blocked, "below")} {
		x := open(t, dir, repo)
		wantProblems(t, x, "index file is not used: ")
		wantSame(t, x, inMemory(t, repo), 27)
		if err := x.Save(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := Rebuild(t.Context(), dir, repo); err == nil {
			t.Error("Rebuild: want an error")
		}
	}
	dir := t.TempDir()
	inTheWay := filepath.Join(dir, repo.uuid.String()+".db", "x")
	if err := os.MkdirAll(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	x := open(t, dir, repo)
	wantProblems(t, x, "index file is not used: ")
	wantSame(t, x, inMemory(t, repo), 27)
	closeIndex(t, x)
	if _, err := Rebuild(t.Context(), dir, repo); err == nil {
		t.Error("Rebuild over a folder: want an error")
	}
}

func TestRebuild(t *testing.T) {
	t.Parallel()
	dir, repo := t.TempDir(), newRepository(manyPacks(somePacks, someFrames)...)
	x := open(t, dir, repo)
	if _, err := Rebuild(t.Context(), dir, repo); !errors.Is(err, errBusy) {
		t.Errorf("in use: got %v", err)
	}
	closeIndex(t, x)
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
	second := open(t, dir, repo) // the lock is shared by then
	wantSame(t, second, inMemory(t, repo), someChunks)
	closeIndex(t, x)
	repo.listErr = errors.New("boom")
	closeIndex(t, second)
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
	for _, p := range packs[6:] {
		if err := x.Add([]*cas.Pack{p}); err != nil {
			t.Error(err)
		}
	}
	if err := x.Save(t.Context()); err != nil {
		t.Error(err)
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
				if err := x.Add([]*cas.Pack{p}); err != nil {
					rt.Fatal(err)
				}
			},
			"vanish": func(*rapid.T) { repo.remove(some()); reopen() },
			"die":    func(*rapid.T) { repo.kill(some()); reopen() },
			"revive": func(*rapid.T) { clear(repo.dead); reopen() },
			"save": func(*rapid.T) {
				if err := x.Save(context.Background()); err != nil {
					rt.Fatal(err)
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

// HasPacks knows packs from the file and those that were added, and no dead ones.
func TestHasPacks(t *testing.T) {
	dir := fastDir(t)
	repo := newRepository(pack(1, full(1)), pack(2, full(2)), pack(3, full(3)))
	repo.kill(pack(3).ID)
	x := open(t, dir, repo)
	if err := x.Add([]*cas.Pack{pack(4, full(4))}); err != nil {
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
