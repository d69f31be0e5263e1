package cas_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/cas/mem"
)

func newReader(t testing.TB, repo *cas.Repository, locator cas.Locator) *cas.Reader {
	t.Helper()
	reader := repo.NewReader(locator)
	t.Cleanup(func() {
		if err := reader.Close(); err != nil {
			t.Errorf("close reader: %v", err)
		}
	})
	return reader
}

func TestChunk(t *testing.T) {
	repo, _ := newRepo(t)
	plain := noise(1, 5000)
	commit(t, repo, key, cas.WriterOptions{}, plain)
	reader := newReader(t, repo, castest.NewIndex(t, repo))
	got, err := reader.Chunk(t.Context(), cas.Sum(plain), 5000)
	if err != nil || !bytes.Equal(got, plain) {
		t.Errorf("chunk: %v", err)
	}
	if got, err := reader.Chunk(t.Context(), cas.ID{}, 100); err != nil || !bytes.Equal(got, make([]byte, 100)) {
		t.Errorf("zero chunk: got %v, %v", got, err)
	}
	if _, err := reader.Chunk(t.Context(), cas.ID{1}, 5000); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("unknown chunk: got %v, want ErrNotFound", err)
	}
	if _, err := reader.Chunk(t.Context(), cas.Sum(plain), 4999); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("chunk of another size: got %v, want ErrCorrupt", err)
	}
}

// TestChunkDamage turns every bit of a frame, cuts the pack, and takes it away.
func TestChunkDamage(t *testing.T) {
	repo, backend := newRepoUnchecked(t)
	plain := bytes.Repeat([]byte("compressible "), 20)
	w := commit(t, repo, key, cas.WriterOptions{}, plain)
	pack := w.Packs()[0]
	f := pack.Frames[0]
	name := cas.PackName(pack.ID)
	data := backend.Bytes(name)
	index := castest.NewIndex(t, repo)
	read := func(damaged []byte) error {
		backend.Overwrite(name, damaged)
		got, err := newReader(t, repo, index).Chunk(t.Context(), f.ID, len(plain))
		if err == nil && !bytes.Equal(got, plain) {
			t.Error("other bytes, and no error")
		}
		return err
	}
	harmless := 0
	for n := f.Offset; n < f.Offset+cas.FrameOverhead+int64(f.StoredSize); n++ {
		for bit := range 8 {
			damaged := bytes.Clone(data)
			damaged[n] ^= 1 << bit
			err := read(damaged)
			var corrupt *cas.CorruptError
			if err == nil && n >= f.Offset+cas.FrameOverhead {
				harmless++ // zstd has several spellings of the same bytes
				continue
			}
			if !errors.As(err, &corrupt) || corrupt.Pack != pack.ID || corrupt.Offset != f.Offset || corrupt.Want != f.ID {
				t.Errorf("bit %d of byte %d turned: got %v, want an error with pack, offset and chunk", bit, n, err)
			}
		}
	}
	if harmless > 20 {
		t.Errorf("%d bits of the payload may be turned", harmless)
	}
	for n := range int(f.Offset) + cas.FrameOverhead + int(f.StoredSize) {
		if err := read(data[:n]); !errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("pack cut to %d bytes: got %v, want ErrCorrupt", n, err)
		}
	}
	backend.Drop(name)
	if _, err := newReader(t, repo, index).Chunk(t.Context(), f.ID, len(plain)); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("pack gone: got %v, want ErrNotFound", err)
	}
}

// shrinking is a store whose files end at a byte once they have been opened.
type shrinking struct {
	cas.Backend
	end int64
}

type shrunk struct {
	cas.BlobReader
	end int64
}

func (s *shrinking) Open(ctx context.Context, name string) (cas.BlobReader, error) {
	blob, err := s.Backend.Open(ctx, name)
	return &shrunk{blob, s.end}, err
}

func (s *shrunk) ReadAt(buf []byte, offset int64) (int, error) {
	if offset+int64(len(buf)) <= s.end {
		return s.BlobReader.ReadAt(buf, offset)
	}
	return 0, io.EOF
}

