package faults

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shardseed/shardseed/commands"
)

// clockVariable moves the program's clock.
const clockVariable = "SHARDSEED_FAULTS_CLOCK"

func TestMain(m *testing.M) {
	switch os.Getenv(stageVariable) {
	case stageFilter:
		fmt.Fprintln(os.Stderr, filterAndRun())
		os.Exit(125)
	case stageRun:
		offset, err := time.ParseDuration(os.Getenv(clockVariable))
		if err != nil {
			panic(err)
		}
		os.Exit(commands.Main(context.Background(), options(os.Args, offset, os.Stdout, os.Stderr)))
	}
	debug.SetGCPercent(400) // half of the time of a case would be collections
	os.Exit(m.Run())
}

func options(args []string, offset time.Duration, stdout, stderr interface{ Write([]byte) (int, error) }) commands.Options {
	return commands.Options{
		Args: args, Stdout: stdout, Stderr: stderr, Random: rand.Reader,
		Now: func() time.Time { return time.Now().Add(offset) },
	}
}

// shardseed runs a command in this process, undisturbed.
func shardseed(offset time.Duration, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	code := commands.Main(context.Background(), options(append([]string{"shardseed"}, args...), offset, &stdout, &stderr))
	return outcome{code, stdout.String(), stderr.String()}
}

// calmly is shardseed with a clock that jumps ahead whenever all wait: no sign of
// life of those that were killed comes in any longer.
func calmly(t *testing.T, offset time.Duration, args ...string) (o outcome) {
	real := time.Now()
	synctest.Test(t, func(*testing.T) {
		o = shardseed(time.Until(real.Add(offset)), args...)
	})
	return o
}
