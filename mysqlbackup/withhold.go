package mysqlbackup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/internal/hint"
)

// withheld is the folder, below that of the redo log, in which a restore keeps
// the redo log until all is proved: no server starts without its redo log,
// whatever it thinks of our marker. Only the fenced start is told of it.
const withheld = ".shardseed-redo"

func (t *target) withheldFolder() string { return filepath.Join(t.layout.folders[rootRedo], withheld) }

// withhold makes the folder, for the server alone.
func (t *target) withhold() error {
	folder := t.withheldFolder()
	if err := durable.OS().Mkdir(folder, 0o700); err != nil {
		return fmt.Errorf("make a folder for the redo log: %w", err)
	}
	if err := os.Lchown(folder, t.uid, t.gid); err != nil {
		return fmt.Errorf("make a folder for the redo log: %w", err)
	}
	return nil
}

// checkRelease refuses to release the redo log where another one has come up
// meanwhile.
func (t *target) checkRelease() error {
	paths, err := listIfThere(t.withheldFolder(), func(string) bool { return true })
	if err != nil {
		return err
	}
	for _, path := range paths {
		there := t.releasedPath(path)
		taken, err := isThere(there)
		if err != nil {
			return err
		}
		if taken {
			return hint.Wrap(fmt.Errorf("somebody has made %s while files were restored", there), "let nobody start a server meanwhile, and run the same restore again")
		}
	}
	return nil
}

func (t *target) releasedPath(path string) string {
	return filepath.Join(t.layout.folders[rootRedo], filepath.Base(path))
}

// isServed reports whether a server works on files that are complete.
func (t *target) isServed() (bool, error) {
	waiting, err := listIfThere(t.withheldFolder(), func(string) bool { return true })
	if err != nil || len(waiting) > 0 {
		return false, err
	}
	pids, err := serversOf(t.layout.datadir, t.defaults.Path)
	return len(pids) > 0, err
}

// release moves the redo log to where the server looks for it; on return that
// survives a power cut. What an interrupted release has left is finished.
func (t *target) release() error {
	folder := t.withheldFolder()
	paths, err := list(folder, func(string) bool { return true })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := rename(path, t.releasedPath(path)); err != nil {
			return fmt.Errorf("move the redo log to its place: %w", err)
		}
	}
	if err := durable.OS().SyncDir(t.layout.folders[rootRedo]); err != nil {
		return err
	}
	return durable.OS().Remove(folder)
}

// syncAll makes durable what a server has written that has ended since.
func (t *target) syncAll() error {
	synced := map[uint64]bool{}
	for _, folder := range t.folders() {
		_, device, err := deviceOf(folder)
		if err != nil {
			return fmt.Errorf("sync %s: %w", folder, err)
		}
		if synced[device] {
			continue
		}
		if err := syncDevice(folder); err != nil {
			return fmt.Errorf("sync the file system of %s: %w", folder, err)
		}
		synced[device] = true
	}
	return nil
}

func syncDevice(folder string) error {
	file, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(durable.Uninterrupted(func() error { return unix.Syncfs(int(file.Fd())) }), file.Close())
}

// rename renames a file or folder. Its callers sync the folders.
func rename(from, to string) error {
	err := durable.Uninterrupted(func() error { return unix.Rename(from, to) })
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}
