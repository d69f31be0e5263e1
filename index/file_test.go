package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/shardseed/shardseed/cas"
)

// builtIndex makes an index, closes it, and returns the paths of its database
// and seal.
func builtIndex(t testing.TB, dir string, repo *repository) (db, seal string) {
	t.Helper()
	closeIndex(t, open(t, dir, repo))
	repo.takeReads()
	db = filepath.Join(dir, repo.uuid.String()+".db")
	return db, filepath.Join(dir, repo.uuid.String()+".seal")
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// wantRebuilt checks that an index which was damaged is made anew.
func wantRebuilt(t testing.TB, dir string, repo *repository, what string) {
	t.Helper()
	x := open(t, dir, repo)
	if reads := repo.takeReads(); reads != len(repo.packs) {
		t.Errorf("%s: %d directories were read, want all %d", what, reads, len(repo.packs))
	}
	wantProblems(t, x)
	wantSame(t, x, inMemory(t, repo), 60)
	closeIndex(t, x)
	repo.takeReads()
	closeIndex(t, open(t, dir, repo))
	if reads := repo.takeReads(); reads != 0 {
		t.Errorf("%s: the new file is not good: %d directories were read", what, reads)
	}
}

// Whatever happens to a file between two runs, the next one answers right.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	dir := fastDir(t)
	repo := newRepository(manyPacks(3, 20)...)
	db, seal := builtIndex(t, dir, repo)
	good, goodSeal := readFile(t, db), readFile(t, seal)
	rng := rand.New(rand.NewPCG(3, 4))
	damages := map[string][]byte{
		"empty": nil, "one byte": {0}, "cut in the first page": good[:100], "cut at a page": good[:4096], "cut by one": good[:len(good)-1],
		"longer": append(bytes.Clone(good), 0), "no page": make([]byte, len(good)), "text": []byte("hello\n"),
	}
	for i := 0; i < len(good); i += 4096 {
		zeroed := bytes.Clone(good)
		clear(zeroed[i:min(len(zeroed), i+4096)])
		if !bytes.Equal(zeroed, good) {
			damages[fmt.Sprintf("page %d zeroed", i/4096)] = zeroed
		}
	}
	for range 20 {
		flipped, at := bytes.Clone(good), rng.IntN(len(good))
		flipped[at] ^= 1 << rng.IntN(8)
		damages[fmt.Sprintf("byte %d flipped", at)] = flipped
	}
	for what, data := range damages {
		writeFile(t, db, data)
		writeFile(t, seal, goodSeal)
		wantRebuilt(t, dir, repo, what)
	}
}

func TestDamagedSeal(t *testing.T) {
	t.Parallel()
	dir := fastDir(t)
	repo := newRepository(manyPacks(3, 20)...)
	db, seal := builtIndex(t, dir, repo)
	for n := range readFile(t, seal) {
		cut := readFile(t, seal)
		writeFile(t, seal, cut[:n])
		wantRebuilt(t, dir, repo, fmt.Sprintf("seal cut at %d", n))
		if n%8 != 0 {
			continue
		}
		flipped := readFile(t, seal)
		flipped[n] ^= 1
		writeFile(t, seal, flipped)
		wantRebuilt(t, dir, repo, fmt.Sprintf("seal flipped at %d", n))
	}
	writeFile(t, seal, bytes.Repeat([]byte("x"), 5000))
	wantRebuilt(t, dir, repo, "long seal")
	if err := os.Remove(seal); err != nil {
		t.Fatal(err)
	}
	wantRebuilt(t, dir, repo, "no seal")
	if err := os.Remove(db); err != nil {
		t.Fatal(err)
	}
	wantRebuilt(t, dir, repo, "no database")
}

// A database that is sealed and yet not what this program writes is dropped.
func TestForeignFile(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(tx *bbolt.Tx) error{
		"other repository": func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketMeta()).Put(keyHeader(), header{repo: cas.UUID{9}}.encode())
		},
		"other version": func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketMeta()).Put(keyHeader(), append([]byte{0, 2}, make([]byte, headerSize-2)...))
		},
		"short header": func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta()).Put(keyHeader(), []byte{0, 1}) },
		"no header":    func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta()).Delete(keyHeader()) },
		"no chunks":    func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketChunks()) },
		"odd pack key": func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketPacks()).Put([]byte{1}, make([]byte, packSize))
		},
		"odd pack": func(tx *bbolt.Tx) error { return tx.Bucket(bucketPacks()).Put([]byte{0, 0, 0, 9}, []byte{1}) },
	} {
		dir := t.TempDir()
		repo := newRepository(manyPacks(3, 20)...)
		db, sealPath := builtIndex(t, dir, repo)
		changeDatabase(t, db, sealPath, change)
		wantRebuilt(t, dir, repo, what)
	}
}

