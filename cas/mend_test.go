package cas_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/cas/mem"
)

// damage turns a bit in the middle of the payload of a frame.
func damage(backend *mem.Backend, pack *cas.Pack, frame int) {
	data := backend.Bytes(cas.PackName(pack.ID))
	f := pack.Frames[frame]
	data[f.Offset+cas.FrameOverhead+int64(f.StoredSize)/2] ^= 1
	backend.Overwrite(cas.PackName(pack.ID), data)
}

// changed returns plain with another byte at n.
func changed(plain []byte, n int) []byte {
	out := bytes.Clone(plain)
	out[n] ^= 0x55
	return out
}

// copies is a chunk stored twice in full, in packs a and b, with a neighbor in
// each; a delta of it in pack c; and the same again as a delta of depth 2 in d.
type copies struct {
	repo       *cas.Repository
	backend    *mem.Backend
	base, like []byte
	a, b, c, d *cas.Pack
	deep       []byte // the chunk in d
}

func newCopies(t *testing.T) *copies {
	t.Helper()
	x := &copies{base: noise(1, 5000)}
	x.like = changed(x.base, 3)
	x.deep = changed(x.like, 4)
	x.repo, x.backend = newRepoUnchecked(t)
	x.a = commit(t, x.repo, "ks/-80/a", cas.WriterOptions{}, x.base, noise(2, 5000)).Packs()[0]
	x.b = commit(t, x.repo, "ks/-80/b", cas.WriterOptions{}, x.base, noise(3, 5000)).Packs()[0]
	x.c = x.delta(t, "ks/-80/c", x.like, x.base)
	x.d = x.delta(t, "ks/-80/d", x.deep, x.like)
	return x
}

func (x *copies) delta(t *testing.T, key cas.Key, plain, base []byte) *cas.Pack {
	t.Helper()
	session := begin(t, x.repo, key)
	w := newWriter(t, session, cas.WriterOptions{Known: castest.NewIndex(t, x.repo)})
	if _, err := w.PutAll(t.Context(), cas.KindData, []cas.Chunk{{ID: cas.Sum(plain), Plain: plain, Like: cas.Sum(base)}}); err != nil {
		t.Fatal(err)
	}
	if err := session.Commit(t.Context(), w, nil); err != nil {
		t.Fatal(err)
	}
	pack := w.Packs()[0]
	if pack.Frames[0].Codec != cas.CodecDelta {
		t.Fatalf("frame %+v is no delta", pack.Frames[0])
	}
	return pack
}

// A chunk of which one copy is damaged, or gone, is read from another, and so are
// the bases of deltas. What is damaged everywhere is told as what was found first.
func TestAnotherCopy(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(x *copies)
		blame func(x *copies) *cas.Pack // nil: all can be read
	}{
		{"nothing", func(*copies) {}, nil},
		{"the first copy", func(x *copies) { damage(x.backend, x.a, 0) }, nil},
		{"the second copy", func(x *copies) { damage(x.backend, x.b, 0) }, nil},
		{"the first pack is gone", func(x *copies) { x.backend.Drop(cas.PackName(x.a.ID)) }, nil},
		{"the first pack is cut", func(x *copies) {
			x.backend.Overwrite(cas.PackName(x.a.ID), x.backend.Bytes(cas.PackName(x.a.ID))[:200])
		}, nil},
		{"both copies", func(x *copies) { damage(x.backend, x.a, 0); damage(x.backend, x.b, 0) }, func(x *copies) *cas.Pack { return x.a }},
		{"the only delta", func(x *copies) { damage(x.backend, x.c, 0) }, func(x *copies) *cas.Pack { return x.c }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			x := newCopies(t)
			index := castest.NewIndex(t, x.repo)
			test.spoil(x)
			index[cas.Sum(x.base)] = index[cas.Sum(x.base)][:2:2]
			if index[cas.Sum(x.base)][0].Pack != x.a.ID {
				index[cas.Sum(x.base)][0], index[cas.Sum(x.base)][1] = index[cas.Sum(x.base)][1], index[cas.Sum(x.base)][0]
			}
			reader := newReader(t, x.repo, index)
			for round := range 2 { // what was found to be bad is not tried again
				got, err := reader.Chunk(t.Context(), cas.Sum(x.deep), len(x.deep))
				if test.blame == nil {
					if err != nil || !bytes.Equal(got, x.deep) {
						t.Errorf("round %d: got %v", round, err)
					}
					continue
				}
				var corrupt *cas.CorruptError
				if !errors.As(err, &corrupt) || corrupt.Pack != test.blame(x).ID {
					t.Errorf("round %d: got %v, want pack %s blamed", round, err, test.blame(x).ID.Short())
				}
			}
		})
	}
}

// Of the chunks of a window only those that are damaged are read from elsewhere.
func TestAnotherCopyInWindow(t *testing.T) {
	repo, backend := newRepoUnchecked(t)
	var plain [][]byte
	var ids []cas.ID
	for i := range 20 {
		plain = append(plain, noise(uint64(i), 5000))
		ids = append(ids, cas.Sum(plain[i]))
	}
	first := commit(t, repo, "ks/-80/a", cas.WriterOptions{}, plain...).Packs()[0]
	second := commit(t, repo, "ks/-80/b", cas.WriterOptions{}, plain...).Packs()[0]
	damage(backend, first, 3)
	damage(backend, first, 17)
	index := castest.Index{}
	index.Add(first)
	index.Add(second)
	read := func() (n int, err error) {
		err = newReader(t, repo, index).Chunks(t.Context(), ids, func(int) int { return 5000 }, func(i int, got []byte) error {
			n++
			if !bytes.Equal(got, plain[i]) {
				t.Errorf("chunk %d differs", i)
			}
			return nil
		})
		return n, err
	}
	if n, err := read(); err != nil || n != 20 {
		t.Errorf("%d chunks, %v", n, err)
	}
	damage(backend, second, 17)
	n, err := read()
	var chunk *cas.ChunkError
	if !errors.As(err, &chunk) || chunk.Index != 17 || chunk.ID != ids[17] || n != 17 || !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("%d chunks, %v, want number 17 to fail", n, err)
	}
}

// A delta is never made of another copy of its base than the one whose depth it
// goes by: one that cannot be read is no base.
func TestWriterTakesNoOtherBase(t *testing.T) {
	x := newCopies(t)
	again := changed(x.base, 99)
	index := castest.NewIndex(t, x.repo)
	for _, loc := range index[cas.Sum(x.base)][:1] {
		pack, err := x.repo.Pack(t.Context(), loc.Pack)
		if err != nil {
			t.Fatal(err)
		}
		damage(x.backend, pack, 0)
	}
	session := begin(t, x.repo, "ks/-80/e")
	w := newWriter(t, session, cas.WriterOptions{Known: index})
	if _, err := w.PutAll(t.Context(), cas.KindData, []cas.Chunk{{ID: cas.Sum(again), Plain: again, Like: cas.Sum(x.base)}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f := w.Packs()[0].Frames[0]; f.Codec == cas.CodecDelta || len(w.Problems()) != 1 {
		t.Errorf("frame %+v, problems %v; want it in full, and a problem", f, w.Problems())
	}
}
