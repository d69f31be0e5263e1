package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/zeebo/blake3"

	"github.com/shardseed/shardseed/cas"
)

// A run is entries in order of their chunks' IDs, written once. All numbers are
// big-endian.
//
//	blocks, 4,096 bytes each:
//	  CRC-32C u32 of salt, block's number u32 and all that follows; bytes of entries u16; entries; zeros
//	table of packs: ID, frames u32
//	table of blocks: first 8 bytes of the first ID u64
//	trailer: magic; version u32, packs u32, blocks u32, entries u64, repository's UUID, salt,
//	  BLAKE3 of both tables and the trailer before it
//
// The salt is random, so that a block of another run, or of another place, does
// not pass for the right one.
const (
	runVersion  = 1
	runMagic    = "SSINDEX\n"
	blockSize   = 4 << 10
	blockHeader = 4 + 2
	saltSize    = 16
	hashAt      = 8 + 4 + 4 + 4 + 8 + 16 + saltSize
	trailerSize = hashAt + 32
)

// errDamaged says that a run is not what was written.
var errDamaged = errors.New("index file is damaged")

// run is an open run. Safe for concurrent use.
type run struct {
	file    runFile
	name    string // of its file; empty: it has none
	size    int64  // bytes
	entries uint64
	packs   []tablePack // by ordinal
	firsts  []uint64    // of each block, the prefix of its first entry
	seed    uint32      // checksum of the salt
	bad     atomic.Bool // something could not be read
	buffers sync.Pool   // of *[blockSize]byte
}

// runFile is where a run's bytes are.
type runFile interface {
	io.ReaderAt
	io.Closer
}

// trailer is the end of a run.
type trailer struct {
	packs, blocks uint32
	entries       uint64
	repo          cas.UUID
	salt          [saltSize]byte
}

// encode returns all but the hash.
func (t trailer) encode() []byte {
	buf := append(make([]byte, 0, trailerSize), runMagic...)
	buf = binary.BigEndian.AppendUint32(buf, runVersion)
	buf = binary.BigEndian.AppendUint32(buf, t.packs)
	buf = binary.BigEndian.AppendUint32(buf, t.blocks)
	buf = binary.BigEndian.AppendUint64(buf, t.entries)
	buf = append(buf, t.repo[:]...)
	return append(buf, t.salt[:]...)
}

// tables returns the length of both tables.
func (t trailer) tables() int64 { return int64(t.packs)*packEntry + int64(t.blocks)*prefixBytes }

// parseTrailer reads the last trailerSize bytes of a run of that size. Nothing
// but the hash vouches for them.
func parseTrailer(buf []byte, size int64) (trailer, error) {
	at := len(runMagic)
	if string(buf[:at]) != runMagic || binary.BigEndian.Uint32(buf[at:]) != runVersion {
		return trailer{}, fmt.Errorf("%w: its end is %x", errDamaged, buf[:at+4])
	}
	t := trailer{
		packs:   binary.BigEndian.Uint32(buf[at+4:]),
		blocks:  binary.BigEndian.Uint32(buf[at+8:]),
		entries: binary.BigEndian.Uint64(buf[at+12:]),
		repo:    cas.UUID(buf[at+20:]),
		salt:    [saltSize]byte(buf[at+36:]),
	}
	if want := int64(t.blocks)*blockSize + t.tables() + trailerSize; size != want {
		return trailer{}, fmt.Errorf("%w: it has %d bytes, want %d", errDamaged, size, want)
	}
	return t, nil
}

// openRun reads the end of a run. The caller closes the run, and the file if
// there is none. What cannot be a run of that repository is an errDamaged.
func openRun(file runFile, size int64, repo cas.UUID) (*run, error) {
	if size < trailerSize {
		return nil, fmt.Errorf("%w: it has %d bytes", errDamaged, size)
	}
	end := make([]byte, trailerSize)
	if _, err := file.ReadAt(end, size-trailerSize); err != nil {
		return nil, err
	}
	t, err := parseTrailer(end, size)
	if err != nil {
		return nil, err
	}
	tables := make([]byte, t.tables()) // not longer than the file
	if _, err := file.ReadAt(tables, int64(t.blocks)*blockSize); err != nil {
		return nil, err
	}
	if sum := hashEnd(tables, end[:hashAt]); sum != [32]byte(end[hashAt:]) {
		return nil, fmt.Errorf("%w: its end hashes to %x, want %x", errDamaged, sum[:8], end[hashAt:hashAt+8])
	}
	if t.repo != repo {
		return nil, fmt.Errorf("%w: it is of repository %s", errDamaged, t.repo)
	}
	r := &run{file: file, size: size, entries: t.entries, seed: crc32.Checksum(t.salt[:], castagnoli())}
	return r, r.parseTables(tables, t)
}

func hashEnd(tables, trailer []byte) [32]byte {
	hash := blake3.New()
	_, _ = hash.Write(tables) // never fails
	_, _ = hash.Write(trailer)
	return [32]byte(hash.Sum(nil))
}

