package cas_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/sync/errgroup"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
)

// frames returns the frames of all packs that w has sealed.
func frames(w *cas.Writer) []cas.Frame {
	var all []cas.Frame
	for _, pack := range w.Packs() {
		all = append(all, pack.Frames...)
	}
	return all
}

func flush(t *testing.T, w *cas.Writer) {
	t.Helper()
	if err := w.Flush(t.Context()); err != nil {
		t.Fatalf("flush: %v", err)
	}
}

func TestPut(t *testing.T) {
	repo, _ := newRepo(t)
	w := newWriter(t, begin(t, repo, key), cas.WriterOptions{})
	text := bytes.Repeat([]byte("text "), 1000)
	for _, test := range []struct {
		name   string
		kind   cas.Kind
		plain  []byte
		isNew  bool
		stored func(int64) bool
	}{
		{"noise", cas.KindData, noise(1, 1000), true, func(n int64) bool { return n == 1000+cas.FrameOverhead }},
		{"noise again", cas.KindData, noise(1, 1000), false, func(n int64) bool { return n == 0 }},
		{"as metadata", cas.KindMeta, noise(1, 1000), false, func(n int64) bool { return n == 0 }},
		{"text", cas.KindMeta, text, true, func(n int64) bool { return n > cas.FrameOverhead && n < 200 }},
		{"one byte", cas.KindData, []byte{1}, true, func(n int64) bool { return n == 1+cas.FrameOverhead }},
	} {
		put, err := w.Put(t.Context(), test.kind, cas.Sum(test.plain), test.plain)
		if err != nil || put.New != test.isNew || !test.stored(put.Stored) {
			t.Errorf("%s: got %+v, %v", test.name, put, err)
		}
	}
	if put, err := w.Put(t.Context(), cas.KindData, cas.ID{}, make([]byte, 100)); err != nil || put != (cas.Put{}) {
		t.Errorf("zero ID: got %+v, %v", put, err)
	}
	if got := w.Packs(); len(got) != 0 {
		t.Errorf("%d packs are sealed before the flush", len(got))
	}
	flush(t, w)
	flush(t, w)
	if got := len(frames(w)); got != 3 {
		t.Errorf("%d frames, want 3", got)
	}
	kinds := map[cas.Kind]int{}
	for _, pack := range w.Packs() {
		kinds[pack.Kind]++
		read, err := repo.Pack(t.Context(), pack.ID)
		if err != nil || !slices.Equal(read.Frames, pack.Frames) || read.Kind != pack.Kind || read.Size != pack.Size {
			t.Errorf("pack %s: got %+v, %v, want %+v", pack.ID.Short(), read, err, pack)
		}
	}
	if kinds[cas.KindData] != 1 || kinds[cas.KindMeta] != 1 {
		t.Errorf("packs by kind: %v, want one each", kinds)
	}
}

