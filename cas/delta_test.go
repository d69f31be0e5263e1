package cas_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/cas/mem"
)

// putLike stores a chunk that resembles another.
func putLike(t testing.TB, w *cas.Writer, plain []byte, like cas.ID) cas.Put {
	t.Helper()
	puts, err := w.PutAll(t.Context(), cas.KindData, []cas.Chunk{{ID: cas.Sum(plain), Plain: plain, Like: like}})
	if err != nil || len(puts) != 1 {
		t.Fatalf("put: %v, %v", puts, err)
	}
	return puts[0]
}

// version is one backup of a repository that knows all that is in it.
func version(t testing.TB, repo *cas.Repository, k cas.Key, store func(w *cas.Writer)) *cas.Writer {
	t.Helper()
	session := begin(t, repo, k)
	w := newWriter(t, session, cas.WriterOptions{Known: castest.NewIndex(t, repo)})
	store(w)
	if err := session.Commit(t.Context(), w, nil); err != nil {
		t.Fatalf("commit: %v", err)
	}
	return w
}

// versions makes a backup of each of several versions of a page, each like the
// one before, and returns them and their packs.
func versions(t testing.TB, repo *cas.Repository, count int) (pages [][]byte, packs []*cas.Pack) {
	t.Helper()
	page := noise(99, 8192)
	for n := range count {
		page = bytes.Clone(page)
		page[n*10]++
		w := version(t, repo, cas.Key(fmt.Sprintf("ks/-80/version-%03d", n)), func(w *cas.Writer) {
			like := cas.ID{}
			if n > 0 {
				like = cas.Sum(pages[n-1])
			}
			putLike(t, w, page, like)
		})
		pages = append(pages, page)
		packs = append(packs, w.Packs()...)
	}
	if len(packs) != count {
		t.Fatalf("%d packs, want %d", len(packs), count)
	}
	return pages, packs
}

// TestDeltaDepth makes more versions than a chain may be long: the next one
// stands on the chain's root again. Each relies on the packs of its chain only.
func TestDeltaDepth(t *testing.T) {
	repo, _ := newRepo(t)
	pages, packs := versions(t, repo, 2*cas.ChainDepth+3)
	known := castest.NewIndex(t, repo)
	base := 0
	for n, pack := range packs {
		f := pack.Frames[0]
		want := uint8(0)
		if n > 0 {
			want = uint8((n-1)%cas.ChainDepth + 1)
		}
		if want == 1 {
			base = 0
		}
		if f.Depth != want || (f.Codec == cas.CodecDelta) != (want > 0) {
			t.Errorf("version %d: got %s of depth %d, want depth %d", n, f.Codec, f.Depth, want)
		}
		if want > 0 && (f.StoredSize > 100 || f.Base != cas.Sum(pages[base])) {
			t.Errorf("version %d: %d bytes on base %s, want %s", n, f.StoredSize, f.Base.Short(), cas.Sum(pages[base]).Short())
		}
		base = n
		chain, err := known.Lookup(f.ID, cas.AnyDepth)
		if err != nil {
			t.Fatal(err)
		}
		var relied []cas.ID
		for _, loc := range chain {
			relied = append(relied, loc.Pack)
		}
		slices.SortFunc(relied, cas.ID.Compare)
		w := version(t, repo, cas.Key(fmt.Sprintf("ks/-80/hit-%03d", n)), func(w *cas.Writer) { putOne(t, w, pages[n]) })
		if got := w.Relied(); !slices.Equal(got, relied) || len(frames(w)) != 0 {
			t.Errorf("hit of version %d: relies on %v, want %v", n, got, relied)
		}
	}
	reader := newReader(t, repo, known)
	for n, page := range pages {
		if got, err := reader.Chunk(t.Context(), cas.Sum(page), len(page)); err != nil || !bytes.Equal(got, page) {
			t.Errorf("version %d: %v", n, err)
		}
	}
}

// TestDeltaRelies: a new delta relies on its own pack and those of the base's
// chain, and on a base that was not used it does not.
func TestDeltaRelies(t *testing.T) {
	repo, _ := newRepo(t)
	pages, packs := versions(t, repo, 3)
	next := bytes.Clone(pages[2])
	next[5000]++
	w := version(t, repo, "ks/-80/next", func(w *cas.Writer) { putLike(t, w, next, cas.Sum(pages[2])) })
	want := []cas.ID{packs[0].ID, packs[1].ID, packs[2].ID, w.Packs()[0].ID}
	slices.SortFunc(want, cas.ID.Compare)
	if got := w.Relied(); !slices.Equal(got, want) {
		t.Errorf("relies on %v, want %v", got, want)
	}
	w = version(t, repo, "ks/-80/other", func(w *cas.Writer) { putLike(t, w, noise(3, 8192), cas.Sum(pages[2])) })
	if got := w.Relied(); len(got) != 1 || got[0] != w.Packs()[0].ID {
		t.Errorf("unlike its base: relies on %v, want its own pack", got)
	}
}