// TestShrinkingPack: a pack that is cut while it is read is damaged, wherever that
// is.
func TestShrinkingPack(t *testing.T) {
	repo, backend := newRepoUnchecked(t)
	plain := noise(1, 5000)
	pack := commit(t, repo, key, cas.WriterOptions{}, plain).Packs()[0]
	shrinking := &shrinking{backend, 1 << 20}
	opened, err := cas.Open(t.Context(), shrinking)
	if err != nil {
		t.Fatal(err)
	}
	reader := newReader(t, opened, castest.NewIndex(t, repo))
	shrinking.end = 100
	if _, err := reader.Chunk(t.Context(), cas.Sum(plain), 5000); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("chunk: got %v, want ErrCorrupt", err)
	}
	if _, err := opened.Pack(t.Context(), pack.ID); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("directory: got %v, want ErrCorrupt", err)
	}
	shrinking.end = 10
	if _, err := opened.Inspect(t.Context(), pack.ID); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("both ends: got %v, want ErrCorrupt", err)
	}
}

// TestChunkOfOtherContent has a frame whose header is right and whose payload
// decodes, but to other bytes.
func TestChunkOfOtherContent(t *testing.T) {
	repo, backend := newRepoUnchecked(t)
	w := commit(t, repo, key, cas.WriterOptions{}, noise(1, 100))
	pack := w.Packs()[0]
	f := pack.Frames[0]
	data := backend.Bytes(cas.PackName(pack.ID))
	copy(data[f.Offset+cas.FrameOverhead:], noise(2, 100))
	backend.Overwrite(cas.PackName(pack.ID), data)
	_, err := newReader(t, repo, castest.NewIndex(t, repo)).Chunk(t.Context(), f.ID, 100)
	want := &cas.CorruptError{Pack: pack.ID, Offset: f.Offset, Want: f.ID, Got: cas.Sum(noise(2, 100))}
	var got *cas.CorruptError
	if !errors.As(err, &got) || *got != *want {
		t.Errorf("got %v, want %v", err, want)
	}
}

// TestIndexDisagrees has an index that describes a frame otherwise than the
// frame's header does.
func TestIndexDisagrees(t *testing.T) {
	repo, _ := newRepo(t)
	w := commit(t, repo, key, cas.WriterOptions{}, noise(1, 100), noise(2, 100))
	pack := w.Packs()[0]
	good := cas.Location{Pack: pack.ID, Frame: pack.Frames[0]}
	for name, edit := range map[string]func(*cas.Location){
		"other frame":     func(l *cas.Location) { l.Offset = pack.Frames[1].Offset },
		"between frames":  func(l *cas.Location) { l.Offset++ },
		"behind the pack": func(l *cas.Location) { l.Offset = pack.Size + 1 },
		"at the end":      func(l *cas.Location) { l.Offset = pack.Size },
		"before the pack": func(l *cas.Location) { l.Offset = -1 },
		"longer":          func(l *cas.Location) { l.StoredSize++ },
		"endless":         func(l *cas.Location) { l.StoredSize = 1<<32 - 1 },
		"other codec":     func(l *cas.Location) { l.Codec = cas.CodecZstd },
		"too deep":        func(l *cas.Location) { l.Depth = cas.AnyDepth },
	} {
		t.Run(name, func(t *testing.T) {
			loc := good
			edit(&loc)
			_, err := newReader(t, repo, brokenIndex{loc: loc}).Chunk(t.Context(), good.ID, 100)
			if !errors.Is(err, cas.ErrCorrupt) {
				t.Errorf("got %v, want ErrCorrupt", err)
			}
		})
	}
}

// countReads counts the reads from packs.
type countReads struct {
	cas.Backend
	reads, opens *int
}

func (b countReads) Open(ctx context.Context, name string) (cas.BlobReader, error) {
	blob, err := b.Backend.Open(ctx, name)
	*b.opens++
	return countedBlob{blob, b.reads}, err
}

type countedBlob struct {
	cas.BlobReader
	reads *int
}

func (b countedBlob) ReadAt(buf []byte, offset int64) (int, error) {
	*b.reads++
	return b.BlobReader.ReadAt(buf, offset)
}

