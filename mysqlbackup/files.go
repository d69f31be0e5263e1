package mysqlbackup

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// sourceFile is a file, folder or symbolic link to copy.
type sourceFile struct {
	root   string
	rel    string // below the root's folder, slashes
	path   string // absolute
	kind   manifest.Kind
	target string // of a symbolic link
	stat   syscall.Stat_t
}

func (f *sourceFile) key() fileKey { return fileKey{f.root, f.rel} }

// selection is what a backup of a layout consists of.
type selection struct {
	roots   []manifest.Root // sorted by name, only those that have files
	files   []sourceFile
	skipped []string // of no kind that is backed up: sockets, devices
	homes   []string // options and the like of whose home the data directory is
}

// selector walks a layout's folders.
type selector struct {
	layout    *layout
	real      string            // the data directory without symbolic links
	externals map[string]string // folder outside the layout → root
	sel       selection
	seen      map[string]bool // absolute paths taken
	pending   []string        // what links point to, to be taken after what the layout names
}

// selectFiles lists everything to copy: all that lies in the data directory
// but for a short list of names, and what the layout, links and external
// (absolute paths of tablespaces, as the server knows them) name outside of it.
// Missing external files are an error: they would be missing in the backup.
func selectFiles(l *layout, external []string) (*selection, error) {
	real, err := filepath.EvalSymlinks(l.datadir)
	if err != nil {
		return nil, fmt.Errorf("list the data directory: %w", err)
	}
	s := &selector{layout: l, real: real, externals: map[string]string{}, seen: map[string]bool{}}
	if err := s.walk(l.datadir, rootDatadir, l.datadir); err != nil {
		return nil, err
	}
	if err := s.addOutside(); err != nil {
		return nil, err
	}
	for len(s.pending) > 0 {
		path := s.pending[0]
		s.pending = s.pending[1:]
		if err := s.follow(path); err != nil {
			return nil, err
		}
	}
	for _, path := range external {
		if err := s.addExternal(path); err != nil {
			return nil, err
		}
	}
	s.listRoots()
	return &s.sel, nil
}

// walk takes what lies below folder, which is part of the root at base.
func (s *selector) walk(folder, root, base string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("list %s: %w", folder, err)
	}
	for _, entry := range entries {
		path := filepath.Join(folder, entry.Name())
		if folder == s.layout.datadir && isHomes(entry.Name()) && !isHosts(entry.Name()) {
			s.sel.homes = append(s.sel.homes, path)
		}
		if path == s.layout.datadir || path == s.real || s.layout.dropped(path, entry.IsDir()) {
			continue
		}
		if err := s.take(path, root, base); err != nil {
			return err
		}
	}
	return nil
}

// take adds one entry, a folder with all in it. What was taken once is not
// taken again.
func (s *selector) take(path, root, base string) error {
	if s.seen[path] {
		return nil
	}
	f := sourceFile{root: root, path: path}
	if err := durable.Uninterrupted(func() error { return syscall.Lstat(path, &f.stat) }); err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	f.rel = filepath.ToSlash(mustRel(base, path))
	switch f.stat.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		f.kind = manifest.KindFile
		s.add(f)
		return s.followISL(path)
	case syscall.S_IFDIR:
		f.kind = manifest.KindDir
		s.add(f)
		return s.walk(path, root, base)
	case syscall.S_IFLNK:
		return s.link(f)
	}
	s.sel.skipped = append(s.sel.skipped, path)
	return nil
}

// add keeps the file, under the root that it belongs to by what it is.
func (s *selector) add(f sourceFile) {
	s.seen[f.path] = true
	if root, ok := s.layout.special(f.path); ok {
		f.root = root
		f.rel = filepath.ToSlash(mustRel(s.layout.folders[root], f.path))
	}
	s.sel.files = append(s.sel.files, f)
}

// mustRel is for paths that are known to lie below base.
func mustRel(base, path string) string {
	rel, err := filepath.Rel(base, path)
	if err != nil {
		panic("mysqlbackup: internal error: " + err.Error())
	}
	return rel
}

// link keeps a symbolic link, and what it points to if that is not in the data
// directory anyway.
func (s *selector) link(f sourceFile) error {
	target, err := filepath.EvalSymlinks(f.path)
	if err != nil {
		return fmt.Errorf("resolve symbolic link: %w", err)
	}
	info, err := os.Stat(target)
	if err != nil {
		return fmt.Errorf("resolve symbolic link %s: %w", f.path, err)
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		s.sel.skipped = append(s.sel.skipped, f.path)
		return nil
	}
	if isBelow(s.real, target) {
		target = filepath.Join(s.layout.datadir, mustRel(s.real, target))
	} else {
		s.pending = append(s.pending, target)
	}
	f.kind, f.target = manifest.KindSymlink, target
	s.add(f)
	return nil
}

