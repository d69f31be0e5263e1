package mysqlbackup

import (
	"context"
	"errors"
	"io"

	"github.com/shardseed/shardseed/internal/direct"
	"github.com/shardseed/shardseed/internal/throttle"
)

// readSize is how much is read at once, in bytes: a multiple of every page and
// chunk size up to it.
const readSize = 4 << 20

// blockReader reads ranges of files in blocks, the next one while one is worked
// on, in two buffers of its own. One goroutine at a time.
type blockReader struct {
	limit   *throttle.Limiter
	gentle  bool
	buffers [2][]byte
}

func (c *copier) newBlockReader() *blockReader {
	size := max(readSize, c.chunkSize)
	return &blockReader{limit: c.limit, gentle: c.gentle, buffers: [2][]byte{direct.Buffer(size), direct.Buffer(size)}}
}

// block is a part of a file that was read.
type block struct {
	at   int64
	data []byte
	err  error
}

// each calls use for the blocks from start to end, in order. data is use's
// until it returns. The first error ends it: a *readError, the context's or
// use's.
func (r *blockReader) each(ctx context.Context, file *direct.File, start, end int64, use func(at int64, data []byte) error) error {
	ctx, stop := context.WithCancel(ctx)
	free, read := make(chan []byte, len(r.buffers)), make(chan block)
	for _, buffer := range r.buffers {
		free <- buffer
	}
	go func() {
		defer close(read)
		if r.gentle {
			throttle.Yield()
		}
		r.read(ctx, file, start, end, free, read)
	}()
	err := useBlocks(read, free, use)
	stop()
	for range read { // until nobody writes into the buffers any more
	}
	return err
}

// useBlocks hands out what is read, and the buffers back.
func useBlocks(read <-chan block, free chan<- []byte, use func(at int64, data []byte) error) error {
	for b := range read {
		if b.err != nil {
			return b.err
		}
		if err := use(b.at, b.data); err != nil {
			return err
		}
		free <- b.data[:cap(b.data)]
	}
	return nil
}

// read sends the blocks, the last one with the error if there is one.
func (r *blockReader) read(ctx context.Context, file *direct.File, start, end int64, free <-chan []byte, read chan<- block) {
	for at := start; at < end; {
		var buffer []byte
		select {
		case buffer = <-free:
		case <-ctx.Done():
			read <- block{err: ctx.Err()}
			return
		}
		b := block{at: at, data: buffer[:min(int64(len(buffer)), end-at)]}
		if b.err = r.limit.Wait(ctx, len(b.data)); b.err == nil {
			b.err = readBlock(file, b.data, at)
		}
		select {
		case read <- b:
		case <-ctx.Done():
			read <- block{err: ctx.Err()}
			return
		}
		if b.err != nil {
			return
		}
		at += int64(len(b.data))
	}
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
