package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/index"
	"github.com/shardseed/shardseed/manifest"
)

// ReadManifest reads the record of one backup. It returns cas.ErrNotFound if
// there is no such backup, cas.ErrCorrupt if its record is damaged, and a
// [*manifest.VersionError] if a newer program wrote it.
func ReadManifest(ctx context.Context, repo *cas.Repository, key cas.Key) (*manifest.Manifest, error) {
	data, err := repo.Record(ctx, key)
	if errors.Is(err, cas.ErrRevoked) {
		return nil, fmt.Errorf("backup %s: %w", key, cas.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	m, err := manifest.Decode(data)
	var newer *manifest.VersionError
	if errors.As(err, &newer) {
		return nil, fmt.Errorf("backup %s: %w", key, err)
	}
	if err == nil && m.Key() != key {
		err = fmt.Errorf("it is the record of %s", m.Key())
	}
	if err != nil {
		return nil, fmt.Errorf("backup %s: %w", key, &cas.CorruptError{Name: "manifests/" + string(key), Reason: err.Error()})
	}
	return m, nil
}

// ReadFiles reads the list of a backup's files. A pack or chunk that is
// missing is a cas.ErrNotFound: the repository is damaged.
func ReadFiles(ctx context.Context, repo *cas.Repository, m *manifest.Manifest) (_ []manifest.File, err error) {
	chunks, err := index.OfPacks(ctx, repo, m.Packs)
	if err != nil {
		return nil, err
	}
	reader := repo.NewReader(chunks)
	defer func() { err = errors.Join(err, reader.Close(), chunks.Close()) }()
	return readFiles(ctx, reader, m.Files)
}

// maxFileList bounds the list of files in memory, in bytes.
const maxFileList = 4 << 30

// readFiles reads a backup's list of files.
func readFiles(ctx context.Context, reader *cas.Reader, list manifest.FileList) ([]manifest.File, error) {
	if list.Size > maxFileList {
		return nil, fmt.Errorf("read the list of files: it has %d bytes, more than %d", list.Size, int64(maxFileList))
	}
	leaves, err := reader.LeafIDs(ctx, list.Root, list.Size, list.ChunkSize)
	if err != nil {
		return nil, fmt.Errorf("read the list of files: %w", err)
	}
	return manifest.ReadFiles(&listReader{ctx: ctx, reader: reader, list: list, leaves: leaves}, list.Count)
}

// listReader reads the list of files, one chunk at a time.
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
