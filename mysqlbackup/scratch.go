package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/internal/hint"
)

// scratch is the folder of one drill: restored files, option file, socket; or of
// the fenced server of a restore. It is for the server's user alone. Beside it lies
// a file of the same name with lockSuffix, locked as long as the run lives: what is
// not locked was left by one that was killed.
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

// newScratch makes a drill's folder below parent.
func newScratch(parent string) (*scratch, error) {
	if len(parent) > maxScratch {
		return nil, hint.Wrap(refuse("the path %s is too long for a socket below it", parent), fmt.Sprintf("give a --scratch of at most %d bytes, a symbolic link for example", maxScratch))
	}
	return makeScratch(parent, scratchPrefix)
}

// makeScratch makes a folder whose name begins so.
func makeScratch(parent, prefix string) (*scratch, error) {
	for {
		lock, err := os.CreateTemp(parent, prefix+"*"+lockSuffix)
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
func (d *drillRun) sweepScratch(ctx context.Context, parent string) ([]string, error) {
	return sweep(parent, scratchPrefix, func(s *scratch) (bool, error) {
		if !s.isOf(os.Geteuid(), d.owner.uid) {
			return false, nil
		}
		return true, endServers(ctx, s.datadir(), s.path("my.cnf"))
	})
}

// sweep removes what runs of this user have left that were killed, in folders
// whose names begin so: those that end lets go. It returns them.
func sweep(parent, prefix string, end func(*scratch) (bool, error)) ([]string, error) {
	locks, err := filepath.Glob(filepath.Join(parent, prefix+"*"+lockSuffix))
	if err != nil {
		return nil, err
	}
	var swept []string
	for _, path := range locks {
		s, err := takeRemnant(path)
		if err != nil {
			return swept, err
		}
		if s == nil {
			continue
		}
		free, err := end(s)
		switch {
		case err != nil:
			err = errors.Join(err, s.lock.Close())
		case !free:
			err = s.lock.Close()
		default:
			swept = append(swept, s.folder)
			err = s.remove()
		}
		if err != nil {
			return swept, fmt.Errorf("remove what an interrupted run left in %s: %w", s.folder, err)
		}
	}
	return swept, nil
}

// takeRemnant locks what a killed run of this user has left; nil: its run lives, or
// it is not ours. Anybody may write where temporary files are.
func takeRemnant(path string) (*scratch, error) {
	lock, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil //nolint:nilerr // it was removed meanwhile, or is another user's
	}
	info, err := lock.Stat()
	if err == nil && info.Mode().IsRegular() && ownerIs(info, os.Geteuid()) {
		var locked bool
		if locked, err = tryLock(lock); err == nil && locked {
			return &scratch{folder: strings.TrimSuffix(path, lockSuffix), lock: lock}, nil
		}
	}
	return nil, errors.Join(err, lock.Close())
}

// isOf tells whether the folder is one of these users', or not there any more.
func (s *scratch) isOf(users ...int) bool {
	info, err := os.Lstat(s.folder)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	return info.IsDir() && slices.ContainsFunc(users, func(uid int) bool { return ownerIs(info, uid) })
}

func ownerIs(info fs.FileInfo, uid int) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == uid
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
