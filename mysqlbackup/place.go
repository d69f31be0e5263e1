package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
	"github.com/shardseed/shardseed/walk"
)

// checkPlace refuses folders that are not empty unless told to clear them, and
// file systems without room. A restore that was interrupted is in nobody's way.
func (t *target) checkPlace(opts *RestoreOptions, files []manifest.File) error {
	if err := t.checkEntries(files); err != nil {
		return err
	}
	t.tellLeftOut(opts.Progress)
	t.setWritten(files)
	inTheWay, err := t.occupied()
	if err != nil {
		return err
	}
	unfinished := t.isPartial()
	if !slices.ContainsFunc(inTheWay, func(path string) bool { return !t.isUnborn(path) }) {
		unfinished = true // it was killed before it could say so
	}
	if len(inTheWay) > 0 && !opts.Force && !opts.InPlace && !unfinished {
		return hint.Wrap(refuse("%s is not empty (%s)", filepath.Dir(inTheWay[0]), some(inTheWay)),
			fmt.Sprintf("give empty folders, or --force to delete what is there, or --delta to keep what is in the backup, or --force --keep-old to move it to %s…", asideOf(t.layout.datadir)))
	}
	if err := t.checkFindable(files); err != nil {
		return err
	}
	freed := map[uint64]int64{}
	if opts.KeepOld && !unfinished {
		if err := checkMovable(inTheWay); err != nil {
			return err
		}
	} else {
		addSizes(freed, inTheWay)
	}
	t.freed = freed
	return t.checkRoom(files, freed)
}

// isUnborn tells the file that was to become the mark of a restore.
func (t *target) isUnborn(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && filepath.Dir(path) == t.layout.datadir && durable.IsTemporary(filepath.Base(path)) && info.Mode().IsRegular() && info.Size() <= maxMarker
}

// setWritten notes what a restore writes into external folders: files of others
// may lie there too, and have to stay.
func (t *target) setWritten(files []manifest.File) {
	t.written = nil
	for i := range files {
		if folder, ok := t.external[files[i].Root]; ok {
			first, _, _ := strings.Cut(string(files[i].Path), "/")
			t.written = append(t.written, filepath.Join(folder, first))
		}
	}
	slices.Sort(t.written)
	t.written = slices.Compact(t.written)
}

// checkFindable refuses tablespaces where the server would not find them:
// MySQL's dictionary has their old paths, and what has moved is looked for in
// the folders of innodb_directories only. Symbolic links move with what they
// point to.
// Source: MySQL manual, "Moving Tablespace Files While the Server is Offline".
func (t *target) checkFindable(files []manifest.File) error {
	if t.layout.flavor != replication.MySQL {
		return nil
	}
	linked := map[string]bool{}
	for i := range files {
		linked[string(files[i].Target)] = true
	}
	for i := range files {
		root, ext := files[i].Root, filepath.Ext(string(files[i].Path))
		folder, external := t.external[root]
		if !external || folder == t.sources[root] || linked[t.sources[root]] || linked[filepath.Join(t.sources[root], string(files[i].Path))] ||
			ext != ".ibd" && ext != ".ibu" || t.isSearched(folder) {
			continue
		}
		return hint.Wrap(refuse("%s of %s would not be found in %s", files[i].Path, t.sources[root], folder),
			fmt.Sprintf("add %s to innodb_directories in %s", folder, t.defaults.Path))
	}
	return nil
}

// isSearched reports whether MySQL looks for tablespaces in a folder.
func (t *target) isSearched(folder string) bool {
	searched := append([]string{t.layout.datadir, t.layout.folders[rootHome], t.layout.folders[rootUndo]}, t.layout.directories...)
	return slices.ContainsFunc(searched, func(above string) bool { return isBelow(above, folder) })
}

