package cas

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"math/bits"
)

// deltaBlock is the unit in which a difference is sparse, bytes: a change of a
// row touches few of them, and what it does not touch takes no time.
const deltaBlock = 512

// bitmapSize returns the length of the bitmap of a difference, for a chunk of
// that size.
func bitmapSize(plainSize int) int { return int(ceilDiv(ceilDiv(int64(plainSize), deltaBlock), 8)) }

// maxDifference is the longest that a difference can be.
func maxDifference(plainSize int) int { return bitmapSize(plainSize) + plainSize }

// appendDifference appends what makes base into plain, which is as long: a bitmap
// with one bit for each block, lowest bits first, and plain XOR base of the
// blocks whose bit is set, which are those that differ.
func appendDifference(buf, plain, base []byte) []byte {
	start := len(buf)
	buf = append(buf, make([]byte, bitmapSize(len(plain)))...)
	for n := 0; len(plain) > 0; n++ {
		size := min(deltaBlock, len(plain))
		if !bytes.Equal(plain[:size], base[:size]) {
			buf[start+n/8] |= 1 << (n % 8)
			end := len(buf)
			buf = append(buf, plain[:size]...)
			subtle.XORBytes(buf[end:], buf[end:], base[:size])
		}
		plain, base = plain[size:], base[size:]
	}
	return buf
}

// applyDifference combines a difference into data. With an error data is
// spoiled.
func applyDifference(data, difference []byte) error {
	size := bitmapSize(len(data))
	if len(difference) < size {
		return fmt.Errorf("difference has %d bytes, its bitmap alone %d", len(difference), size)
	}
	blocks := difference[size:]
	for n, set := range difference[:size] {
		for ; set != 0; set &= set - 1 {
			at := (n*8 + bits.TrailingZeros8(set)) * deltaBlock
			if at >= len(data) {
				return fmt.Errorf("difference has a block at byte %d of %d", at, len(data))
			}
			block := data[at:min(at+deltaBlock, len(data))]
			if len(blocks) < len(block) {
				return fmt.Errorf("difference ends within the block at byte %d", at)
			}
			subtle.XORBytes(block, block, blocks)
			blocks = blocks[len(block):]
		}
	}
	if len(blocks) > 0 {
		return fmt.Errorf("difference has %d bytes too many", len(blocks))
	}
	return nil
}