// changeDatabase changes a database and seals it again.
func changeDatabase(t *testing.T, db, sealPath string, change func(tx *bbolt.Tx) error) {
	t.Helper()
	raw, err := bbolt.Open(db, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(raw.Update(change), raw.Close()); err != nil {
		t.Fatal(err)
	}
	text, err := sealText(db)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, sealPath, []byte(text))
}

// Entries that cannot be what this program wrote are not believed.
func TestForeignEntry(t *testing.T) {
	t.Parallel()
	for what, value := range map[string][]byte{
		"empty": {}, "short": make([]byte, valueSize-1), "long": make([]byte, deltaSize+1),
		"delta without base": append(make([]byte, valueSize-2), byte(cas.CodecDelta), 1),
		"base without delta": make([]byte, deltaSize),
	} {
		dir := t.TempDir()
		repo := newRepository(manyPacks(3, 20)...)
		db, sealPath := builtIndex(t, dir, repo)
		changeDatabase(t, db, sealPath, func(tx *bbolt.Tx) error {
			id := chunk(0)
			return tx.Bucket(bucketChunks()).Put(append(id[:], make([]byte, 8)...), value)
		})
		x := open(t, dir, repo)
		wantReads(t, repo, 0)
		wantPack(t, x, chunk(0), cas.AnyDepth, -1)
		wantProblems(t, x, "cannot be read any more")
		closeIndex(t, x)
		wantRebuilt(t, dir, repo, what)
	}
}

