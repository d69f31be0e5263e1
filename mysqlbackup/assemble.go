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
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/internal/throttle"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// assembler writes the files of a backup. Ranges of all files, the largest
// file first, are worked on by a number of workers; every chunk is verified
// before it is written. Whatever the list of files says, nothing is written
// outside the target's folders.
type assembler struct {
	target   *target
	reader   *cas.Reader
	workers  int
	inPlace  bool              // old files are compared, and changed where they differ
	reads    *throttle.Limiter // of old files
	writes   *throttle.Limiter
	progress Progress
	roots    []manifest.Root // of the backup

	written, kept atomic.Int64 // bytes, after writeFiles

	open    map[string]*os.Root // by folder
	folders []string            // made or written into, to be synced
}

// place is where an entry goes: a path in an open folder, out of which it does
// not lead, whatever links there are.
type place struct {
	folder *os.Root
	rel    string
}

func (p place) path() string { return filepath.Join(p.folder.Name(), p.rel) }

// writeFiles makes the folders, the files and the links. Nothing is synced but
// the files.
func (a *assembler) writeFiles(ctx context.Context, files []manifest.File) (err error) {
	a.open, a.folders = map[string]*os.Root{}, nil
	defer func() {
		for _, folder := range a.open {
			err = errors.Join(err, folder.Close())
		}
	}()
	writes, total, err := a.prepare(files)
	if err != nil {
		return err
	}
	a.progress.Begin(a.work(), total)
	defer a.progress.End()
	slices.SortStableFunc(writes, func(x, y *fileWrite) int { return cmp.Compare(y.entry.Size, x.entry.Size) })
	if err := a.run(ctx, writes); err != nil {
		return err
	}
	if err := a.links(files); err != nil {
		return err
	}
	return a.modes(files)
}

// work is what progress is called.
func (a *assembler) work() string {
	if a.inPlace {
		return "compare and restore"
	}
	return "restore"
}

// prepare makes the folders and says what goes where.
func (a *assembler) prepare(files []manifest.File) (writes []*fileWrite, total int64, err error) {
	for i := range files {
		entry := &files[i]
		at, wanted, err := a.place(entry)
		if err != nil {
			return nil, 0, err
		}
		switch {
		case !wanted:
		case entry.Kind == manifest.KindDir:
			if err := a.makeDir(at); err != nil {
				return nil, 0, err
			}
		case entry.Kind == manifest.KindFile:
			w := &fileWrite{entry: entry, place: at}
			w.left.Store(int64(w.pieces()))
			writes = append(writes, w)
			total += entry.Size
			a.touch(filepath.Dir(at.path()))
		}
	}
	return writes, total, nil
}

// place returns where an entry goes; not wanted if this server has no use for
// it.
func (a *assembler) place(entry *manifest.File) (at place, wanted bool, err error) {
	folder, rel, wanted, err := a.target.at(entry)
	if err != nil || !wanted {
		return place{}, false, err
	}
	root, err := a.openFolder(folder)
	return place{root, rel}, true, err
}

// at returns the folder that an entry goes to and the path in it, that of a redo
// log as it is withheld; not wanted if this server has no use for the entry.
func (t *target) at(entry *manifest.File) (folder, rel string, wanted bool, err error) {
	folder, ok := t.folder(entry.Root)
	if !ok {
		return "", "", false, fmt.Errorf("no place for %s of %s", entry.Path, entry.Root)
	}
	rel = filepath.FromSlash(string(entry.Path))
	if entry.Root == rootBinlog {
		state := t.layout.binlogState()
		if state == "" || entry.Kind != manifest.KindFile {
			return "", "", false, nil
		}
		folder, rel = filepath.Split(state)
		return filepath.Clean(folder), rel, true, nil
	}
	path := filepath.Join(folder, rel)
	if err := t.checkKind(entry, path); err != nil {
		return "", "", false, err
	}
	if entry.Root == rootRedo {
		folder = t.withheldFolder()
	}
	return filepath.Clean(folder), rel, !t.isForeign(path, entry.Kind == manifest.KindDir), nil
}