// follow takes what a link points to: a file, or a folder with all in it.
func (s *selector) follow(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("follow a link: %w", err)
	}
	if !info.IsDir() {
		return s.addExternal(path)
	}
	return s.walk(path, s.externalRoot(path), path)
}

// maxLink bounds a path in a file, in bytes: PATH_MAX, as on the system.
const maxLink = 4096

// followISL takes the tablespace that MariaDB's .isl file points to.
func (s *selector) followISL(path string) error {
	if filepath.Ext(path) != ".isl" || s.layout.flavor != replication.MariaDB {
		return nil
	}
	target, err := readISL(path)
	if err != nil {
		return fmt.Errorf("read link to a tablespace: %w", err)
	}
	s.pending = append(s.pending, within(s.layout.datadir, target))
	return nil
}

func readISL(path string) (_ string, err error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	text, err := io.ReadAll(io.LimitReader(file, maxLink+1))
	if err != nil {
		return "", err
	}
	target := strings.TrimSpace(string(text))
	if target == "" || len(text) > maxLink || strings.ContainsRune(target, 0) {
		return "", fmt.Errorf("%s holds no path", path)
	}
	return target, nil
}

// addExternal takes a file outside of the layout. One inside has been taken.
func (s *selector) addExternal(path string) error {
	path = filepath.Clean(path)
	if s.seen[path] {
		return nil
	}
	if isBelow(s.layout.datadir, path) {
		return fmt.Errorf("tablespace %s: the server knows this file, and it is not there or not of a kind that is copied", path)
	}
	folder := filepath.Dir(path)
	return s.take(path, s.externalRoot(folder), folder)
}

func (s *selector) externalRoot(folder string) string {
	if root, ok := s.externals[folder]; ok {
		return root
	}
	root := fmt.Sprintf("external-%d", len(s.externals)+1)
	s.externals[folder] = root
	return root
}

// addOutside takes what the layout names outside the data directory: system
// tablespace, redo, undo, Aria's logs, MariaDB's binary log state.
func (s *selector) addOutside() error {
	for _, root := range slices.Sorted(maps.Keys(s.layout.folders)) {
		folder := s.layout.folders[root]
		if isBelow(s.layout.datadir, folder) {
			continue
		}
		paths, err := list(folder, func(path string) bool {
			special, ok := s.layout.special(path)
			return ok && special == root && !s.layout.dropped(path, false)
		})
		if err != nil && root != rootBinlog {
			return err
		}
		for _, path := range paths {
			if err := s.take(path, root, folder); err != nil {
				return err
			}
		}
	}
	return nil
}

// list returns the paths of a folder's entries that are wanted, sorted.
func list(folder string, wanted func(path string) bool) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", folder, err)
	}
	var paths []string
	for _, entry := range entries {
		if path := filepath.Join(folder, entry.Name()); wanted(path) {
			paths = append(paths, path)
		}
	}
	return paths, nil
}

// listRoots lists the roots in use with their folders.
func (s *selector) listRoots() {
	folders := map[string]string{rootDatadir: s.layout.datadir}
	for _, f := range s.sel.files {
		if folder, ok := s.layout.folders[f.root]; ok {
			folders[f.root] = folder
		}
	}
	for folder, root := range s.externals {
		folders[root] = folder
	}
	for name, folder := range folders {
		s.sel.roots = append(s.sel.roots, manifest.Root{Name: name, Path: manifest.Path(folder)})
	}
	slices.SortFunc(s.sel.roots, func(a, b manifest.Root) int { return strings.Compare(a.Name, b.Name) })
}

// isBelow reports whether path is folder or lies in it.
func isBelow(folder, path string) bool {
	return path == folder || strings.HasPrefix(path, strings.TrimSuffix(folder, "/")+"/")
}

