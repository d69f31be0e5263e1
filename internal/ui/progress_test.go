package ui_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/internal/ui"
)

const mib = 1 << 20

func TestProgressAsLines(t *testing.T) {
	s := newScreen(ui.Options{})
	s.Begin("copy", 100*mib)
	for range 50 { // 2 MiB a second
		s.now = s.now.Add(time.Second)
		s.Advance(2 * mib)
	}
	s.End()
	s.want(t, "", `shardseed: copy: 30 MiB of 100 MiB, 30%, 2.0 MiB/s, 35s left
shardseed: copy: 60 MiB of 100 MiB, 60%, 2.0 MiB/s, 20s left
shardseed: copy: 90 MiB of 100 MiB, 90%, 2.0 MiB/s, 5.0s left
shardseed: copy: 100 MiB in 50s, 2.0 MiB/s
`)
}

func TestProgressOnTerminal(t *testing.T) {
	s := newScreen(ui.Options{Width: func() int { return 40 }})
	s.Begin("copy", 100*mib)
	s.now = s.now.Add(100 * time.Millisecond)
	s.Advance(mib) // too early
	s.now = s.now.Add(time.Second)
	s.Advance(49 * mib) // cut at 39 columns
	s.now = s.now.Add(time.Second)
	s.Text("answer")
	s.Advance(50 * mib)
	s.Warn("odd")
	s.End()
	blank := "\r" + strings.Repeat(" ", 39) + "\r"
	s.want(t, "answer\n", "\rshardseed: copy: 50 MiB of 100 MiB, 50%"+blank+
		"\rshardseed: copy: 100 MiB of 100 MiB, 10"+blank+
		"shardseed: warning: odd\n"+
		"shardseed: copy: 100 MiB in 2.1s, 48 MiB/s\n")
}

func TestProgressLineShrinks(t *testing.T) {
	s := newScreen(ui.Options{Width: func() int { return 200 }})
	s.Begin("a", 10*mib)
	s.now = s.now.Add(time.Second)
	s.Advance(mib)
	first := s.stderr.String()
	s.stderr.Reset()
	s.now = s.now.Add(time.Second)
	s.Advance(9 * mib)
	if got := s.stderr.String(); len(got) != len(first) {
		t.Errorf("the shorter line %q does not cover the longer one %q", got, first)
	}
}

func TestProgressOnTinyTerminal(t *testing.T) {
	s := newScreen(ui.Options{Width: func() int { return 0 }})
	s.Begin("copy", 10)
	s.now = s.now.Add(time.Second)
	s.Advance(1)
	s.want(t, "", "\r")
}

func TestProgressOfUnknownTotal(t *testing.T) {
	s := newScreen(ui.Options{})
	s.Advance(5) // nothing began
	s.End()
	s.Begin("read", 0)
	s.now = s.now.Add(16 * time.Second)
	s.Advance(32 * mib)
	s.Begin("write", 10) // ends the one before
	s.End()
	s.want(t, "", `shardseed: read: 32 MiB, 2.0 MiB/s
shardseed: read: 32 MiB in 16s, 2.0 MiB/s
shardseed: write: 0 B in 0.0s, 0 B/s
`)
}

func TestMoreThanAnnounced(t *testing.T) {
	s := newScreen(ui.Options{})
	s.Begin("read", 10)
	s.now = s.now.Add(16 * time.Second)
	s.Advance(32)
	s.want(t, "", "shardseed: read: 32 B of 10 B, 100%, 2 B/s\n")
}

func TestBytes(t *testing.T) {
	tests := map[int64]string{-1: "-1 B", 0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 64 << 10: "64 KiB", 1 << 40: "1.0 TiB"}
	for n, want := range tests {
		if got := ui.Bytes(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestSeconds(t *testing.T) {
	tests := []struct {
		seconds float64
		want    string
	}{
		{0, "0.0s"},
		{0.25, "0.2s"},
		{9.94, "9.9s"},
		{10, "10s"},
		{59.6, "1m0s"},
		{61, "1m1s"},
		{3600, "1h0m"},
		{3600*25 + 60, "25h1m"},
	}
	for _, test := range tests {
		if got := ui.Seconds(test.seconds); got != test.want {
			t.Errorf("%v: got %q, want %q", test.seconds, got, test.want)
		}
	}
}

func TestFileIsNoTerminal(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // only read from here on
	now := time.Unix(0, 0)
	p := ui.New(ui.Options{Stdout: &bytes.Buffer{}, Stderr: file, Now: func() time.Time { return now }})
	p.Begin("copy", 10)
	now = now.Add(time.Minute)
	p.Advance(5)
	got, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("shardseed: copy: 5 B of 10 B, 50%, 0 B/s\n", string(got)); diff != "" {
		t.Errorf("want - got +:\n%s", diff)
	}
}