func (a *assembler) openFolder(folder string) (*os.Root, error) {
	if root, ok := a.open[folder]; ok {
		return root, nil
	}
	root, err := os.OpenRoot(folder)
	if err == nil {
		a.open[folder] = root
	}
	return root, err
}

// makeDir makes a folder, for us alone until all is in it. It may be one that
// the target's own options name, and then it is there.
func (a *assembler) makeDir(at place) error {
	err := at.folder.Mkdir(at.rel, 0o700)
	if errors.Is(err, fs.ErrExist) {
		var info fs.FileInfo
		if info, err = lstatIn(at.folder, at.rel); err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is there and is no folder", at.path())
		}
	}
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	a.touch(filepath.Dir(at.path()))
	a.touch(at.path())
	return nil
}

// modes gives the folders their owner and modes, when all is in them.
func (a *assembler) modes(files []manifest.File) error {
	for i := range files {
		entry := &files[i]
		if entry.Kind != manifest.KindDir {
			continue
		}
		at, wanted, err := a.place(entry)
		if err != nil {
			return err
		}
		if !wanted {
			continue
		}
		err = at.folder.Chmod(at.rel, modeOf(entry))
		if err == nil {
			err = at.folder.Lchown(at.rel, a.target.uid, a.target.gid)
		}
		if err != nil {
			return fmt.Errorf("give a folder its owner and mode: %w", err)
		}
	}
	return nil
}

// touch remembers a folder to be synced.
func (a *assembler) touch(folder string) {
	if !slices.Contains(a.folders[max(0, len(a.folders)-2):], folder) {
		a.folders = append(a.folders, folder)
	}
}

// run writes all files. Those that an error leaves open are closed.
func (a *assembler) run(ctx context.Context, writes []*fileWrite) error {
	queue := &pieceQueue{writes: writes}
	group, groupCtx := errgroup.WithContext(ctx)
	for range max(1, a.workers) {
		group.Go(func() error {
			for {
				w, leaf, ok := queue.next()
				if !ok {
					return nil
				}
				if err := a.writePiece(groupCtx, w, leaf); err != nil {
					return fmt.Errorf("restore %s: %w", w.path(), explainCorrupt(err))
				}
			}
		})
	}
	err := group.Wait()
	for _, w := range writes {
		if w.file != nil {
			err = errors.Join(err, w.file.Close())
		}
	}
	return err
}

// explainCorrupt says what to do about a damaged repository: err is of chunks.
func explainCorrupt(err error) error {
	err = damaged(err)
	if !errors.Is(err, cas.ErrCorrupt) {
		return err
	}
	err = hint.Wrap(err, "or restore another backup with --backup, and take a new one")
	return hint.Wrap(err, "run \"shardseed check --read-data\" to see all that is damaged, and \"shardseed repair\" to save what can be saved")
}

// atRange says which bytes of a file a chunk that could not be had stands for.
func atRange(err error, r leafRange) error {
	var chunk *cas.ChunkError
	if !errors.As(err, &chunk) {
		return err
	}
	first := r.start + int64(chunk.Index)*r.chunkSize
	return fmt.Errorf("bytes %d to %d: %w", first, first+int64(r.size(chunk.Index))-1, err)
}

// writePiece writes one range; the last of a file syncs and closes it.
func (a *assembler) writePiece(ctx context.Context, w *fileWrite, leaf int) error {
	w.once.Do(func() { w.err = w.create(ctx, a.reader, a.inPlace) })
	if w.err != nil {
		return w.err
	}
	if len(w.leaves) > 0 {
		if err := a.writeLeaf(ctx, w, leaf); err != nil {
			return err
		}
	}
	if w.left.Add(-1) > 0 {
		return nil
	}
	return w.finish(a.target)
}

