package mysqlbackup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/manifest"
)

const (
	hintsVersion = 1
	// maxReuse: after so many backups that took unchanged files over, all are
	// read again.
	maxReuse = 9
	// settled is how long a file must have been left alone before it is read:
	// a second change within the file system's unit of time would not show.
	settled = 2 * time.Second
)

// hints are what the files of a data directory were like when a backup read
// them: those that are the same now need not be read again. They are kept in
// the host's cache folder, one file for each repository and data directory, and
// are of locked files of stopped servers only.
type hints struct {
	Version int        `json:"version"`
	Datadir string     `json:"datadir"`
	Backup  cas.Key    `json:"backup"` // that has the files' recipes
	Reuses  int        `json:"reuses"` // backups since all files were read
	Files   []fileHint `json:"files"`
}

// fileHint is what a file was like.
type fileHint struct {
	Path  string `json:"path"` // absolute
	Size  int64  `json:"size_bytes"`
	Zero  int64  `json:"zero_bytes"` // in zero chunks
	Mtime int64  `json:"mtime"`      // ns
	Ctime int64  `json:"ctime"`      // ns
	Inode uint64 `json:"inode"`
	Dev   uint64 `json:"dev"`
}

func newFileHint(path string, stat *syscall.Stat_t, zero int64) fileHint {
	return fileHint{path, stat.Size, zero, stat.Mtim.Nano(), stat.Ctim.Nano(), stat.Ino, stat.Dev}
}

// hintsPath returns where the hints are kept.
func (b *backupRun) hintsPath() string {
	id := cas.Sum([]byte(b.layout.datadir))
	return filepath.Join(b.Store.CacheDir, fmt.Sprintf("%s-%s.files", b.Store.Repo.UUID(), id.Short()))
}

// reuse is a file that is as it was when the parent was made.
type reuse struct {
	entry *manifest.File // of the parent
	zero  int64          // bytes in zero chunks
}

// findUnchanged returns the files that need not be read, by path. All of the
// parent's packs must be there then: they hold its chunks and all their bases.
func (b *backupRun) findUnchanged(files []sourceFile) map[string]reuse {
	h, ok := b.readHints()
	if !ok {
		return nil
	}
	known := make(map[string]fileHint, len(h.Files))
	for _, f := range h.Files {
		known[f.Path] = f
	}
	unchanged := map[string]reuse{}
	for i := range files {
		src := &files[i]
		hint, found := known[src.path]
		entry := b.parent.entry(src.key(), b.Store.Repo.ChunkSize())
		if found && entry != nil && hint == newFileHint(src.path, &src.stat, hint.Zero) && entry.Size == src.stat.Size {
			unchanged[src.path] = reuse{entry, hint.Zero}
		}
	}
	packs := b.parent.manifest.Packs
	if len(unchanged) == 0 || !b.index.HasPacks(packs) || !b.writer.Rely(packs) {
		return nil
	}
	b.reuses = h.Reuses + 1
	return unchanged
}

// readHints returns false if there are no hints about files as they were in the
// parent, or anything about them is in doubt, or it is time to read all files.
func (b *backupRun) readHints() (hints, bool) {
	if b.parent == nil || b.Rehash {
		return hints{}, false
	}
	data, err := os.ReadFile(b.hintsPath())
	if err != nil {
		return hints{}, false
	}
	h, err := decodeHints(data)
	return h, err == nil && h.Datadir == b.layout.datadir && h.Backup == b.parent.manifest.Key() && h.Reuses < maxReuse
}

// saveHints keeps what the files are like for the next backup: those that had
// been left alone for long enough when they were listed, and whose stat has not
// changed since. It costs only time if that fails.
func (b *backupRun) saveHints() {
	h := hints{Version: hintsVersion, Datadir: b.layout.datadir, Backup: b.record.Key(), Reuses: b.reuses, Files: b.seen}
	data, err := h.encode()
	if err == nil { // the index may not have been written yet
		err = durable.OS().MkdirAll(filepath.Dir(b.hintsPath()), 0o700)
	}
	if err == nil {
		err = durable.OS().Replace(b.hintsPath(), data, 0o600)
	}
	if err != nil {
		b.Progress.Warn(fmt.Sprintf("the next backup reads all files, changed or not: %v", err))
	}
}

// notice takes down what the files are like; after is their second listing, zero
// says what of them is in zero chunks.
func (b *backupRun) notice(before, after []sourceFile, listed time.Time, zero map[string]int64) {
	was := make(map[string]*sourceFile, len(before))
	for i := range before {
		was[before[i].path] = &before[i]
	}
	for i := range after {
		f := &after[i]
		hint := newFileHint(f.path, &f.stat, zero[f.path])
		if f.kind == manifest.KindFile && hint == newFileHint(f.path, &was[f.path].stat, hint.Zero) &&
			listed.Sub(time.Unix(f.stat.Ctim.Unix())) > settled {
			b.seen = append(b.seen, hint)
		}
	}
}

// encode returns a line with the hash of what follows, and JSON.
func (h hints) encode() ([]byte, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	return append([]byte(cas.Sum(text).String()+"\n"), text...), nil
}

func decodeHints(data []byte) (hints, error) {
	sum, text, _ := bytes.Cut(data, []byte("\n"))
	if cas.Sum(text).String() != string(sum) {
		return hints{}, errors.New("hints about files are damaged")
	}
	var h hints
	if err := json.Unmarshal(text, &h); err != nil {
		return hints{}, err
	}
	if h.Version != hintsVersion {
		return hints{}, fmt.Errorf("hints about files of version %d", h.Version)
	}
	return h, nil
}
