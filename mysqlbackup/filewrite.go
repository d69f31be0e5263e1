package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/manifest"
)

// fileWrite is a file that is being written. It is open from its first range
// to its last.
type fileWrite struct {
	entry *manifest.File
	place

	once   sync.Once
	file   *os.File // nil before and after
	leaves []cas.ID
	err    error
	left   atomic.Int64 // ranges to do
	old    int64        // bytes of an old file that are to be compared
}

// pieces is the number of ranges of the file, at least 1.
func (w *fileWrite) pieces() int { return max(1, cas.Leaves(w.entry.Size, w.entry.ChunkSize)) }

// leafRange is the range of a file that a leaf of its recipe is of.
type leafRange struct {
	start, length int64
	chunkSize     int64
	count         int // of chunks
}

func (w *fileWrite) leafRange(leaf int) leafRange {
	r := leafRange{chunkSize: int64(w.entry.ChunkSize), count: cas.LeafChunks(w.entry.Size, w.entry.ChunkSize, leaf)}
	r.start = int64(leaf) * cas.NodeFanout * r.chunkSize
	r.length = min(int64(r.count)*r.chunkSize, w.entry.Size-r.start)
	return r
}

// size returns the length of a chunk.
func (r leafRange) size(i int) int { return int(min(r.chunkSize, r.length-int64(i)*r.chunkSize)) }

// dirtySize is how much is written before the disk is made to begin with it, in
// bytes: left to the end, a sync would wait for all of it with idle processors.
const dirtySize = 8 << 20

// dirty is a range of a file that was written and may not be on its way to the
// disk.
type dirty struct{ start, end int64 }

func (d *dirty) add(file *os.File, at, length int64) {
	if d.end == 0 {
		d.start = at
	}
	d.start, d.end = min(d.start, at), max(d.end, at+length)
	if d.end-d.start >= dirtySize {
		d.flush(file)
	}
}

func (d *dirty) flush(file *os.File) {
	if d.end > 0 {
		_ = unix.SyncFileRange(int(file.Fd()), d.start, d.end-d.start, unix.SYNC_FILE_RANGE_WRITE) // advice only: the file is synced at its end
	}
	*d = dirty{}
}

// pieceQueue hands out the ranges of all files, each a leaf of its recipe.
type pieceQueue struct {
	mu     sync.Mutex   // guards what follows
	writes []*fileWrite // not all of whose ranges have been handed out
	leaf   int          // next range of the first of them
}

func (q *pieceQueue) next() (*fileWrite, int, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.writes) == 0 {
		return nil, 0, false
	}
	w, leaf := q.writes[0], q.leaf
	if q.leaf++; q.leaf == w.pieces() {
		q.writes, q.leaf = q.writes[1:], 0
	}
	return w, leaf, true
}

// holeSize is the smallest hole that is kept, in bytes: a block of most file
// systems.
const holeSize = 4 << 10

// writeAt writes what is not zero if the file is to have holes, else all.
func (w *fileWrite) writeAt(plain []byte, at int64) error {
	for len(plain) > 0 {
		n := len(plain)
		if w.entry.Sparse {
			n = untilHole(plain)
		}
		if _, err := w.file.WriteAt(plain[:n], at); err != nil {
			return err
		}
		for n < len(plain) && isHole(plain[n:]) {
			n += min(holeSize, len(plain)-n)
		}
		plain, at = plain[n:], at+int64(n)
	}
	return nil
}

// untilHole returns how many bytes stand before the first block of zeros.
func untilHole(plain []byte) int {
	n := 0
	for n < len(plain) && !isHole(plain[n:]) {
		n += min(holeSize, len(plain)-n)
	}
	return n
}

func isHole(plain []byte) bool { return cas.AllZero(plain[:min(holeSize, len(plain))]) }

// create makes the file, or opens the one that is there and to be changed in
// place, at its full length: holes only where the source had them.
func (w *fileWrite) create(ctx context.Context, reader *cas.Reader, inPlace bool) (err error) {
	if w.leaves, err = reader.LeafIDs(ctx, w.entry.Recipe, w.entry.Size, w.entry.ChunkSize); err != nil {
		return err
	}
	if inPlace {
		if err := w.openOld(); err != nil {
			return err
		}
	}
	if w.file == nil {
		if w.file, err = w.folder.OpenFile(w.rel, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return err
		}
	}
	if !w.entry.Sparse && w.entry.Size > 0 {
		err = w.allocate(0, 0, w.entry.Size)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
			err = nil
		}
	}
	if err == nil {
		err = w.file.Truncate(w.entry.Size)
	}
	return err
}

// allocate is fallocate(2).
func (w *fileWrite) allocate(mode uint32, start, length int64) error {
	err := durable.Uninterrupted(func() error { return unix.Fallocate(int(w.file.Fd()), mode, start, length) })
	if err != nil {
		return fmt.Errorf("allocate %d bytes: %w", length, err)
	}
	return nil
}

func (w *fileWrite) finish(t *target) error {
	file := w.file
	w.file = nil
	err := file.Chown(t.uid, t.gid)
	if err == nil {
		err = file.Chmod(modeOf(w.entry))
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}
