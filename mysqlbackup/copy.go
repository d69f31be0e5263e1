package mysqlbackup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/direct"
	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/internal/throttle"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup/innodb"
	"github.com/shardseed/shardseed/replication"
)

// copier copies files into chunks. Ranges of all files, the largest file
// first, are worked on by a number of workers, each of which reads, hashes,
// checks, compresses and stores its range; memory is bounded by their buffers.
type copier struct {
	writer    *cas.Writer
	chunkSize int
	workers   int
	layout    *layout
	parent    *parent
	reader    *cas.Reader            // of what the index knows
	early     map[fileKey]*aheadFile // what a pre-copy has stored
	unchanged map[string]reuse       // files that are as they were in the parent, by path
	limit     *throttle.Limiter      // of reading
	gentle    bool                   // the workers yield to others
	progress  Progress
	zeros     map[string]int64 // after copyFiles: bytes in zero chunks, by path

	mu       sync.Mutex // guards problems
	problems []error    // with the parent; the files are copied all the same

	plain, zero, fresh, chunks, freshChunks atomic.Int64
}

// fileCopy is a file that is being copied. Its file is opened for its first
// range and closed after its last.
type fileCopy struct {
	src     *sourceFile
	leaves  []cas.ID
	checker *innodb.Checker // nil: no tablespace
	same    *manifest.File  // the parent's entry of a file that is not read
	zero    atomic.Int64    // bytes in zero chunks

	mu     sync.Mutex // guards what follows
	file   *direct.File
	like   []*like // versions of it that it is compared with, the best first
	left   int     // ranges to do
	report innodb.Report
}

// fileRange is one leaf of a file's recipe.
type fileRange struct {
	file *fileCopy
	leaf int
}

// copyFiles stores all files and returns their entries, sorted. Folders and
// symbolic links have no content and become entries only.
func (c *copier) copyFiles(ctx context.Context, files []sourceFile) ([]manifest.File, error) {
	copies := make([]*fileCopy, len(files))
	var work []fileRange
	var total int64
	for i := range files {
		f := &fileCopy{src: &files[i]}
		copies[i] = f
		if f.src.kind != manifest.KindFile || c.reuse(f) {
			continue
		}
		f.left = cas.Leaves(f.src.stat.Size, c.chunkSize)
		f.leaves = make([]cas.ID, f.left)
		total += f.src.stat.Size
		for leaf := range f.left {
			work = append(work, fileRange{f, leaf})
		}
	}
	sortRanges(work)
	c.progress.Begin("copy", total)
	defer c.progress.End()
	if err := c.openSystem(copies); err != nil {
		return nil, err
	}
	if err := c.run(ctx, work, c.copyRange); err != nil {
		return nil, errors.Join(err, closeAll(copies))
	}
	c.zeros = map[string]int64{}
	for _, f := range copies {
		c.zeros[f.src.path] = f.zero.Load()
	}
	return c.entries(ctx, copies)
}

// reuse takes a file over, from the parent or from what was stored ahead, if it
// has not changed since.
func (c *copier) reuse(f *fileCopy) bool {
	if same, found := c.unchanged[f.src.path]; found {
		f.same = same.entry
		f.zero.Store(same.zero)
	} else if early := c.early[f.src.key()]; early != nil && early.counts(&f.src.stat) {
		f.leaves, f.checker, f.report = early.leaves, early.checker, early.report
		f.zero.Store(early.zero.Load())
	} else {
		return false
	}
	c.plain.Add(f.src.stat.Size)
	c.zero.Add(f.zero.Load())
	c.chunks.Add((f.src.stat.Size + int64(c.chunkSize) - 1) / int64(c.chunkSize))
	return true
}

// sortRanges puts those of the largest file first.
func sortRanges(work []fileRange) {
	slices.SortStableFunc(work, func(a, b fileRange) int { return cmp.Compare(b.file.src.stat.Size, a.file.src.stat.Size) })
}

func closeAll(copies []*fileCopy) error {
	var errs []error
	for _, f := range copies {
		if f.file != nil {
			errs = append(errs, f.file.Close())
			f.file = nil
		}
	}
	return errors.Join(errs...)
}

// openSystem gives the files of the system tablespace their page checkers:
// only the first has a header.
func (c *copier) openSystem(copies []*fileCopy) error {
	var first *innodb.Checker
	var pages uint32
	for _, path := range c.layout.systemFiles {
		i := slices.IndexFunc(copies, func(f *fileCopy) bool { return f.src.path == path })
		if i < 0 {
			return refuse("%s of the system tablespace is missing", path)
		}
		f := copies[i]
		if first == nil {
			checker, err := c.newChecker(path)
			if isUnread(err) {
				return err
			}
			if err != nil {
				return refuse("%s is no system tablespace: %v", path, err)
			}
			first = checker
		}
		f.checker = first.From(pages)
		pages += uint32(f.src.stat.Size / int64(first.Space().PageSize))
	}
	return nil
}

