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
	system durable.System

	mu      sync.Mutex      // guards durable; held while folders are made
	durable map[string]bool // folders under root known to be there for good
}

var _ cas.Backend = (*Backend)(nil)

// New opens the folder. It returns cas.ErrNoRepository if there is none; what
// is in it is not looked at, and nothing is written.
func New(root string) (*Backend, error) {
	info, err := os.Stat(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: no such folder: %w", root, cas.ErrNoRepository)
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("open %s: not a folder: %w", root, cas.ErrNoRepository)
	}
	return newBackend(root, durable.New(durable.Below(root))), nil
}

// Create opens the folder and makes it first if it is missing.
func Create(root string) (*Backend, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if err := durable.New(durable.OS()).MkdirAll(root, dirPerm); err != nil {
		return nil, err
	}
	return newBackend(root, durable.New(durable.Below(root))), nil
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
	root, err := os.OpenRoot(b.root)
	if err != nil {
		return nil, notFound(name, err)
	}
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // nobody may write to a pipe
	if err != nil {
		err = explain(root, name, err)
	}
	if err := errors.Join(err, root.Close()); err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &cas.CorruptError{Name: name, Reason: "it is not a regular file"}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &reader{f, info.Size()}, nil
}

// explain says what an error of opening a name below the root means. A link that
// leads out of the root, or nowhere, stands where a blob or a folder should: no
// program of ours makes links.
func explain(root *os.Root, name string, err error) error {
	if strings.Contains(err.Error(), "path escapes from parent") { // os does not export it
		return &cas.CorruptError{Name: name, Reason: "it is a link, or below one, that leads out of the repository"}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if info, statErr := root.Lstat(name); statErr == nil && info.Mode()&fs.ModeSymlink != 0 {
		return &cas.CorruptError{Name: name, Reason: "it is a link that leads nowhere"}
	}
	return notFound(name, err)
}

// notFound makes the system's word for a missing file cas's.
func notFound(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", name, cas.ErrNotFound)
	}
	return err
}

// reader is an open file and its size.
type reader struct {
	*os.File
	size int64
}

// Size implements cas.BlobReader.
func (r *reader) Size() int64 { return r.size }

// Expect implements cas.BlobReader.
func (r *reader) Expect(offset, size int64) {
	_ = unix.Fadvise(int(r.Fd()), offset, size, unix.FADV_WILLNEED) // advice only
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
		return nil
	}
	return err
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
func (b *Backend) readDir(dir string) ([]fs.DirEntry, error) {
	root, err := os.OpenRoot(b.root)
	if err != nil {
		return nil, notFound(dir, err)
	}
	folder, err := root.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		err = explain(root, dir, err)
	}
	if err := errors.Join(err, root.Close()); err != nil {
		return nil, err
	}
	found, err := folder.ReadDir(-1)
	slices.SortFunc(found, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return found, errors.Join(err, folder.Close())
}
