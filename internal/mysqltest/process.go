package mysqltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	waitTimeout  = 3 * time.Minute // for anything, and far beyond what a healthy server takes
	pollInterval = 10 * time.Millisecond
)

// processes returns the servers that run with the defaults file, lowest pid
// first. A process that has ended and waits for its parent is not among them.
func processes(defaultsFile string) []int {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil
	}
	var pids []int
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil || !isServer(content, defaultsFile) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// isServer tells from a process's arguments (each ended by a zero byte)
// whether it is a server run with the defaults file: a server program, its
// wrapper, or the loader that the wrapper becomes.
func isServer(cmdline []byte, defaultsFile string) bool {
	arguments := strings.Split(string(bytes.TrimSuffix(cmdline, []byte{0})), "\x00")
	if !slices.Contains(arguments, "--defaults-file="+defaultsFile) {
		return false
	}
	server := func(argument string) bool {
		name := filepath.Base(argument)
		return name == "mysqld" || name == "mariadbd"
	}
	switch name := filepath.Base(arguments[0]); {
	case server(name):
		return true
	case name == "sh", strings.HasPrefix(name, "ld-linux"):
		return slices.ContainsFunc(arguments, server)
	}
	return false
}

// launch starts the program in the background, without standard streams. It
// ends with the thread that started it, which is kept for it alone, and so with
// the test at the latest: a test may end any other thread.
// The returned channel is closed when the process has ended.
func launch(ctx context.Context, program string, arguments ...string) (<-chan struct{}, error) {
	// The server outlives ctx: a test's clean-up ends it, in its own order.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, arguments...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // the error log says why; whoever waits shows it
		}
	}()
	return ended, <-started
}

// end sends the signal to the process and waits until it has ended and, if its
// parent is quick, until nothing is left of it: MySQL takes a dead process whose
// parent has not asked for it for one that holds its socket.
func end(pid int, signal unix.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd) //nolint:errcheck // a descriptor of a process has nothing to lose
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	return waitEnded(pid, fd)
}

func waitEnded(pid, fd int) error {
	descriptors := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(descriptors, int(waitTimeout.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("wait for process %d: %w", pid, err)
		case n == 0:
			return fmt.Errorf("wait for process %d: still there after %v", pid, waitTimeout)
		}
		awaitReaped(pid)
		return nil
	}
}

// reapTimeout is how long a parent may take to ask for a process that has ended.
const reapTimeout = 10 * time.Second

func awaitReaped(pid int) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for range int(reapTimeout / pollInterval) {
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			return
		}
		<-ticker.C
	}
}

// poll calls done every few milliseconds until it says so or fails, ctx is
// done, or the time is over.
func poll(ctx context.Context, done func() (bool, error)) error {
	deadline := time.NewTimer(waitTimeout)
	defer deadline.Stop()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return fmt.Errorf("not within %v", waitTimeout)
		case <-ticker.C:
		}
	}
}
