package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/shardseed/shardseed/cas"
)

// runBytes returns a run of packs.
func runBytes(t testing.TB, packs ...*cas.Pack) []byte {
	t.Helper()
	g := &gatherer{repo: newRepository().uuid, batch: 1 << 30}
	for _, p := range packs {
		if err := g.add(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.spill(); err != nil {
		t.Fatal(err)
	}
	if len(g.runs) == 0 {
		var out bytes.Buffer
		if _, err := newRunWriter(&out, g.repo, nil).finish(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	data := make([]byte, g.runs[0].size)
	if _, err := g.runs[0].file.ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	return data
}

// byteFile is a runFile.
type byteFile struct{ *bytes.Reader }

func (byteFile) Close() error { return nil }

func openBytes(data []byte) (*run, error) {
	return openRun(byteFile{bytes.NewReader(data)}, int64(len(data)), newRepository().uuid)
}

// scanAll reads a run in order.
func scanAll(r *run) (entries [][]byte, err error) { return scan(r, readAhead) }

// scan reads a run in order, so many blocks at once.
func scan(r *run, ahead int) (entries [][]byte, err error) {
	c := &cursor{run: r, ahead: ahead}
	for {
		more, err := c.next()
		if err != nil || !more {
			return entries, err
		}
		entries = append(entries, bytes.Clone(c.entry))
	}
}

// Runs of all lengths around those of blocks and of what is read at once hold
// what was put in, in order.
func TestRun(t *testing.T) {
	t.Parallel()
	const perBlock = (blockSize - blockHeader) / entrySize
	for _, frames := range []int{0, 1, 2, perBlock - 1, perBlock, perBlock + 1, 2 * perBlock, readAhead*perBlock - 1, readAhead * perBlock, readAhead*perBlock + 1} {
		var p []*cas.Pack
		if frames > 0 {
			var list []cas.Frame
			for n := range frames {
				list = append(list, full(uint64(n)))
			}
			p = append(p, pack(1, list...))
		}
		r, err := openBytes(runBytes(t, p...))
		if err != nil {
			t.Fatalf("%d frames: %v", frames, err)
		}
		want := plainMap{}
		for _, p := range p {
			want.add(p)
		}
		want[chunk(uint64(frames))] = nil
		want[cas.ID{}] = nil
		want[cas.ID(bytes.Repeat([]byte{0xff}, 32))] = nil
		var all parts
		all.add(r, func(cas.ID) bool { return true })
		want.check(t, all)
		entries, err := scanAll(r)
		if err != nil || len(entries) != frames || r.entries != uint64(frames) || !slices.IsSortedFunc(entries, compareIDs) {
			t.Errorf("%d frames: %d entries in order, %d stated, %v", frames, len(entries), r.entries, err)
		}
		for ahead := range 4 {
			if again, err := scan(r, ahead); err != nil || !slices.EqualFunc(again, entries, bytes.Equal) {
				t.Errorf("%d frames, %d blocks at once: %d entries, %v", frames, ahead, len(again), err)
			}
		}
	}
}

// Copies of one chunk that fill several blocks are all found, and so are their
// neighbors, also those with the same first bytes.
func TestRunManyCopies(t *testing.T) {
	t.Parallel()
	want := plainMap{}
	var packs []*cas.Pack
	for n := range uint32(5) {
		var list []cas.Frame
		for i := range uint64(70) {
			list = append(list, full(7), delta(7+1<<32, 7, 1), full(7+2<<32), full(100+i))
		}
		packs = append(packs, pack(n, list...))
		want.add(packs[n])
	}
	r, err := openBytes(runBytes(t, packs...))
	if err != nil {
		t.Fatal(err)
	}
	var all parts
	all.add(r, func(cas.ID) bool { return true })
	want.check(t, all)
}

// What is merged is all that the sources have of packs that are kept, once.
func TestMerge(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 8))
	for round := range 50 {
		packs := manyPacks(1+rng.IntN(12), 1+rng.IntN(200))
		var sources []*run
		for rest := packs; len(rest) > 0; {
			n := 1 + rng.IntN(len(rest))
			part := rest[:n]
			if rng.IntN(3) == 0 { // some packs are in two runs
				part = append(slices.Clone(part), packs[rng.IntN(len(packs)-len(rest)+n)])
				part = slices.CompactFunc(part, func(a, b *cas.Pack) bool { return a.ID == b.ID })
			}
			r, err := openBytes(runBytes(t, part...))
			if err != nil {
				t.Fatal(err)
			}
			sources, rest = append(sources, r), rest[n:]
		}
		gone := packs[rng.IntN(len(packs))].ID
		m := merge{repo: newRepository().uuid, sources: sources, keep: func(id cas.ID) bool { return id != gone }}
		for range 2 {
			var out bytes.Buffer
			size, err := m.write(&out)
			if err != nil || size != int64(out.Len()) {
				t.Fatalf("round %d: %d bytes, %v, want %d", round, size, err, out.Len())
			}
			r, err := openBytes(out.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			want := plainMap{chunk(0): nil}
			for _, p := range packs {
				if p.ID != gone {
					want.add(p)
				}
			}
			var all parts
			all.add(r, func(cas.ID) bool { return true })
			want.check(t, all)
			if entries, err := scanAll(r); err != nil || int64(len(entries)) != want.frames() || r.entries != uint64(want.frames()) {
				t.Errorf("round %d: %d entries, %d stated, %v, want %d", round, len(entries), r.entries, err, want.frames())
			}
		}
	}
}

// seal makes a block's checksum right again.
func seal(r *run, number uint32, block []byte) {
	binary.BigEndian.PutUint32(block, checksum(r.seed, number, block))
}

// resealEnd makes the hash at a run's end right again.
func resealEnd(data []byte) {
	end := data[len(data)-trailerSize:]
	packs, blocks := binary.BigEndian.Uint32(end[12:]), binary.BigEndian.Uint32(end[16:])
	tables := data[len(data)-trailerSize-int(packs)*packEntry-int(blocks)*prefixBytes : len(data)-trailerSize]
	hash := hashEnd(tables, end[:hashAt])
	copy(end[hashAt:], hash[:])
}

// A run whose end is whole and yet not what this program writes is refused.
func TestForeignEnd(t *testing.T) {
	t.Parallel()
	good := runBytes(t, manyPacks(3, 200)...)
	if _, err := openBytes(good); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(end []byte){
		"other version":    func(end []byte) { end[len(end)-trailerSize+11]++ },
		"other repository": func(end []byte) { end[len(end)-trailerSize+28]++ },
		"one pack more":    func(end []byte) { end[len(end)-trailerSize+15]++ },
		"most blocks":      func(end []byte) { copy(end[len(end)-trailerSize+16:], "\xff\xff\xff\xff") },
		"order of blocks":  func(end []byte) { end[len(end)-trailerSize-prefixBytes] = 0 },
	} {
		data := bytes.Clone(good)
		change(data)
		if what != "one pack more" && what != "most blocks" {
			resealEnd(data)
		}
		if r, err := openBytes(data); !errors.Is(err, errDamaged) {
			t.Errorf("%s: got %v, %v", what, r, err)
		}
	}
}

// A block whose checksum is right and yet not what this program writes is an
// error, in a lookup and when read in order.
func TestForeignBlock(t *testing.T) {
	t.Parallel()
	good := runBytes(t, pack(1, full(0), full(1), delta(2, 1, 1)))
	for what, change := range map[string]func(block []byte){
		"long":               func(block []byte) { binary.BigEndian.PutUint16(block[4:], blockSize-blockHeader+1) },
		"cut in an entry":    func(block []byte) { binary.BigEndian.PutUint16(block[4:], entrySize-1) },
		"delta without base": func(block []byte) { block[blockHeader+codecAt] = byte(cas.CodecDelta); block[5] = entrySize + 1 },
		"unknown pack":       func(block []byte) { block[blockHeader+ordinalAt+3] = 1 },
	} {
		data := bytes.Clone(good)
		r, err := openBytes(data)
		if err != nil {
			t.Fatal(err)
		}
		change(data)
		seal(r, 0, data[:blockSize])
		first := cas.ID(data[blockHeader:])
		if err := r.lookup(&first, func([]byte) {}); !errors.Is(err, errDamaged) || !r.bad.Load() {
			t.Errorf("%s: lookup: got %v", what, err)
		}
		if entries, err := scanAll(r); !errors.Is(err, errDamaged) {
			t.Errorf("%s: in order: got %d entries, %v", what, len(entries), err)
		}
	}
}

// A block passes in its own place and its own run only.
func TestMisplacedBlock(t *testing.T) {
	t.Parallel()
	packs := manyPacks(2, 300)
	data, other := runBytes(t, packs...), runBytes(t, packs...)
	if bytes.Equal(data, other) {
		t.Fatal("two runs have the same salt")
	}
	r, err := openBytes(data)
	if err != nil {
		t.Fatal(err)
	}
	for what, block := range map[string][]byte{"of another place": data[blockSize : 2*blockSize], "of another run": other[:blockSize]} {
		if _, err := r.openBlock(0, block); !errors.Is(err, errDamaged) {
			t.Errorf("a block %s: got %v", what, err)
		}
	}
}

// A run cut anywhere, or with any byte changed, gives an error or, where the
// byte does not matter to the question, the right answer.
func TestDamagedRun(t *testing.T) {
	t.Parallel()
	packs := manyPacks(2, 90)
	good := runBytes(t, packs...)
	want := plainMap{}
	for _, p := range packs {
		want.add(p)
	}
	for n := range good {
		if r, err := openBytes(good[:n]); !errors.Is(err, errDamaged) {
			t.Fatalf("cut at %d: got %v, %v", n, r, err)
		}
	}
	for n := range good {
		data := bytes.Clone(good)
		data[n] ^= 1 << (n % 8)
		r, err := openBytes(data)
		if err != nil {
			continue
		}
		if int64(n) >= int64(len(r.firsts))*blockSize {
			t.Fatalf("byte %d of the end changed, and it opens", n)
		}
		_, scanErr := scanAll(r)
		if !errors.Is(scanErr, errDamaged) {
			t.Fatalf("byte %d changed: read in order: %v", n, scanErr)
		}
		if n%64 != 0 {
			continue
		}
		var all parts
		all.add(r, func(cas.ID) bool { return true })
		for id, locations := range want {
			got, err := all.copies(&id)
			slices.SortFunc(got, compareLocations)
			slices.SortFunc(locations, compareLocations)
			if err == nil && !slices.Equal(got, locations) || err != nil && !errors.Is(err, errDamaged) {
				t.Fatalf("byte %d changed: chunk %s: got %+v, %v", n, id.Short(), got, err)
			}
		}
	}
}

func TestEntryCoding(t *testing.T) {
	t.Parallel()
	for _, f := range []cas.Frame{full(1), delta(2, 1, 8), {ID: chunk(3), Offset: 1<<63 - 1, StoredSize: 1<<32 - 1, PlainSize: 1<<32 - 1}} {
		data := appendEntry(nil, 1<<32-1, &f)
		entry, rest, err := cutEntry(append(bytes.Clone(data), 1))
		if err != nil || len(rest) != 1 || decodeEntry(entry) != f || ordinalOf(entry) != 1<<32-1 {
			t.Errorf("got %+v in %d, %v, want %+v", decodeEntry(entry), ordinalOf(entry), err, f)
		}
		for n := range data {
			if got, _, err := cutEntry(data[:n]); !errors.Is(err, errDamaged) {
				t.Errorf("cut at %d: got %x, %v", n, got, err)
			}
		}
	}
}

// FuzzOpenRun: whatever the bytes are, nothing panics, and what opens can be
// read or is an error.
func FuzzOpenRun(f *testing.F) {
	good := runBytes(f, pack(1, full(1), delta(2, 1, 1)))
	f.Add(good)
	f.Add(runBytes(f))
	f.Add(good[blockSize:])
	f.Fuzz(func(t *testing.T, data []byte) {
		for range 2 { // as they are, and with the right hash
			r, err := openBytes(data)
			if err == nil {
				entries, scanErr := scanAll(r)
				id := chunk(1)
				lookErr := r.lookup(&id, func(entry []byte) { _ = decodeEntry(entry) })
				if (scanErr != nil || lookErr != nil) != r.bad.Load() && lookErr != nil {
					t.Errorf("%d entries, %v, %v, bad %v", len(entries), scanErr, lookErr, r.bad.Load())
				}
			}
			if len(data) < trailerSize {
				return
			}
			data = bytes.Clone(data)
			end := data[len(data)-trailerSize:]
			tables := int64(binary.BigEndian.Uint32(end[12:]))*packEntry + int64(binary.BigEndian.Uint32(end[16:]))*prefixBytes
			if tables > int64(len(data)-trailerSize) {
				return
			}
			resealEnd(data)
		}
	})
}

// FuzzBlock: a block with the right checksum and any content.
func FuzzBlock(f *testing.F) {
	good := runBytes(f, pack(1, full(1), delta(2, 1, 1)))
	f.Add(good[4:blockSize])
	f.Add([]byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, content []byte) {
		block := make([]byte, blockSize)
		copy(block[4:], content)
		r := &run{packs: make([]tablePack, 2), firsts: []uint64{0}, size: blockSize, file: byteFile{bytes.NewReader(block)}}
		r.seed = crc32.Checksum(nil, castagnoli())
		seal(r, 0, block)
		entries, err := scanAll(r)
		if err != nil && !errors.Is(err, errDamaged) {
			t.Fatal(err)
		}
		for _, entry := range entries {
			frame := decodeEntry(entry)
			if again := appendEntry(nil, ordinalOf(entry), &frame); !bytes.Equal(again, entry) {
				t.Errorf("%x reads as %+v, which writes as %x", entry, frame, again)
			}
			id := frame.ID
			if err := r.lookup(&id, func(found []byte) { _ = decodeEntry(found) }); err != nil && !errors.Is(err, errDamaged) && !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		}
	})
}

func TestVictims(t *testing.T) {
	t.Parallel()
	ofSize := func(sizes ...uint64) (runs []*run) {
		for _, n := range sizes {
			runs = append(runs, &run{entries: n})
		}
		return runs
	}
	for _, test := range []struct{ have, coming, want []uint64 }{
		{nil, []uint64{5}, nil},
		{[]uint64{17e6}, []uint64{200e3}, nil},
		{[]uint64{17e6, 200e3}, []uint64{200e3}, []uint64{200e3}},
		{[]uint64{17e6, 1e6, 200e3}, []uint64{200e3}, []uint64{200e3, 1e6}},
		{[]uint64{17e6, 4e6, 200e3}, []uint64{200e3}, []uint64{200e3}},
		{[]uint64{10, 20, 30}, []uint64{1}, []uint64{10, 20, 30}},
		{[]uint64{mergeRatio * smallRun}, []uint64{1}, []uint64{mergeRatio * smallRun}},
		{[]uint64{mergeRatio*smallRun + 1}, []uint64{1}, nil},
		{[]uint64{900e3}, []uint64{150e3, 100e3}, []uint64{900e3}},
	} {
		var got []uint64
		for _, r := range victims(ofSize(test.have...), ofSize(test.coming...)) {
			got = append(got, r.entries)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%v with %v coming: got %v, want %v", test.have, test.coming, got, test.want)
		}
	}
}

// However packs come, there are few runs, and each entry is written a few times.
func TestVictimsOverTime(t *testing.T) {
	t.Parallel()
	for _, step := range []uint64{1000, 64 << 10, 200e3} {
		var runs []*run
		var written, total uint64
		most := 0
		for range 17_000_000 / max(step, 10_000) {
			fresh := []*run{{entries: step}}
			old := victims(runs, fresh)
			size := step
			for _, r := range old {
				size += r.entries
			}
			runs = append(subtract(runs, old), &run{entries: size})
			written += size
			total += step
			most = max(most, len(runs))
		}
		if most > 6 || step > smallRun && written > 12*total {
			t.Errorf("steps of %d: %d runs at most, each entry written %.1f times", step, most, float64(written)/float64(total))
		}
		t.Log(fmt.Sprint("steps of ", step, ": at most ", most, " runs, each entry written ", float64(written)/float64(total), " times"))
	}
}

// Packs are gathered in runs none of which has the packs of another.
func TestGather(t *testing.T) {
	t.Parallel()
	repo := newRepository(manyPacks(9, 100)...)
	ids, err := repo.PackIDs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var unread []cas.ID
	repo.failing[ids[4]] = errors.New("boom")
	bad := func(id cas.ID, _ error) error { unread = append(unread, id); return nil }
	runs, err := gather(t.Context(), repo, scratch{t.TempDir()}, 250, ids, bad)
	if err != nil || !slices.Equal(unread, ids[4:5]) {
		t.Fatalf("got %v, could not read %v", err, unread)
	}
	seen := map[cas.ID]bool{ids[4]: true}
	for _, r := range runs {
		var frames uint64
		for _, p := range r.packs {
			if seen[p.id] {
				t.Errorf("pack %s is there twice", p.id.Short())
			}
			seen[p.id] = true
			frames += uint64(p.frames)
		}
		if frames != r.entries {
			t.Errorf("a run of %d frames has %d entries", frames, r.entries)
		}
	}
	if len(runs) < 3 || len(seen) != len(ids) {
		t.Errorf("%d runs with %d packs, want more than 2 with %d", len(runs), len(seen), len(ids))
	}
	if err := closeRuns(runs); err != nil {
		t.Error(err)
	}
	boom := errors.New("stop")
	if _, err := gather(t.Context(), repo, nil, 250, ids, func(cas.ID, error) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("got %v, want %v", err, boom)
	}
}
