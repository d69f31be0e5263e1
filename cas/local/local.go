// Package local keeps a repository in a folder. Reading needs no right to
// write. Blobs are files of mode 0440 in folders of mode 0750 (less what the
// umask takes); the folder tmp holds files that have no name yet. Nothing is read
// or written through a link that leads out of the folder.
package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/durable"
)

const (
	dirPerm  = 0o750
	filePerm = 0o440
	tmpDir   = "tmp"
)

// Backend is a folder of blobs.
type Backend struct {
	root   string
	folder fs.FileInfo // what root was; nil: not known
	system durable.System

	mu      sync.Mutex      // guards durable; held while folders are made
	durable map[string]bool // folders under root known to be there for good
}

var _ cas.Backend = (*Backend)(nil)

// New opens the folder. It returns cas.ErrNoRepository if there is none; what
// is in it is not looked at, and nothing is written.
func New(root string) (*Backend, error) {
	info, err := stat(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: no such folder: %w", root, cas.ErrNoRepository)
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("open %s: not a folder: %w", root, cas.ErrNoRepository)
	}
	b := newBackend(root, durable.Below(root))
	b.folder = info
	return b, nil
}

// Create opens the folder and makes it first if it is missing.
func Create(root string) (*Backend, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if err := durable.OS().MkdirAll(root, dirPerm); err != nil {
		return nil, err
	}
	b := newBackend(root, durable.Below(root))
	b.folder, err = stat(root)
	return b, err
}

// stat is os.Stat; what is stale is looked up again.
func stat(path string) (info fs.FileInfo, err error) {
	err = durable.Current(func() (err error) {
		info, err = os.Stat(path)
		return err
	})
	return info, err
}

func newBackend(root string, system durable.System) *Backend {
	return &Backend{root: root, system: system, durable: map[string]bool{}}
}

func (b *Backend) path(name string) string {
	return filepath.Join(b.root, filepath.FromSlash(name))
}

// makeDir makes sure that the folder is there and will be after a power cut.
func (b *Backend) makeDir(dir string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.makeDirLocked(dir)
}

func (b *Backend) makeDirLocked(dir string) error {
	if dir == "." || b.durable[dir] {
		return nil
	}
	if err := b.makeDirLocked(path.Dir(dir)); err != nil {
		return err
	}
	if err := b.system.Mkdir(b.path(dir), dirPerm); err != nil {
		return err
	}
	b.durable[dir] = true
	return nil
}

// Put implements cas.Backend.
func (b *Backend) Put(ctx context.Context, name string, data []byte) error {
	blob, err := b.Stage(ctx)
	if err != nil {
		return err
	}
	if _, err := blob.Write(data); err != nil {
		return errors.Join(err, blob.Discard())
	}
	return blob.Publish(ctx, name)
}

// Stage implements cas.Backend.
func (b *Backend) Stage(ctx context.Context) (cas.Blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := b.makeDir(tmpDir); err != nil {
		return nil, err
	}
	staged, err := b.system.Stage(b.path(tmpDir), filePerm)
	if err != nil {
		return nil, err
	}
	return &blob{Staged: staged, backend: b}, nil
}

// blob is a file in tmp.
type blob struct {
	*durable.Staged
	backend *Backend
}

// Publish implements cas.Blob.
func (f *blob) Publish(ctx context.Context, name string) error {
	if err := errors.Join(ctx.Err(), cas.CheckName(name)); err != nil {
		return errors.Join(err, f.Discard())
	}
	if err := f.backend.makeDir(path.Dir(name)); err != nil {
		return errors.Join(err, f.Discard())
	}
	err := f.Staged.Publish(f.backend.path(name))
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s %w", name, cas.ErrExists)
	}
	return err
}

