package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/manifest"
)

// takeOver prepares the target's folders for a restore in place: files that the
// backup has too stay, to be compared with it. First the data directory is
// marked and the old server's redo log withheld, durably, so that no server
// starts on what is half the old one and half the backup. Then goes what the
// backup does not have; what an interrupted restore has left is like any old
// file.
func (t *target) takeOver(m marker, files []manifest.File) error {
	if err := t.makeFolders(); err != nil {
		return err
	}
	if err := t.mark(m); err != nil {
		return err
	}
	if err := t.withholdRedo(); err != nil {
		return fmt.Errorf("withhold the old redo log: %w", err)
	}
	if err := t.prune(files); err != nil {
		return fmt.Errorf("remove what the backup does not have: %w", err)
	}
	return t.makeFolders() // some may have been files, or links
}

// withholdRedo moves the old redo log to where the backup's is written.
func (t *target) withholdRedo() error {
	folder := t.layout.folders[rootRedo]
	if info, err := os.Lstat(t.withheldFolder()); err == nil && !info.IsDir() { // a link would lead elsewhere
		if err := os.Remove(t.withheldFolder()); err != nil {
			return err
		}
	}
	if err := t.withhold(); err != nil {
		return err
	}
	paths, err := listIfThere(folder, func(path string) bool {
		root, ok := t.layout.special(path)
		return ok && root == rootRedo
	})
	if err != nil || len(paths) == 0 {
		return err
	}
	for _, path := range paths {
		there := filepath.Join(t.withheldFolder(), filepath.Base(path))
		if err := errors.Join(os.RemoveAll(there), rename(path, there)); err != nil {
			return err
		}
	}
	return errors.Join(durable.OS().SyncDir(t.withheldFolder()), durable.OS().SyncDir(folder))
}

// prune removes what the backup does not have, and what is of another kind
// there. Files that have several names go too: what is written into them would
// be seen under the others. So do those that belong to somebody else.
func (t *target) prune(files []manifest.File) error {
	p := pruner{}
	for i := range files {
		folder, rel, wanted, err := t.at(&files[i])
		if err != nil {
			return err
		}
		if wanted {
			p.want(filepath.Join(folder, rel), files[i].Kind)
		}
	}
	paths, err := t.occupied()
	if err != nil {
		return err
	}
	marker := filepath.Join(t.layout.datadir, markerName)
	for _, path := range paths {
		if path == marker {
			continue
		}
		if err := p.pruneBelow(path); err != nil {
			return err
		}
	}
	return syncParents(paths)
}

// pruner knows what the backup has: path → kind, with the folders above.
type pruner map[string]manifest.Kind

func (p pruner) want(path string, kind manifest.Kind) {
	p[path] = kind
	for above := filepath.Dir(path); p[above] == "" && above != "/"; above = filepath.Dir(above) {
		p[above] = manifest.KindDir
	}
}

func (p pruner) pruneBelow(path string) error {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(p.prune(root, filepath.Base(path)), root.Close())
}