func (c *copier) newChecker(path string) (*innodb.Checker, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	checker, err := innodb.NewChecker(file, c.layout.flavor == replication.MariaDB)
	return checker, errors.Join(err, file.Close())
}

// run works on all ranges.
func (c *copier) run(ctx context.Context, work []fileRange, do func(context.Context, fileRange, *blockReader) error) error {
	group, ctx := errgroup.WithContext(ctx)
	next := atomic.Int64{}
	for range max(1, c.workers) {
		group.Go(func() error {
			if c.gentle {
				throttle.Yield()
			}
			blocks := c.newBlockReader()
			defer blocks.close()
			for {
				i := int(next.Add(1)) - 1
				if i >= len(work) {
					return nil
				}
				if err := do(ctx, work[i], blocks); err != nil {
					return fmt.Errorf("copy %s: %w", work[i].file.src.path, err)
				}
			}
		})
	}
	return group.Wait()
}

// span returns where the range lies in its file.
func (r fileRange) span(chunkSize int) (start, end int64) {
	size := int64(cas.NodeFanout) * int64(chunkSize)
	start = int64(r.leaf) * size
	return start, min(start+size, r.file.src.stat.Size)
}

// copyRange stores one range and, with the last one of a file, closes it.
func (c *copier) copyRange(ctx context.Context, r fileRange, blocks *blockReader) error {
	f := r.file
	file, err := f.open(ctx, c)
	if err != nil {
		return err
	}
	before := c.before(ctx, f.like, r.leaf)
	start, end := r.span(c.chunkSize)
	var report innodb.Report
	ids := make([]cas.ID, 0, cas.NodeFanout)
	err = blocks.each(ctx, file, start, end, func(at int64, data []byte) (err error) {
		if f.checker != nil {
			f.checker.Check(at, data, &report)
		}
		var zero int64
		ids, zero, err = c.storeChunks(ctx, data, ids, before)
		f.zero.Add(zero)
		return err
	})
	if err != nil {
		return err
	}
	leaf, _, err := c.writer.PutLeaf(ctx, ids)
	if err != nil {
		return err
	}
	return f.done(r.leaf, leaf, &report)
}

// storeChunks stores data as chunks and appends their IDs to those of the range
// so far; before are the IDs that the range had earlier. zero is what of the data
// is in zero chunks.
func (c *copier) storeChunks(ctx context.Context, data []byte, ids, before []cas.ID) (_ []cas.ID, zero int64, err error) {
	batch := make([]cas.Chunk, 0, len(data)/c.chunkSize+1)
	for chunk := range slices.Chunk(data, c.chunkSize) {
		next := cas.Chunk{Plain: chunk}
		if cas.AllZero(chunk) {
			zero += int64(len(chunk))
		} else {
			next.ID = cas.Sum(chunk)
			if n := len(ids); n < len(before) {
				next.Like = before[n]
			}
		}
		ids = append(ids, next.ID)
		batch = append(batch, next)
	}
	puts, err := c.writer.PutAll(ctx, cas.KindData, batch)
	if err != nil {
		return nil, 0, err
	}
	for i, put := range puts {
		if put.New {
			c.fresh.Add(int64(len(batch[i].Plain)))
			c.freshChunks.Add(1)
		}
	}
	c.plain.Add(int64(len(data)))
	c.zero.Add(zero)
	c.chunks.Add(int64(len(batch)))
	c.progress.Advance(int64(len(data)))
	return ids, zero, nil
}

// maxProblems bounds the problems that are kept.
const maxProblems = 10

func (c *copier) problem(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, err)
	}
}

// open opens the file for its first range, with its page checker.
func (f *fileCopy) open(ctx context.Context, c *copier) (*direct.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file != nil {
		return f.file, nil
	}
	file, err := os.OpenFile(f.src.path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	f.file = direct.New(file)
	f.like = c.likes(ctx, f.src)
	if f.checker == nil && c.layout.isTablespace(f.src) {
		return f.file, f.check(f.file, c.layout.flavor == replication.MariaDB)
	}
	return f.file, nil
}

// isUnread tells errors of reading a file from those about what it holds.
func isUnread(err error) bool {
	var failed *fs.PathError
	return errors.As(err, &failed)
}

// check makes the page checker. A file that is no tablespace has a bad first
// page; of one that lacks its end, the first page that is missing is bad. The
// error is that of reading.
func (f *fileCopy) check(file *direct.File, mariadb bool) error {
	checker, err := innodb.NewChecker(file.File, mariadb)
	switch {
	case isUnread(err):
		return err
	case err != nil:
		f.report.Merge(innodb.Report{BadCount: 1, Bad: []innodb.BadPage{{No: 0, Why: err.Error()}}})
		return nil //nolint:nilerr // it is reported
	}
	f.checker = checker
	size, pageSize := f.src.stat.Size, int64(checker.Space().PageSize)
	if err := checker.CheckSize(size); err != nil && size%pageSize == 0 { // half a page is seen when it is read
		missing := uint32(size / pageSize)
		f.report.Merge(innodb.Report{BadCount: 1, Bad: []innodb.BadPage{{No: missing, Why: err.Error()}}})
	}
	return nil
}

// done records a range; with the last one the file is closed, and must be as
// it was when it was listed.
func (f *fileCopy) done(leaf int, id cas.ID, report *innodb.Report) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leaves[leaf] = id
	f.report.Merge(*report)
	f.left--
	if f.left > 0 {
		return nil
	}
	var now syscall.Stat_t
	err := durable.Uninterrupted(func() error { return syscall.Fstat(int(f.file.Fd()), &now) })
	err = errors.Join(err, f.file.Close())
	f.file = nil
	if was := &f.src.stat; err == nil && (now.Size != was.Size || now.Mtim != was.Mtim || now.Ino != was.Ino || now.Dev != was.Dev) {
		err = fmt.Errorf("the file has changed while it was copied: somebody works on it")
	}
	return err
}

