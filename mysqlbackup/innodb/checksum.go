package innodb

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// noChecksum stands where innodb_checksum_algorithm was none.
const noChecksum = 0xDEADBEEF

const (
	trailerSize  = 8  // second checksum, low half of the LSN
	offTypeEnd   = 26 // the first checksummed range ends here
	zipLSNOffset = 16 // compressed pages leave out the LSN …
	zipDataStart = 34 // … and the flush LSN
)

func crc32c(b []byte) uint32 { return crc32.Checksum(b, castagnoli()) }

// castagnoli returns the table that the standard library keeps, which is what
// makes it use the processor's instruction.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// classicCRC32 is innodb_checksum_algorithm=crc32 for uncompressed pages.
func classicCRC32(p []byte) uint32 {
	return crc32c(p[offPageNo:offTypeEnd]) ^ crc32c(p[offBody:len(p)-trailerSize])
}

// classicWhy verifies both checksums of an uncompressed page by whichever
// algorithm wrote them, and returns "" or what is wrong.
func classicWhy(p []byte) string {
	first, second := be32(p), be32(p[len(p)-trailerSize:])
	crc := classicCRC32(p)
	switch {
	case first == crc && second == crc,
		first == noChecksum && second == noChecksum,
		legacyOK(p, first, second):
		return ""
	}
	if swapped := classicSwapped(p); first == swapped && second == swapped {
		return ""
	}
	if first == crc {
		return fmt.Sprintf("second checksum 0x%08x stored, 0x%08x computed", second, crc)
	}
	return checksumWhy(first, crc)
}

func checksumWhy(stored, computed uint32) string {
	return fmt.Sprintf("checksum 0x%08x stored, 0x%08x computed", stored, computed)
}

// legacyOK verifies innodb_checksum_algorithm=innodb. Very old servers wrote
// the high half of the LSN in place of the second checksum.
func legacyOK(p []byte, first, second uint32) bool {
	if second != fold(p[:offTypeEnd]) && second != be32(p[offLSN:]) {
		return false
	}
	return first == fold(p[offPageNo:offTypeEnd])+fold(p[offBody:len(p)-trailerSize])
}

// fold is the hash of the legacy checksum. The servers compute it in 64 bits
// and keep the low 32, on which the high ones have no influence.
// Source: ut_fold_binary in ut0rnd.ic.
func fold(b []byte) uint32 {
	const mask1, mask2 = 1463735687, 1653893711
	var f uint32
	for _, x := range b {
		f = ((f^uint32(x)^mask2)<<8 + f) ^ mask1 + uint32(x)
	}
	return f
}

// classicSwapped is the CRC of servers whose software CRC read words in the
// wrong byte order; current servers still accept it.
func classicSwapped(p []byte) uint32 {
	return crc32cSwapped(p, offPageNo, offTypeEnd) ^ crc32cSwapped(p, offBody, len(p)-trailerSize)
}

// crc32cSwapped is the CRC of p[from:to] with every whole word of 8 bytes, as
// aligned in the page, reversed.
func crc32cSwapped(p []byte, from, to int) uint32 {
	head := min((from+7)&^7, to)
	crc := crc32c(p[from:head])
	var word [8]byte
	for ; head+8 <= to; head += 8 {
		binary.LittleEndian.PutUint64(word[:], be64(p[head:]))
		crc = crc32.Update(crc, castagnoli(), word[:])
	}
	return crc32.Update(crc, castagnoli(), p[head:to])
}

// zipCRC32 is innodb_checksum_algorithm=crc32 for ROW_FORMAT=COMPRESSED.
func zipCRC32(p []byte) uint32 {
	return crc32c(p[offPageNo:zipLSNOffset]) ^ crc32c(p[offType:offTypeEnd]) ^ crc32c(p[zipDataStart:])
}

// zipWhy verifies the only checksum of a ROW_FORMAT=COMPRESSED page.
func zipWhy(p []byte) string {
	stored, crc := be32(p), zipCRC32(p)
	if stored == crc || stored == noChecksum || stored == zipAdler(p) {
		return ""
	}
	swapped := crc32cSwapped(p, offPageNo, zipLSNOffset) ^
		crc32cSwapped(p, offType, offTypeEnd) ^ crc32cSwapped(p, zipDataStart, len(p))
	if stored == swapped {
		return ""
	}
	return checksumWhy(stored, crc)
}

// zipAdler is innodb_checksum_algorithm=innodb for ROW_FORMAT=COMPRESSED: an
// Adler-32 that starts from 0, which hash/adler32 cannot do.
func zipAdler(p []byte) uint32 {
	const prime = 65521
	var a, b uint32
	for _, part := range [][]byte{p[offPageNo:zipLSNOffset], p[offType:offTypeEnd], p[zipDataStart:]} {
		for _, x := range part {
			a = (a + uint32(x)) % prime
			b = (b + a) % prime
		}
	}
	return b<<16 | a
}