func (a *assembler) writeLeaf(ctx context.Context, w *fileWrite, leaf int) error {
	r := w.leafRange(leaf)
	if w.leaves[leaf].IsZero() && w.old <= r.start { // zeros, which are there
		a.progress.Advance(r.length)
		return nil
	}
	ids, err := a.reader.Leaf(ctx, w.leaves[leaf], r.count)
	if err != nil {
		return fmt.Errorf("bytes %d to %d: %w", r.start, r.start+r.length-1, err)
	}
	left := r.length // to be told as progress
	if w.old > r.start {
		kept, err := a.compare(ctx, w, r, ids)
		if err != nil {
			return err
		}
		left -= kept
	}
	var fresh dirty
	err = a.reader.Chunks(ctx, ids, r.size, func(i int, plain []byte) error {
		if err := a.writes.Wait(ctx, len(plain)); err != nil {
			return err
		}
		at := r.start + int64(i)*r.chunkSize
		if err := w.writeAt(plain, at); err != nil {
			return err
		}
		fresh.add(w.file, at, int64(len(plain)))
		a.written.Add(int64(len(plain)))
		a.progress.Advance(int64(len(plain)))
		left -= int64(len(plain))
		return nil
	})
	fresh.flush(w.file)
	a.progress.Advance(left) // zeros, which are there
	return atRange(err, r)
}

// links makes the symbolic links, last so that nothing is written through
// them, and lets MariaDB's .isl files point to where the tablespaces are now.
func (a *assembler) links(files []manifest.File) error {
	for i := range files {
		entry := &files[i]
		at, wanted, err := a.place(entry)
		if err != nil {
			return err
		}
		switch {
		case !wanted:
		case entry.Kind == manifest.KindSymlink:
			if err := a.link(at, entry); err != nil {
				return err
			}
		case entry.Kind == manifest.KindFile && filepath.Ext(at.rel) == ".isl" && a.target.layout.flavor == replication.MariaDB:
			if err := a.rewriteISL(at); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *assembler) link(at place, entry *manifest.File) error {
	target, ok := a.moved(string(entry.Target))
	if !ok {
		return fmt.Errorf("no place for what %s points to, %s", entry.Path, entry.Target)
	}
	err := at.folder.Symlink(target, at.rel)
	if err == nil {
		err = at.folder.Lchown(at.rel, a.target.uid, a.target.gid)
	}
	if err != nil {
		return fmt.Errorf("make a symbolic link: %w", err)
	}
	a.touch(filepath.Dir(at.path()))
	return nil
}

// moved returns where a path in the source's data directory or one of its
// external roots is now.
func (a *assembler) moved(path string) (string, bool) {
	path = filepath.Clean(path)
	var best manifest.Root
	for _, root := range a.roots {
		_, external := a.target.external[root.Name]
		if (external || root.Name == rootDatadir) && isBelow(string(root.Path), path) && len(root.Path) > len(best.Path) {
			best = root
		}
	}
	folder, ok := a.target.folder(best.Name)
	return filepath.Join(folder, strings.TrimPrefix(path, string(best.Path))), ok
}

// sourceDatadir is where the data directory was; "" if the record does not say.
func (a *assembler) sourceDatadir() string {
	for _, root := range a.roots {
		if root.Name == rootDatadir {
			return string(root.Path)
		}
	}
	return ""
}

func (a *assembler) rewriteISL(at place) error {
	path := at.path()
	text, err := readISL(path)
	if err != nil {
		return err
	}
	target, ok := a.moved(within(a.sourceDatadir(), text))
	if !ok {
		return fmt.Errorf("no place for the tablespace that %s points to, %s", path, text)
	}
	file, err := at.folder.OpenFile(at.rel, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(target)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// finish makes everything durable.
func (a *assembler) finish() error {
	slices.Sort(a.folders)
	for _, folder := range slices.Backward(slices.Compact(a.folders)) {
		if err := durable.OS().SyncDir(folder); err != nil {
			return err
		}
	}
	return nil
}
