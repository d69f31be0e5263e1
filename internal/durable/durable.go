// Package durable is the one way to publish a file on a local file system: a
// file appears under its name whole and synced, or not at all, and when a call
// returns nil the change survives a power cut. The error of a sync is final: it
// is returned and never tried again, because the kernel forgets which bytes it
// lost.
package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Calls are the calls that change a file system, so that tests can watch them
// or make them fail.
type Calls struct {
	CreateTemp func(dir, pattern string) (File, error) // as os.CreateTemp
	Mkdir      func(dir string, perm fs.FileMode) error
	Link       func(oldPath, newPath string) error
	Rename     func(oldPath, newPath string) error
	Remove     func(path string) error
	SyncDir    func(dir string) error
}

// File is a new file being written.
type File interface {
	io.WriteCloser
	Chmod(perm fs.FileMode) error
	Name() string
	Sync() error
}

// temporary is what names of files begin with that have no final name yet.
const temporary = ".tmp-"

// IsTemporary tells the name of a file that has no final name yet, or was never
// given one because its writer was killed.
func IsTemporary(name string) bool { return strings.HasPrefix(name, temporary) }

// System publishes files through its calls. Safe for concurrent use.
type System struct{ Calls Calls }

// OS returns a System that calls the operating system.
func OS() System {
	return System{Calls{
		CreateTemp: func(dir, pattern string) (File, error) { return os.CreateTemp(dir, pattern) },
		Mkdir:      os.Mkdir,
		Link:       os.Link,
		Rename:     os.Rename,
		Remove:     os.Remove,
		SyncDir:    syncDir,
	}}
}

// Below returns a System whose calls take paths below root and lead nowhere else,
// whatever links there are.
func Below(root string) System {
	b := below(root)
	return System{Calls{
		CreateTemp: b.createTemp,
		Mkdir: func(dir string, perm fs.FileMode) error {
			return b.do(dir, func(r *os.Root, name string) error { return r.Mkdir(name, perm) })
		},
		Link:   func(from, to string) error { return b.two(from, to, (*os.Root).Link) },
		Rename: func(from, to string) error { return b.two(from, to, (*os.Root).Rename) },
		Remove: func(path string) error { return b.do(path, (*os.Root).Remove) },
		SyncDir: func(dir string) error {
			return syncOpened(func() (f *os.File, err error) {
				err = b.do(dir, func(r *os.Root, name string) (err error) {
					f, err = r.Open(name)
					return err
				})
				return f, err
			})
		},
	}}
}

// below is a folder that calls do not lead out of. It is opened for each: another
// may have been mounted there.
type below string

// do calls fn with the folder and the name of path in it.
func (b below) do(path string, fn func(r *os.Root, name string) error) error {
	name, err := filepath.Rel(string(b), path)
	if err != nil {
		return err
	}
	err = Current(func() (err error) {
		r, err := os.OpenRoot(string(b))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		return Uninterrupted(func() error { return fn(r, name) })
	})
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
		failed.Path = path // an os.Root tells names below it only, of itself "."
	}
	return err
}

func (b below) two(from, to string, fn func(r *os.Root, from, to string) error) error {
	name, err := filepath.Rel(string(b), to)
	if err != nil {
		return err
	}
	return b.do(from, func(r *os.Root, from string) error { return fn(r, from, name) })
}