func (p pruner) prune(root *os.Root, rel string) error {
	info, err := lstatIn(root, rel)
	if err != nil {
		return err
	}
	kind := p[filepath.Join(root.Name(), rel)]
	if kind == manifest.KindFile && isOverwritable(info) {
		return nil
	}
	if kind != manifest.KindDir || !info.IsDir() {
		return root.RemoveAll(rel)
	}
	entries, err := readRootDir(root, rel)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := p.prune(root, filepath.Join(rel, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func readRootDir(root *os.Root, rel string) ([]fs.DirEntry, error) {
	folder, err := root.Open(rel)
	if err != nil {
		return nil, err
	}
	entries, err := folder.ReadDir(-1)
	return entries, errors.Join(err, folder.Close())
}

// isOverwritable tells files that we may write into, and without anybody else
// noticing.
func isOverwritable(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	ours := ok && (os.Geteuid() == 0 || int(stat.Uid) == os.Geteuid())
	return ours && info.Mode().IsRegular() && stat.Nlink == 1
}

// openOld opens the file that is there, if there is one, to be compared. What
// the page cache has of it is dropped, once it is on the disk: what counts is
// what the disk gives back, after a power cut too.
func (w *fileWrite) openOld() error {
	was, err := lstatIn(w.folder, w.rel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !isOverwritable(was) {
		return fmt.Errorf("%s has appeared: somebody works in %s", w.path(), filepath.Dir(w.path()))
	}
	if err := w.folder.Chmod(w.rel, 0o600); err != nil {
		return err
	}
	file, err := w.folder.OpenFile(w.rel, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	w.file = file
	is, err := file.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(was, is) || !isOverwritable(is) {
		return fmt.Errorf("%s was replaced: somebody works in %s", w.path(), filepath.Dir(w.path()))
	}
	if err := file.Sync(); err != nil {
		return err
	}
	_ = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)   // what is not dropped has just been written out
	_ = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_SEQUENTIAL) // advice only
	w.old = is.Size()
	return nil
}

// compare reads a range of the old file and takes from the IDs of its chunks,
// by making them zero, those that are there already: kept bytes. Chunks that are
// to be zeros are made so.
func (a *assembler) compare(ctx context.Context, w *fileWrite, r leafRange, ids []cas.ID) (kept int64, err error) {
	buffer := make([]byte, max(readSize, w.entry.ChunkSize))
	end := min(r.start+r.length, w.old) // behind it are zeros, which truncating has put there
	for at := r.start; at < end; at += int64(len(buffer)) {
		data := buffer[:min(int64(len(buffer)), r.start+r.length-at)]
		if err := a.reads.Wait(ctx, len(data)); err != nil {
			return 0, err
		}
		if _, err := w.file.ReadAt(data, at); err != nil {
			return 0, fmt.Errorf("read the old file: %w", err)
		}
		same, zeroed, err := w.compareChunks(at, data, ids[(at-r.start)/r.chunkSize:])
		if err != nil {
			return 0, err
		}
		kept += same
		a.written.Add(zeroed)
		a.progress.Advance(same)
	}
	a.kept.Add(kept)
	return kept, nil
}

// compareChunks is compare for the chunks of data, which is at an offset of the
// file.
func (w *fileWrite) compareChunks(at int64, data []byte, ids []cas.ID) (kept, zeroed int64, err error) {
	var toClear spans
	for chunk := range slices.Chunk(data, w.entry.ChunkSize) {
		size := int64(len(chunk))
		zero := cas.AllZero(chunk)
		switch {
		case ids[0].IsZero() && zero:
			kept += size
			if w.entry.Sparse { // they may be allocated
				toClear.add(at, size)
			}
		case ids[0].IsZero():
			zeroed += size
			toClear.add(at, size)
		case !zero && cas.Sum(chunk) == ids[0]:
			kept += size
			ids[0] = cas.ID{}
		case !zero && w.entry.Sparse: // of what differs only what is no hole is written
			toClear.add(at, size)
		}
		at, ids = at+size, ids[1:]
	}
	for _, s := range toClear {
		if err := w.clear(s.start, s.length); err != nil {
			return 0, 0, err
		}
	}
	return kept, zeroed, nil
}

// spans are ranges of a file in their order.
type spans []span

type span struct{ start, length int64 }

// add appends a range, which may continue the last one.
func (s *spans) add(start, length int64) {
	if n := len(*s) - 1; n >= 0 && (*s)[n].start+(*s)[n].length == start {
		(*s)[n].length += length
		return
	}
	*s = append(*s, span{start, length})
}

// clear makes a range zeros: a hole if the file is to have holes.
func (w *fileWrite) clear(start, length int64) error {
	mode := uint32(unix.FALLOC_FL_ZERO_RANGE)
	if w.entry.Sparse {
		mode = unix.FALLOC_FL_PUNCH_HOLE
	}
	err := w.allocate(mode|unix.FALLOC_FL_KEEP_SIZE, start, length)
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	zeros := make([]byte, min(length, readSize))
	for ; length > 0; start, length = start+int64(len(zeros)), length-int64(len(zeros)) {
		zeros = zeros[:min(length, int64(len(zeros)))]
		if _, err := w.file.WriteAt(zeros, start); err != nil {
			return err
		}
	}
	return nil
}

// lstatIn is root.Lstat, which signals interrupt.
func lstatIn(root *os.Root, rel string) (info fs.FileInfo, err error) {
	err = durable.Uninterrupted(func() error {
		info, err = root.Lstat(rel)
		return err
	})
	return info, err
}
