package index

import (
	"crypto/rand"
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/shardseed/shardseed/cas"
)

// runWriter writes a run. One goroutine at a time.
type runWriter struct {
	out     io.Writer
	trailer trailer
	seed    uint32
	packs   []tablePack
	firsts  []byte // table of blocks
	block   [blockSize]byte
	used    int // bytes of block
	size    int64
}

// newRunWriter starts a run with entries of these packs.
func newRunWriter(out io.Writer, repo cas.UUID, packs []tablePack) *runWriter {
	w := &runWriter{out: out, packs: packs, used: blockHeader, trailer: trailer{packs: uint32(len(packs)), repo: repo}}
	_, _ = rand.Read(w.trailer.salt[:]) // never fails
	w.seed = crc32.Checksum(w.trailer.salt[:], castagnoli())
	return w
}

// add adds an entry. Entries come in the order of their chunks' IDs.
func (w *runWriter) add(entry []byte) error {
	if w.used+len(entry) > blockSize {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if w.used == blockHeader {
		w.firsts = append(w.firsts, entry[:prefixBytes]...)
	}
	w.used += copy(w.block[w.used:], entry)
	w.trailer.entries++
	return nil
}

// flush writes the block.
func (w *runWriter) flush() error {
	if w.used == blockHeader {
		return nil
	}
	clear(w.block[w.used:])
	binary.BigEndian.PutUint16(w.block[4:], uint16(w.used-blockHeader))
	binary.BigEndian.PutUint32(w.block[:], checksum(w.seed, w.trailer.blocks, w.block[:]))
	w.trailer.blocks++
	w.used = blockHeader
	return w.write(w.block[:])
}

func (w *runWriter) write(data []byte) error {
	n, err := w.out.Write(data)
	w.size += int64(n)
	return err
}

// finish writes what is behind the last entry and returns the run's length.
func (w *runWriter) finish() (size int64, err error) {
	if err := w.flush(); err != nil {
		return 0, err
	}
	tables := make([]byte, 0, w.trailer.tables())
	for _, pack := range w.packs {
		tables = append(tables, pack.id[:]...)
		tables = binary.BigEndian.AppendUint32(tables, pack.frames)
	}
	tables = append(tables, w.firsts...)
	end := w.trailer.encode()
	hash := hashEnd(tables, end)
	if err := w.write(tables); err != nil {
		return 0, err
	}
	err = w.write(append(end, hash[:]...))
	return w.size, err
}