// TestDeltaWithoutBase stores in full what has no base that can be used.
func TestDeltaWithoutBase(t *testing.T) {
	repo, backend := newRepoUnchecked(t)
	pages, packs := versions(t, repo, 2)
	next := func(n int) []byte {
		page := bytes.Clone(pages[1])
		page[6000+n]++
		return page
	}
	known := castest.NewIndex(t, repo)
	tests := []struct {
		name  string
		plain []byte
		like  cas.ID
	}{
		{"none", next(0), cas.ID{}},
		{"itself", next(1), cas.Sum(next(1))},
		{"not known", next(2), cas.ID{7}},
		{"of another length", next(3)[:8000], cas.Sum(pages[1])},
	}
	session := begin(t, repo, key)
	w := newWriter(t, session, cas.WriterOptions{Known: known})
	for n, test := range tests {
		if got := putLike(t, w, test.plain, test.like); !got.New || got.Stored < 8000 {
			t.Errorf("%s: got %+v, want it stored in full", test.name, got)
		}
		if got := w.Problems(); len(got) != 0 {
			t.Errorf("%s: %v", test.name, got)
		}
		if err := w.Flush(t.Context()); err != nil || len(frames(w)) != n+1 {
			t.Errorf("%s: %d frames, %v", test.name, len(frames(w)), err)
		}
	}
	// The root of the chain as base: the chunk goes back to what it was.
	w = newWriter(t, begin(t, repo, "ks/-80/back"), cas.WriterOptions{Known: known})
	if got := putLike(t, w, pages[0], cas.Sum(pages[1])); got.New {
		t.Errorf("a known chunk: got %+v", got)
	}
	backend.Overwrite("damaged/"+packs[0].ID.String(), nil)
	w = newWriter(t, begin(t, repo, "ks/-80/dead"), cas.WriterOptions{Known: known})
	if got := putLike(t, w, next(4), cas.Sum(pages[1])); got.Stored < 8000 {
		t.Errorf("base in a damaged pack: got %+v", got)
	}
	if got := putLike(t, w, pages[1], cas.ID{}); !got.New {
		t.Errorf("chunk on a damaged base: got %+v, want it stored anew", got)
	}
}

