package cpus_test

import (
	"runtime"
	"testing"

	"github.com/shardseed/shardseed/internal/cpus"
)

func TestForSystemCalls(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	cpus.ForSystemCalls()
	if got, want := runtime.GOMAXPROCS(0), 4*before; got != want {
		t.Errorf("%d processors of the scheduler, want %d", got, want)
	}
	if got := cpus.Count(); got != before {
		t.Errorf("%d processors, want %d as before", got, before)
	}
	if got := cpus.Copying(); got <= before {
		t.Errorf("%d goroutines copy with %d processors: too few to keep them busy", got, before)
	}
}
