package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what a command took.
type usage struct {
	seconds float64 // wall clock, including the sync
	cpu     float64 // seconds of user and system time, of all its processes
	rss     int64   // bytes, of its largest process at its largest
}

// command is a program to run and to measure. Its environment is its own.
type command struct {
	argv []string
	dir  string   // working folder; empty: this program's
	env  []string // added to a bare environment
	sync string   // file system of this path is synced as part of the command; empty: it syncs what it writes itself
}

// shell returns a command of bash that fails when any program of a pipe does.
func shell(script string, arguments ...string) []string {
	return append([]string{"bash", "-euo", "pipefail", "-c", script, "bench"}, arguments...)
}

// measure runs the command and returns what it took and its standard output.
// The peak of memory is at least that of this program, from which each process
// is forked: this one stays small.
func (b *bench) measure(ctx context.Context, c command) (usage, []byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Dir = c.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir, "LC_ALL=C.UTF-8", "TMPDIR=" + b.dir}, c.env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // all of a pipe is ended together
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = time.Minute
	start := b.now()
	err := cmd.Run()
	if err == nil && c.sync != "" {
		err = syncFS(c.sync)
	}
	seconds := b.now().Sub(start).Seconds()
	if err != nil {
		return usage{}, nil, fmt.Errorf("run %s: %w\n%s", strings.Join(c.argv, " "), err, tail(stderr.String()))
	}
	u := usage{seconds: seconds}
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.cpu, u.rss = fromRusage(r)
	}
	return u, stdout.Bytes(), nil
}

// fromRusage returns CPU seconds and peak memory in bytes; Linux gives KiB.
// Source: getrusage(2).
func fromRusage(r *syscall.Rusage) (cpu float64, rss int64) {
	nanoseconds := r.Utime.Nano() + r.Stime.Nano()
	return time.Duration(nanoseconds).Seconds(), int64(r.Maxrss) << 10
}

// run runs the command for its effect.
func (b *bench) run(ctx context.Context, argv ...string) error {
	_, _, err := b.measure(ctx, command{argv: argv})
	return err
}

// quiet waits until the disk has what was written, so that a measurement does
// not pay for the one before, and empties the page cache where that is allowed.
func (b *bench) quiet() error {
	unix.Sync()
	if !b.cold {
		return nil
	}
	f, err := os.OpenFile("/proc/sys/vm/drop_caches", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("3\n")
	return errors.Join(err, f.Close())
}

// canDrop tells whether this process may empty the page cache.
func canDrop() bool {
	return unix.Access("/proc/sys/vm/drop_caches", unix.W_OK) == nil
}

// syncFS writes out the file system that holds the path.
func syncFS(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// tail returns the last lines of a text, for an error message.
func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// poll calls done every 50 ms until it returns true or an error, for ten
// minutes at most.
func poll(ctx context.Context, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
