package cas

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// snappyBlock is the largest block of a Snappy stream, bytes.
const snappyBlock = 64 << 10

// The parts of a Snappy stream, see framing_format.txt of google/snappy.
const (
	snappyStart  = "\xff\x06\x00\x00sNaPpY"
	snappyHeader = 8 // of a block: its type, 0, in one byte; length of what follows in three; checksum
)

// transcoder makes zstd data with the matches that a Snappy encoder finds: that
// one is in assembly and gives up early where there are few, which is what most
// pages of a database are like.
//
// The converter loses a block that comes out no shorter although there are matches
// in it (blockenc.go of klauspost/compress has no plain bytes to fall back to then).
// So its result counts only once it was decoded and compared; else zstd's own
// encoder is asked.
type transcoder struct {
	snappy []byte
	in     bytes.Reader
	out    bytes.Buffer
	zstd   zstd.SnappyConverter //nolint:staticcheck // deprecated since it does not check its input; that is ours, and the output is decoded
}

// encode returns plain as zstd data. It returns nil where zstd's own encoder is
// as fast and finds more: if matches make up half of the first quarter; or where
// the converter fails. The result is valid until the next call.
func (t *transcoder) encode(plain []byte) []byte {
	sample := plain[:len(plain)/4]
	t.snappy = s2.EncodeSnappy(t.snappy[:cap(t.snappy)], sample)
	if len(t.snappy) < len(sample)/2 {
		return nil
	}
	t.snappy = append(t.snappy[:0], snappyStart...)
	for block := range slices.Chunk(plain, snappyBlock) {
		t.append(block)
	}
	t.in.Reset(t.snappy)
	t.out.Reset()
	if _, err := t.zstd.Convert(&t.in, &t.out); err != nil && !errors.Is(err, io.EOF) { // the end is an error to it
		return nil
	}
	return t.out.Bytes()
}

// append adds the block to the Snappy stream. Its checksum is left out, for the
// converter does not look at it.
func (t *transcoder) append(block []byte) {
	start := len(t.snappy)
	t.snappy = slices.Grow(t.snappy, snappyHeader+s2.MaxEncodedLen(len(block)))
	data := s2.EncodeSnappy(t.snappy[start+snappyHeader:cap(t.snappy)], block)
	t.snappy = binary.LittleEndian.AppendUint32(t.snappy, uint32(len(data)+4)<<8)
	t.snappy = t.snappy[:start+snappyHeader+len(data)]
}