func TestChunks(t *testing.T) {
	_, backend := newRepo(t)
	var reads, opens int
	repo, err := cas.Open(t.Context(), countReads{backend, &reads, &opens})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	var chunks [][]byte
	for n := range 400 {
		chunks = append(chunks, noise(uint64(n), 1000+n*100)) // 8 MiB
	}
	commit(t, repo, key, cas.WriterOptions{}, chunks...)
	index := castest.NewIndex(t, repo)
	var ids []cas.ID
	var want [][]byte
	for n := range 450 { // in another order, some twice, some zero
		if n%50 == 7 {
			ids, want = append(ids, cas.ID{}), append(want, nil)
			continue
		}
		chunk := chunks[(n*77)%400]
		ids, want = append(ids, cas.Sum(chunk)), append(want, chunk)
	}
	got := make([][]byte, len(ids))
	reads, opens = 0, 0
	sizes := func(i int) int { return len(want[i]) }
	err = newReader(t, repo, index).Chunks(t.Context(), ids, sizes, func(i int, plain []byte) error {
		if got[i] != nil {
			t.Errorf("chunk %d is delivered twice", i)
		}
		got[i] = bytes.Clone(plain)
		return nil
	})
	if err != nil {
		t.Fatalf("chunks: %v", err)
	}
	for n := range want {
		if !bytes.Equal(got[n], want[n]) {
			t.Errorf("chunk %d differs", n)
		}
	}
	if reads > 4 || opens != 1 {
		t.Errorf("%d reads and %d opens for 8 MiB of neighbors, want at most 4 and 1", reads, opens)
	}
}

// A reader that is limited waits for every byte that it reads.
func TestLimit(t *testing.T) {
	repo, _ := newRepo(t)
	long, short := noise(1, 2<<20), noise(2, 1000)
	w := commit(t, repo, key, cas.WriterOptions{}, long, short)
	reader := newReader(t, repo, castest.NewIndex(t, repo))
	waited := 0
	reader.Limit(func(_ context.Context, n int) error {
		waited += n
		return nil
	})
	for _, chunk := range [][]byte{short, long} {
		got, err := reader.Chunk(t.Context(), cas.Sum(chunk), len(chunk))
		if err != nil || !bytes.Equal(got, chunk) {
			t.Errorf("chunk: %v", err)
		}
	}
	frames := w.Packs()[0].Frames
	if want := int(frames[0].Size() + frames[1].Size()); waited != want {
		t.Errorf("waited for %d bytes, want %d", waited, want)
	}
	reader.Limit(func(context.Context, int) error { return context.Canceled })
	if _, err := reader.Chunk(t.Context(), cas.Sum(short), len(short)); !errors.Is(err, context.Canceled) {
		t.Errorf("limit that fails: %v", err)
	}
}

func TestChunksErrors(t *testing.T) {
	repo, backend := newRepoUnchecked(t)
	w := commit(t, repo, key, cas.WriterOptions{}, noise(1, 100), noise(2, 100))
	ids := []cas.ID{cas.Sum(noise(1, 100)), cas.Sum(noise(2, 100))}
	reader := newReader(t, repo, castest.NewIndex(t, repo))
	size := func(int) int { return 100 }
	ignore := func(int, []byte) error { return nil }
	mine := errors.New("mine")
	if err := reader.Chunks(t.Context(), ids, size, func(int, []byte) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("error of fn: got %v", err)
	}
	if err := reader.Chunks(t.Context(), append(ids, cas.ID{1}), size, ignore); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("unknown chunk: got %v, want ErrNotFound", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := reader.Chunks(ctx, ids, size, ignore); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: got %v", err)
	}
	if err := reader.Chunks(t.Context(), nil, size, ignore); err != nil {
		t.Errorf("no chunks: %v", err)
	}
	pack := w.Packs()[0]
	data := backend.Bytes(cas.PackName(pack.ID))
	data[pack.Frames[1].Offset+cas.FrameOverhead+50] ^= 1
	backend.Overwrite(cas.PackName(pack.ID), data)
	var delivered []int
	err := newReader(t, repo, castest.NewIndex(t, repo)).Chunks(t.Context(), ids, size, func(i int, _ []byte) error {
		delivered = append(delivered, i)
		return nil
	})
	if !errors.Is(err, cas.ErrCorrupt) || !slices.Equal(delivered, []int{0}) {
		t.Errorf("damaged chunk: got %v after %v", err, delivered)
	}
}

