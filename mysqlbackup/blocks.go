package mysqlbackup

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/shardseed/shardseed/internal/direct"
	"github.com/shardseed/shardseed/internal/throttle"
)

// How much is read at once, in bytes, and how many reads of a worker are under
// way: what fast disks need to be busy.
const (
	readSize = 2 << 20
	readers  = 2
)

// blockReader reads ranges of files in blocks, several at a time, in buffers of
// its own. One goroutine at a time; close ends it.
type blockReader struct {
	limit   *throttle.Limiter
	buffers [][]byte
	wanted  chan *block
	ended   sync.WaitGroup
}

// block is a part of a file that is read.
type block struct {
	file *direct.File
	at   int64
	data []byte
	done chan error
}

func (c *copier) newBlockReader() *blockReader {
	size := max(readSize, c.chunkSize) // both are powers of two: of whole pages and chunks
	r := &blockReader{limit: c.limit, buffers: direct.Buffers(readers, size), wanted: make(chan *block, readers)}
	for range r.buffers {
		r.ended.Go(func() {
			if c.gentle {
				throttle.Yield()
			}
			for b := range r.wanted {
				b.done <- readBlock(b.file, b.data, b.at)
			}
		})
	}
	return r
}

func (r *blockReader) close() {
	close(r.wanted)
	r.ended.Wait()
}

// each calls use for the blocks from start to end, in order. data is use's
// until it returns. The first error ends it: a *readError, the context's or
// use's.
func (r *blockReader) each(ctx context.Context, file *direct.File, start, end int64, use func(at int64, data []byte) error) (err error) {
	var reading []*block // in order
	defer func() {
		for _, b := range reading { // until nobody writes into the buffers any more
			if late := <-b.done; err == nil {
				err = late
			}
		}
	}()
	want := func(at int64, buffer []byte) error {
		b := &block{file, at, buffer[:min(int64(len(buffer)), end-at)], make(chan error, 1)}
		if err := r.limit.Wait(ctx, len(b.data)); err != nil {
			return err
		}
		reading = append(reading, b)
		r.wanted <- b
		return nil
	}
	next := start
	for _, buffer := range r.buffers {
		if next < end {
			if err := want(next, buffer); err != nil {
				return err
			}
			next += int64(len(buffer))
		}
	}
	for len(reading) > 0 {
		b := reading[0]
		err := <-b.done
		reading = reading[1:]
		if err = cmp.Or(ctx.Err(), err); err == nil {
			err = use(b.at, b.data)
		}
		if err == nil && next < end {
			buffer := b.data[:cap(b.data)]
			err = want(next, buffer)
			next += int64(len(buffer))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readError is a failure to read a file of the server.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// readBlock fills data; a file that has become shorter is one that changes.
// Errors are *readError.
func readBlock(file io.ReaderAt, data []byte, at int64) error {
	_, err := file.ReadAt(data, at)
	if errors.Is(err, io.EOF) {
		err = errors.New("the file has become shorter while it was copied: somebody works on it")
	}
	if err != nil {
		return &readError{err}
	}
	return nil
}
