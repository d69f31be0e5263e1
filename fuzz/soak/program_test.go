package soak

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/shardseed/shardseed/commands"
)

// hasteVariable makes the test binary the program, as main.go has it. It holds
// how many times as fast as others its clock goes, by which a collection ends
// those that give no sign of life for two minutes after a few seconds.
const hasteVariable = "SHARDSEED_SOAK_HASTE"

const (
	ordinary = 1
	hasty    = 25
)

// hangs is after how long a run of the program fails the soak.
const hangs = 10 * time.Minute

func shardseed(haste string) int {
	factor, err := strconv.ParseFloat(haste, 64)
	if err != nil {
		panic(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	start := time.Now()
	return commands.Main(ctx, commands.Options{
		Args: os.Args, Stdout: os.Stdout, Stderr: os.Stderr, Random: rand.Reader,
		Now: func() time.Time { return start.Add(time.Duration(factor * float64(time.Since(start)))) },
	})
}

// mishap is what happens to a run.
type mishap int

const (
	none  mishap = iota
	kill         // SIGKILL
	stall        // SIGSTOP, and SIGCONT seconds later
	term         // SIGTERM
)

// invocation is a run of the program to be.
type invocation struct {
	config string // file
	shard  string // whose run it is; "" of all
	args   []string
	mishap mishap
	haste  int
	with   func()          // what is killed together with it; nil: nothing
	until  context.Context // the run is killed when it is over; nil: it may go on to its end
}

// result is how a run ended.
type result struct {
	number         int
	command, shard string
	args           []string
	code           int    // -1: killed
	struck         mishap // what came before its end
	stdout, stderr string
	began, ended   time.Time
}

// lines returns the objects of standard output that have the type.
func lines[T any](r *result, kind string) []T {
	var all []T
	for line := range strings.Lines(r.stdout) {
		var typed struct {
			Type string `json:"type"`
		}
		var value T
		if json.Unmarshal([]byte(line), &typed) == nil && typed.Type == kind && json.Unmarshal([]byte(line), &value) == nil {
			all = append(all, value)
		}
	}
	return all
}

// run runs the program to its end, or to the end that the mishap makes of it. It
// fails the world if the exit code is not tolerated.
func (w *world) run(ctx context.Context, rng *mathrand.Rand, in invocation) *result {
	r := &result{number: w.next(), command: in.args[0], shard: in.shard, args: in.args, began: time.Now()}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hangs)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.program, append(slices.Clone(in.args), "--config", in.config, "--json")...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = append(os.Environ(), hasteVariable+"="+strconv.Itoa(max(ordinary, in.haste)))
	cmd.WaitDelay = time.Second // a server that it started has its streams
	if err := cmd.Start(); err != nil {
		w.fail(err)
		return r
	}
	ended := make(chan struct{})
	hit := w.strike(cmd.Process, rng, &in, ended)
	err := cmd.Wait()
	close(ended)
	r.struck = <-hit
	r.ended, r.stdout, r.stderr = time.Now(), stdout.String(), stderr.String()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.code = exit.ExitCode()
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		w.fail(fmt.Errorf("run %d: %w", r.number, err))
	}
	w.note(r, in)
	return r
}

// strike does what the mishap says to the process, at some moment of the time
// that the command usually takes. The channel tells what it came to.
func (w *world) strike(process *os.Process, rng *mathrand.Rand, in *invocation, ended <-chan struct{}) <-chan mishap {
	hit := make(chan mishap, 1)
	delay := time.Duration(math.MaxInt64)
	if in.mishap != none {
		delay = time.Duration(rng.Float64() * 1.1 * float64(w.usual(in.args[0])))
	}
	rest := time.Duration(rng.IntN(15)) * time.Second
	var over <-chan struct{}
	if in.until != nil {
		over = in.until.Done()
	}
	go func() {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-ended:
			hit <- none
		case <-over:
			_ = process.Kill()
			hit <- kill
		case <-timer.C:
			in.befall(process, rest, ended)
			hit <- in.mishap
		}
	}()
	return hit
}

// befall does what the mishap says; the process may just have ended.
func (in *invocation) befall(process *os.Process, rest time.Duration, ended <-chan struct{}) {
	switch in.mishap {
	case kill:
		_ = process.Kill()
		if in.with != nil {
			in.with()
		}
	case term:
		_ = process.Signal(syscall.SIGTERM)
	case stall:
		_ = process.Signal(syscall.SIGSTOP)
		select {
		case <-ended:
		case <-time.After(rest):
		}
		_ = process.Signal(syscall.SIGCONT)
	}
}

// note takes down how a run has ended and what it said.
func (w *world) note(r *result, in invocation) {
	how := strconv.Itoa(r.code)
	switch {
	case r.code == -1:
		how = "killed"
	case r.code == 0 && in.mishap == none && in.haste <= ordinary:
		w.took(r.command, r.ended.Sub(r.began))
	}
	w.tally(r.command + ": " + how)
	text := fmt.Sprintf("run %d (%s): %s, after %s", r.number, strings.Join(r.args, " "), how, r.ended.Sub(r.began).Round(10*time.Millisecond))
	w.logf("%s", text)
	path := filepath.Join(w.dir, "runs", fmt.Sprintf("%05d-%s", r.number, r.command))
	all := fmt.Sprintf("%s\nfrom %s to %s\n%s\n%s", text, r.began.Format(clock), r.ended.Format(clock), r.stdout, r.stderr)
	if err := os.WriteFile(path, []byte(all), 0o600); err != nil {
		w.fail(err)
	}
	if !w.tolerated(r) {
		w.fail(fmt.Errorf("%s\n%s", text, r.stderr))
	}
}
