package hint_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/internal/hint"
)

func TestOf(t *testing.T) {
	cause := errors.New("disk is full")
	inner := hint.Wrap(cause, "free some space")
	tests := []struct {
		name string
		err  error
		want []string
	}{
		{"nil", nil, nil},
		{"none", cause, nil},
		{"one", inner, []string{"free some space"}},
		{"wrapped", fmt.Errorf("write pack: %w", inner), []string{"free some space"}},
		{"outermost first", hint.Wrap(inner, "run it again"), []string{"run it again", "free some space"}},
		{"each once", hint.Wrap(inner, "free some space"), []string{"free some space"}},
		{"joined", errors.Join(inner, hint.Wrap(cause, "call for help")), []string{"free some space", "call for help"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, hint.Of(test.err)); diff != "" {
				t.Errorf("Of(%v), want - got +:\n%s", test.err, diff)
			}
		})
	}
}

func TestWrapKeepsMessageAndCause(t *testing.T) {
	cause := errors.New("disk is full")
	err := hint.Wrap(cause, "free some space")
	if got, want := err.Error(), "disk is full"; got != want {
		t.Errorf("message: got %q, want %q", got, want)
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
	if hint.Wrap(nil, "anything") != nil {
		t.Error("Wrap(nil) is not nil")
	}
}
