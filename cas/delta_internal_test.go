package cas

import (
	"bytes"
	"slices"
	"testing"
)

func difference(plain, base []byte) []byte { return appendDifference(nil, plain, base) }

// TestDifference goes through all sizes about those of blocks and bitmaps, with
// changes at the edges.
func TestDifference(t *testing.T) {
	for _, size := range []int{1, 2, 511, 512, 513, 1023, 1024, 4095, 4096, 4097, 4608, 65536, 65537} {
		base := randomBytes(uint64(size), size)
		for _, at := range [][]int{nil, {0}, {size - 1}, {size / 2}, {0, size - 1}, {0, 511 % size, 512 % size, size / 3}} {
			plain := bytes.Clone(base)
			blocks := map[int]int{}
			for _, n := range at {
				plain[n] ^= 0x55
			}
			for n := range plain {
				if plain[n] != base[n] {
					start := n / deltaBlock * deltaBlock
					blocks[start] = min(deltaBlock, size-start)
				}
			}
			want := bitmapSize(size)
			for _, length := range blocks {
				want += length
			}
			d := difference(plain, base)
			if len(d) != want || len(d) > maxDifference(size) {
				t.Errorf("size %d, changes at %v: got %d bytes, want %d", size, at, len(d), want)
			}
			got := bytes.Clone(base)
			if err := applyDifference(got, d); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("size %d, changes at %v: %v", size, at, err)
			}
		}
		if got := len(difference(base, make([]byte, size))); got != maxDifference(size) {
			t.Errorf("size %d, all changed: got %d bytes, want %d", size, got, maxDifference(size))
		}
	}
	if got := appendDifference([]byte("before"), []byte{1}, []byte{3}); !slices.Equal(got, []byte("before\x01\x02")) {
		t.Errorf("got %q", got)
	}
}

// TestApplyDifferenceRefuses cuts a difference at every byte and sets every bit
// of its bitmap.
func TestApplyDifferenceRefuses(t *testing.T) {
	const size = 5*deltaBlock + 100
	base := randomBytes(1, size)
	plain := bytes.Clone(base)
	plain[700]++
	plain[size-1]++
	d := difference(plain, base)
	for n := range d {
		if err := applyDifference(bytes.Clone(base), d[:n]); err == nil {
			t.Errorf("cut to %d of %d bytes: no error", n, len(d))
		}
	}
	if err := applyDifference(bytes.Clone(base), append(d, 0)); err == nil {
		t.Error("a byte too many: no error")
	}
	for bit := range 8 {
		changed := bytes.Clone(d)
		changed[0] ^= 1 << bit
		if err := applyDifference(bytes.Clone(base), changed); err == nil {
			t.Errorf("bit %d of the bitmap turned: no error", bit)
		}
	}
}

func FuzzApplyDifference(f *testing.F) {
	base := randomBytes(2, 3000)
	plain := bytes.Clone(base)
	plain[1000]++
	f.Add(uint16(3000), difference(plain, base))
	f.Add(uint16(0), []byte{})
	f.Fuzz(func(t *testing.T, size uint16, d []byte) {
		data := make([]byte, size)
		if err := applyDifference(data, d); err != nil {
			return
		}
		zero := make([]byte, size)
		if again := difference(data, zero); len(again) > len(d) {
			t.Errorf("%d bytes became %d", len(d), len(again))
		}
	})
}

func BenchmarkDifference(b *testing.B) {
	base := randomBytes(3, DefaultChunkSize)
	plain := bytes.Clone(base)
	for _, n := range []int{20000, 30000, 30100} {
		plain[n]++
	}
	var d []byte
	b.SetBytes(DefaultChunkSize)
	for b.Loop() {
		d = appendDifference(d[:0], plain, base)
		if err := applyDifference(plain, d); err != nil {
			b.Fatal(err)
		}
		if err := applyDifference(plain, d); err != nil {
			b.Fatal(err)
		}
	}
}
