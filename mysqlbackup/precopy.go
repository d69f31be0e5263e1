package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/direct"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup/innodb"
	"github.com/shardseed/shardseed/replication"
)

// idleTime is how long nobody must have written to a file of a running server
// before it is read: until then a write may still be on its way to the disk
// although the file's times tell of it.
const idleTime = time.Minute

// aheadFile is a file that was stored while the server still ran.
type aheadFile struct {
	fileCopy
	// idle: nobody had written to it for a while, and all of it was read. It
	// need not be read again if its pages are good and it has the same stat once
	// the server is stopped.
	idle atomic.Bool
}

// preCopy stores files while the server still runs, so that the copy of the
// stopped server finds most of what it needs stored: files that nobody writes
// to, which need not be read again then, and those without a past, for which
// only their chunks can help. Others are read again anyway, and what the server
// writes until it stops would be stored twice; they are left out but for
// PreCopyAll. What is read may be torn, or gone a moment later. Nothing is
// changed on the server.
func (b *backupRun) preCopy(ctx context.Context) error {
	if b.PreCopyFrom < 0 {
		return nil
	}
	listed := b.Now()
	selected, err := selectFiles(b.layout, b.external())
	if err != nil { // a folder that has gone meanwhile, say
		b.Progress.Warn(fmt.Sprintf("the files are not stored ahead: %v", err))
		return nil
	}
	c := b.newCopier()
	unchanged := b.findUnchanged(selected.files)
	early := map[fileKey]*aheadFile{}
	var total int64
	for i := range selected.files {
		src := &selected.files[i]
		if _, same := unchanged[src.path]; same || src.kind != manifest.KindFile {
			continue
		}
		f := &aheadFile{fileCopy: fileCopy{src: src, leaves: make([]cas.ID, cas.Leaves(src.stat.Size, c.chunkSize))}}
		f.idle.Store(src.root != rootHome && c.layout.isTablespace(src) && listed.Sub(time.Unix(src.stat.Ctim.Unix())) > idleTime)
		if b.PreCopyAll || f.idle.Load() || b.parent.entry(src.key(), c.chunkSize) == nil {
			early[src.key()] = f
			total += src.stat.Size
		}
	}
	if total < b.PreCopyFrom {
		return nil
	}
	b.step(StepPreCopy, b.layout.datadir)
	return b.storeAhead(ctx, c, early, total)
}

// storeAhead stores the files.
func (b *backupRun) storeAhead(ctx context.Context, c *copier, early map[fileKey]*aheadFile, total int64) error {
	files := map[*fileCopy]*aheadFile{}
	var work []fileRange
	for _, f := range early {
		files[&f.fileCopy] = f
		for leaf := range f.leaves {
			work = append(work, fileRange{&f.fileCopy, leaf})
		}
	}
	sortRanges(work)
	c.progress.Begin("pre-copy", total)
	defer c.progress.End()
	err := c.run(ctx, work, func(ctx context.Context, r fileRange, blocks *blockReader) error {
		return c.storeRange(ctx, files[r.file], r, blocks)
	})
	if err != nil {
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
func (c *copier) storeRange(ctx context.Context, f *aheadFile, r fileRange, blocks *blockReader) (err error) {
	opened, err := os.OpenFile(f.src.path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		f.idle.Store(false)
		return nil
	}
	file := direct.New(opened)
	defer func() { err = errors.Join(err, file.Close()) }()
	checker := f.checkAhead(file, c.layout.flavor)
	before := c.before(ctx, c.likes(ctx, f.src), r.leaf)
	var report innodb.Report
	ids := make([]cas.ID, 0, cas.NodeFanout)
	start, end := r.span(c.chunkSize)
	err = blocks.each(ctx, file, start, end, func(at int64, data []byte) (err error) {
		if checker != nil {
			checker.Check(at, data, &report)
		}
		var zero int64
		ids, zero, err = c.storeChunks(ctx, data, ids, before)
		f.zero.Add(zero)
		return err
	})
	var unread *readError
	if errors.As(err, &unread) {
		f.idle.Store(false)
		return nil
	}
	if err != nil {
		return err
	}
	leaf, _, err := c.writer.PutLeaf(ctx, ids)
	if err != nil {
		return err
	}
	f.doneAhead(r.leaf, leaf, &report)
	return nil
}

// checkAhead returns the page checker of a file that may count, else nil.
func (f *aheadFile) checkAhead(file *direct.File, flavor replication.Flavor) *innodb.Checker {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.idle.Load() && f.checker == nil && f.check(file, flavor == replication.MariaDB) != nil {
		f.idle.Store(false)
	}
	return f.checker
}

// doneAhead records a range.
func (f *aheadFile) doneAhead(leaf int, id cas.ID, report *innodb.Report) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leaves[leaf] = id
	f.report.Merge(*report)
}

// counts tells whether the file is what it was when it was stored: now is its
// stat after the server was stopped.
func (f *aheadFile) counts(now *syscall.Stat_t) bool {
	was := &f.src.stat
	return f.idle.Load() && f.report.BadCount == 0 && now.Size == was.Size && now.Mtim == was.Mtim && now.Ctim == was.Ctim && now.Ino == was.Ino && now.Dev == was.Dev
}
