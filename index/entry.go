package index

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/shardseed/shardseed/cas"
)

// An entry is one frame of a pack. All numbers are big-endian: chunk ID,
// ordinal of the pack in the run's table u32, offset u64, stored size u32,
// plain size u32, codec u8, depth u8, and of a delta the base's ID.
const (
	ordinalAt   = 32
	offsetAt    = ordinalAt + 4
	storedAt    = offsetAt + 8
	plainAt     = storedAt + 4
	codecAt     = plainAt + 4
	depthAt     = codecAt + 1
	entrySize   = depthAt + 1
	deltaSize   = entrySize + 32
	maxEntry    = deltaSize
	packEntry   = 32 + 4 // of the table of packs: ID, number of frames u32
	prefixBytes = 8
)

// tablePack is a pack in a run's table.
type tablePack struct {
	id     cas.ID
	frames uint32
}

func appendEntry(buf []byte, ordinal uint32, f *cas.Frame) []byte {
	buf = append(buf, f.ID[:]...)
	buf = binary.BigEndian.AppendUint32(buf, ordinal)
	buf = binary.BigEndian.AppendUint64(buf, uint64(f.Offset))
	buf = binary.BigEndian.AppendUint32(buf, f.StoredSize)
	buf = binary.BigEndian.AppendUint32(buf, f.PlainSize)
	buf = append(buf, byte(f.Codec), f.Depth)
	if f.Codec == cas.CodecDelta {
		buf = append(buf, f.Base[:]...)
	}
	return buf
}

// cutEntry cuts the first entry off.
func cutEntry(entries []byte) (entry, rest []byte, err error) {
	size := entrySize
	if len(entries) >= entrySize && cas.Codec(entries[codecAt]) == cas.CodecDelta {
		size = deltaSize
	}
	if len(entries) < size {
		return nil, nil, fmt.Errorf("%w: %d bytes are left for an entry of %d", errDamaged, len(entries), size)
	}
	return entries[:size], entries[size:], nil
}

// ordinalOf returns the ordinal of an entry's pack.
func ordinalOf(entry []byte) uint32 { return binary.BigEndian.Uint32(entry[ordinalAt:]) }

// decodeEntry reads an entry that cutEntry has cut.
func decodeEntry(entry []byte) cas.Frame {
	f := cas.Frame{
		ID:         cas.ID(entry[:ordinalAt]),
		Offset:     int64(binary.BigEndian.Uint64(entry[offsetAt:])),
		StoredSize: binary.BigEndian.Uint32(entry[storedAt:]),
		PlainSize:  binary.BigEndian.Uint32(entry[plainAt:]),
		Codec:      cas.Codec(entry[codecAt]),
		Depth:      entry[depthAt],
	}
	if len(entry) == deltaSize {
		f.Base = cas.ID(entry[entrySize:])
	}
	return f
}

// prefix is the start of an ID as a number: numbers and IDs have the same order.
func prefix(id []byte) uint64 { return binary.BigEndian.Uint64(id[:prefixBytes]) }

// compareIDs compares the chunks of two entries, or an entry's with an ID.
func compareIDs(a, b []byte) int { return bytes.Compare(a[:ordinalAt], b[:ordinalAt]) }
