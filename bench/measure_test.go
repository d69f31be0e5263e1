package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"
)

func newBench(tb testing.TB) *bench {
	tb.Helper()
	return &bench{stdout: io.Discard, stderr: io.Discard, now: time.Now, dir: tb.TempDir(), results: results{}}
}

func TestFromRusage(t *testing.T) {
	cpu, rss := fromRusage(&syscall.Rusage{Utime: syscall.Timeval{Sec: 2, Usec: 500_000}, Stime: syscall.Timeval{Usec: 250_000}, Maxrss: 2048})
	if cpu != 2.75 || rss != 2<<20 {
		t.Errorf("got %v s, %d bytes, want 2.75, 2 MiB", cpu, rss)
	}
}

// TestMeasureCountsDescendants runs a pipe: what its parts take counts.
func TestMeasureCountsDescendants(t *testing.T) {
	b := newBench(t)
	u, out, err := b.measure(t.Context(), command{
		argv: shell(`head -c 100000000 /dev/zero | sha256sum; echo "$1 $NAME"`, "word"), env: []string{"NAME=value"}, sync: b.dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(out), "word value\n") {
		t.Errorf("got output %q", out)
	}
	if u.cpu <= 0.01 || u.seconds <= 0.01 || u.rss < 1<<20 {
		t.Errorf("got %+v, want some of everything", u)
	}
}

func TestMeasureFails(t *testing.T) {
	b := newBench(t)
	if _, _, err := b.measure(t.Context(), command{argv: shell("echo said >&2; false | cat")}); err == nil || !strings.Contains(err.Error(), "said") {
		t.Errorf("a pipe that fails: got %v", err)
	}
	if _, _, err := b.measure(t.Context(), command{argv: []string{"true"}, sync: b.dir + "/none"}); err == nil {
		t.Error("a sync that fails: got no error")
	}
}

// TestMeasureEndsWholePipes cancels a pipe that would run for a minute.
func TestMeasureEndsWholePipes(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, _, err := newBench(t).measure(ctx, command{argv: shell("sleep 60 | sleep 60")}); err == nil {
		t.Error("got no error")
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it ended after %v", took)
	}
}

func TestPoll(t *testing.T) {
	calls := 0
	if err := poll(t.Context(), func() (bool, error) { calls++; return calls == 3, nil }); err != nil || calls != 3 {
		t.Errorf("got %v after %d calls, want 3", err, calls)
	}
	broken := errors.New("broken")
	if err := poll(t.Context(), func() (bool, error) { return false, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := poll(ctx, func() (bool, error) { return false, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestTail(t *testing.T) {
	if got := tail("a\nb\n"); got != "a\nb" {
		t.Errorf("got %q", got)
	}
	if got := strings.Count(tail(strings.Repeat("line\n", 40)), "\n"); got != 14 {
		t.Errorf("got %d line ends, want 14", got)
	}
}