// TestUnreadableBase: a base whose bytes are damaged costs space, not the
// backup.
func TestUnreadableBase(t *testing.T) {
	repo, backend := newRepoUnchecked(t)
	pages, packs := versions(t, repo, 3)
	damageBase(t, backend, packs[1])
	session := begin(t, repo, key)
	w := newWriter(t, session, cas.WriterOptions{Known: castest.NewIndex(t, repo)})
	var batch []cas.Chunk
	for n := range 5 {
		page := bytes.Clone(pages[2])
		page[6000+n]++
		like := pages[2]
		if n == 1 {
			like = pages[0] // can be read
		}
		batch = append(batch, cas.Chunk{ID: cas.Sum(page), Plain: page, Like: cas.Sum(like)})
	}
	puts, err := w.PutAll(t.Context(), cas.KindData, batch)
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	for n, put := range puts {
		if !put.New || put.Stored < 8000 {
			t.Errorf("chunk %d: got %+v, want it stored in full", n, put)
		}
	}
	if got := w.Problems(); len(got) != 1 || !errors.Is(got[0], cas.ErrCorrupt) || !strings.Contains(got[0].Error(), packs[1].ID.Short()) {
		t.Errorf("problems: got %v, want the damaged pack named", got)
	}
	if err := session.Commit(t.Context(), w, nil); err != nil {
		t.Fatalf("commit: %v", err)
	}
	if got := w.Relied(); len(got) != 1 {
		t.Errorf("relies on %v, want its own pack only", got)
	}
	for range 20 {
		page := bytes.Clone(pages[2])
		page[7000+len(batch)]++
		batch = append(batch, cas.Chunk{})
		w = newWriter(t, begin(t, repo, cas.Key(fmt.Sprint("ks/-80/more-", len(batch)))), cas.WriterOptions{Known: castest.NewIndex(t, repo)})
		putLike(t, w, page, cas.Sum(pages[2]))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.PutAll(ctx, cas.KindData, []cas.Chunk{{ID: cas.Sum(noise(8, 8192)), Plain: noise(8, 8192), Like: cas.Sum(pages[0])}}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: got %v", err)
	}
}

// TestPutAll mixes what can be in one call; the writer's first error ends it.
func TestPutAll(t *testing.T) {
	repo, _ := newRepo(t)
	pages, _ := versions(t, repo, 2)
	changed := bytes.Clone(pages[1])
	changed[4000]++
	session := begin(t, repo, key)
	w := newWriter(t, session, cas.WriterOptions{Known: castest.NewIndex(t, repo)})
	fresh := noise(5, 100)
	puts, err := w.PutAll(t.Context(), cas.KindData, []cas.Chunk{
		{Plain: make([]byte, 100)},
		{ID: cas.Sum(fresh), Plain: fresh},
		{ID: cas.Sum(changed), Plain: changed, Like: cas.Sum(pages[1])},
		{ID: cas.Sum(pages[0]), Plain: pages[0], Like: cas.Sum(pages[1])},
		{ID: cas.Sum(changed), Plain: changed, Like: cas.Sum(pages[0])},
		{ID: cas.Sum(fresh), Plain: fresh, Like: cas.Sum(pages[0])},
	})
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []bool{false, true, true, false, false, false} {
		if puts[n].New != want {
			t.Errorf("chunk %d: got %+v, want new %v", n, puts[n], want)
		}
	}
	if puts[2].Stored > 200 || puts[1].Stored != 100+cas.FrameOverhead {
		t.Errorf("got %+v", puts)
	}
	if puts, err := w.PutAll(t.Context(), cas.KindData, nil); err != nil || len(puts) != 0 {
		t.Errorf("nothing: got %v, %v", puts, err)
	}
	if err := session.Commit(t.Context(), w, nil); err != nil {
		t.Fatal(err)
	}
	bad := newWriter(t, begin(t, repo, "ks/-80/bad"), cas.WriterOptions{})
	for range 2 {
		if _, err := bad.PutAll(t.Context(), cas.KindData, []cas.Chunk{{ID: cas.ID{1}}}); err == nil || !strings.Contains(err.Error(), "0 bytes") {
			t.Errorf("empty chunk: got %v", err)
		}
	}
}

// TestConcurrentDeltas stores overlapping sets of chunks from several
// goroutines, more than there are windows for their bases, of more than one
// window each.
func TestConcurrentDeltas(t *testing.T) {
	repo, _ := newRepo(t)
	const chunks, size = 300, 64 << 10
	page := func(n int) []byte { return noise(uint64(n), size) }
	version(t, repo, "ks/-80/first", func(w *cas.Writer) {
		for n := range chunks {
			putOne(t, w, page(n))
		}
	})
	var stored atomic.Int64
	w := version(t, repo, "ks/-80/second", func(w *cas.Writer) {
		group, ctx := errgroup.WithContext(t.Context())
		for range 8 {
			group.Go(func() error {
				var batch []cas.Chunk
				for n := range chunks {
					plain := page(n)
					like := cas.Sum(plain)
					plain[n]++
					batch = append(batch, cas.Chunk{ID: cas.Sum(plain), Plain: plain, Like: like})
				}
				puts, err := w.PutAll(ctx, cas.KindData, batch)
				for _, put := range puts {
					stored.Add(put.Stored)
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
	})
	for _, f := range frames(w) {
		if f.Depth != 1 || f.StoredSize > 100 {
			t.Errorf("got %+v, want a small delta", f)
		}
	}
	if len(frames(w)) != chunks || stored.Load() > chunks*(100+cas.FrameOverhead) {
		t.Errorf("%d frames, %d bytes, want %d frames", len(frames(w)), stored.Load(), chunks)
	}
}

// TestChunksOfDeltas reads many chunks at the ends of chains, some of which
// share their bases, in few reads: neighbors are read at once in every pack.
func TestChunksOfDeltas(t *testing.T) {
	_, backend := newRepo(t)
	var reads, opens int
	repo, err := cas.Open(t.Context(), countReads{backend, &reads, &opens})
	if err != nil {
		t.Fatal(err)
	}
	const chunks, size, backups = 100, 4096, 5
	pages := make([][]byte, chunks)
	for n := range pages {
		pages[n] = noise(uint64(n), size)
	}
	for b := range backups {
		version(t, repo, cas.Key(fmt.Sprint("ks/-80/", b)), func(w *cas.Writer) {
			var batch []cas.Chunk
			for n, page := range pages {
				like := cas.Sum(page)
				page[(n+b)%size]++
				batch = append(batch, cas.Chunk{ID: cas.Sum(page), Plain: page, Like: like})
			}
			if _, err := w.PutAll(t.Context(), cas.KindData, batch); err != nil {
				t.Fatal(err)
			}
		})
	}
	twin := bytes.Clone(pages[0]) // a second delta of the same base
	twin[4000]++
	version(t, repo, "ks/-80/twin", func(w *cas.Writer) { putLike(t, w, twin, cas.Sum(pages[0])) })
	want := append(slices.Clone(pages), twin, pages[3])
	ids := make([]cas.ID, len(want))
	for n, page := range want {
		ids[n] = cas.Sum(page)
	}
	reader := newReader(t, repo, castest.NewIndex(t, repo))
	reads, opens = 0, 0
	got := make([][]byte, len(want))
	err = reader.Chunks(t.Context(), ids, func(int) int { return size }, func(i int, plain []byte) error {
		got[i] = bytes.Clone(plain)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range want {
		if !bytes.Equal(got[n], want[n]) {
			t.Errorf("chunk %d differs", n)
		}
	}
	if reads > backups+1 || opens != backups+1 {
		t.Errorf("%d reads and %d opens of %d packs", reads, opens, backups+1)
	}
}

// TestBlame changes each frame of a chain in turn to one that decodes to other
// bytes: the error names that frame.
func TestBlame(t *testing.T) {
	for at := range 4 {
		repo, backend := newRepoUnchecked(t)
		pages, packs := versions(t, repo, 4)
		last := cas.Sum(pages[3])
		replacePayload(t, backend, packs[at])
		_, err := newReader(t, repo, castest.NewIndex(t, repo)).Chunk(t.Context(), last, 8192)
		var corrupt *cas.CorruptError
		if !errors.As(err, &corrupt) || corrupt.Pack != packs[at].ID || corrupt.Want != cas.Sum(pages[at]) || corrupt.Got.IsZero() {
			t.Errorf("frame %d changed: got %v, want its chunk and pack named", at, err)
		}
		if at < 3 && !strings.Contains(err.Error(), "chunk "+last.Short()) {
			t.Errorf("frame %d changed: got %v, want the chunk named that was asked for", at, err)
		}
	}
}

// replacePayload changes the payload of the first frame, whose codec is raw or
// delta, to another that decodes.
func replacePayload(t *testing.T, backend *mem.Backend, pack *cas.Pack) {
	t.Helper()
	f := pack.Frames[0]
	data := backend.Bytes(cas.PackName(pack.ID))
	payload := data[f.Offset+cas.FrameOverhead:][:f.StoredSize]
	if f.Codec == cas.CodecRaw {
		payload[77] ^= 1
		backend.Overwrite(cas.PackName(pack.ID), data)
		return
	}
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	want, err := decoder.DecodeAll(payload, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range payload {
		const bitmap = 2 // bytes
		for bit := range 8 {
			payload[n] ^= 1 << bit
			got, err := decoder.DecodeAll(payload, nil)
			if err == nil && len(got) == len(want) && bytes.Equal(got[:bitmap], want[:bitmap]) && !bytes.Equal(got, want) {
				backend.Overwrite(cas.PackName(pack.ID), data)
				return
			}
			payload[n] ^= 1 << bit
		}
	}
	t.Fatal("no bit of the payload can be changed")
}

// TestRely: packs that are named count for the commit as if a chunk of theirs
// had been put; a dead one is refused.
func TestRely(t *testing.T) {
	repo, backend := newRepoUnchecked(t)
	_, packs := versions(t, repo, 3)
	ids := []cas.ID{packs[0].ID, packs[1].ID}
	slices.SortFunc(ids, cas.ID.Compare)
	session := begin(t, repo, key)
	w := newWriter(t, session, cas.WriterOptions{})
	if !w.Rely(ids) || !slices.Equal(w.Relied(), ids) {
		t.Errorf("relies on %v, want %v", w.Relied(), ids)
	}
	backend.Drop(cas.PackName(packs[1].ID))
	if err := session.Commit(t.Context(), w, nil); !errors.Is(err, cas.ErrNotFound) || !strings.Contains(err.Error(), packs[1].ID.Short()) {
		t.Errorf("commit without a pack: got %v", err)
	}
	backend.Overwrite("damaged/"+packs[0].ID.String(), nil)
	w = newWriter(t, begin(t, repo, "ks/-80/dead"), cas.WriterOptions{})
	if w.Rely([]cas.ID{packs[2].ID, packs[0].ID}) || len(w.Relied()) != 0 {
		t.Errorf("a damaged pack: relies on %v", w.Relied())
	}
}
