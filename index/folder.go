package index

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/durable"
)

// folder is where the host keeps the index of a repository: runs in files
// <random>.run, each good by itself, and lock, which whoever changes the folder
// has locked. Names with a dot in front are of files being written, or of a
// process that was killed.
type folder struct {
	dir   string
	repo  cas.UUID
	tries int // to lock it
}

const (
	lockName  = "lock"
	runSuffix = ".run"
)

// lock makes the folder if need be and locks it for changes: see lock.
func (f folder) lock(ctx context.Context) (*os.File, error) {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, err
	}
	return lock(ctx, filepath.Join(f.dir, lockName), f.tries)
}

// maxScans bounds how often a folder is looked through whose files go meanwhile:
// another process merges them.
const maxScans = 5

// open opens the runs that are there but those named in void. Of these, of
// damaged ones and of files that nobody can be writing but the holder of the lock
// it returns the names. The caller closes the runs.
func (f folder) open(void map[string]bool) (runs []*run, bad []string, err error) {
	for range maxScans {
		runs, bad, err = f.scan(void)
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return runs, bad, err
}

func (f folder) scan(void map[string]bool) (runs []*run, bad []string, err error) {
	entries, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for _, entry := range entries {
		name := entry.Name()
		if void[name] || strings.HasPrefix(name, ".") {
			bad = append(bad, name)
			continue
		}
		if !strings.HasSuffix(name, runSuffix) {
			continue
		}
		r, err := f.openNamed(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, errors.Join(err, closeRuns(runs))
		}
		if err != nil {
			bad = append(bad, name)
			continue
		}
		runs = append(runs, r)
	}
	return runs, bad, nil
}

func (f folder) openNamed(name string) (*run, error) {
	file, err := os.Open(filepath.Join(f.dir, name))
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	var r *run
	if err == nil {
		r, err = openRun(file, info.Size(), f.repo)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	r.name = name
	return r, nil
}

// publish makes a file of what write writes, durably, and opens it.
func (f folder) publish(write func(io.Writer) (int64, error)) (*run, error) {
	staged, err := durable.OS().Stage(f.dir, 0o600)
	if err != nil {
		return nil, err
	}
	out := bufio.NewWriterSize(staged, writeBuffer)
	if _, err = write(out); err == nil {
		err = out.Flush()
	}
	if err != nil {
		return nil, errors.Join(err, staged.Discard())
	}
	name := strings.ToLower(rand.Text()) + runSuffix
	if err := staged.Publish(filepath.Join(f.dir, name)); err != nil {
		return nil, err
	}
	return f.openNamed(name)
}

// remove removes files. Those that are gone already are no error.
func (f folder) remove(names []string) error {
	var errs []error
	for _, name := range names {
		if err := os.Remove(filepath.Join(f.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("drop index file: %w", err))
		}
	}
	return errors.Join(errs...)
}

// clear removes all runs. The caller holds the lock.
func (f folder) clear() error {
	runs, names, err := f.scan(nil)
	for _, r := range runs {
		names = append(names, r.name)
	}
	return errors.Join(err, closeRuns(runs), f.remove(names))
}
