package direct

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// leastPast is how many bytes are written past the page cache at least: the disk is
// waited for, which takes longer than copying less.
const leastPast = 256 << 10

// Writer is a file open for writing. WriteAt is safe for concurrent use; other
// methods are those of the file as opened through the page cache.
type Writer struct {
	*os.File
	past *os.File // the same file past the page cache; nil if that can't be
	off  atomic.Bool
}

// NewWriter adds direct I/O to an open file, which it takes over: Close closes
// both.
func NewWriter(file *os.File) *Writer { return &Writer{File: file, past: reopen(file, os.O_WRONLY)} }

// reopen opens an open file once more, past the page cache; nil if that can't be.
func reopen(file *os.File, flags int) *os.File {
	// The name in /proc is the open file itself, whatever its path is by now.
	past, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", file.Fd()), flags|unix.O_DIRECT, 0)
	if err != nil {
		return nil // the page cache does as well
	}
	return past
}

// Close closes the file.
func (w *Writer) Close() error {
	err := w.File.Close()
	if w.past != nil {
		err = errors.Join(err, w.past.Close())
	}
	return err
}

// WriteAt writes as os.File does: what is large past the page cache, if buf is
// a part of what Buffer made that begins at a multiple of Align, as does offset; but
// for what is behind the last such multiple. Nothing is durable before Sync.
func (w *Writer) WriteAt(buf []byte, offset int64) (int, error) {
	whole := len(buf) &^ (Align - 1)
	if w.past == nil || w.off.Load() || whole < leastPast || !aligned(buf, offset) {
		return w.through(buf, offset)
	}
	done, err := w.past.WriteAt(buf[:whole], offset)
	if errors.Is(err, unix.EINVAL) { // a disk or file system with other rules
		w.off.Store(true)
		err = nil
	}
	if err != nil || done == len(buf) {
		return done, err
	}
	more, err := w.through(buf[done:], offset+int64(done))
	return done + more, err
}

// pieceSize is how much is written through the page cache at once: Linux 6.18
// takes several times as long for pieces of megabytes.
const pieceSize = 64 << 10

// through writes through the page cache.
func (w *Writer) through(buf []byte, offset int64) (int, error) {
	done := 0
	for piece := range slices.Chunk(buf, pieceSize) {
		n, err := w.File.WriteAt(piece, offset+int64(done))
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}
