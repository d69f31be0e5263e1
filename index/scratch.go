package index

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/shardseed/shardseed/cas"
)

const (
	writeBuffer = 256 << 10
	memoryPage  = 256 << 10
)

// scratch is where runs go that are not kept: files without a name in the first
// of these folders that takes them, else memory.
type scratch []string

// make makes a run of what write writes; write returns the length and may be
// called several times.
func (s scratch) make(repo cas.UUID, write func(io.Writer) (int64, error)) (*run, error) {
	for _, dir := range s {
		if file, err := unnamed(dir); err == nil {
			if r, err := fill(file, repo, write); err == nil {
				return r, nil
			}
		}
	}
	return fill(&memoryFile{}, repo, write)
}

// unnamed makes a file that is gone when it is closed.
func unnamed(dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, ".shardseed-index-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// fill writes a run into a file and opens it.
func fill(file scratchFile, repo cas.UUID, write func(io.Writer) (int64, error)) (*run, error) {
	out := bufio.NewWriterSize(file, writeBuffer)
	size, err := write(out)
	if err == nil {
		err = out.Flush()
	}
	var r *run
	if err == nil {
		r, err = openRun(file, size, repo)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return r, nil
}

type scratchFile interface {
	io.Writer
	runFile
}

// memoryFile is a file in memory.
type memoryFile struct{ pages [][]byte } // all but the last are full

// Write implements io.Writer.
func (f *memoryFile) Write(data []byte) (int, error) {
	for rest := data; len(rest) > 0; {
		last := len(f.pages) - 1
		if last < 0 || len(f.pages[last]) == memoryPage {
			f.pages = append(f.pages, make([]byte, 0, memoryPage))
			last++
		}
		page := f.pages[last]
		n := min(len(rest), memoryPage-len(page))
		f.pages[last] = append(page, rest[:n]...)
		rest = rest[n:]
	}
	return len(data), nil
}

// ReadAt implements io.ReaderAt.
func (f *memoryFile) ReadAt(buf []byte, offset int64) (int, error) {
	read := 0
	for read < len(buf) {
		page, at := (offset+int64(read))/memoryPage, (offset+int64(read))%memoryPage
		if page >= int64(len(f.pages)) || at >= int64(len(f.pages[page])) {
			return read, io.EOF
		}
		read += copy(buf[read:], f.pages[page][at:])
	}
	return read, nil
}

// Close implements io.Closer.
func (f *memoryFile) Close() error { return nil }
