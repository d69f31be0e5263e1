package mysqlbackup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/internal/durable"
)

// spaceLock is a write lock on the first file of the system tablespace, which
// every mysqld locks too: while it is held, none can work on the files. It is
// an open file description lock, so that opening and closing the file for the
// copy does not release it.
// Source: fcntl_locking(2); os_file_lock in InnoDB's os0file.cc.
type spaceLock struct{ file *os.File }

// lockWait is how long a server that has ended may take to let go.
const lockWait = 5 * time.Second

// lockSpace locks the file; an error names the process that has it.
func lockSpace(ctx context.Context, path string) (*spaceLock, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, unix.EROFS) {
		file, err = os.Open(path) // a mounted snapshot: nobody can write it
		if err == nil {
			return &spaceLock{file}, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock the system tablespace: %w", err)
	}
	err = poll(ctx, "the lock on "+path, lockWait, func(context.Context) (bool, error) {
		lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
		err := durable.Uninterrupted(func() error { return unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &lock) })
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return false, nil
		}
		if err != nil {
			return false, &fs.PathError{Op: "lock", Path: path, Err: err}
		}
		return true, nil
	})
	var late *timeoutError
	if errors.As(err, &late) {
		err = refuse("%s is locked by %s: a server works on these files", path, lockHolder(file))
	}
	if err != nil {
		return nil, fmt.Errorf("lock the system tablespace: %w", errors.Join(err, file.Close()))
	}
	return &spaceLock{file}, nil
}

// close releases the lock, also from a process that we have just forked and that
// holds it, too. A nil lock is released already.
func (l *spaceLock) close() error {
	if l == nil || l.file == nil {
		return nil
	}
	file := l.file
	l.file = nil
	err := durable.Uninterrupted(func() error {
		return unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Whence: io.SeekStart})
	})
	if err != nil {
		err = fmt.Errorf("unlock the system tablespace: %w", &fs.PathError{Op: "unlock", Path: file.Name(), Err: err})
	}
	return errors.Join(err, file.Close())
}

// lockHolder names the process that holds a lock on the file.
func lockHolder(file *os.File) string {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(file.Fd(), unix.F_GETLK, &lock); err != nil || lock.Type == unix.F_UNLCK || lock.Pid <= 0 {
		return "another process"
	}
	return describeProcess(int(lock.Pid))
}

func describeProcess(pid int) string {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(name)))
}

// isAlive reports whether a process exists and is not merely waiting to be
// reaped.
func isAlive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH)
	}
	return !hasEnded(stat)
}

// hasEnded tells from a process's /proc/PID/stat whether all of it has ended. The
// first thread of a server may be gone while others, which are killed too, still
// hold its files, locks and ports.
// Source: proc_pid_stat(5), state and num_threads.
func hasEnded(stat []byte) bool {
	const numThreads = 17 // of the fields behind the name, which may hold anything
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) == 0 {
		return true
	}
	gone := fields[0][0] == 'Z' || fields[0][0] == 'X'
	return gone && (len(fields) <= numThreads || string(fields[numThreads]) == "1")
}

// serversOf returns the processes that work in the data directory, or that
// were started with the defaults file: mysqld changes into its data directory,
// also while it waits for InnoDB's lock. Processes of other users can't be seen
// unless we are root.
func serversOf(datadir, defaultsFile string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("look for servers: %w", err)
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if isServerOf(pid, datadir, defaultsFile) && isAlive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func isServerOf(pid int, datadir, defaultsFile string) bool {
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false // ended meanwhile, or another user's
	}
	args := strings.Split(string(cmdline), "\x00")
	if !isServerProgram(args) {
		return false
	}
	proc := fmt.Sprintf("/proc/%d/", pid)
	for _, arg := range args {
		if value, ok := strings.CutPrefix(arg, "--defaults-file="); ok && defaultsFile != "" && filepath.Clean(value) == defaultsFile {
			return isSameThere(proc, defaultsFile)
		}
		if value, ok := strings.CutPrefix(arg, "--datadir="); ok && filepath.Clean(value) == datadir {
			return isSameThere(proc, datadir)
		}
	}
	there, err := os.Stat(proc + "cwd")
	if err != nil {
		return false
	}
	here, err := os.Stat(datadir)
	return err == nil && os.SameFile(here, there)
}

// isSameThere tells whether a path means the same file to a process: one in a
// container has its own. Where that can't be seen it is taken to be so.
func isSameThere(proc, path string) bool {
	here, errHere := os.Stat(path)
	there, errThere := os.Stat(proc + "root" + path)
	return errHere != nil || errThere != nil || os.SameFile(here, there)
}

// isServerProgram tells mysqld and mariadbd, also under a loader, and the
// scripts that keep them running. A program that merely has a server's among
// its arguments, as this one does and what runs it, is none.
func isServerProgram(args []string) bool {
	names := []string{"mysqld", "mariadbd", "mysqld_safe", "mariadbd-safe"}
	isName := func(arg string) bool { return slices.Contains(names, filepath.Base(arg)) }
	program := filepath.Base(args[0])
	switch {
	case isName(program):
		return true
	case strings.HasPrefix(program, "ld-linux") || strings.HasPrefix(program, "ld-musl") || strings.HasPrefix(program, "ld.so"):
		return slices.ContainsFunc(args, isName)
	}
	return slices.Contains([]string{"sh", "bash", "dash"}, program) && len(args) > 1 && isName(args[1])
}