// some names a few of many paths.
func some(paths []string) string {
	const most = 3
	names := make([]string, 0, most)
	for _, path := range paths[:min(most, len(paths))] {
		names = append(names, filepath.Base(path))
	}
	text := strings.Join(names, ", ")
	if more := len(paths) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// occupied lists what a restore would mix with: everything in the data
// directory, and in the other folders what a server would take for its own,
// old binary and relay logs above all, or what the restore writes. The redo log
// comes first. No path lies below another.
func (t *target) occupied() ([]string, error) {
	paths, err := listIfThere(t.layout.datadir, func(path string) bool { return filepath.Base(path) != "lost+found" })
	if err != nil {
		return nil, fmt.Errorf("look into the data directory: %w", err)
	}
	for _, folder := range t.folders() {
		if isBelow(t.layout.datadir, folder) {
			continue
		}
		more, err := listIfThere(folder, t.isServers)
		if err != nil {
			return nil, fmt.Errorf("look for old files: %w", err)
		}
		paths = append(paths, more...)
	}
	for _, path := range t.written {
		there, err := isThere(path)
		if err != nil {
			return nil, fmt.Errorf("look for old files: %w", err)
		}
		if there && !isBelow(t.layout.datadir, path) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	paths = slices.DeleteFunc(slices.Compact(paths), t.layout.holdsKey)
	slices.SortStableFunc(paths, func(a, b string) int { return t.order(a) - t.order(b) })
	return paths, nil
}

// listIfThere is list for a folder that need not exist.
func listIfThere(folder string, wanted func(path string) bool) ([]string, error) {
	paths, err := list(folder, wanted)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return paths, err
}

// order is the order in which old files go: without its redo log no server
// starts, and what is not all there is never taken for one's data directory.
func (t *target) order(path string) int {
	if root, ok := t.layout.special(path); ok && root == rootRedo || isBelow(path, t.layout.folders[rootRedo]) {
		return 0
	}
	return 1
}

// isServers tells files outside the data directory that a server takes for its
// own.
func (t *target) isServers(path string) bool {
	_, special := t.layout.special(strings.TrimSuffix(path, leaving))
	special = special || path == t.withheldFolder()
	old := doublewrite.MatchString(filepath.Base(path)) && filepath.Dir(path) == t.layout.doublewriteFolder
	return special || old || t.layout.isLog(path) || slices.Contains(t.layout.tempFiles, path)
}

// folders lists the folders that the layout names.
func (t *target) folders() []string {
	l := t.layout
	folders := []string{l.datadir, filepath.Dir(l.relayLog), filepath.Dir(l.relayIndex), l.doublewriteFolder}
	if l.tempFolder != filepath.Join(l.datadir, defaultTempFolder) { // that one the server makes
		folders = append(folders, l.tempFolder)
	}
	if l.binlog != "" {
		folders = append(folders, filepath.Dir(l.binlogIndex))
	}
	for _, folder := range l.folders {
		folders = append(folders, folder)
	}
	slices.Sort(folders)
	return slices.Compact(folders)
}

// addSizes adds up the space that comes back if files and folders go, as far as
// it is seen, by file system. A file that has other names as well gives nothing.
func addSizes(sizes map[uint64]int64, paths []string) {
	type inode struct{ device, number uint64 }
	names := map[inode]uint64{}
	for _, path := range paths {
		_ = filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error { // an estimate
			var stat syscall.Stat_t
			if err == nil && syscall.Lstat(path, &stat) == nil {
				this := inode{stat.Dev, stat.Ino}
				names[this]++
				if entry.IsDir() || names[this] == uint64(stat.Nlink) { //nolint:unconvert // it is a uint32 elsewhere
					sizes[stat.Dev] += stat.Blocks * 512
				}
			}
			return nil
		})
	}
}

// checkRoom refuses a restore that can't fit. freed is what clearing gives
// back, by file system. Files with holes count for nothing.
func (t *target) checkRoom(files []manifest.File, freed map[uint64]int64) error {
	return t.checkSizes(files, freed, func(f *manifest.File) (int64, error) {
		if f.Sparse {
			return 0, nil
		}
		return f.Size, nil
	})
}

// checkSparse refuses files with holes that can't fit, after checkPlace. How much of
// them is no hole is looked up in their recipes, if they would not fit without.
func (t *target) checkSparse(ctx context.Context, reader *cas.Reader, files []manifest.File) error {
	if t.checkSizes(files, t.freed, func(f *manifest.File) (int64, error) { return f.Size, nil }) == nil {
		return nil
	}
	return t.checkSizes(files, t.freed, func(f *manifest.File) (int64, error) {
		if !f.Sparse {
			return f.Size, nil
		}
		size, err := walk.Written(ctx, reader, f)
		if err != nil {
			err = explainCorrupt(fmt.Errorf("look how large %q is: %w", f.Path, err))
		}
		return size, err
	})
}

// checkSizes refuses a restore of files of these sizes.
func (t *target) checkSizes(files []manifest.File, freed map[uint64]int64, sizeOf func(*manifest.File) (int64, error)) error {
	need, where := map[uint64]int64{}, map[uint64]string{}
	devices := map[string]uint64{}
	for i := range files {
		root := files[i].Root
		folder, ok := t.folder(root)
		size, err := sizeOf(&files[i])
		if err != nil {
			return err
		}
		if !ok || size == 0 {
			continue
		}
		if _, known := devices[root]; !known {
			above, device, err := deviceOf(folder)
			if err != nil {
				return fmt.Errorf("look for room: %w", err)
			}
			devices[root], where[device] = device, above
		}
		need[devices[root]] += min(size, math.MaxInt64-need[devices[root]])
	}
	for device, folder := range where {
		var stat unix.Statfs_t
		if err := durable.Uninterrupted(func() error { return unix.Statfs(folder, &stat) }); err != nil {
			return fmt.Errorf("look for room in %s: %w", folder, err)
		}
		if room := int64(stat.Bavail)*int64(stat.Bsize) + freed[device]; room < need[device] {
			return refuse("the backup needs %d MiB in %s, which has room for %d MiB", need[device]>>20, folder, room>>20)
		}
	}
	return nil
}

// deviceOf returns the file system of a folder, which need not exist: the
// nearest one above it that does, and its device.
func deviceOf(folder string) (string, uint64, error) {
	var stat syscall.Stat_t
	err := durable.Uninterrupted(func() error { return syscall.Stat(folder, &stat) })
	if errors.Is(err, fs.ErrNotExist) && folder != "/" {
		return deviceOf(filepath.Dir(folder))
	}
	if err != nil {
		return "", 0, fmt.Errorf("stat %s: %w", folder, err)
	}
	return folder, stat.Dev, nil
}

// asideOf is where old files of a folder go, without the time: beside it, and
// not beside a link to it.
func asideOf(folder string) string { return realPath(folder) + ".before-restore" }

// checkMovable refuses to move files out of a mount point.
func checkMovable(paths []string) error {
	for _, path := range paths {
		folder := filepath.Dir(path)
		inside, err1 := mountOf(folder)
		beside, err2 := mountOf(filepath.Dir(realPath(folder)))
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if inside != beside {
			return hint.Wrap(refuse("%s is a mount point: what is in it can't be moved beside it", folder), "move it elsewhere by hand, or give --force without --keep-old")
		}
	}
	return nil
}

// mountOf identifies the mount that a folder lies in.
func mountOf(folder string) ([2]uint64, error) {
	var stat unix.Statx_t
	err := durable.Uninterrupted(func() error { return unix.Statx(unix.AT_FDCWD, folder, 0, unix.STATX_MNT_ID, &stat) })
	if err != nil {
		return [2]uint64{}, fmt.Errorf("stat %s: %w", folder, err)
	}
	return [2]uint64{stat.Mnt_id, unix.Mkdev(stat.Dev_major, stat.Dev_minor)}, nil // kernels before 5.8 leave the first at 0
}

// clear removes what is in the way, or moves it aside; then the data directory
// exists and is empty.
func (t *target) clear(opts *RestoreOptions) (moved []string, err error) {
	paths, err := t.occupied()
	if err != nil {
		return nil, err
	}
	partial := t.isPartial()
	if !partial { // of a whole one it would tell what soon is no longer so
		if err := unmark(t.layout.datadir); err != nil {
			return nil, err
		}
		paths = slices.DeleteFunc(paths, func(path string) bool { return path == filepath.Join(t.layout.datadir, markerName) })
	}
	if opts.KeepOld && !partial {
		moved, err = t.moveAside(paths, "."+opts.Now().UTC().Format("20060102150405"))
	} else {
		err = t.remove(paths)
	}
	if err == nil {
		err = syncParents(paths) // old logs must not come back after a power cut
	}
	if err != nil {
		return moved, err
	}
	return moved, t.makeFolders()
}

// syncParents makes durable that paths have gone.
func syncParents(paths []string) error {
	var folders []string
	for _, path := range paths {
		folders = append(folders, filepath.Dir(path))
	}
	slices.Sort(folders)
	for _, folder := range slices.Compact(folders) {
		if err := durable.OS().SyncDir(folder); err != nil {
			return err
		}
	}
	return nil
}

// leaving is behind the name of an old redo log that is being removed.
const leaving = ".shardseed-old"

// remove removes all but the mark of an incomplete restore, which goes last so
// that what is left is never taken for a server's.
func (t *target) remove(paths []string) error {
	marker := filepath.Join(t.layout.datadir, markerName)
	for _, path := range paths {
		if path == marker {
			continue
		}
		if filepath.Base(path) == "#innodb_redo" { // MySQL starts if it is empty, not if it is gone
			gone := path + leaving
			if err := errors.Join(os.RemoveAll(gone), rename(path, gone)); err != nil {
				return fmt.Errorf("remove what is in the way: %w", err)
			}
			path = gone
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove what is in the way: %w", err)
		}
	}
	return nil
}

// moveAside moves each path into a folder beside its own.
func (t *target) moveAside(paths []string, stamp string) ([]string, error) {
	var moved []string
	for _, path := range paths {
		aside := asideOf(filepath.Dir(path)) + stamp
		if !slices.Contains(moved, aside) {
			if err := t.mkdir(aside); err != nil {
				return moved, fmt.Errorf("move old files aside: %w", err)
			}
			moved = append(moved, aside)
		}
		if err := rename(path, filepath.Join(aside, filepath.Base(path))); err != nil {
			return moved, fmt.Errorf("move old files aside: %w", err)
		}
	}
	return moved, nil
}

// allFolders lists those that the layout names and those of external roots.
func (t *target) allFolders() []string {
	return slices.AppendSeq(t.folders(), maps.Values(t.external))
}

// makeFolders makes the folders of all roots.
func (t *target) makeFolders() error {
	for _, folder := range t.allFolders() {
		if err := t.mkdir(folder); err != nil {
			return fmt.Errorf("make the server's folders: %w", err)
		}
	}
	if err := os.Chown(t.layout.datadir, t.uid, t.gid); err != nil {
		return fmt.Errorf("make the server's folders: %w", err)
	}
	return nil
}

// mkdir makes a folder and those above it, for the owner of the files. On
// return they survive a power cut.
func (t *target) mkdir(folder string) error {
	if exists(folder) {
		return nil
	}
	if err := t.mkdir(filepath.Dir(folder)); err != nil {
		return err
	}
	if err := durable.OS().Mkdir(folder, 0o750); err != nil {
		return err
	}
	return os.Lchown(folder, t.uid, t.gid)
}