// createTemp is os.CreateTemp for a pattern that ends with a star.
func (b below) createTemp(dir, pattern string) (File, error) {
	var file *os.File
	err := b.do(filepath.Join(dir, strings.TrimSuffix(pattern, "*")+rand.Text()), func(r *os.Root, name string) (err error) {
		file, err = r.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

func syncDir(dir string) error {
	return syncOpened(func() (*os.File, error) { return os.Open(dir) })
}

// syncOpened opens a folder and syncs it, once.
func syncOpened(open func() (*os.File, error)) error {
	var f *os.File
	err := Current(func() (err error) {
		f, err = open()
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Mkdir makes one folder in a parent that is there. It syncs the parent also
// when the folder exists already: whoever made it may not have come to that.
func (s System) Mkdir(dir string, perm fs.FileMode) error {
	err := s.Calls.Mkdir(dir, perm)
	if errors.Is(err, fs.ErrExist) {
		err = checkDir(dir)
	}
	if err != nil {
		return err
	}
	return s.Calls.SyncDir(filepath.Dir(dir))
}

// MkdirAll makes the folder and whatever is missing above it.
func (s System) MkdirAll(dir string, perm fs.FileMode) error {
	err := checkDir(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := s.MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	return s.Mkdir(dir, perm)
}

func checkDir(dir string) error {
	var info fs.FileInfo
	err := Current(func() (err error) {
		info, err = os.Stat(dir)
		return err
	})
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	return nil
}

// Create makes a file that is not there yet. It returns fs.ErrExist if it is.
// The temporary file lies in the same folder.
func (s System) Create(path string, data []byte, perm fs.FileMode) error {
	return s.write(path, data, perm, (*Staged).Publish)
}

// Replace makes the file or takes the place of the one that is there.
func (s System) Replace(path string, data []byte, perm fs.FileMode) error {
	return s.write(path, data, perm, (*Staged).replace)
}

func (s System) write(path string, data []byte, perm fs.FileMode, publish func(*Staged, string) error) error {
	staged, err := s.Stage(filepath.Dir(path), perm)
	if err != nil {
		return err
	}
	if _, err := staged.Write(data); err != nil {
		return errors.Join(err, staged.Discard())
	}
	return publish(staged, path)
}

// Remove removes a file or an empty folder. It returns fs.ErrNotExist if there
// is none.
func (s System) Remove(path string) error {
	if err := s.Calls.Remove(path); err != nil {
		return err
	}
	return s.Calls.SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a folder durable.
func (s System) SyncDir(dir string) error { return s.Calls.SyncDir(dir) }

// Staged is a file without its final name. One goroutine at a time.
type Staged struct {
	calls Calls
	file  File // nil when finished
	perm  fs.FileMode
}

// Stage starts a file under a temporary name in dir, which lies on the file
// system of the final name.
func (s System) Stage(dir string, perm fs.FileMode) (*Staged, error) {
	file, err := s.Calls.CreateTemp(dir, temporary+"*")
	if err != nil {
		return nil, err
	}
	return &Staged{calls: s.Calls, file: file, perm: perm}, nil
}

// Write appends to the file.
func (f *Staged) Write(data []byte) (int, error) {
	if f.file == nil {
		panic("durable: internal error: write to a finished file")
	}
	return f.file.Write(data)
}

// Publish syncs the file, gives it its name if that is free, and syncs the
// folder. It returns fs.ErrExist if the name is taken. The file is finished
// then, whatever the outcome.
func (f *Staged) Publish(path string) error {
	temp, err := f.finish()
	if err != nil {
		return err
	}
	err = f.calls.Link(temp, path)
	if errors.Is(err, fs.ErrExist) && sameFile(temp, path) {
		err = nil // the server's reply to a success was lost, and the call repeated
	}
	if err == nil {
		err = f.calls.SyncDir(filepath.Dir(path))
	}
	return errors.Join(err, f.calls.Remove(temp))
}

// replace is Publish over whatever has the name.
func (f *Staged) replace(path string) error {
	temp, err := f.finish()
	if err != nil {
		return err
	}
	if err := f.calls.Rename(temp, path); err != nil {
		return errors.Join(err, f.calls.Remove(temp))
	}
	return f.calls.SyncDir(filepath.Dir(path))
}

// finish syncs and closes the file and returns its temporary name; on failure
// it removes it.
func (f *Staged) finish() (string, error) {
	if f.file == nil {
		panic("durable: internal error: publish a finished file")
	}
	file := f.file
	f.file = nil
	err := file.Chmod(f.perm)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return "", errors.Join(err, f.calls.Remove(file.Name()))
	}
	return file.Name(), nil
}

// Discard drops the file. When it is finished, Discard does nothing.
func (f *Staged) Discard() error {
	if f.file == nil {
		return nil
	}
	file := f.file
	f.file = nil
	return errors.Join(file.Close(), f.calls.Remove(file.Name()))
}

func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// Uninterrupted makes a call until no signal interrupts it. Those of package os
// do so by themselves.
func Uninterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// staleTries bounds how often a call is made that says ESTALE.
const staleTries = 3

// Current makes a call that finds a file or folder by its name, again if it is
// stale: what a host knows of a network file system may be out of date, and the
// next look is not. What was written must not be tried again.
func Current(call func() error) error {
	var err error
	for range staleTries {
		if err = call(); !errors.Is(err, unix.ESTALE) {
			break
		}
	}
	return err
}