// entries builds the list of files from what was copied.
func (c *copier) entries(ctx context.Context, copies []*fileCopy) ([]manifest.File, error) {
	files := make([]manifest.File, 0, len(copies))
	for _, f := range copies {
		entry, err := c.entry(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("store the recipe of %s: %w", f.src.path, err)
		}
		files = append(files, entry)
	}
	slices.SortFunc(files, func(a, b manifest.File) int { return a.Compare(&b) })
	return files, nil
}

func (c *copier) entry(ctx context.Context, f *fileCopy) (manifest.File, error) {
	stat := &f.src.stat
	entry := manifest.File{
		Root: f.src.root, Path: manifest.Path(f.src.rel), Kind: f.src.kind, Mode: stat.Mode & 0o7777,
		ModTime: time.Unix(stat.Mtim.Unix()).UTC(), Target: manifest.Path(f.src.target),
	}
	if f.src.kind != manifest.KindFile {
		return entry, nil
	}
	entry.Sparse = stat.Blocks*512 < stat.Size
	if f.same != nil {
		entry.Size, entry.ChunkSize, entry.Recipe = f.same.Size, f.same.ChunkSize, f.same.Recipe
		entry.LSN, entry.Pages = f.same.LSN, f.same.Pages
		return entry, nil
	}
	root, _, err := c.writer.PutRoot(ctx, f.leaves)
	if err != nil {
		return entry, err
	}
	entry.Size, entry.ChunkSize, entry.Recipe = stat.Size, c.chunkSize, root
	entry.LSN = f.report.MaxLSN
	if f.checker != nil || f.report.BadCount > 0 {
		entry.Pages = pagesOf(&f.report)
	}
	return entry, nil
}

// storeBytes stores what is no file of the server, such as the list of files.
func storeBytes(ctx context.Context, w *cas.Writer, data []byte, chunkSize int) (cas.ID, error) {
	var leaves, ids []cas.ID
	for len(data) > 0 {
		chunk := data[:min(len(data), chunkSize)]
		data = data[len(chunk):]
		id := cas.Sum(chunk)
		if _, err := w.Put(ctx, cas.KindMeta, id, chunk); err != nil {
			return cas.ID{}, err
		}
		ids = append(ids, id)
		if len(ids) < cas.NodeFanout && len(data) > 0 {
			continue
		}
		leaf, _, err := w.PutLeaf(ctx, ids)
		if err != nil {
			return cas.ID{}, err
		}
		leaves, ids = append(leaves, leaf), nil
	}
	root, _, err := w.PutRoot(ctx, leaves)
	return root, err
}

// pagesOf puts a page report into the manifest's form.
func pagesOf(r *innodb.Report) *manifest.FilePages {
	bad := make([]manifest.BadPage, 0, len(r.Bad))
	for _, page := range r.Bad {
		bad = append(bad, manifest.BadPage{Number: page.No, Why: page.Why})
	}
	return manifest.NewFilePages(manifest.Pages{Checked: r.Checked, Unchecked: r.Unchecked, Zero: r.Zero, Bad: r.BadCount, Encrypted: r.Encrypted}, bad)
}

// sameFiles verifies that two listings show the same files: nothing was added,
// removed or changed between them.
func sameFiles(before, after []sourceFile) error {
	known := make(map[string]*sourceFile, len(before))
	for i := range before {
		known[before[i].path] = &before[i]
	}
	for i := range after {
		now := &after[i]
		was := known[now.path]
		delete(known, now.path)
		switch {
		case was == nil:
			return fmt.Errorf("%s has appeared during the copy: somebody works in %s", now.path, filepath.Dir(now.path))
		case was.kind != now.kind, was.target != now.target,
			was.kind == manifest.KindFile && (was.stat.Size != now.stat.Size || was.stat.Mtim != now.stat.Mtim || was.stat.Ino != now.stat.Ino):
			return fmt.Errorf("%s has changed during the copy: somebody works on it", now.path)
		}
	}
	for path := range known {
		return fmt.Errorf("%s has gone during the copy: somebody works in %s", path, filepath.Dir(path))
	}
	return nil
}
