package innodb

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

func put16(b []byte, v uint16) { binary.BigEndian.PutUint16(b, v) }
func put32(b []byte, v uint32) { binary.BigEndian.PutUint32(b, v) }
func put64(b []byte, v uint64) { binary.BigEndian.PutUint64(b, v) }

// Every page of the tests is in this tablespace and has this LSN.
const (
	testSpace = 77
	testLSN   = 0x1_2345_6789
	typeIndex = 17855
)

// newPage returns a page without checksums: header, a random body, and the
// LSN where classic pages and full_crc32 keep its low half.
func newPage(size int, no uint32, pageType uint16) []byte {
	p := make([]byte, size)
	rnd := rand.New(rand.NewPCG(uint64(size), uint64(no)))
	for i := offBody; i < size; i++ {
		p[i] = byte(rnd.Uint32() >> 28) // compressible
	}
	put32(p[offPageNo:], no)
	put64(p[offLSN:], testLSN)
	put16(p[offType:], pageType)
	put32(p[offSpaceID:], testSpace)
	put32(p[size-4:], testLSN&(1<<32-1))
	return p
}

// pageZero returns page 0 of a tablespace of a few pages.
func pageZero(size int, flags uint32) []byte {
	p := newPage(size, 0, 8)
	put32(p[offFSPSpaceID:], testSpace)
	put32(p[offFSPSize:], 4)
	put32(p[offFSPFlags:], flags)
	return p
}

func sealClassic(p []byte, first, second uint32) []byte {
	put32(p, first)
	put32(p[len(p)-trailerSize:], second)
	return p
}

func sealCRC32(p []byte) []byte {
	crc := classicCRC32(p)
	return sealClassic(p, crc, crc)
}

func sealNone(p []byte) []byte { return sealClassic(p, noChecksum, noChecksum) }

func sealLegacy(p []byte) []byte {
	first := fold64(p[4:26]) + fold64(p[38:len(p)-8])
	put32(p, first) // the second covers the first
	return sealClassic(p, first, fold64(p[:26]))
}

func sealAncient(p []byte) []byte {
	return sealClassic(p, fold64(p[4:26])+fold64(p[38:len(p)-8]), be32(p[offLSN:]))
}

func sealSwapped(p []byte) []byte {
	crc := crcReversed(p[4:26], 4) ^ crcReversed(p[38:len(p)-8], 2)
	return sealClassic(p, crc, crc)
}

// fold64 is the legacy sum in the width in which the servers compute it.
func fold64(b []byte) uint32 {
	var f uint64
	for _, x := range b {
		f = (((f ^ uint64(x) ^ 1653893711) << 8) + f) ^ 1463735687
		f += uint64(x)
	}
	return uint32(f)
}

// crcReversed reverses whole words after the first few bytes, and sums then.
func crcReversed(b []byte, head int) uint32 {
	b = bytes.Clone(b)
	for i := head; i+8 <= len(b); i += 8 {
		put64(b[i:], binary.LittleEndian.Uint64(b[i:]))
	}
	return crc32c(b)
}

func sealZip(p []byte) []byte {
	put32(p, crc32c(p[4:16])^crc32c(p[24:26])^crc32c(p[34:]))
	return p
}

func sealFull(p []byte) []byte {
	put32(p[len(p)-8:], testLSN&(1<<32-1))
	put32(p[len(p)-4:], crc32c(p[:len(p)-4]))
	return p
}

// encryptFull scrambles what full_crc32 encrypts.
func encryptFull(p []byte) []byte {
	put32(p, 3)
	for i := 26; i < len(p)-4; i++ {
		p[i] ^= 0x5a
	}
	put32(p[len(p)-4:], crc32c(p[:len(p)-4]))
	return p
}

// compressFull makes a page that is page compressed to size bytes.
func compressFull(p []byte, size int) []byte {
	put16(p[offType:], 1<<15|uint16(size>>8))
	clear(p[size:])
	put32(p[offSpaceID:], 0xabcdef01)
	put32(p[size-4:], crc32c(p[:size-4]))
	return p
}

// encryptClassic scrambles what MariaDB encrypts without full_crc32.
func encryptClassic(p []byte, zip bool) []byte {
	for i := offBody; i < len(p)-8; i++ {
		p[i] ^= 0xa5
	}
	put32(p[offKeyVersion:], 1)
	sum := classicCRC32(p)
	if zip {
		sum = zipCRC32(p)
	}
	put32(p[offPostCRC:], sum)
	return p
}

func deflate(tb testing.TB, b []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// lz4Literals is the plainest LZ4 block of b: literals and no match.
func lz4Literals(b []byte) []byte {
	out := []byte{0xf0}
	n := len(b) - 15
	for ; n >= 255; n -= 255 {
		out = append(out, 255)
	}
	return append(append(out, byte(n)), b...)
}

// packMySQL makes a page of type 14 of a sealed page.
func packMySQL(p, packed []byte, algorithm byte) []byte {
	q := make([]byte, len(p))
	copy(q, p[:offBody])
	put16(q[24:], 14)
	q[26], q[27] = 1, algorithm
	put16(q[28:], be16(p[24:]))
	put16(q[30:], uint16(len(p)-offBody))
	put16(q[32:], uint16(len(packed)))
	copy(q[offBody:], packed)
	return q
}

// packMaria makes a page of type 34354 of a page.
func packMaria(p, packed []byte, algorithm uint64) []byte {
	q := make([]byte, len(p))
	copy(q, p[:offBody])
	put32(q, noChecksum)
	put16(q[24:], typeMariaCompressed)
	put64(q[26:], algorithm)
	put16(q[38:], uint16(len(packed)))
	copy(q[40:], packed)
	return q
}
