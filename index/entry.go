package index

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/shardseed/shardseed/cas"
)

// fileVersion is the version of the database: another one is dropped. All
// numbers in it are big-endian.
//
//	bucket "meta":   "header" → version u16, repository's UUID, next ordinal u32, entries ever added u64
//	bucket "packs":  ordinal u32 → pack ID, frames u32
//	bucket "chunks": chunk ID, ordinal u32, slot u32 → offset u64, stored u32, plain u32, codec u8, depth u8, base ID of a delta
const fileVersion = 1

const (
	headerSize = 2 + 16 + 4 + 8
	packSize   = 32 + 4
	keySize    = 32 + 4 + 4
	valueSize  = 8 + 4 + 4 + 1 + 1
	deltaSize  = valueSize + 32
)

// errFile says that the database cannot be used; it is dropped then.
var errFile = errors.New("index file is damaged")

func bucketMeta() []byte   { return []byte("meta") }
func bucketPacks() []byte  { return []byte("packs") }
func bucketChunks() []byte { return []byte("chunks") }
func keyHeader() []byte    { return []byte("header") }

// header is what the database says about itself.
type header struct {
	repo    cas.UUID
	next    uint32 // ordinal of the next pack: none is used twice
	entries uint64 // ever added; those of dropped packs stay
}

func (h header) encode() []byte {
	buf := binary.BigEndian.AppendUint16(make([]byte, 0, headerSize), fileVersion)
	buf = append(buf, h.repo[:]...)
	buf = binary.BigEndian.AppendUint32(buf, h.next)
	return binary.BigEndian.AppendUint64(buf, h.entries)
}

func decodeHeader(buf []byte) (header, error) {
	if len(buf) != headerSize || binary.BigEndian.Uint16(buf) != fileVersion {
		return header{}, fmt.Errorf("%w: header %x", errFile, buf)
	}
	return header{
		repo:    cas.UUID(buf[2:18]),
		next:    binary.BigEndian.Uint32(buf[18:]),
		entries: binary.BigEndian.Uint64(buf[22:]),
	}, nil
}

// filePack is a pack in the database.
type filePack struct {
	id     cas.ID
	frames uint32
}

// slot is one frame of a batch.
type slot struct {
	frame   *cas.Frame
	ordinal uint32
	number  uint32 // of the frame in its pack: a pack may hold a chunk twice
}

func (s slot) key() []byte {
	buf := append(make([]byte, 0, keySize), s.frame.ID[:]...)
	buf = binary.BigEndian.AppendUint32(buf, s.ordinal)
	return binary.BigEndian.AppendUint32(buf, s.number)
}

func (s slot) value() []byte {
	buf := binary.BigEndian.AppendUint64(make([]byte, 0, deltaSize), uint64(s.frame.Offset))
	buf = binary.BigEndian.AppendUint32(buf, s.frame.StoredSize)
	buf = binary.BigEndian.AppendUint32(buf, s.frame.PlainSize)
	buf = append(buf, byte(s.frame.Codec), s.frame.Depth)
	if s.frame.Codec == cas.CodecDelta {
		buf = append(buf, s.frame.Base[:]...)
	}
	return buf
}

func decodeEntry(key, value []byte) (ordinal uint32, f cas.Frame, err error) {
	if len(key) != keySize || len(value) != valueSize && len(value) != deltaSize {
		return 0, cas.Frame{}, fmt.Errorf("%w: entry %x %x", errFile, key, value)
	}
	f = cas.Frame{
		ID:         cas.ID(key[:32]),
		Offset:     int64(binary.BigEndian.Uint64(value)),
		StoredSize: binary.BigEndian.Uint32(value[8:]),
		PlainSize:  binary.BigEndian.Uint32(value[12:]),
		Codec:      cas.Codec(value[16]),
		Depth:      value[17],
	}
	if (f.Codec == cas.CodecDelta) != (len(value) == deltaSize) {
		return 0, cas.Frame{}, fmt.Errorf("%w: entry %x %x", errFile, key, value)
	}
	if len(value) == deltaSize {
		f.Base = cas.ID(value[valueSize:])
	}
	return binary.BigEndian.Uint32(key[32:]), f, nil
}
