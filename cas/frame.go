package cas

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Sizes and limits of the format.
const (
	DefaultChunkSize = 64 << 10 // bytes
	NodeFanout       = 1024     // entries in a recipe node
	PackTarget       = 64 << 20 // bytes at which a pack is sealed
	MaxDepth         = 8        // deltas between a frame and the chunk stored in full
	AnyDepth         = MaxDepth + 1
	ChainDepth       = 6            // of the deltas that a Writer makes, at most: less is faster to restore, more smaller
	MaxPlainSize     = MaxChunkSize // plain bytes of one chunk
)

// Codec says how a frame holds its chunk.
type Codec uint8

// The codecs.
const (
	CodecRaw   Codec = 0 // the plain bytes
	CodecZstd  Codec = 1 // one zstd frame
	CodecDelta Codec = 2 // one zstd frame of the difference to the base
)

// String returns raw, zstd, delta or the number.
func (c Codec) String() string {
	switch c {
	case CodecRaw:
		return "raw"
	case CodecZstd:
		return "zstd"
	case CodecDelta:
		return "delta"
	}
	return fmt.Sprintf("codec(%d)", uint8(c))
}

// Frame is the directory entry of one stored chunk.
type Frame struct {
	ID         ID
	Offset     int64  // of the frame's header in the pack, bytes
	StoredSize uint32 // payload without the header, bytes
	PlainSize  uint32 // bytes
	Codec      Codec
	Depth      uint8 // 0; for a delta one more than the base copy it was made from, up to MaxDepth
	Base       ID    // chunk a delta was made from; else zero
}

// Location is where a chunk is: one of its copies.
type Location struct {
	Pack ID
	Frame
}

// The frame header; see docs/format.md, "Frame".
const (
	frameMagic      = "SSFR"
	frameHeaderSize = 84
)

// Size returns the frame's length in the pack, header included, in bytes.
func (f Frame) Size() int64 { return frameHeaderSize + int64(f.StoredSize) }

// end returns the offset behind the frame.
func (f Frame) end() int64 { return f.Offset + f.Size() }

// validate refuses what no writer writes.
func (f Frame) validate() error {
	switch {
	case f.ID.IsZero():
		return fmt.Errorf("frame has the zero ID")
	case f.PlainSize == 0 || f.PlainSize > MaxPlainSize:
		return fmt.Errorf("plain size %d is not in 1 to %d", f.PlainSize, MaxPlainSize)
	case f.StoredSize == 0:
		return fmt.Errorf("stored size is 0")
	case f.Codec > CodecDelta:
		return fmt.Errorf("unknown codec %d", f.Codec)
	case f.Codec == CodecRaw && f.StoredSize != f.PlainSize:
		return fmt.Errorf("raw frame stores %d bytes of %d", f.StoredSize, f.PlainSize)
	case f.Codec != CodecRaw && f.StoredSize >= f.PlainSize:
		return fmt.Errorf("%s frame stores %d bytes of %d", f.Codec, f.StoredSize, f.PlainSize)
	}
	return f.validateBase()
}

func (f Frame) validateBase() error {
	if f.Codec != CodecDelta {
		if f.Depth != 0 || !f.Base.IsZero() {
			return fmt.Errorf("%s frame has depth %d and base %s", f.Codec, f.Depth, f.Base.Short())
		}
		return nil
	}
	if f.Depth == 0 || f.Depth > MaxDepth {
		return fmt.Errorf("delta frame has depth %d, want 1 to %d", f.Depth, MaxDepth)
	}
	if f.Base.IsZero() || f.Base == f.ID {
		return fmt.Errorf("delta frame has base %s", f.Base.Short())
	}
	return nil
}

// appendHeader appends the frame's header to buf. The offset is not part of it.
func (f Frame) appendHeader(buf []byte) []byte {
	start := len(buf)
	buf = append(buf, frameMagic...)
	buf = append(buf, byte(f.Codec), f.Depth, 0, 0)
	buf = binary.LittleEndian.AppendUint32(buf, f.StoredSize)
	buf = binary.LittleEndian.AppendUint32(buf, f.PlainSize)
	buf = append(buf, f.ID[:]...)
	buf = append(buf, f.Base[:]...)
	return binary.LittleEndian.AppendUint32(buf, checksum(buf[start:]))
}

// parseFrameHeader reads a frame header from the start of buf; Offset stays 0.
func parseFrameHeader(buf []byte) (Frame, error) {
	if len(buf) < frameHeaderSize {
		return Frame{}, fmt.Errorf("frame header has %d bytes, want %d", len(buf), frameHeaderSize)
	}
	if string(buf[:4]) != frameMagic {
		return Frame{}, fmt.Errorf("frame magic is %q, want %q", buf[:4], frameMagic)
	}
	if got, want := checksum(buf[:80]), binary.LittleEndian.Uint32(buf[80:]); got != want {
		return Frame{}, fmt.Errorf("frame header checksum %08x stored, %08x computed", want, got)
	}
	if buf[6] != 0 || buf[7] != 0 {
		return Frame{}, fmt.Errorf("frame flags %#02x %#02x are not known", buf[6], buf[7])
	}
	f := Frame{
		Codec:      Codec(buf[4]),
		Depth:      buf[5],
		StoredSize: binary.LittleEndian.Uint32(buf[8:]),
		PlainSize:  binary.LittleEndian.Uint32(buf[12:]),
		ID:         ID(buf[16:48]),
		Base:       ID(buf[48:80]),
	}
	return f, f.validate()
}

// checksum is CRC-32C, the checksum of headers.
func checksum(data []byte) uint32 {
	return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
}