func TestPutRefuses(t *testing.T) {
	repo, _ := newRepo(t)
	for name, put := range map[string]func(*cas.Writer) (cas.Put, error){
		"nothing": func(w *cas.Writer) (cas.Put, error) { return w.Put(t.Context(), cas.KindData, cas.ID{1}, nil) },
		"too much": func(w *cas.Writer) (cas.Put, error) {
			return w.Put(t.Context(), cas.KindData, cas.ID{1}, make([]byte, cas.MaxPlainSize+1))
		},
		"unknown kind": func(w *cas.Writer) (cas.Put, error) { return w.Put(t.Context(), 3, cas.ID{1}, []byte("x")) },
		"wrong base": func(w *cas.Writer) (cas.Put, error) {
			return w.PutDelta(t.Context(), cas.KindData, cas.ID{1}, []byte("x"), cas.ID{2}, []byte("y"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWriter(t, begin(t, repo, cas.Key("ks/s/"+strings.ReplaceAll(name, " ", "-"))), cas.WriterOptions{})
			if got, err := put(w); err == nil {
				t.Errorf("got %+v, want an error", got)
			}
			if _, err := w.Put(t.Context(), cas.KindData, cas.Sum([]byte("good")), []byte("good")); err == nil {
				t.Error("the error did not stick")
			}
		})
	}
}

func TestClosedWriter(t *testing.T) {
	repo, backend := newRepo(t)
	session := begin(t, repo, key)
	w := session.NewWriter(cas.WriterOptions{})
	putOne(t, w, []byte("lost"))
	for range 2 {
		if err := w.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := w.Put(t.Context(), cas.KindData, cas.ID{1}, []byte("x")); err == nil {
		t.Error("put: no error")
	}
	if err := w.Flush(t.Context()); err == nil {
		t.Error("flush: no error")
	}
	if err := session.Commit(t.Context(), w, nil); err == nil {
		t.Error("commit: no error")
	}
	checkKeys(t, repo)
	for _, name := range backend.Names() {
		if strings.HasPrefix(name, "packs/") {
			t.Errorf("left %s", name)
		}
	}
}

func TestKnownChunksAreNotStored(t *testing.T) {
	repo, _ := newRepo(t)
	first := commit(t, repo, "ks/-80/1", cas.WriterOptions{}, noise(1, 100), noise(2, 100))
	known := castest.NewIndex(t, repo)
	second := commit(t, repo, "ks/-80/2", cas.WriterOptions{Known: known}, noise(1, 100), noise(3, 100), noise(2, 100))
	if got := frames(second); len(got) != 1 || got[0].ID != cas.Sum(noise(3, 100)) {
		t.Errorf("stored %v, want the third chunk", got)
	}
	want := []cas.ID{first.Packs()[0].ID, second.Packs()[0].ID}
	slices.SortFunc(want, cas.ID.Compare)
	if got := second.Relied(); !slices.Equal(got, want) {
		t.Errorf("relied: got %v, want %v", got, want)
	}
}

// brokenIndex fails, or gives answers that cannot be.
type brokenIndex struct {
	loc cas.Location
	err error
}

func (x brokenIndex) Lookup(cas.ID, uint8) (cas.Location, error) { return x.loc, x.err }

func TestBrokenIndex(t *testing.T) {
	repo, _ := newRepo(t)
	plain := noise(1, 100)
	delta := cas.Frame{ID: cas.Sum(plain), PlainSize: 100, Codec: cas.CodecDelta, Depth: 3, Base: cas.ID{1}}
	for n, loc := range []cas.Location{
		{Frame: cas.Frame{PlainSize: 101}},
		{Frame: cas.Frame{PlainSize: 100, Depth: cas.AnyDepth}},
		{Frame: delta}, // its base is itself, at the same depth
	} {
		w := commit(t, repo, cas.Key(fmt.Sprint("ks/-80/", n)), cas.WriterOptions{Known: brokenIndex{loc: loc}}, plain)
		if len(frames(w)) != 1 {
			t.Errorf("%+v: chunk was not stored", loc)
		}
	}
	w := newWriter(t, begin(t, repo, key), cas.WriterOptions{Known: brokenIndex{err: errors.New("index is on fire")}})
	if _, err := w.Put(t.Context(), cas.KindData, cas.Sum(plain), plain); err == nil {
		t.Error("no error")
	}
}

// TestConcurrentPuts has many goroutines store overlapping chunks: each chunk
// is stored once, and one caller is told that it was new.
func TestConcurrentPuts(t *testing.T) {
	repo, _ := newRepo(t)
	session := begin(t, repo, key)
	w := newWriter(t, session, cas.WriterOptions{})
	w.SetPackTarget(100 << 10)
	const writers, chunks = 8, 300
	var isNew, stored atomic.Int64
	group, ctx := errgroup.WithContext(t.Context())
	for writer := range writers {
		group.Go(func() error {
			for n := range chunks {
				plain := noise(uint64((n+writer*7)%chunks), 4096)
				put, err := w.Put(ctx, cas.KindData, cas.Sum(plain), plain)
				if err != nil {
					return err
				}
				stored.Add(put.Stored)
				if put.New {
					isNew.Add(1)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatalf("put: %v", err)
	}
	if err := session.Commit(t.Context(), w, nil); err != nil {
		t.Fatalf("commit: %v", err)
	}
	seen := map[cas.ID]int{}
	for _, f := range frames(w) {
		seen[f.ID]++
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("chunk %s is stored %d times", id.Short(), times)
		}
	}
	if len(seen) != chunks || isNew.Load() != chunks || stored.Load() != chunks*(4096+cas.FrameOverhead) {
		t.Errorf("%d chunks, %d new, %d bytes stored, want %d chunks", len(seen), isNew.Load(), stored.Load(), chunks)
	}
	if got := len(w.Packs()); got < chunks*4096/(110<<10) {
		t.Errorf("%d packs, want more: none may pass its target by more than a frame", got)
	}
	for _, pack := range w.Packs() {
		if pack.Size > 120<<10 {
			t.Errorf("pack of %d bytes, want about %d", pack.Size, 100<<10)
		}
	}
}

// gate is a backend whose Stage waits.
type gate struct {
	cas.Backend
	entered, leave chan struct{}
}

func (g gate) Stage(ctx context.Context) (cas.Blob, error) {
	close(g.entered)
	<-g.leave
	return nil, castest.ErrInjected
}

// TestSecondPutSharesTheFailure puts a chunk while the same chunk is on its way
// into a pack and fails: neither call may succeed.
func TestSecondPutSharesTheFailure(t *testing.T) { synctest.Test(t, testSecondPut) }

func testSecondPut(t *testing.T) {
	_, backend := newRepo(t)
	g := gate{backend, make(chan struct{}), make(chan struct{})}
	repo, err := cas.Open(t.Context(), g)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	w := newWriter(t, begin(t, repo, key), cas.WriterOptions{})
	plain := noise(1, 100)
	var group sync.WaitGroup
	put := func(ctx context.Context, want error) {
		if got, err := w.Put(ctx, cas.KindData, cas.Sum(plain), plain); !errors.Is(err, want) {
			t.Errorf("got %+v, %v, want %v", got, err, want)
		}
	}
	group.Go(func() { put(t.Context(), castest.ErrInjected) })
	<-g.entered
	group.Go(func() { put(t.Context(), castest.ErrInjected) })
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	put(canceled, context.Canceled) // gives up waiting
	synctest.Wait()                 // now the second call waits for the first
	close(g.leave)
	group.Wait()
	put(t.Context(), castest.ErrInjected)
}

func TestCanceledPut(t *testing.T) {
	repo, _ := newRepo(t)
	session := begin(t, repo, key)
	w := newWriter(t, session, cas.WriterOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Put(ctx, cas.KindData, cas.ID{1}, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("put: got %v, want context.Canceled", err)
	}
	if err := session.Commit(t.Context(), w, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("commit: got %v, want context.Canceled", err)
	}
}

// chain stores versions of a page, each as a delta of the one before where it
// can be, and returns their IDs.
func chain(t *testing.T, w *cas.Writer, versions int) [][]byte {
	t.Helper()
	page := noise(99, 8192)
	putOne(t, w, page)
	pages := [][]byte{bytes.Clone(page)}
	for n := 1; n < versions; n++ {
		before := pages[n-1]
		page[n*10]++
		if _, err := w.PutDelta(t.Context(), cas.KindData, cas.Sum(page), page, cas.Sum(before), before); err != nil {
			t.Fatalf("put delta: %v", err)
		}
		pages = append(pages, bytes.Clone(page))
	}
	return pages
}

func TestPutDelta(t *testing.T) {
	repo, _ := newRepo(t)
	session := begin(t, repo, key)
	w := newWriter(t, session, cas.WriterOptions{})
	pages := chain(t, w, 12)
	if err := session.Commit(t.Context(), w, nil); err != nil {
		t.Fatalf("commit: %v", err)
	}
	for n, f := range frames(w) {
		want := uint8(n % (cas.MaxDepth + 1)) // a base too deep makes the next chunk stand alone
		if f.Depth != want || (f.Codec == cas.CodecDelta) != (want > 0) {
			t.Errorf("version %d: got %s of depth %d, want depth %d", n, f.Codec, f.Depth, want)
		}
		if f.Codec == cas.CodecDelta && (f.StoredSize > 100 || f.Base != cas.Sum(pages[n-1])) {
			t.Errorf("version %d: %d bytes on base %s", n, f.StoredSize, f.Base.Short())
		}
	}
	reader := repo.NewReader(castest.NewIndex(t, repo))
	for n, page := range pages {
		got, err := reader.Chunk(t.Context(), cas.Sum(page), len(page))
		if err != nil || !bytes.Equal(got, page) {
			t.Errorf("version %d: %v", n, err)
		}
	}
	if err := reader.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestDeltaAcrossSessions makes deltas of chunks of earlier backups: their
// packs, down to the end of the chain, are relied on.
func TestDeltaAcrossSessions(t *testing.T) {
	repo, backend := newRepo(t)
	page := noise(99, 8192)
	var relied []cas.ID
	for n := range 4 {
		session := begin(t, repo, cas.Key(fmt.Sprint("ks/-80/", n)))
		w := newWriter(t, session, cas.WriterOptions{Known: castest.NewIndex(t, repo)})
		before := bytes.Clone(page)
		page[n]++
		if _, err := w.PutDelta(t.Context(), cas.KindData, cas.Sum(page), page, cas.Sum(before), before); err != nil {
			t.Fatalf("put delta: %v", err)
		}
		if err := session.Commit(t.Context(), w, nil); err != nil {
			t.Fatalf("commit: %v", err)
		}
		if got := frames(w); len(got) != 1 || got[0].Depth != uint8(n) {
			t.Errorf("backup %d: got %+v, want one frame of depth %d", n, got, n)
		}
		relied = append(relied, w.Packs()[0].ID)
		slices.SortFunc(relied, cas.ID.Compare)
		if got := w.Relied(); !slices.Equal(got, relied) {
			t.Errorf("backup %d: relies on %v, want %v", n, got, relied)
		}
	}
	known := castest.NewIndex(t, repo)
	w := commit(t, repo, "ks/-80/hit", cas.WriterOptions{Known: known}, page)
	if got := w.Relied(); !slices.Equal(got, relied) {
		t.Errorf("hit of a delta: relies on %v, want %v", got, relied)
	}
	oldest := noise(99, 8192)
	oldest[0]++
	first := known[cas.Sum(oldest)][0].Pack
	backend.Overwrite("damaged/"+first.String(), nil)
	w = commit(t, repo, "ks/-80/damage", cas.WriterOptions{Known: known}, page)
	if got := frames(w); len(got) != 1 || got[0].Codec != cas.CodecRaw {
		t.Errorf("chunk on a damaged base: got %+v, want it stored in full", got)
	}
}
