package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/internal/hint"
)

// scratch is the folder of one drill: restored files, option file, socket. It is
// for the server's user alone. Beside it lies a file of the same name with
// lockSuffix, locked as long as the drill lives: what is not locked was left by
// one that was killed.
type scratch struct {
	folder string
	lock   *os.File
}

const (
	scratchPrefix = "shardseed-drill-"
	lockSuffix    = ".lock"
	// maxScratch bounds the path of the folder for scratch folders, so that
	// the socket's fits into the 107 bytes that the kernel takes.
	maxScratch = 70
)

// newScratch makes a folder below parent.
func newScratch(parent string) (*scratch, error) {
	if len(parent) > maxScratch {
		return nil, hint.Wrap(refuse("the path %s is too long for a socket below it", parent), fmt.Sprintf("give a --scratch of at most %d bytes, a symbolic link for example", maxScratch))
	}
	for {
		lock, err := os.CreateTemp(parent, scratchPrefix+"*"+lockSuffix)
		if err != nil {
			return nil, as(ErrRefused, fmt.Errorf("make a scratch folder: %w", err))
		}
		s := &scratch{folder: strings.TrimSuffix(lock.Name(), lockSuffix), lock: lock}
		locked, err := tryLock(lock)
		if err == nil && locked && exists(lock.Name()) { // else a sweep has taken it for a remnant
			err = os.Mkdir(s.folder, 0o700)
		} else if err == nil {
			err = lock.Close()
			if err == nil {
				continue
			}
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("make a scratch folder: %w", err), s.remove())
		}
		return s, nil
	}
}

// tryLock locks the file unless somebody else has.
func tryLock(file *os.File) (bool, error) {
	err := durable.Uninterrupted(func() error { return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

func (s *scratch) path(elements ...string) string {
	return filepath.Join(append([]string{s.folder}, elements...)...)
}

// datadir is where the data directory of a drill goes.
func (s *scratch) datadir() string { return s.path("data") }

// remove removes all. The lock goes last.
func (s *scratch) remove() error {
	err := os.RemoveAll(s.folder)
	if err == nil {
		err = s.unlock()
	}
	if err != nil {
		return fmt.Errorf("remove the scratch folder: %w", err)
	}
	return nil
}

// unlock leaves the folder to whoever wants it.
func (s *scratch) unlock() error {
	err := os.Remove(s.lock.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, s.lock.Close())
}

// sweepScratch removes what killed drills have left below parent: their servers,
// then their folders. It returns the folders.
func sweepScratch(ctx context.Context, parent string) ([]string, error) {
	locks, err := filepath.Glob(filepath.Join(parent, scratchPrefix+"*"+lockSuffix))
	if err != nil {
		return nil, err
	}
	var swept []string
	for _, path := range locks {
		lock, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			continue // removed meanwhile, or another user's
		}
		s := &scratch{folder: strings.TrimSuffix(path, lockSuffix), lock: lock}
		locked, err := tryLock(lock)
		if err != nil || !locked {
			err = errors.Join(err, lock.Close())
		} else {
			swept = append(swept, s.folder)
			err = errors.Join(endServers(ctx, s.datadir(), s.path("my.cnf")), s.remove())
		}
		if err != nil {
			return swept, fmt.Errorf("remove what an interrupted drill left in %s: %w", s.folder, err)
		}
	}
	return swept, nil
}

// endServers ends the servers of a data directory at once.
func endServers(ctx context.Context, datadir, defaultsFile string) error {
	pids, err := serversOf(datadir, defaultsFile)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("end process %d: %w", pid, err)
		}
		if err := poll(ctx, fmt.Sprintf("process %d to end", pid), fencedWait, func(context.Context) (bool, error) {
			return !isAlive(pid), nil
		}); err != nil {
			return err
		}
	}
	return nil
}