// Open implements cas.Backend.
func (b *Backend) Open(ctx context.Context, name string) (cas.BlobReader, error) {
	if err := errors.Join(ctx.Err(), cas.CheckName(name)); err != nil {
		return nil, err
	}
	var file *os.File
	var size int64
	err := durable.Current(func() (err error) {
		file, size, err = b.open(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &reader{backend: b, name: name, size: size, file: file}, nil
}

// open opens a file and tells its size.
func (b *Backend) open(name string) (file *os.File, size int64, err error) {
	file, err = b.openIn(name, os.O_RDONLY|unix.O_NONBLOCK) // nobody may write to a pipe
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &cas.CorruptError{Name: name, Reason: "it is not a regular file"}
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// openIn opens a file or folder below the root.
func (b *Backend) openIn(name string, flags int) (*os.File, error) {
	root, err := os.OpenRoot(b.root)
	if err != nil {
		return nil, b.notFound(name, err)
	}
	file, err := root.OpenFile(name, flags, 0)
	if err != nil {
		err = b.explain(root, name, err)
	}
	if err = errors.Join(err, root.Close()); err != nil && file != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, err
}

// explain says what an error of opening a name below the root means. A link that
// leads out of the root, or nowhere, stands where a blob or a folder should: no
// program of ours makes links.
func (b *Backend) explain(root *os.Root, name string, err error) error {
	if strings.Contains(err.Error(), "path escapes from parent") { // os does not export it
		return &cas.CorruptError{Name: name, Reason: "it is a link, or below one, that leads out of the repository"}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if info, statErr := root.Lstat(name); statErr == nil && info.Mode()&fs.ModeSymlink != 0 {
		return &cas.CorruptError{Name: name, Reason: "it is a link that leads nowhere"}
	}
	return b.notFound(name, err)
}

// notFound makes the system's word for a missing file cas's.
func (b *Backend) notFound(name string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := b.checkRoot(); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", name, cas.ErrNotFound)
}

// checkRoot verifies that the root is still the folder that was opened: what is
// missing there is not missing for good if the file system was unmounted
// meanwhile.
func (b *Backend) checkRoot() error {
	if b.folder == nil {
		return nil
	}
	now, err := stat(b.root)
	if err == nil && !os.SameFile(b.folder, now) {
		err = fmt.Errorf("%s is another folder than before", b.root)
	}
	if err != nil {
		return fmt.Errorf("the repository has gone, or was unmounted: %v", err) // no ErrNotExist: nothing is known to be missing
	}
	return nil
}

// reader is an open file and its size.
type reader struct {
	backend *Backend
	name    string
	size    int64

	mu   sync.RWMutex // guards file; held for reading while the file is used
	file *os.File
}

// Size implements cas.BlobReader.
func (r *reader) Size() int64 { return r.size }

// ReadAt implements io.ReaderAt. On a network file system a file that another
// host has removed is stale: then there is none of that name, and the error is a
// cas.ErrNotFound. After a server's restart it may be stale too, and be there.
func (r *reader) ReadAt(buf []byte, offset int64) (n int, err error) {
	err = durable.Current(func() error {
		var from *os.File
		if n, from, err = r.readAt(buf, offset); errors.Is(err, unix.ESTALE) {
			return errors.Join(err, r.reopen(from))
		}
		return err
	})
	return n, r.backend.notFound(r.name, err)
}

func (r *reader) readAt(buf []byte, offset int64) (int, *os.File, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n, err := r.file.ReadAt(buf, offset)
	return n, r.file, err
}

// reopen takes another file in place of the one that is stale, unless somebody
// has.
func (r *reader) reopen(stale *os.File) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file != stale {
		return nil
	}
	file, size, err := r.backend.open(r.name)
	if err != nil {
		return err
	}
	if size != r.size {
		return errors.Join(fmt.Errorf("%s was %d bytes long, and is %d now", file.Name(), r.size, size), file.Close())
	}
	r.file = file
	_ = stale.Close() // it was read only
	return nil
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.file.Close()
}

// Expect implements cas.BlobReader.
func (r *reader) Expect(offset, size int64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_ = unix.Fadvise(int(r.file.Fd()), offset, size, unix.FADV_WILLNEED) // advice only
}

// Remove implements cas.Backend. The folder is synced also if the blob is gone:
// whoever removed it may not have come to that.
func (b *Backend) Remove(ctx context.Context, name string) error {
	if err := errors.Join(ctx.Err(), cas.CheckName(name)); err != nil {
		return err
	}
	err := b.system.Remove(b.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		err = b.system.SyncDir(b.path(path.Dir(name)))
	}
	if errors.Is(err, fs.ErrNotExist) { // the folder is not there either
		return b.checkRoot()
	}
	return err
}

// Sweep implements cas.Sweeper.
func (b *Backend) Sweep(ctx context.Context, unused time.Duration) (files int, size int64, err error) {
	now, err := b.now(ctx)
	if err != nil {
		return 0, 0, err
	}
	found, err := b.readDir(tmpDir)
	if err != nil {
		return 0, 0, err
	}
	for _, entry := range found {
		info, err := stat(filepath.Join(b.path(tmpDir), entry.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has its name now
		}
		if err != nil {
			return files, size, err
		}
		if !info.Mode().IsRegular() || now.Sub(info.ModTime()) < unused {
			continue
		}
		if err := b.system.Remove(filepath.Join(b.path(tmpDir), entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return files, size, err
		}
		files, size = files+1, size+info.Size()
	}
	return files, size, nil
}

// now returns the time of the file system, which may be another host's: that of the
// last change to the folder, made here.
func (b *Backend) now(ctx context.Context) (time.Time, error) {
	staged, err := b.Stage(ctx)
	if err != nil {
		return time.Time{}, err
	}
	info, err := stat(b.path(tmpDir))
	if err := errors.Join(err, staged.Discard()); err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// List implements cas.Backend. Names that begin with a dot are left out: they
// are the file system's, or an administrator's.
func (b *Backend) List(ctx context.Context, dir string) ([]cas.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !fs.ValidPath(dir) {
		return nil, fmt.Errorf("folder name %q is not valid", dir)
	}
	found, err := b.readDir(dir)
	if errors.Is(err, cas.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries := make([]cas.Entry, 0, len(found))
	for _, e := range found {
		if !strings.HasPrefix(e.Name(), ".") {
			entries = append(entries, cas.Entry{Name: e.Name(), Dir: e.IsDir()})
		}
	}
	return entries, nil
}

// readDir returns all names in a folder, sorted.
func (b *Backend) readDir(dir string) (found []fs.DirEntry, err error) {
	err = durable.Current(func() error {
		found, err = b.readDirOnce(dir)
		return err
	})
	return found, err
}

func (b *Backend) readDirOnce(dir string) ([]fs.DirEntry, error) {
	folder, err := b.openIn(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	plain, err := unix.FcntlInt(folder.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err := errors.Join(err, folder.Close()); err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	names := os.NewFile(uintptr(plain), b.path(dir)) // one opened below an os.Root asks for the stat of each name
	found, err := names.ReadDir(-1)
	slices.SortFunc(found, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return found, errors.Join(err, names.Close())
}
