package walk

import (
	"context"
	"fmt"
	"io"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
)

// maxFileList bounds the list of files in memory, in bytes.
const maxFileList = 4 << 30

// Files reads a backup's list of files. A chunk that is missing is a
// cas.ErrNotFound, one that is damaged a cas.ErrCorrupt.
func Files(ctx context.Context, reader *cas.Reader, list manifest.FileList) ([]manifest.File, error) {
	content, err := Open(ctx, reader, list)
	if err != nil {
		return nil, err
	}
	return manifest.ReadFiles(content, list.Count)
}

// Open returns the bytes of a backup's list of files. They are read as they are
// asked for, one chunk at a time.
func Open(ctx context.Context, reader *cas.Reader, list manifest.FileList) (io.Reader, error) {
	if list.Size > maxFileList {
		return nil, fmt.Errorf("read the list of files: it has %d bytes, more than %d", list.Size, int64(maxFileList))
	}
	leaves, err := reader.LeafIDs(ctx, list.Root, list.Size, list.ChunkSize)
	if err != nil {
		return nil, fmt.Errorf("read the list of files: %w", err)
	}
	return &listReader{ctx: ctx, reader: reader, list: list, leaves: leaves}, nil
}

// listReader reads the list of files.
type listReader struct {
	ctx    context.Context
	reader *cas.Reader
	list   manifest.FileList
	leaves []cas.ID
	leaf   int      // number of the next leaf
	ids    []cas.ID // of the present leaf, those that have not been read
	at     int64    // bytes of the chunks that have been read
	chunk  []byte   // what is left of the present chunk
}

// Read implements io.Reader.
func (r *listReader) Read(p []byte) (int, error) {
	for len(r.chunk) == 0 {
		if r.at == r.list.Size {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.chunk)
	r.chunk = r.chunk[n:]
	return n, nil
}

func (r *listReader) next() (err error) {
	if len(r.ids) == 0 {
		if r.ids, err = r.reader.Leaf(r.ctx, r.leaves[r.leaf], cas.LeafChunks(r.list.Size, r.list.ChunkSize, r.leaf)); err != nil {
			return err
		}
		r.leaf++
	}
	size := min(int64(r.list.ChunkSize), r.list.Size-r.at)
	if r.chunk, err = r.reader.Chunk(r.ctx, r.ids[0], int(size)); err != nil {
		return err
	}
	r.ids, r.at = r.ids[1:], r.at+size
	return nil
}
