package innodb

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// pageKind is one way in which a page can be stored.
type pageKind struct {
	name    string
	flags   uint32
	mariadb bool
	page    []byte // page 3 of tablespace testSpace
	want    Report // of this page alone, without Pages and MaxLSN
	// blind are bytes that no check of this kind reads, as from, to pairs.
	blind [][2]int
}

func pageKinds(tb testing.TB) []pageKind {
	tb.Helper()
	const no = 3
	checked, opaque := Report{Checked: 1}, Report{Unchecked: 1}
	locked := Report{Checked: 1, Encrypted: 1}
	flushLSN := [][2]int{{26, 34}}
	zipBlind := [][2]int{{16, 24}, {26, 34}}
	plain := func() []byte { return newPage(4096, no, typeIndex) }
	zip := func(seal func(p []byte) []byte) []byte { return seal(newPage(1024, no, typeIndex)) }
	adler := func(p []byte) []byte { put32(p, zipAdler(p)); return p }
	zipNone := func(p []byte) []byte { put32(p, noChecksum); return p }
	sealed := sealCRC32(plain())
	zlibBody, lz4Body := deflate(tb, sealed[offBody:]), halfLZ4()
	zlibPage := deflate(tb, half())
	const size4K = 3 << 6
	fc := uint32(0x13) // full_crc32, 4 KiB
	return []pageKind{
		{"mysql crc32", size4K, false, sealCRC32(plain()), checked, flushLSN},
		{"mysql innodb", size4K, false, sealLegacy(plain()), checked, flushLSN},
		{"mysql innodb before 4.1", size4K, false, sealAncient(plain()), checked, flushLSN},
		{"mysql none", size4K, false, sealNone(plain()), opaque, [][2]int{{8, 20}, {24, 34}, {38, 4088}}},
		{"mysql crc32, swapped", size4K, false, sealSwapped(plain()), checked, flushLSN},
		{"mysql compressed rows", 0x23, false, zip(sealZip), checked, zipBlind},
		{"mysql compressed rows, adler", 0x23, false, zip(adler), checked, zipBlind},
		{"mysql compressed rows, none", 0x23, false, zip(zipNone), opaque, [][2]int{{8, 34}, {38, 1024}}},
		{"mysql encrypted", size4K | 0x2000, false, newPage(4096, no, 15), Report{Unchecked: 1, Encrypted: 1}, [][2]int{{0, 4}, {8, 34}, {38, 4096}}},
		{"mysql zlib", size4K, false, packMySQL(sealed, zlibBody, 1), checked, [][2]int{{26, 28}, {32, 34}, {38, 40}, {38 + len(zlibBody), 4096}}},
		{"mysql lz4", size4K, false, packMySQL(half(), lz4Body, 2), checked, [][2]int{{26, 28}, {38 + len(lz4Body), 4096}}},
		{"mysql compression of the future", size4K, false, packMySQL(sealed, zlibBody, 9), opaque, [][2]int{{0, 4}, {8, 34}, {38, 4096}}},
		{"mariadb full_crc32", fc, true, sealFull(plain()), checked, nil},
		{"mariadb full_crc32, encrypted", fc, true, encryptFull(plain()), locked, nil},
		{"mariadb full_crc32, page compressed", fc | 1<<5, true, compressFull(plain(), 1024), checked, [][2]int{{1024, 4096}}},
		{"mariadb crc32", size4K, true, sealCRC32(plain()), checked, flushLSN},
		{"mariadb crc32, encrypted", size4K, true, encryptClassic(sealCRC32(plain()), false), locked, [][2]int{{0, 4}, {4088, 4096}, {26, 30}}},
		{"mariadb compressed rows", 0x23, true, zip(sealZip), checked, zipBlind},
		{"mariadb compressed rows, encrypted", 0x23, true, encryptClassic(zip(sealZip), true), locked, [][2]int{{0, 4}, {16, 24}, {26, 30}}},
		{"mariadb zlib", size4K | 1<<16, true, packMaria(half(), zlibPage, 1), checked, [][2]int{{0, 4}, {8, 24}, {26, 34}, {38, 42}, {40 + len(zlibPage), 4096}}},
		{"mariadb lzma", size4K | 1<<16, true, packMaria(plain(), zlibPage, 4), opaque, [][2]int{{0, 4}, {8, 34}, {38, 4096}}},
	}
}

