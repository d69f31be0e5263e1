package index_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/mem"
	"github.com/shardseed/shardseed/index"
)

// site is a repository in memory and a folder for its index.
type site struct {
	testing.TB
	backend *mem.Backend
	repo    *cas.Repository
	dir     string
	rng     *rand.ChaCha8
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{TB: t, backend: new(mem.Backend), dir: t.TempDir(), rng: rand.NewChaCha8([32]byte{7})}
	now := func() time.Time { return time.Unix(0, 0) }
	repo, err := cas.Create(t.Context(), s.backend, cas.Config{}, s.rng, now)
	if err != nil {
		t.Fatal(err)
	}
	s.repo = repo
	return s
}

// random returns a chunk that does not compress.
func (s *site) random() []byte {
	plain := make([]byte, cas.DefaultChunkSize)
	_, _ = s.rng.Read(plain)
	return plain
}

// changed returns plain with a few other bytes.
func changed(plain []byte, n int) []byte {
	out := bytes.Clone(plain)
	out[n]++
	return out
}

// backup runs one backup with an index, as mysqlbackup does.
func (s *site) backup(key cas.Key, store func(w *cas.Writer)) *cas.Writer {
	s.Helper()
	session, err := s.repo.Begin(s.Context(), key, nil)
	if err != nil {
		s.Fatal(err)
	}
	x, err := index.Open(s.Context(), s.dir, s.repo)
	if err != nil {
		s.Fatal(err)
	}
	w := session.NewWriter(cas.WriterOptions{Known: x, Learn: x.Save})
	store(w)
	if err := session.Commit(s.Context(), w, []byte("record")); err != nil {
		s.Fatal(err)
	}
	if err := errors.Join(x.Save(s.Context()), w.Close(), x.Close()); err != nil {
		s.Fatal(err)
	}
	if problems := x.Problems(); len(problems) != 0 {
		s.Error(problems)
	}
	return w
}

func (s *site) put(w *cas.Writer, plain []byte, wantNew bool) {
	s.Helper()
	got, err := w.Put(s.Context(), cas.KindData, cas.Sum(plain), plain)
	if err != nil || got.New != wantNew {
		s.Errorf("got %+v, %v, want new %v", got, err, wantNew)
	}
}

func (s *site) putDelta(w *cas.Writer, plain, base []byte) {
	s.Helper()
	got, err := w.PutAll(s.Context(), cas.KindData, []cas.Chunk{{ID: cas.Sum(plain), Plain: plain, Like: cas.Sum(base)}})
	if err != nil || !got[0].New || got[0].Stored > 1000 {
		s.Errorf("got %+v, %v, want a small delta", got, err)
	}
}

// wantReadable reads every chunk through a locator.
func (s *site) wantReadable(l cas.Locator, chunks ...[]byte) {
	s.Helper()
	reader := s.repo.NewReader(l)
	for i, plain := range chunks {
		got, err := reader.Chunk(s.Context(), cas.Sum(plain), len(plain))
		if err != nil || !bytes.Equal(got, plain) {
			s.Errorf("chunk %d: %v", i, err)
		}
	}
	if err := reader.Close(); err != nil {
		s.Error(err)
	}
}

// Backups deduplicate against each other through the index, deltas stand on
// chunks of earlier backups, and a restore finds it all from the packs that a
// backup relies on. A damaged pack takes what stands on it away.
func TestRealRepository(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.random(), s.random()
	a2, a3 := changed(a, 5), changed(changed(a, 5), 6)
	first := s.backup("commerce/0/2026-08-01.000000.zone1-0000000101", func(w *cas.Writer) {
		s.put(w, a, true)
		s.put(w, b, true)
	})
	second := s.backup("commerce/0/2026-08-02.000000.zone1-0000000101", func(w *cas.Writer) {
		s.put(w, a, false)
		s.putDelta(w, a2, a)
	})
	third := s.backup("commerce/0/2026-08-03.000000.zone1-0000000101", func(w *cas.Writer) {
		s.put(w, a2, false)
		s.putDelta(w, a3, a2)
		s.put(w, b, false)
	})
	if got := len(third.Relied()); got != 3 {
		t.Errorf("the third backup relies on %d packs, want 3", got)
	}
	m, err := index.OfPacks(t.Context(), "", s.repo, third.Relied())
	if err != nil {
		t.Fatal(err)
	}
	s.wantReadable(m, a, b, a2, a3)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}

	damaged := second.Packs()[0].ID
	if err := s.backend.Put(t.Context(), "damaged/"+damaged.String(), nil); err != nil {
		t.Fatal(err)
	}
	x, err := index.Open(t.Context(), s.dir, s.repo)
	if err != nil {
		t.Fatal(err)
	}
	s.wantReadable(x, a, b)
	for _, gone := range [][]byte{a2, a3} {
		if got, err := x.Lookup(cas.Sum(gone), cas.AnyDepth); !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("a chunk on a damaged pack: got %+v, %v", got, err)
		}
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	s.backup("commerce/0/2026-08-04.000000.zone1-0000000101", func(w *cas.Writer) { s.put(w, a2, true) })
	s.backend.Drop("packs/" + damaged.String()[:2] + "/" + damaged.String())
	x, err = index.Rebuild(t.Context(), s.dir, s.repo)
	if err != nil {
		t.Fatal(err)
	}
	s.wantReadable(x, a, b, a2)
	if ids := first.Packs(); !slices.ContainsFunc(ids, func(p *cas.Pack) bool { c, _ := x.Lookup(cas.Sum(a), 1); return c[0].Pack == p.ID }) {
		t.Error("the first chunk is not found in the first backup's pack")
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
}
