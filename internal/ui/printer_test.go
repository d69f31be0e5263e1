package ui_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/internal/ui"
)

// screen is a Printer with what it wrote and a clock that is moved by hand.
type screen struct {
	*ui.Printer
	stdout, stderr bytes.Buffer
	now            time.Time
}

func newScreen(opts ui.Options) *screen {
	s := &screen{now: time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)}
	opts.Stdout, opts.Stderr = &s.stdout, &s.stderr
	opts.Now = func() time.Time { return s.now }
	s.Printer = ui.New(opts)
	return s
}

func (s *screen) want(t *testing.T, stdout, stderr string) {
	t.Helper()
	if diff := cmp.Diff(stdout, s.stdout.String()); diff != "" {
		t.Errorf("stdout, want - got +:\n%s", diff)
	}
	if diff := cmp.Diff(stderr, s.stderr.String()); diff != "" {
		t.Errorf("stderr, want - got +:\n%s", diff)
	}
}

// answerAll uses every method that answers or tells once.
func answerAll(p *ui.Printer) {
	p.Step("copy", "212 files")
	p.Step("start", "")
	p.Warn("page 7 of a.ibd: <bad>")
	p.Text("stored %d", 3)
	p.Object(map[string]any{"type": "thing", "size_bytes": 3, "op": "<&>"})
	p.Table([]string{"name", "size"}, [][]string{{"a", "1 B"}, {"a long one", "2 B"}, {"c", ""}})
	p.Fail(ui.Failure{Messages: []string{"one", "two"}, Hints: []string{"try it"}, ExitCode: 6})
}

func TestText(t *testing.T) {
	s := newScreen(ui.Options{})
	answerAll(s.Printer)
	s.want(t, `stored 3
name        size
a           1 B
a long one  2 B
c
`, `shardseed: copy: 212 files
shardseed: start
shardseed: warning: page 7 of a.ibd: <bad>
shardseed: error: one
shardseed: error: two
shardseed: hint: try it
`)
}

func TestJSON(t *testing.T) {
	s := newScreen(ui.Options{JSON: true})
	answerAll(s.Printer)
	s.want(t, `{"op":"<&>","size_bytes":3,"type":"thing"}
{"type":"error","message":"one; two","hints":["try it"],"exit_code":6}
`, `shardseed: copy: 212 files
shardseed: start
shardseed: warning: page 7 of a.ibd: <bad>
shardseed: error: one
shardseed: error: two
shardseed: hint: try it
`)
}

func TestJSONWithoutHints(t *testing.T) {
	s := newScreen(ui.Options{JSON: true})
	s.Fail(ui.Failure{Messages: []string{"one"}, ExitCode: 1})
	s.want(t, `{"type":"error","message":"one","hints":[],"exit_code":1}
`, "shardseed: error: one\n")
}

func TestLogJSON(t *testing.T) {
	s := newScreen(ui.Options{LogJSON: true})
	s.Step("copy", "212 files")
	s.Begin("copy", 100)
	s.now = s.now.Add(20 * time.Second)
	s.Advance(40)
	s.End()
	s.Warn("odd")
	s.Fail(ui.Failure{Messages: []string{"one"}, Hints: []string{"try it"}, ExitCode: 6})
	s.want(t, "", `{"type":"step","time":"2026-08-01T12:00:00Z","name":"copy","detail":"212 files"}
{"type":"progress","time":"2026-08-01T12:00:20Z","what":"copy","done_bytes":40,"total_bytes":100,"elapsed_seconds":20,"bytes_per_second":2}
{"type":"progress","time":"2026-08-01T12:00:20Z","what":"copy","done_bytes":40,"total_bytes":100,"elapsed_seconds":20,"bytes_per_second":2}
{"type":"warning","time":"2026-08-01T12:00:20Z","message":"odd"}
{"type":"error","time":"2026-08-01T12:00:20Z","message":"one","hints":["try it"],"exit_code":6}
`)
	for line := range strings.Lines(s.stderr.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

func TestQuietKeepsWarningsAndErrors(t *testing.T) {
	s := newScreen(ui.Options{Quiet: true})
	answerAll(s.Printer)
	s.Begin("copy", 10)
	s.now = s.now.Add(time.Hour)
	s.Advance(10)
	s.End()
	if got, want := s.stderr.String(), `shardseed: warning: page 7 of a.ibd: <bad>
shardseed: error: one
shardseed: error: two
shardseed: hint: try it
`; got != want {
		t.Errorf("stderr: got %q, want %q", got, want)
	}
}

func TestTableWithoutHead(t *testing.T) {
	s := newScreen(ui.Options{})
	s.Table(nil, [][]string{{"name:", "x"}, {"engine:", "offline"}})
	s.want(t, "name:    x\nengine:  offline\n", "")
}

func TestMessageOfSeveralLines(t *testing.T) {
	s := newScreen(ui.Options{})
	s.Warn("mysqld ended:\nline 1\nline 2\n")
	s.want(t, "", "shardseed: warning: mysqld ended:\nshardseed:   line 1\nshardseed:   line 2\n")
}

func TestStepHookRunsBeforeTheStepIsTold(t *testing.T) {
	var s *screen
	var steps []string
	s = newScreen(ui.Options{OnStep: func(step string) {
		steps = append(steps, step+"|"+s.stderr.String())
	}})
	s.Step("stop", "")
	s.Step("copy", "all")
	want := []string{"stop|", "copy|shardseed: stop\n"}
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Errorf("steps, want - got +:\n%s", diff)
	}
}

// failing is a stream that fails every write.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestOutputThatCannotBeWritten(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"disk full", syscall.ENOSPC, true},
		{"reader gone", syscall.EPIPE, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := ui.New(ui.Options{Stdout: failing{test.err}, Stderr: failing{test.err}, Now: time.Now})
			if err := p.Err(); err != nil {
				t.Fatalf("before any output: got %v, want nil", err)
			}
			p.Text("answer")
			p.Text("more")
			p.Warn("dropped")
			err := p.Err()
			if (err != nil) != test.want {
				t.Fatalf("got %v, want an error: %t", err, test.want)
			}
			if test.want && !errors.Is(err, test.err) {
				t.Errorf("got %v, want one that wraps %v", err, test.err)
			}
		})
	}
}

func TestConcurrentUse(t *testing.T) {
	s := newScreen(ui.Options{Width: func() int { return 80 }})
	s.Begin("copy", 8000)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 1000 {
				s.Advance(1)
			}
			s.Warn("done")
			s.Text("answer")
		})
	}
	group.Wait()
	s.End()
	if got := strings.Count(s.stdout.String(), "answer\n"); got != 8 {
		t.Errorf("answers: got %d, want 8", got)
	}
	if !strings.Contains(s.stderr.String(), "copy: 7.8 KiB in") {
		t.Errorf("bytes were lost: %q", s.stderr.String())
	}
}