// half is a sealed page of which the middle is zero.
func half() []byte {
	p := newPage(4096, 3, typeIndex)
	clear(p[1000:4088])
	return sealCRC32(p)
}

// halfLZ4 is the body of half as an LZ4 block: literals up to the first zero,
// a match of zeros that overlaps itself, and the trailer as literals.
func halfLZ4() []byte {
	body := half()[offBody:]
	const literals, match = 1001 - offBody, 4088 - 1001
	out := lz4Literals(body[:literals])
	out[0] |= 0xf
	out = append(out, 1, 0)
	n := match - 4 - 15
	for ; n >= 255; n -= 255 {
		out = append(out, 255)
	}
	return append(append(out, byte(n), 8<<4), body[len(body)-8:]...)
}

// sameInside reports whether two pages decompress to the same bytes: a few
// bits of a compressed stream may not matter.
func sameInside(tb testing.TB, a, b []byte) bool {
	tb.Helper()
	var pages [2][]byte
	for i, p := range [][]byte{a, b} {
		in := &inflater{page: make([]byte, len(p))}
		unpack := unpackMySQL
		if be16(p[offType:]) == typeMariaCompressed {
			unpack = unpackMaria
		}
		if _, err := unpack(in, p); err != nil {
			return false
		}
		pages[i] = in.page[offBody:]
	}
	return bytes.Equal(pages[0], pages[1])
}

func checkerOf(tb testing.TB, k pageKind) *Checker {
	tb.Helper()
	c, err := NewChecker(bytes.NewReader(pageZero(4096, k.flags)), k.mariadb)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestCheckKinds(t *testing.T) {
	for _, k := range pageKinds(t) {
		t.Run(k.name, func(t *testing.T) {
			c := checkerOf(t, k)
			if got := c.Space().PageSize; got != len(k.page) {
				t.Fatalf("page size %d, the page has %d", got, len(k.page))
			}
			before := bytes.Clone(k.page)
			var r Report
			c.Check(3*int64(len(k.page)), k.page, &r)
			k.want.Pages, k.want.MaxLSN = 1, testLSN
			if diff := cmp.Diff(k.want, r); diff != "" {
				t.Error(diff)
			}
			if !bytes.Equal(before, k.page) {
				t.Error("the page was changed")
			}
		})
	}
}

func TestCheckFindsEveryChangedByte(t *testing.T) {
	for _, k := range pageKinds(t) {
		t.Run(k.name, func(t *testing.T) {
			c := checkerOf(t, k)
			before := bytes.Clone(k.page)
			for i := range k.page {
				k.page[i] ^= 0xff
				var r Report
				c.Check(3*int64(len(k.page)), k.page, &r)
				if r.BadCount != 1 && !blind(k, i) && !sameInside(t, before, k.page) {
					t.Errorf("byte %d changed: not found", i)
				}
				k.page[i] ^= 0xff
			}
		})
	}
}

func blind(k pageKind, i int) bool {
	for _, b := range k.blind {
		if i >= b[0] && i < b[1] {
			return true
		}
	}
	return false
}

func TestCheckWhy(t *testing.T) {
	kinds := map[string]pageKind{}
	for _, k := range pageKinds(t) {
		kinds[k.name] = k
	}
	for _, tc := range []struct {
		name   string
		kind   string
		change func(p []byte)
		want   string
	}{
		{"checksum", "mysql crc32", func(p []byte) { p[100]++ }, "checksum 0x"},
		{"torn", "mysql none", func(p []byte) { p[23]++ }, "low half of the LSN is 0x2345678a in the header, 0x23456789 in the trailer"},
		{"number", "mysql none", func(p []byte) { p[7] = 9; sealNone(p) }, "page says that it is page 9"},
		{"space", "mysql none", func(p []byte) { p[37] = 9 }, "page says that it is in tablespace 9, not in 77"},
		{"compressed", "mysql zlib", func(p []byte) { p[60]++ }, "decompress page: "},
		{"compressed size", "mysql zlib", func(p []byte) { p[32] = 0xff }, "do not fit into the page"},
		{"inner number", "mariadb zlib", func(p []byte) { p[7] = 9 }, "page says that it is page 9, compressed that it is page 3"},
		{"compressed length", "mariadb full_crc32, page compressed", func(p []byte) { put16(p[24:], 1<<15|16) }, "compressed length 4096 does not fit"},
		{"no compressed length", "mariadb full_crc32, page compressed", func(p []byte) { put16(p[24:], 1<<15) }, "compressed length 0 does not fit"},
		{"encrypted", "mariadb crc32, encrypted", func(p []byte) { p[100]++ }, "as an encrypted page: checksum"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := kinds[tc.kind]
			k.page = bytes.Clone(k.page)
			tc.change(k.page)
			var r Report
			checkerOf(t, k).Check(3*int64(len(k.page)), k.page, &r)
			if r.BadCount != 1 || r.Bad[0].No != 3 || !strings.Contains(r.Bad[0].Why, tc.want) {
				t.Errorf("got %+v, want %q", r, tc.want)
			}
			if r.MaxLSN != 0 {
				t.Errorf("the LSN of a bad page counts: %d", r.MaxLSN)
			}
		})
	}
}

