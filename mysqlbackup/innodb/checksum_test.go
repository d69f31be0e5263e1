package innodb

import (
	"hash/adler32"
	"strings"
	"testing"
)

func TestZipAdlerStartsFromZero(t *testing.T) {
	p := newPage(8192, 5, typeIndex)
	all := append(append(append([]byte{}, p[4:16]...), p[24:26]...), p[34:]...)
	one := adler32.Checksum(all) // starts from 1, which adds 1 to a and len to b
	const prime = 65521
	a := (one&0xffff + prime - 1) % prime
	b := (one>>16 + prime - uint32(len(all)%prime)) % prime
	if got, want := zipAdler(p), b<<16|a; got != want {
		t.Errorf("got 0x%08x, want 0x%08x", got, want)
	}
}

func TestFold(t *testing.T) {
	p := newPage(4096, 9, typeIndex)
	for n := range len(p) {
		if got, want := fold(p[:n]), fold64(p[:n]); got != want {
			t.Fatalf("%d bytes: got 0x%08x, want 0x%08x", n, got, want)
		}
	}
}

func TestClassicWhyNamesTheChecksum(t *testing.T) {
	p := sealCRC32(newPage(4096, 1, typeIndex))
	p[0] ^= 1
	if got := classicWhy(p); !strings.HasPrefix(got, "checksum 0x") {
		t.Errorf("first: got %q", got)
	}
	p[0] ^= 1
	p[4088] ^= 1
	if got := classicWhy(p); !strings.HasPrefix(got, "second checksum 0x") {
		t.Errorf("second: got %q", got)
	}
	if got := classicWhy(sealClassic(p, noChecksum, 0)); got == "" {
		t.Error("half of none was accepted")
	}
}

func TestIsZero(t *testing.T) {
	for _, n := range []int{0, 1, 2, 1024, 16384} {
		b := make([]byte, n)
		if !isZero(b) {
			t.Errorf("%d zero bytes: got false", n)
		}
		for i := range b {
			b[i] = 1
			if isZero(b) {
				t.Errorf("%d bytes with a 1 at %d: got true", n, i)
			}
			b[i] = 0
		}
	}
}
