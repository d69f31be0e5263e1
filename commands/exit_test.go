package commands

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/internal/ui"
	"github.com/shardseed/shardseed/mysqlbackup"
)

func TestExitCode(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("back up: %w", hint.Wrap(err, "try again")) }
	boom := errors.New("boom")
	tests := []struct {
		name        string
		err         error
		want        int
		interrupted int // with an ended context; 0: the same
	}{
		{"done", nil, 0, 0},
		{"anything", boom, 1, 130},
		{"canceled", wrap(context.Canceled), 1, 130},
		{"newer format", wrap(&cas.VersionError{What: "format", Found: 9, Known: 1}), 1, 130},
		{"usage", wrap(usagef("no")), 2, 0},
		{"marked", wrap(mysqlbackup.ErrMarked), 3, 0},
		{"good but not put back", &codedError{wrap(mysqlbackup.ErrPutBack), 4}, 4, 0},
		{"failed and not put back", errors.Join(boom, wrap(mysqlbackup.ErrPutBack)), 5, 0},
		{"not put back counts most", errors.Join(mysqlbackup.ErrMarked, mysqlbackup.ErrPutBack, context.Canceled), 5, 0},
		{"refused because it was interrupted", errors.Join(mysqlbackup.ErrRefused, context.Canceled), 6, 130},
		{"refused", wrap(mysqlbackup.ErrRefused), 6, 0},
		{"none usable", errors.Join(wrap(mysqlbackup.ErrNoUsableBackup), mysqlbackup.ErrRefused), 7, 0},
		{"no backup", wrap(mysqlbackup.ErrNoBackup), 8, 0},
		{"no repository", wrap(cas.ErrNoRepository), 10, 0},
		{"damaged", wrap(&cas.CorruptError{Name: "FORMAT", Reason: "odd"}), 12, 0},
		{"busy", wrap(mysqlbackup.ErrBusy), 13, 0},
	}
	ended, end := context.WithCancelCause(t.Context())
	end(errors.New("terminated signal received"))
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := exitCode(t.Context(), test.err); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
			want := test.interrupted
			if want == 0 {
				want = test.want
			}
			if got := exitCode(ended, test.err); got != want {
				t.Errorf("interrupted: got %d, want %d", got, want)
			}
		})
	}
}

// Every code that an error can have stands in the table, once and in order.
func TestExitTable(t *testing.T) {
	known := map[int]bool{}
	last := -1
	for _, row := range exitTable() {
		if row.code <= last {
			t.Errorf("code %d stands after %d", row.code, last)
		}
		last = row.code
		known[row.code] = true
		if row.meaning == "" {
			t.Errorf("code %d means nothing", row.code)
		}
	}
	for _, row := range exitSentinels() {
		if !known[row.code] {
			t.Errorf("code %d of %v is not in the table", row.code, row.err)
		}
	}
}

// listed prints several errors on one line, as mysqlbackup does.
type listed []error

func (l listed) Unwrap() []error { return l }

func (l listed) Error() string {
	text := ""
	for i, err := range l {
		if i > 0 {
			text += "; "
		}
		text += err.Error()
	}
	return text
}

// kind adds a kind to an error and keeps its text.
type kind struct{ err, kind error }

func (k kind) Error() string   { return k.err.Error() }
func (k kind) Unwrap() []error { return []error{k.err, k.kind} }

func TestFailure(t *testing.T) {
	a, b := errors.New("a"), hint.Wrap(errors.New("b"), "fix b")
	ended, end := context.WithCancelCause(t.Context())
	end(errors.New("terminated signal received"))
	tests := []struct {
		name string
		ctx  context.Context
		err  error
		want ui.Failure
	}{
		{"one", t.Context(), a, ui.Failure{Messages: []string{"a"}, ExitCode: 1}},
		{"hint", t.Context(), b, ui.Failure{Messages: []string{"b"}, Hints: []string{"fix b"}, ExitCode: 1}},
		{"joined", t.Context(), errors.Join(a, errors.Join(b, a)), ui.Failure{Messages: []string{"a", "b", "a"}, Hints: []string{"fix b"}, ExitCode: 1}},
		{"joined inside", t.Context(), fmt.Errorf("x: %w", errors.Join(a, b)), ui.Failure{Messages: []string{"x: a\nb"}, Hints: []string{"fix b"}, ExitCode: 1}},
		{"two causes in one sentence", t.Context(), fmt.Errorf("%w after %w", a, b), ui.Failure{Messages: []string{"a after b"}, Hints: []string{"fix b"}, ExitCode: 1}},
		{"refusals", t.Context(), kind{listed{a, b}, mysqlbackup.ErrRefused}, ui.Failure{Messages: []string{"a", "b"}, Hints: []string{"fix b"}, ExitCode: 6}},
		{
			"usage", t.Context(), seeHelp(&usageError{problems: []string{"x", "y"}}, "list"),
			ui.Failure{Messages: []string{"x", "y"}, Hints: []string{`run "shardseed list --help"`}, ExitCode: 2},
		},
		{
			"interrupted", ended, fmt.Errorf("copy: %w", context.Canceled),
			ui.Failure{Messages: []string{"copy: context canceled", "interrupted: terminated signal received"}, ExitCode: 130},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, failure(test.ctx, test.err)); diff != "" {
				t.Errorf("want - got +:\n%s", diff)
			}
		})
	}
}
