package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/direct"
	"github.com/shardseed/shardseed/manifest"
)

// preCopy stores the files' chunks while the server still runs, so that the
// copy of the stopped server finds nearly all of them stored. What it reads may
// be torn, or gone a moment later: it gets into no recipe but by its hash, if
// the stopped server's files have the same. Nothing is changed on the server.
func (b *backupRun) preCopy(ctx context.Context) error {
	if b.PreCopyFrom < 0 {
		return nil
	}
	selected, err := selectFiles(b.layout, b.external())
	if err != nil { // a folder that has gone meanwhile, say
		b.Progress.Warn(fmt.Sprintf("the files are not stored ahead: %v", err))
		return nil
	}
	c := b.newCopier()
	unchanged := b.findUnchanged(selected.files)
	early := map[fileKey]*like{}
	var work []fileRange
	var total int64
	for i := range selected.files {
		src := &selected.files[i]
		if _, same := unchanged[src.path]; same || src.kind != manifest.KindFile {
			continue
		}
		f := &fileCopy{src: src, leaves: make([]cas.ID, cas.Leaves(src.stat.Size, c.chunkSize))}
		early[fileKey{src.root, src.rel}] = &like{b.reader, src.stat.Size, c.chunkSize, f.leaves}
		total += src.stat.Size
		for leaf := range f.leaves {
			work = append(work, fileRange{f, leaf})
		}
	}
	if total < b.PreCopyFrom {
		return nil
	}
	b.step(StepPreCopy, b.layout.datadir)
	sortRanges(work)
	c.progress.Begin("pre-copy", total)
	defer c.progress.End()
	if err := c.run(ctx, work, c.storeRange); err != nil {
		return err
	}
	b.moved, b.early = c, early
	if err := b.writer.Flush(ctx); err != nil {
		return err
	}
	return b.index.Save(ctx) // so that what was stored can be bases
}

// storeRange stores a range of a file that somebody may be working on. One that
// is gone, has become shorter or cannot be read is left to the copy.
func (c *copier) storeRange(ctx context.Context, r fileRange, blocks *blockReader) (err error) {
	opened, err := os.OpenFile(r.file.src.path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	file := direct.New(opened)
	defer func() { err = errors.Join(err, file.Close()) }()
	before := c.before(ctx, c.likes(ctx, r.file.src), r.leaf)
	ids := make([]cas.ID, 0, cas.NodeFanout)
	start, end := r.span(c.chunkSize)
	err = blocks.each(ctx, file, start, end, func(_ int64, data []byte) (err error) {
		ids, _, err = c.storeChunks(ctx, data, ids, before)
		return err
	})
	var unread *readError
	if errors.As(err, &unread) {
		return nil
	}
	if err != nil {
		return err
	}
	r.file.leaves[r.leaf], _, err = c.writer.PutLeaf(ctx, ids)
	return err
}
