package walk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/cas/mem"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/walk"
)

const chunkSize = cas.MinChunkSize

// site is a repository in memory with one open session.
type site struct {
	backend *mem.Backend
	repo    *cas.Repository
	w       *cas.Writer
	rng     *rand.ChaCha8
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{backend: new(mem.Backend), rng: rand.NewChaCha8([32]byte{1})}
	var err error
	s.repo, err = cas.Create(t.Context(), s.backend, cas.Config{ChunkSize: chunkSize}, s.rng, func() time.Time { return time.Unix(0, 0) })
	if err != nil {
		t.Fatal(err)
	}
	session, err := s.repo.Begin(t.Context(), "k/0/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	s.w = session.NewWriter(cas.WriterOptions{})
	t.Cleanup(func() {
		if err := s.w.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// chunk stores a chunk of so many random bytes.
func (s *site) chunk(t *testing.T, size int) cas.ID {
	t.Helper()
	plain := make([]byte, size)
	_, _ = s.rng.Read(plain)
	id := cas.Sum(plain)
	if _, err := s.w.Put(t.Context(), cas.KindData, id, plain); err != nil {
		t.Fatal(err)
	}
	return id
}

func (s *site) leaf(t *testing.T, ids ...cas.ID) cas.ID {
	t.Helper()
	id, _, err := s.w.PutLeaf(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (s *site) root(t *testing.T, leaves ...cas.ID) cas.ID {
	t.Helper()
	id, _, err := s.w.PutRoot(t.Context(), leaves)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// backup stores the list of files, and returns what a record says of it and a
// reader of all.
func (s *site) backup(t *testing.T, files ...manifest.File) (*manifest.Manifest, *cas.Reader) {
	t.Helper()
	var list bytes.Buffer
	if err := manifest.WriteFiles(&list, files); err != nil {
		t.Fatal(err)
	}
	var ids []cas.ID
	for part := range slices.Chunk(list.Bytes(), chunkSize) {
		id := cas.Sum(part)
		if _, err := s.w.Put(t.Context(), cas.KindMeta, id, part); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	root := s.root(t, s.leaf(t, ids...))
	if err := s.w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	reader := s.repo.NewReader(castest.NewIndex(t, s.repo))
	t.Cleanup(func() {
		if err := reader.Close(); err != nil {
			t.Error(err)
		}
	})
	return &manifest.Manifest{Files: manifest.FileList{Count: int64(len(files)), Size: int64(list.Len()), ChunkSize: chunkSize, Root: root}}, reader
}

func file(path string, size int64, recipe cas.ID) manifest.File {
	return manifest.File{Root: "datadir", Path: manifest.Path(path), Kind: manifest.KindFile, Size: size, ChunkSize: chunkSize, Recipe: recipe}
}

// log is a visitor that writes down what it is told, but the list of files.
type log struct {
	lines []string
	once  map[cas.ID]bool // nil: see all
	lost  []string
	err   error
}

func (l *log) line(p walk.Piece) string {
	name := "list"
	if p.File != nil {
		name = string(p.File.Path)
	}
	return fmt.Sprintf("%s %d %s %d bytes: %d+%d", name, p.Kind, p.ID.Short(), p.Size, p.Offset, p.Length)
}

func (l *log) Visit(p walk.Piece) (bool, error) {
	if p.File != nil {
		l.lines = append(l.lines, l.line(p))
	}
	if l.once == nil {
		return true, l.err
	}
	seen := l.once[p.ID]
	l.once[p.ID] = true
	return !seen, l.err
}

func (l *log) Lost(p walk.Piece, err error) error {
	l.lost = append(l.lost, l.line(p))
	if !errors.Is(err, cas.ErrNotFound) {
		return err
	}
	return l.err
}

func TestBackup(t *testing.T) {
	s := newSite(t)
	a, b, c := s.chunk(t, chunkSize), s.chunk(t, chunkSize), s.chunk(t, 7)
	leaf := s.leaf(t, a, cas.ID{}, b, c)
	m, reader := s.backup(t,
		manifest.File{Root: "datadir", Path: "dir", Kind: manifest.KindDir},
		file("empty", 0, cas.ID{}), file("four", 3*chunkSize+7, leaf), file("one", chunkSize, a), file("short", 7, c), file("zeros", 9<<30, cas.ID{}),
		manifest.File{Root: "datadir", Path: "link", Kind: manifest.KindSymlink, Target: "dir"},
	)
	var l log
	if err := walk.Backup(t.Context(), reader, m, &l); err != nil {
		t.Fatal(err)
	}
	want := []string{
		fmt.Sprintf("four 1 %s %d bytes: 0+%d", leaf.Short(), cas.NodeSize(4), 3*chunkSize+7),
		fmt.Sprintf("four 2 %s 4096 bytes: 0+4096", a.Short()),
		fmt.Sprintf("four 2 %s 4096 bytes: 8192+4096", b.Short()),
		fmt.Sprintf("four 2 %s 7 bytes: 12288+7", c.Short()),
		fmt.Sprintf("one 2 %s 4096 bytes: 0+4096", a.Short()),
		fmt.Sprintf("short 2 %s 7 bytes: 0+7", c.Short()),
	}
	if diff := cmp.Diff(want, l.lines); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(l.lost) != 0 {
		t.Errorf("lost: %v", l.lost)
	}
}

// A tree of three levels: 1,024 leaves and one more, most of them the same.
func TestTallTree(t *testing.T) {
	s := newSite(t)
	a, b := s.chunk(t, chunkSize), s.chunk(t, 5)
	ids := slices.Repeat([]cas.ID{a}, cas.NodeFanout)
	leaf := s.leaf(t, ids...)
	const span int64 = cas.NodeFanout * chunkSize
	const size = cas.NodeFanout*span + chunkSize + 5
	leaves := append(slices.Repeat([]cas.ID{leaf}, cas.NodeFanout), s.leaf(t, a, b))
	leaves[7] = cas.ID{}
	root := s.root(t, leaves...)
	m, reader := s.backup(t, file("tall", size, root))
	l := log{once: map[cas.ID]bool{}}
	if err := walk.Backup(t.Context(), reader, m, &l); err != nil {
		t.Fatal(err)
	}
	if got, want := len(l.lines), 1+1+1023+cas.NodeFanout+1+2; got != want {
		t.Errorf("%d visits, want %d", got, want)
	}
	last := fmt.Sprintf("tall 2 %s 5 bytes: %d+5", b.Short(), size-5)
	if got := l.lines[len(l.lines)-1]; got != last {
		t.Errorf("last: got %q, want %q", got, last)
	}
	if got, want := l.lines[0], fmt.Sprintf("tall 1 %s %d bytes: 0+%d", root.Short(), cas.NodeSize(2), size); got != want {
		t.Errorf("first: got %q, want %q", got, want)
	}
	all, err := reader.LeafIDs(t.Context(), root, size, chunkSize)
	if err != nil || !slices.Equal(all, leaves) {
		t.Errorf("the reader has other leaves: %v", err)
	}
}

// What cannot be read is told with what hangs on it, and the walk goes on.
func TestLost(t *testing.T) {
	s := newSite(t)
	a, b := s.chunk(t, chunkSize), s.chunk(t, chunkSize)
	leaf := s.leaf(t, a, b)
	m, reader := s.backup(t, file("bad", 2*chunkSize, cas.ID{1}), file("good", 2*chunkSize, leaf), file("huge", 1<<62, cas.ID{2}))
	var l log
	err := walk.Backup(t.Context(), reader, m, &l)
	if err == nil || len(l.lost) != 2 || l.lost[0] != "bad 1 01000000 72 bytes: 0+8192" || len(l.lines) != 4 {
		t.Errorf("got %v, lost %q, visited %q; want bad and huge lost", err, l.lost, l.lines)
	}
	m.Files.Root = cas.ID{3}
	l = log{}
	if err := walk.Backup(t.Context(), reader, m, &l); err != nil || !slices.Equal(l.lost, []string{fmt.Sprintf("list 0 03000000 0 bytes: 0+%d", m.Files.Size)}) {
		t.Errorf("got %v, lost %q, want the list lost", err, l.lost)
	}
	l = log{err: errors.New("enough")}
	if err := walk.Backup(t.Context(), reader, m, &l); !errors.Is(err, l.err) {
		t.Errorf("got %v, want the visitor's error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l = log{}
	if err := walk.Backup(ctx, reader, m, &l); !errors.Is(err, context.Canceled) || len(l.lost) != 0 {
		t.Errorf("got %v, lost %q, want canceled", err, l.lost)
	}
}
