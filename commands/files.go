package commands

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/index"
	"github.com/shardseed/shardseed/internal/ui"
	"github.com/shardseed/shardseed/manifest"
)

// showFiles tells every file of a backup, and the pages that failed their
// check.
func (r *run) showFiles(ctx context.Context, repo *cas.Repository, m *manifest.Manifest) error {
	files, err := fileList(ctx, repo, m)
	if err != nil {
		err = fmt.Errorf("files of %s: %w", m.Key(), err)
		if errors.Is(err, cas.ErrNotFound) { // what a backup needs is never removed before it
			err = &codedError{err, exitDamaged}
		}
		return err
	}
	var rows [][]string
	for _, f := range files {
		r.out.Object(struct {
			Type string `json:"type"` // "file"
			manifest.File
		}{"file", f})
		rows = append(rows, []string{f.Root, fmt.Sprintf("%q", f.Path), string(f.Kind), ui.Bytes(f.Size), filePages(f.Pages)})
	}
	r.out.Text("")
	r.out.Table([]string{"FOLDER", "PATH", "KIND", "SIZE", "PAGES"}, rows)
	for _, f := range files {
		if f.Pages == nil {
			continue
		}
		for _, bad := range f.Pages.BadPages {
			r.out.Text("page %d of %s %q: %s", bad.Number, f.Root, f.Path, bad.Why)
		}
	}
	return nil
}

func filePages(pages *manifest.FilePages) string {
	if pages == nil {
		return "-"
	}
	return pageCounts(pages.Pages)
}

// fileList reads the list of a backup's files.
func fileList(ctx context.Context, repo *cas.Repository, m *manifest.Manifest) (_ []manifest.File, err error) {
	chunks, err := index.OfPacks(ctx, repo, m.Packs)
	if err != nil {
		return nil, err
	}
	reader := repo.NewReader(chunks)
	defer func() { err = errors.Join(err, reader.Close()) }()
	list := m.Files
	leaves, err := reader.LeafIDs(ctx, list.Root, list.Size, list.ChunkSize)
	if err != nil {
		return nil, err
	}
	stream := &recipeReader{ctx: ctx, chunks: reader, leaves: leaves, left: list.Size, chunkSize: list.ChunkSize}
	files, err := manifest.ReadFiles(stream, list.Count)
	if stream.err != nil && !errors.Is(stream.err, io.EOF) {
		return nil, stream.err
	}
	return files, err
}

// recipeReader reads a stored file from its start to its end, chunk by chunk.
type recipeReader struct {
	ctx       context.Context
	chunks    *cas.Reader
	leaves    []cas.ID // not begun yet
	ids       []cas.ID // of the chunks of the leaf that are left
	plain     []byte   // of the current chunk, what is left
	left      int64    // bytes behind plain
	chunkSize int
	err       error // the first error; io.EOF at the end
}

// Read is the method of io.Reader.
func (r *recipeReader) Read(p []byte) (int, error) {
	for len(r.plain) == 0 && r.err == nil {
		r.err = r.next()
	}
	if r.err != nil {
		return 0, r.err
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

// next reads the next chunk.
func (r *recipeReader) next() (err error) {
	if r.left == 0 {
		return io.EOF
	}
	if len(r.ids) == 0 {
		r.ids, err = r.chunks.Leaf(r.ctx, r.leaves[0], cas.LeafChunks(r.left, r.chunkSize, 0))
		if err != nil {
			return err
		}
		r.leaves = r.leaves[1:]
	}
	r.plain, err = r.chunks.Chunk(r.ctx, r.ids[0], int(min(r.left, int64(r.chunkSize))))
	r.ids = r.ids[1:]
	r.left -= int64(len(r.plain))
	return err
}
