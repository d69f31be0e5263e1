package mysqlbackup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/shardseed/shardseed/manifest"
)

// Whoever can write to a repository can put anything into a list of files. What
// follows keeps a restore from making of it what no backup holds: options and
// start files that programs read in a data directory, a redo log that is not
// withheld, two files in one place.

// isHomes tells names at the top of a data directory that are of the home that it
// is for the server's user on some systems, or that programs read options from:
// files that begin with a dot, but for the data of an engine.
func isHomes(name string) bool {
	return name == "my.cnf" || strings.HasPrefix(name, ".") && name != ".rocksdb"
}

// isForeign tells what no backup has: neither is it written nor, in place, kept.
// path is where it would be.
func (t *target) isForeign(path string, isDir bool) bool {
	for ; ; path, isDir = filepath.Dir(path), true {
		if t.layout.dropped(path, isDir) {
			return true
		}
		above := filepath.Dir(path)
		if above == path || above == t.layout.datadir {
			return false
		}
	}
}

// checkKind refuses an entry that is not of the root that it claims to be of: a
// redo log, say, that would not be withheld.
func (t *target) checkKind(entry *manifest.File, path string) error {
	root, special := t.layout.special(path)
	_, known := t.layout.folders[entry.Root]
	switch {
	case special && root != entry.Root:
		return refuse("the backup has %q as a file of %s, which is one of %s here", entry.Path, entry.Root, root)
	case !special && known && entry.Root != rootDatadir:
		return refuse("the backup has %q as a file of %s, which it is not", entry.Path, entry.Root)
	}
	return nil
}

// checkEntries refuses a list of files two of which would be in one place, or one
// below another, and notes what is left out.
func (t *target) checkEntries(files []manifest.File) error {
	kinds := make(map[string]manifest.Kind, len(files))
	for _, folder := range t.allFolders() {
		kinds[folder] = manifest.KindDir
	}
	t.leftOut = nil
	for i := range files {
		folder, rel, wanted, err := t.at(&files[i])
		if err != nil {
			return err
		}
		path := filepath.Join(folder, rel)
		if !wanted {
			t.leftOut = append(t.leftOut, path)
			continue
		}
		if was, taken := kinds[path]; taken && (was != manifest.KindDir || files[i].Kind != manifest.KindDir) {
			return refuse("the backup has two files for %q", path)
		}
		kinds[path] = files[i].Kind
	}
	for path := range kinds {
		for above := filepath.Dir(path); ; above = filepath.Dir(above) {
			kind, listed := kinds[above]
			if listed && kind != manifest.KindDir {
				return refuse("the backup has files below %q, which is a %s", above, kind)
			}
			if listed || above == filepath.Dir(above) {
				break
			}
		}
	}
	return nil
}

// tellLeftOut warns of what is not restored although the list of files has it.
func (t *target) tellLeftOut(progress Progress) {
	if len(t.leftOut) > 0 {
		progress.Warn(fmt.Sprintf("left out, for no server keeps its data in such files: %s", some(t.leftOut)))
	}
}

// modeOf returns the mode that a restored file or folder gets: the one it had,
// but nobody else may write to it, and no file is a program.
func modeOf(entry *manifest.File) os.FileMode {
	mode := os.FileMode(entry.Mode) & os.ModePerm &^ 0o002
	if entry.Kind == manifest.KindFile {
		mode &^= 0o111
	}
	return mode
}
