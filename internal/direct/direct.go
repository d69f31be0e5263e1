// Package direct reads large files past the page cache: what is read once and
// never again evicts nothing, and is not copied. Where a file system
// can't, the page cache is used. Source: open(2), O_DIRECT; mincore(2).
package direct

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Align is what addresses, offsets and lengths of direct I/O are multiples of,
// in bytes: enough for every common disk.
const Align = 4096

// hugePage is the size of a large page of memory on most machines, in bytes.
const hugePage = 2 << 20

// Buffers returns count buffers of that size whose addresses fit direct I/O,
// each with room behind its end up to a multiple of Align. Large ones are made
// of large pages where the kernel has some: a disk takes a request of few long
// pieces a third faster than one of many small ones.
func Buffers(count, size int) [][]byte {
	room, align := roundUp(size), Align
	if room >= hugePage {
		align = hugePage
	}
	raw := make([]byte, count*room+align)
	raw = raw[-uintptr(unsafe.Pointer(unsafe.SliceData(raw)))&uintptr(align-1):]
	if align == hugePage {
		_ = unix.Madvise(raw[:count*room], unix.MADV_HUGEPAGE) // advice only
	}
	buffers := make([][]byte, count)
	for i := range buffers {
		buffers[i] = raw[i*room : i*room+size : (i+1)*room]
	}
	return buffers
}

func roundUp(n int) int { return (n + Align - 1) &^ (Align - 1) }

func aligned(buf []byte, offset int64) bool {
	return (uint64(uintptr(unsafe.Pointer(unsafe.SliceData(buf))))|uint64(offset))&(Align-1) == 0
}

// File is a file open for reading. ReadAt is safe for concurrent use; other
// methods are those of the file as opened through the page cache.
type File struct {
	*os.File
	past *os.File // the same file past the page cache; nil if that can't be
	off  atomic.Bool
}

// New adds direct I/O to an open file, which it takes over: Close closes both.
func New(file *os.File) *File {
	// The name in /proc is the open file itself, whatever its path is by now.
	past, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", file.Fd()), os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		past = nil // the page cache does as well
	}
	return &File{File: file, past: past}
}

// Close closes the file.
func (f *File) Close() error {
	err := f.File.Close()
	if f.past != nil {
		err = errors.Join(err, f.past.Close())
	}
	return err
}

// direct tells whether a read may go past the page cache.
func (f *File) direct(buf []byte, offset int64) bool {
	return f.past != nil && !f.off.Load() && len(buf) > 0 && aligned(buf, offset)
}

// ReadAt reads as os.File does. What the page cache holds is taken from there.
// The rest is read past it if buf was made by Buffer and offset is a multiple
// of Align; bytes behind buf's end, up to its capacity, may be overwritten.
func (f *File) ReadAt(buf []byte, offset int64) (int, error) {
	size := roundUp(len(buf))
	if !f.direct(buf, offset) || size > cap(buf) || f.cached(offset, len(buf)) {
		return f.File.ReadAt(buf, offset)
	}
	n, err := unix.Pread(int(f.past.Fd()), buf[:size], offset)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Pread(int(f.past.Fd()), buf[:size], offset)
	}
	switch {
	case err != nil: // EINVAL: a disk or file system with other rules
		f.off.Store(errors.Is(err, unix.EINVAL))
		return f.File.ReadAt(buf, offset)
	case n >= len(buf):
		return len(buf), nil
	case n%Align != 0:
		return n, io.EOF
	}
	more, err := f.File.ReadAt(buf[n:], offset+int64(n)) // cut short, or at the end
	return n + more, err
}

// cached tells whether most of a part of the file is in the page cache. If
// that can't be told, it is said to be.
func (f *File) cached(offset int64, size int) bool {
	info, err := f.Stat()
	if err != nil {
		return true
	}
	size = int(min(int64(size), info.Size()-offset))
	if size <= 0 {
		return true
	}
	region, err := unix.Mmap(int(f.Fd()), offset, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return true
	}
	pageSize := os.Getpagesize()
	pages := make([]byte, (size+pageSize-1)/pageSize)
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(unsafe.SliceData(region))), uintptr(size),
		uintptr(unsafe.Pointer(unsafe.SliceData(pages))))
	if err := unix.Munmap(region); err != nil || errno != 0 {
		return true
	}
	there := 0
	for _, page := range pages {
		there += int(page & 1)
	}
	return 2*there > len(pages)
}