// file4K is a file of n pages with flags of MySQL and one empty page, 2.
func file4K(n int) []byte {
	file := sealCRC32(pageZero(4096, 3<<6))
	for no := 1; no < n; no++ {
		p := sealCRC32(newPage(4096, uint32(no), typeIndex))
		if no == 2 {
			clear(p)
		}
		file = append(file, p...)
	}
	return file
}

func TestCheckRangesAddUpToTheFile(t *testing.T) {
	file := file4K(40)
	file[17*4096+200]++
	c, err := NewChecker(bytes.NewReader(file), false)
	if err != nil {
		t.Fatal(err)
	}
	var want Report
	c.Check(0, file, &want)
	if want.Pages != 40 || want.Zero != 1 || want.Checked != 38 || want.BadCount != 1 || want.Bad[0].No != 17 {
		t.Fatalf("whole: %+v", want)
	}
	for _, pages := range []int{1, 7, 16, 39} {
		parts := make([]Report, (40+pages-1)/pages)
		var wg sync.WaitGroup
		for i := range parts {
			wg.Go(func() {
				from, to := i*pages*4096, min((i+1)*pages*4096, len(file))
				c.Check(int64(from), file[from:to], &parts[i])
			})
		}
		wg.Wait()
		var got Report
		for _, p := range parts {
			got.Merge(p)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d pages at a time: %s", pages, diff)
		}
	}
}

func TestCheckCutFile(t *testing.T) {
	file := file4K(3)
	c, err := NewChecker(bytes.NewReader(file), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 4095, 4097, 8192 + 10} {
		var r Report
		c.Check(0, file[:n], &r)
		if r.BadCount != 1 || !strings.Contains(r.Bad[0].Why, "file ends after") || r.Bad[0].No != uint32(n/4096) {
			t.Errorf("%d bytes: got %+v", n, r)
		}
	}
}

func TestCheckInsidePagePanics(t *testing.T) {
	c, err := NewChecker(bytes.NewReader(file4K(1)), false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	c.Check(100, nil, &Report{})
}

func TestCheckNumbersDoNotWrap(t *testing.T) {
	file := file4K(2)
	c, err := NewChecker(bytes.NewReader(file), false)
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	c.Check((1<<32+1)*4096, file[4096:], &r) // page 1 again after 2^32 pages
	if r.BadCount != 1 {
		t.Errorf("got %+v", r)
	}
}

func TestFromContinuesTheNumbers(t *testing.T) {
	file := file4K(10)
	first, err := NewChecker(bytes.NewReader(file), false)
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	first.Check(0, file[:6*4096], &r)
	first.From(6).Check(0, file[6*4096:], &r)
	if r.Pages != 10 || r.BadCount != 0 {
		t.Errorf("got %+v", r)
	}
	r = Report{}
	first.Check(0, file[6*4096:], &r)
	if r.BadCount != 4 {
		t.Errorf("without From: got %+v", r)
	}
}

func TestCheckSize(t *testing.T) {
	c, err := NewChecker(bytes.NewReader(file4K(4)), false)
	if err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int64]string{
		4 * 4096:   "",
		5 * 4096:   "",
		3 * 4096:   "file has 3 pages, page 0 says 4",
		4*4096 + 1: "not a multiple of its page size 4096",
	} {
		err := c.CheckSize(size)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%d bytes: got %v, want %q", size, err, want)
		}
	}
}