var (
	undoName    = regexp.MustCompile(`^undo_?[0-9]{3}$`)
	redoName    = regexp.MustCompile(`^ib_logfile[0-9]+$`)
	ariaName    = regexp.MustCompile(`^aria_log(_control|\.[0-9]{8})$`)
	logNumber   = regexp.MustCompile(`^\.[0-9]{6,}$`)
	coreName    = regexp.MustCompile(`^core(\.[0-9]+)?$`)
	doublewrite = regexp.MustCompile(`^#ib_[0-9]+_[0-9]+\.b?dblwr$`)
	relayName   = regexp.MustCompile(`-relay-bin(-[^.]*)?\.([0-9]{6,}|index)$`)
	infoName    = regexp.MustCompile(`^(multi-master|(master|relay-log)(-.*)?)\.info$|^worker-relay-log(-.*)?\.info\.[0-9]+$`)
)

// special returns the root of a file that belongs to one by what it is.
func (l *layout) special(path string) (string, bool) {
	folder, name := filepath.Split(path)
	folder = filepath.Clean(folder)
	switch {
	case slices.Contains(l.systemFiles, path) && isBelow(l.folders[rootHome], path):
		return rootHome, true
	case folder == l.folders[rootRedo] && (redoName.MatchString(name) || name == "#innodb_redo"),
		folder == filepath.Join(l.folders[rootRedo], "#innodb_redo"):
		return rootRedo, true
	case folder == l.folders[rootUndo] && (undoName.MatchString(name) || filepath.Ext(name) == ".ibu"):
		return rootUndo, true
	case l.flavor == replication.MariaDB && folder == l.folders[rootAria] && ariaName.MatchString(name):
		return rootAria, true
	case path == l.binlogState() && path != "":
		return rootBinlog, true
	}
	return "", false
}

// binlogState is MariaDB's file of the binary logs' GTID state, "" if there
// can't be one.
func (l *layout) binlogState() string {
	if l.flavor != replication.MariaDB || l.binlog == "" {
		return ""
	}
	return l.binlog + ".state"
}

// isHosts tells names that are left out at the top of a data directory: what
// identifies a host, keys that the server makes anew, scratch space.
func isHosts(name string) bool {
	switch name {
	case markerName, withheld, "auto.cnf", "mysqld-auto.cnf", "mysqld.my", "lost+found", "#ib_archive", "#clone",
		"ca.pem", "ca-key.pem", "server-cert.pem", "server-key.pem", "client-cert.pem", "client-key.pem", "private_key.pem", "public_key.pem":
		return true
	}
	return doublewrite.MatchString(name)
}

// dropped tells what is not copied. Everything else is.
// Source: tried on MySQL 9.7 and MariaDB 10.11.
func (l *layout) dropped(path string, isDir bool) bool {
	folder, name := filepath.Split(path)
	folder = filepath.Clean(folder)
	switch {
	case !isDir && (l.own[path] || l.isKey(path) || slices.Contains(l.tempFiles, path) || l.isLog(path)):
		return true
	case folder == l.tempFolder, folder == filepath.Join(l.folders[rootRedo], "#innodb_redo") && strings.HasSuffix(name, "_tmp"):
		return true
	case folder == l.doublewriteFolder && doublewrite.MatchString(name):
		return true
	case folder != l.datadir:
		return false
	}
	return isHosts(name) || isHomes(name) || !isDir && l.droppedFile(name)
}

// droppedFile tells files at the top of the data directory.
func (l *layout) droppedFile(name string) bool {
	switch {
	case coreName.MatchString(name), relayName.MatchString(name), infoName.MatchString(name), strings.HasPrefix(name, "component_keyring_"):
		return true
	}
	return slices.Contains([]string{".pid", ".err", ".lower-case-test"}, filepath.Ext(name))
}

// isLog tells binary and relay logs and their indexes.
func (l *layout) isLog(path string) bool {
	if path == l.binlogIndex || path == l.relayIndex {
		return true
	}
	for _, base := range []string{l.binlog, l.relayLog} {
		rest, ok := strings.CutPrefix(path, base)
		if base == "" || !ok {
			continue
		}
		if rest == ".index" || rest == ".index_crash_safe" || rest == ".~rec~" || logNumber.MatchString(rest) {
			return true
		}
		if dash, ok := strings.CutPrefix(rest, "-"); ok && base == l.relayLog && !strings.Contains(dash, "/") {
			return relayName.MatchString("-relay-bin-" + dash)
		}
	}
	return false
}

// isTablespace tells files of InnoDB pages by their names.
func (l *layout) isTablespace(f *sourceFile) bool {
	ext := filepath.Ext(f.rel)
	return f.root == rootHome || f.root == rootUndo || ext == ".ibd" || ext == ".ibu"
}