func (r *run) parseTables(tables []byte, t trailer) error {
	r.packs = make([]tablePack, t.packs)
	for i := range r.packs {
		entry := tables[i*packEntry:]
		r.packs[i] = tablePack{id: cas.ID(entry[:32]), frames: binary.BigEndian.Uint32(entry[32:])}
	}
	r.firsts = make([]uint64, t.blocks)
	firsts := tables[len(r.packs)*packEntry:]
	for i := range r.firsts {
		r.firsts[i] = binary.BigEndian.Uint64(firsts[i*prefixBytes:])
	}
	if !slices.IsSorted(r.firsts) {
		return fmt.Errorf("%w: its blocks are out of order", errDamaged)
	}
	return nil
}

func (r *run) close() error { return r.file.Close() }

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// checksum returns the checksum of a block.
func checksum(seed, number uint32, block []byte) uint32 {
	var buf [4]byte
	binary.BigEndian.PutUint32(buf[:], number)
	return crc32.Update(crc32.Update(seed, castagnoli(), buf[:]), castagnoli(), block[4:])
}

// openBlock checks a block and returns its entries.
func (r *run) openBlock(number uint32, block []byte) ([]byte, error) {
	if got, want := checksum(r.seed, number, block), binary.BigEndian.Uint32(block); got != want {
		return nil, fmt.Errorf("%w: checksum of block %d is %08x, want %08x", errDamaged, number, got, want)
	}
	size := int(binary.BigEndian.Uint16(block[4:]))
	if size > blockSize-blockHeader {
		return nil, fmt.Errorf("%w: block %d has %d bytes of entries", errDamaged, number, size)
	}
	return block[blockHeader : blockHeader+size], nil
}

// lookup calls use with every entry of a chunk. An error means that some may be
// missing.
func (r *run) lookup(id *cas.ID, use func(entry []byte)) error {
	key := prefix(id[:])
	first, _ := slices.BinarySearch(r.firsts, key)
	for n := max(0, first-1); n < len(r.firsts) && r.firsts[n] <= key; n++ {
		past, err := r.lookupBlock(uint32(n), id, use)
		if err != nil {
			r.bad.Store(true)
			return err
		}
		if past {
			break
		}
	}
	return nil
}

// lookupBlock is lookup in one block. It returns true if the chunks of further
// blocks are greater.
func (r *run) lookupBlock(number uint32, id *cas.ID, use func([]byte)) (past bool, err error) {
	block, ok := r.buffers.Get().(*[blockSize]byte)
	if !ok {
		block = new([blockSize]byte)
	}
	defer r.buffers.Put(block)
	if _, err := r.file.ReadAt(block[:], int64(number)*blockSize); err != nil {
		return false, fmt.Errorf("read block %d: %w", number, err)
	}
	entries, err := r.openBlock(number, block[:])
	for err == nil && len(entries) > 0 {
		var entry []byte
		if entry, entries, err = cutEntry(entries); err != nil {
			break
		}
		order := compareIDs(entry, id[:])
		switch {
		case order > 0:
			return true, nil
		case order == 0 && int64(ordinalOf(entry)) >= int64(len(r.packs)):
			return false, fmt.Errorf("%w: pack %d of %d", errDamaged, ordinalOf(entry), len(r.packs))
		case order == 0:
			use(entry)
		}
	}
	return false, err
}

// readAhead is how many blocks are read at once at most when a run is read in order.
const readAhead = 16

// cursor goes through the entries of a run in order.
type cursor struct {
	run      *run
	buffer   []byte
	read     []byte   // of buffer, blocks that have been read and not opened
	entries  []byte   // of the open block, those that come
	opened   uint32   // number of blocks opened
	ordinals []uint32 // ordinals in another run, by ordinal
	ahead    int      // blocks that are read at once: one at least
	key      uint64   // prefix of entry
	entry    []byte   // the present one
}

// next steps to the next entry; false at the end.
func (c *cursor) next() (bool, error) {
	for len(c.entries) == 0 {
		if int64(c.opened) == int64(len(c.run.firsts)) {
			return false, nil
		}
		if err := c.open(); err != nil {
			c.run.bad.Store(true)
			return false, err
		}
	}
	var err error
	if c.entry, c.entries, err = cutEntry(c.entries); err != nil {
		return false, err
	}
	if o := ordinalOf(c.entry); int64(o) >= int64(len(c.run.packs)) {
		return false, fmt.Errorf("%w: pack %d of %d", errDamaged, o, len(c.run.packs))
	}
	c.key = prefix(c.entry)
	return true, nil
}

// open opens the next block.
func (c *cursor) open() error {
	if len(c.read) == 0 {
		blocks := min(max(c.ahead, 1), readAhead, len(c.run.firsts)-int(c.opened))
		if c.buffer == nil {
			c.buffer = make([]byte, blocks*blockSize)
		}
		c.read = c.buffer[:blocks*blockSize]
		if _, err := c.run.file.ReadAt(c.read, int64(c.opened)*blockSize); err != nil {
			return fmt.Errorf("read block %d: %w", c.opened, err)
		}
	}
	var err error
	c.entries, err = c.run.openBlock(c.opened, c.read[:blockSize])
	c.read = c.read[blockSize:]
	c.opened++
	return err
}