func TestDoublewrite(t *testing.T) {
	const size, blocks = 16384, 100 // page 100 and on, page 64 and on
	var file []byte
	for no := range uint32(200) {
		p := newPage(size, no, typeIndex)
		if no == 0 {
			p = pageZero(size, 0)
			put32(p[offFSPSpaceID:], 0)
		}
		put32(p[offSpaceID:], 0)
		if no == 5 {
			put32(p[size-190:], 536853855)
			put32(p[size-186:], 10)
			put32(p[size-182:], blocks)
		}
		if no >= 10 && no < 10+64 || no >= blocks && no < blocks+64 {
			put32(p[offPageNo:], no+1000)
			put64(p[offLSN:], 1<<60)
		}
		file = append(file, sealCRC32(p)...)
	}
	c, err := NewChecker(bytes.NewReader(file), false)
	if err != nil {
		t.Fatal(err)
	}
	var got Report
	c.Check(0, file, &got)
	want := Report{Pages: 200, Checked: 72, Doublewrite: 128, MaxLSN: testLSN}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	put32(file[6*size-190:], 0)
	c, err = NewChecker(bytes.NewReader(file), false)
	if err != nil {
		t.Fatal(err)
	}
	got = Report{}
	if c.Check(0, file, &got); got.Doublewrite != 0 || got.BadCount != 129 {
		t.Errorf("without the mark: %+v", got.BadCount)
	}
}

// brokenReader fails after its first read.
type brokenReader struct {
	r     io.ReaderAt
	reads int
}

func (b *brokenReader) ReadAt(p []byte, off int64) (int, error) {
	if b.reads++; b.reads > 1 {
		return 0, errors.New("disk on fire")
	}
	return b.r.ReadAt(p, off)
}

func TestNewCheckerErrors(t *testing.T) {
	if _, err := NewChecker(strings.NewReader("short"), false); !errors.Is(err, io.EOF) {
		t.Errorf("short file: got %v", err)
	}
	system := pageZero(4096, 3<<6)
	put32(system[offFSPSpaceID:], 0)
	put32(system[offSpaceID:], 0)
	if _, err := NewChecker(&brokenReader{r: bytes.NewReader(system)}, false); err == nil || !strings.Contains(err.Error(), "page 5") {
		t.Errorf("broken disk: got %v", err)
	}
	if _, err := NewChecker(bytes.NewReader(system), false); err != nil {
		t.Errorf("system tablespace of one page: got %v", err)
	}
}

func TestReportIsBounded(t *testing.T) {
	file := file4K(300)
	for no := 10; no < 300; no++ {
		file[no*4096+500]++
	}
	c, err := NewChecker(bytes.NewReader(file), false)
	if err != nil {
		t.Fatal(err)
	}
	var late, early Report
	c.Check(150*4096, file[150*4096:], &late)
	c.Check(0, file[:150*4096], &early)
	late.Merge(early)
	if late.BadCount != 290 || len(late.Bad) != MaxBad || late.Bad[0].No != 10 || late.Bad[MaxBad-1].No != 109 {
		t.Errorf("%d bad, %d named", late.BadCount, len(late.Bad))
	}
}

func TestCheckDoesNotAllocate(t *testing.T) {
	for _, k := range pageKinds(t) {
		c := checkerOf(t, k)
		var r Report
		if strings.Contains(k.name, "z") || strings.Contains(k.name, "swapped") {
			continue // decompression allocates, and so does what only old pages need
		}
		n := testing.AllocsPerRun(100, func() { c.Check(3*int64(len(k.page)), k.page, &r) })
		if n >= 1 {
			t.Errorf("%s: %v allocations for a page", k.name, n)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, k := range pageKinds(f) {
		f.Add(k.flags, k.mariadb, k.page)
	}
	f.Fuzz(func(t *testing.T, flags uint32, mariadb bool, data []byte) {
		c, err := NewChecker(bytes.NewReader(pageZero(4096, flags)), mariadb)
		if err != nil {
			return
		}
		var r Report
		c.Check(3*int64(c.Space().PageSize), data, &r)
		if r.Pages != r.Zero+r.Checked+r.Unchecked+r.Doublewrite+r.BadCount {
			t.Errorf("counts do not add up: %+v", r)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	for _, k := range pageKinds(b) {
		b.Run(k.name, func(b *testing.B) {
			c := checkerOf(b, k)
			var r Report
			b.SetBytes(int64(len(k.page)))
			for b.Loop() {
				c.Check(3*int64(len(k.page)), k.page, &r)
			}
		})
	}
}
