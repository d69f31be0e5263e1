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

func (x brokenIndex) Lookup(cas.ID, uint8) (cas.Chain, error) { return cas.Chain{x.loc}, x.err }

func TestBrokenIndex(t *testing.T) {
	repo, _ := newRepo(t)
	plain := noise(1, 100)
	delta := cas.Frame{ID: cas.Sum(plain), PlainSize: 100, Codec: cas.CodecDelta, Depth: 3, Base: cas.ID{1}}
	for n, loc := range []cas.Location{
		{Frame: cas.Frame{ID: cas.Sum(plain), PlainSize: 101}},
		{Frame: cas.Frame{ID: cas.Sum(plain), PlainSize: 100, Depth: cas.AnyDepth}},
		{Frame: cas.Frame{ID: cas.ID{1}, PlainSize: 100}},
		{Frame: delta}, // without its base
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

// TestWait: what is written is announced, with frame headers, and a refusal
// ends the writer.
func TestWait(t *testing.T) {
	repo, _ := newRepo(t)
	var announced atomic.Int64
	opts := cas.WriterOptions{Wait: func(_ context.Context, n int) error {
		announced.Add(int64(n))
		return nil
	}}
	w := commit(t, repo, "ks/-80/waits", opts, noise(1, 100), noise(2, 200), noise(1, 100))
	if want := int64(300 + 2*cas.FrameOverhead); announced.Load() != want || len(frames(w)) != 2 {
		t.Errorf("announced %d bytes, want %d", announced.Load(), want)
	}
	opts.Wait = func(context.Context, int) error { return castest.ErrInjected }
	w = newWriter(t, begin(t, repo, key), opts)
	for range 2 {
		if _, err := w.Put(t.Context(), cas.KindData, cas.Sum(noise(3, 10)), noise(3, 10)); !errors.Is(err, castest.ErrInjected) {
			t.Errorf("got %v, want the refusal", err)
		}
	}
}