// A file that goes bad while it is in use costs deduplication and nothing
// else: no fault in the mapped memory ends the process.
func TestFileGoesBad(t *testing.T) {
	t.Parallel()
	for what, damage := range map[string]func(f *os.File, size int64) error{
		"cut to nothing": func(f *os.File, _ int64) error { return f.Truncate(0) },
		"cut to a page":  func(f *os.File, _ int64) error { return f.Truncate(4096) },
		"overwritten": func(f *os.File, size int64) error {
			_, err := f.WriteAt(bytes.Repeat([]byte{0xee}, int(size)), 0)
			return err
		},
	} {
		dir := t.TempDir()
		repo := newRepository(manyPacks(3, 2000)...)
		db, _ := builtIndex(t, dir, repo)
		x := open(t, dir, repo)
		own := pack(77, full(1<<20))
		repo.publish(own)
		if err := x.Add([]*cas.Pack{own}); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(db, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(damage(f, int64(len(readFile(t, db)))), f.Close()); err != nil {
			t.Fatal(err)
		}
		for n := range uint64(6000) {
			if got, err := x.Lookup(chunk(n), cas.AnyDepth); err == nil {
				t.Errorf("%s: chunk %d: got %+v", what, n, got)
			}
		}
		wantPack(t, x, chunk(1<<20), cas.AnyDepth, 77)
		wantProblems(t, x, "cannot be read any more")
		if what == "cut to a page" {
			if err := x.Save(t.Context()); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			wantSame(t, x, inMemory(t, repo), 60)
		}
		closeIndex(t, x)
		if what != "cut to a page" {
			repo.takeReads()
			wantRebuilt(t, dir, repo, what)
		}
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	var f file
	boom := errors.New("boom")
	if err := f.guard(func() error { return boom }); !errors.Is(err, boom) || f.lost.Load() {
		t.Errorf("got %v, want %v", err, boom)
	}
	if err := f.guard(func() error { panic("page 7") }); !errors.Is(err, errFile) || !f.lost.Load() {
		t.Errorf("got %v, want %v", err, errFile)
	}
}

// Batches and transactions do not change what is found.
func TestBatches(t *testing.T) {
	t.Parallel()
	packs := manyPacks(9, 500)
	repo := newRepository(packs...)
	now, err := takeSurvey(t.Context(), repo)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.db")
	f, err := openFile(path, repo.uuid, writing)
	if err != nil {
		t.Fatal(err)
	}
	f.batch = 1300
	if err := f.addMissing(t.Context(), repo, now, unread{}); err != nil {
		t.Fatal(err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	f, err = openFile(path, repo.uuid, reading)
	if err != nil {
		t.Fatal(err)
	}
	want := inMemory(t, repo)
	if f.header.next != 9 || f.header.entries != uint64(want.Stats().Chunks) || len(f.packs) != 9 {
		t.Errorf("got header %+v and %d packs, want 9 packs with %d entries", f.header, len(f.packs), want.Stats().Chunks)
	}
	x := &Index{repo: repo, file: f, live: map[uint32]cas.ID{}, overlay: newMemory()}
	for ordinal, p := range f.packs {
		x.live[ordinal] = p.id
	}
	wantSame(t, x, want, 4500)
	closeIndex(t, x)
}

// A file that is mostly about packs that are gone is made anew, smaller.
func TestWasteful(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var frames []cas.Frame
	for n := range uint64(minGarbage + txFrames) {
		frames = append(frames, full(n+1000))
	}
	repo := newRepository(pack(0, full(0)), pack(1, frames...))
	db, _ := builtIndex(t, dir, repo)
	before := len(readFile(t, db))
	x := open(t, dir, repo)
	wantPack(t, x, chunk(1000), cas.AnyDepth, 1)
	wantPack(t, x, chunk(1000+minGarbage+txFrames-1), cas.AnyDepth, 1)
	closeIndex(t, x)
	repo.remove(pack(1).ID)
	closeIndex(t, open(t, dir, repo))
	wantReads(t, repo, 1)
	if after := len(readFile(t, db)); after*10 > before {
		t.Errorf("the file had %d bytes and has %d", before, after)
	}
}

// An error of the database ends a batch; what was there before stays known.
func TestPutFails(t *testing.T) {
	t.Parallel()
	f, err := openFile(filepath.Join(t.TempDir(), "x.db"), cas.UUID{1}, writing)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.put(batch{packs: []*cas.Pack{pack(0, full(0))}, frames: 1}), f.close()); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"put":      f.put(batch{packs: []*cas.Pack{pack(1, full(1))}, frames: 1}),
		"putPacks": f.putPacks(batch{packs: []*cas.Pack{pack(1, full(1))}, frames: 1}),
		"forget":   f.forget([]uint32{0}),
	} {
		if err == nil {
			t.Errorf("%s: want an error", what)
		}
	}
	if len(f.packs) != 1 || f.header.next != 1 || f.header.entries != 1 {
		t.Errorf("got %d packs, header %+v, want what there was", len(f.packs), f.header)
	}
}

func TestEntryCoding(t *testing.T) {
	t.Parallel()
	for _, f := range []cas.Frame{full(1), delta(2, 1, 8), {ID: chunk(3), Offset: 1<<63 - 1, StoredSize: 1<<32 - 1, PlainSize: 1<<32 - 1}} {
		s := slot{frame: &f, ordinal: 1<<32 - 1, number: 5}
		ordinal, got, err := decodeEntry(s.key(), s.value())
		if err != nil || got != f || ordinal != s.ordinal {
			t.Errorf("got %+v in %d, %v, want %+v", got, ordinal, err, f)
		}
		for n := range s.value() {
			if _, got, err := decodeEntry(s.key(), s.value()[:n]); err == nil && (n != valueSize || got.Codec == cas.CodecDelta) {
				t.Errorf("cut at %d: got %+v", n, got)
			}
		}
		for n := range s.key() {
			if _, got, err := decodeEntry(s.key()[:n], s.value()); err == nil {
				t.Errorf("key cut at %d: got %+v", n, got)
			}
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	for _, frame := range []cas.Frame{full(1), delta(2, 1, 8)} {
		s := slot{frame: &frame, ordinal: 7}
		f.Add(s.key(), s.value())
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		ordinal, frame, err := decodeEntry(key, value)
		if err != nil {
			return
		}
		s := slot{frame: &frame, ordinal: ordinal, number: binary.BigEndian.Uint32(key[36:])}
		if !bytes.Equal(s.key(), key) || !bytes.Equal(s.value(), value) {
			t.Errorf("%x %x reads as %+v, which writes as %x %x", key, value, frame, s.key(), s.value())
		}
	})
}

func FuzzDecodeHeader(f *testing.F) {
	f.Add(header{repo: cas.UUID{1}, next: 2, entries: 3}.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, err := decodeHeader(data); err == nil && !bytes.Equal(h.encode(), data) {
			t.Errorf("%x reads as %+v, which writes as %x", data, h, h.encode())
		}
	})
}