// TestManyPacks reads from more packs than are kept open, from several
// goroutines.
func TestManyPacks(t *testing.T) {
	repo, _ := newRepo(t)
	session := begin(t, repo, key)
	w := newWriter(t, session, cas.WriterOptions{})
	w.SetPackTarget(1)
	const packs = 3 * cas.MaxOpenPacks
	for n := range packs {
		putOne(t, w, noise(uint64(n), 50))
	}
	if err := session.Commit(t.Context(), w, nil); err != nil {
		t.Fatalf("commit: %v", err)
	}
	if len(w.Packs()) != packs {
		t.Fatalf("%d packs, want %d", len(w.Packs()), packs)
	}
	reader := newReader(t, repo, castest.NewIndex(t, repo))
	group, ctx := errgroup.WithContext(t.Context())
	for start := range 4 {
		group.Go(func() error {
			for n := range 2 * packs {
				want := noise(uint64((start+n)%packs), 50)
				got, err := reader.Chunk(ctx, cas.Sum(want), 50)
				if err != nil || !bytes.Equal(got, want) {
					return fmt.Errorf("chunk %d: %w", n, err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if got := reader.OpenPacks(); got > cas.MaxOpenPacks {
		t.Errorf("%d packs are open, want at most %d", got, cas.MaxOpenPacks)
	}
}

// TestDeltaChoosesShallowCopies has two packs that each hold "a copy of
// everything" on bases in the other: only the copies of lower depth can be
// used, and without them nothing is readable, which is found out at once.
func TestDeltaChoosesShallowCopies(t *testing.T) {
	repo, backend := newRepoUnchecked(t)
	pages, packs := versions(t, repo, 4)
	index := castest.NewIndex(t, repo)
	last := cas.Sum(pages[3])
	if _, err := newReader(t, repo, index).Chunk(t.Context(), last, 8192); err != nil {
		t.Fatalf("chunk: %v", err)
	}
	root := index[cas.Sum(pages[0])]
	delete(index, cas.Sum(pages[0]))
	if _, err := newReader(t, repo, index).Chunk(t.Context(), last, 8192); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("base gone: got %v, want ErrNotFound", err)
	}
	index[cas.Sum(pages[0])] = root
	cycle := cyclic{index}
	if _, err := newReader(t, repo, cycle).Chunk(t.Context(), last, 8192); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("locator that runs in circles: got %v, want ErrCorrupt", err)
	}
	damageBase(t, backend, packs[0])
	_, err := newReader(t, repo, castest.NewIndex(t, repo)).Chunk(t.Context(), last, 8192)
	var corrupt *cas.CorruptError
	if !errors.As(err, &corrupt) || corrupt.Want != cas.Sum(pages[0]) || corrupt.Pack != packs[0].ID || !strings.Contains(err.Error(), last.Short()) {
		t.Errorf("damaged base: got %v, want an error that names chunk, base and pack", err)
	}
	backend.Drop(cas.PackName(packs[0].ID))
	_, err = newReader(t, repo, index).Chunk(t.Context(), last, 8192)
	if !errors.Is(err, cas.ErrNotFound) || !strings.Contains(err.Error(), packs[0].ID.Short()) || !strings.Contains(err.Error(), last.Short()) {
		t.Errorf("pack of the base gone: got %v, want an error that names chunk and pack", err)
	}
}

// cyclic answers with chains that end where they began.
type cyclic struct{ castest.Index }

func (x cyclic) Lookup(id cas.ID, below uint8) (cas.Chain, error) {
	chain, err := x.Index.Lookup(id, below)
	return append(chain, chain[0]), err
}

// damageBase changes a byte of the first frame's payload.
func damageBase(t *testing.T, backend *mem.Backend, pack *cas.Pack) {
	t.Helper()
	data := backend.Bytes(cas.PackName(pack.ID))
	data[pack.Frames[0].Offset+cas.FrameOverhead+10] ^= 1
	backend.Overwrite(cas.PackName(pack.ID), data)
}

// TestSalvage finds every frame of a pack that has lost its footer, as
// docs/format.md says one can.
func TestSalvage(t *testing.T) {
	repo, backend := newRepo(t)
	w := commit(t, repo, key, cas.WriterOptions{}, noise(1, 300), bytes.Repeat([]byte("x"), 5000), noise(2, 40))
	pack := w.Packs()[0]
	data := backend.Bytes(cas.PackName(pack.ID))
	var found []int64
	for n := 0; n+cas.FrameOverhead <= len(data); n++ {
		head := data[n : n+cas.FrameOverhead]
		sum := crc32.Checksum(head[:80], crc32.MakeTable(crc32.Castagnoli))
		if string(head[:4]) == "SSFR" && binary.LittleEndian.Uint32(head[80:]) == sum {
			found = append(found, int64(n))
		}
	}
	var want []int64
	for _, f := range pack.Frames {
		want = append(want, f.Offset)
	}
	if !slices.Equal(found, want) {
		t.Errorf("frames at %v, want %v", found, want)
	}
}
