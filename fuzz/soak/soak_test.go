package soak

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/shardseed/shardseed/replication"
)

var (
	minutes = flag.Float64("minutes", 0, "how long to go on; 0: the short form")
	seed    = flag.Uint64("seed", 1, "decides what is done")
)

func TestMain(m *testing.M) {
	if haste := os.Getenv(hasteVariable); haste != "" {
		os.Exit(shardseed(haste))
	}
	os.Exit(m.Run())
}

// shortForm is how long the short form acts.
const shortForm = 8 * time.Second

// TestSoak is the soak; see the package's comment.
func TestSoak(t *testing.T) {
	lasts, replicas := time.Duration(*minutes*float64(time.Minute)), 2
	if lasts == 0 {
		lasts, replicas = shortForm, 1
	}
	t.Logf("seed %d, for %s", *seed, lasts)
	w, ctx := newWorld(t, *seed)
	w.newShard(ctx, replication.MySQL, "-80", 1, replicas)
	w.newShard(ctx, replication.MariaDB, "80-", 2, replicas)
	done := make(chan struct{})
	go func() { // a step that must not fail ends its goroutine
		defer close(done)
		w.soak(ctx, lasts)
	}()
	<-done
	t.Logf("seed %d, %d runs:\n%s", *seed, w.numbers, w.summary())
	if err := context.Cause(ctx); err != nil {
		t.Fatalf("seed %d: %v", *seed, err)
	}
}

// TestEndServersBelow: what a killed drill has left running is ended, and nobody
// else.
func TestEndServersBelow(t *testing.T) {
	dir := t.TempDir()
	start := func(defaults string) *exec.Cmd {
		t.Helper()
		cmd := exec.Command("/bin/sh", "-c", "read line", "sh", "--defaults-file="+defaults)
		stdin, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = stdin.Close() }) // it ends then, if it still runs
		return cmd
	}
	drill, other := start(filepath.Join(dir, "host", "scratch", "my.cnf")), start(dir+"-other/my.cnf")
	if err := endServersBelow(dir); err != nil {
		t.Fatal(err)
	}
	if err := drill.Wait(); err == nil || drill.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL { //nolint:errcheck // on Linux it is nothing else
		t.Errorf("the drill's server: %v", err)
	}
	if err := other.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("another server: %v", err)
	}
	if err := other.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = other.Wait() // it was killed
}

// soak lets everybody act for a time, then settles.
func (w *world) soak(ctx context.Context, lasts time.Duration) {
	anyone := w.shards[0].target
	w.mustRun(ctx, anyone, "init")
	var writers, actors []func()
	for _, s := range w.shards {
		w.mustRun(ctx, anyone, "primary", "set", s.name, s.primary.Address)
		writers = append(writers, func() { s.write(ctx) })
		actors = append(actors, func() { s.vandal(ctx) }, func() { s.target.restore(ctx) })
		for _, h := range s.hosts {
			actors = append(actors, func() { h.act(ctx) })
		}
	}
	for i, name := range []string{"keeper1", "keeper2"} {
		k := &keeper{host: w.shards[0].newHost(name, w.shards[0].target.server), pins: i == 0}
		actors = append(actors, func() { k.act(ctx) })
	}
	all(append(writers, func() {
		all(w.each(func(s *shard) { s.first(ctx) })...)
		time.AfterFunc(lasts, func() { close(w.stop) })
		all(actors...)
	})...)
	if ctx.Err() == nil {
		w.settle(ctx)
	}
}
