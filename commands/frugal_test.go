package commands

import (
	"errors"
	"os"
	"runtime/debug"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestFrugal: a command that looks at a whole repository lets little garbage grow,
// unless GOGC says how much; after it all is as before.
func TestFrugal(t *testing.T) {
	percent := func() int {
		now := debug.SetGCPercent(100)
		debug.SetGCPercent(now)
		return now
	}
	before, failed := percent(), errors.New("failed")
	during := 0
	action := frugal(func(*cli.Context) error {
		during = percent()
		return failed
	})
	t.Setenv("GOGC", "") // so that it is put back
	if err := os.Unsetenv("GOGC"); err != nil {
		t.Fatal(err)
	}
	if err := action(nil); !errors.Is(err, failed) || during != frugalPercent || percent() != before {
		t.Errorf("%d%% during a command, %d%% after, before %d%%; error %v", during, percent(), before, err)
	}
	t.Setenv("GOGC", "70")
	if _ = action(nil); during != before {
		t.Errorf("%d%% although GOGC is set, before %d%%", during, before)
	}
}
