package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/replication"
)

const clock = "15:04:05.000"

// world is one repository, the shards whose backups are in it, and what has
// happened.
type world struct {
	t       *testing.T
	program string
	dir     string // of everything but the servers; kept if the soak fails
	root    string
	log     *os.File
	seed    uint64
	shards  []*shard
	stop    chan struct{} // closed when time is over
	broken  context.CancelCauseFunc

	mu      sync.Mutex // guards what follows
	numbers int
	counts  map[string]int
	usually map[string]time.Duration // a command takes
	spans   []*span
}

func newWorld(t *testing.T, seed uint64) (*world, context.Context) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "shardseed-soak-")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, program: program, dir: dir, root: filepath.Join(dir, "root"), seed: seed, stop: make(chan struct{}),
		counts: map[string]int{}, usually: map[string]time.Duration{},
	}
	if err := os.Mkdir(filepath.Join(dir, "runs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if w.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(endServersBelow(dir), w.log.Close()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("seed %d: what was done is in %s, each run in %s", seed, w.log.Name(), filepath.Join(dir, "runs"))
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	ctx, broken := context.WithCancelCause(t.Context())
	w.broken = broken
	t.Cleanup(func() { broken(nil) })
	return w, ctx
}

// endServersBelow ends the servers whose option files are in the folder: those of
// drills that were killed. The next drill would end them.
func endServersBelow(dir string) error {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), "\x00--defaults-file="+dir+"/") {
			continue // it has ended, or is somebody else's
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return err
		}
		if err := endProcess(pid); err != nil {
			return err
		}
	}
	return nil
}

// endProcess kills a process and waits until it has ended.
func endProcess(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end process %d: %w", pid, err)
	}
	err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	if err == nil {
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
	}
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINTR) {
		err = nil
	}
	return errors.Join(err, unix.Close(fd))
}

// rng returns the random numbers of an actor.
func (w *world) rng(actor string) *rand.Rand {
	var key [32]byte
	copy(key[:], fmt.Sprintf("%d %s", w.seed, actor))
	return rand.New(rand.NewChaCha8(key))
}

// acting tells whether there is time left and all is well.
func (w *world) acting(ctx context.Context) bool {
	select {
	case <-w.stop:
		return false
	case <-ctx.Done():
		return false
	default:
		return true
	}
}

// timeLeft returns a context that is over when acting ends.
func (w *world) timeLeft(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-w.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// fail ends everything.
func (w *world) fail(err error) {
	if err == nil {
		return
	}
	w.logf("FAILED: %v", err)
	w.broken(err)
}

// must is fail for one of a chain of steps, which it ends.
func (w *world) must(err error) {
	if err != nil {
		w.fail(err)
		runtime.Goexit()
	}
}

func (w *world) logf(format string, args ...any) {
	line := time.Now().Format(clock) + " " + fmt.Sprintf(format, args...) + "\n"
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = w.log.WriteString(line) // for people
}

func (w *world) next() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.numbers++
	return w.numbers
}

func (w *world) tally(what string) { w.add(what, 1) }

func (w *world) add(what string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what] += n
}

// took notes how long a command took, usual says how long it usually does.
func (w *world) took(command string, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if was, known := w.usually[command]; known {
		d = (3*was + d) / 4
	}
	w.usually[command] = d
}

func (w *world) usual(command string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d, known := w.usually[command]; known {
		return d
	}
	return 4 * time.Second
}

// all runs the actors at once and returns when all have come to their end.
func all(actors ...func()) {
	var group sync.WaitGroup
	for _, act := range actors {
		group.Go(act)
	}
	group.Wait()
}

// summary is how often what has happened.
func (w *world) summary() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(w.counts)) {
		fmt.Fprintf(&b, "%7d  %s\n", w.counts[what], what)
	}
	return b.String()
}

// shard is a primary that is written to, its replicas, and a place for restores.
type shard struct {
	world   *world
	flavor  replication.Flavor
	name    string // KEYSPACE/SHARD
	primary *mysqltest.Server
	hosts   []*host
	target  *host
	base    int // transactions of the primary before the first of the model

	mu        sync.Mutex // guards what follows: what is known of backups, by name
	published map[string]bool
	gone      map[string]bool // removed, for certain
	maybeGone map[string]bool // or perhaps
	pinned    map[string]bool // for certain, and not to be unpinned
	doubted   string          // names before this one were perhaps removed by a forget that was killed
}

// nameTime is the form of the time in the name of a backup.
const nameTime = "2006-01-02.150405"

// host is a server with the configuration of shardseed for it.
type host struct {
	shard  *shard
	alias  string
	server *mysqltest.Server
	config string
	mended func() // called when the server is up again
}

const configText = `
root: %[1]s/root
cache-dir: %[2]s/cache
state-dir: %[2]s/state
keyspace: soak
shard: %[3]s
user: %[4]s
password-file: %[5]s
mysqld: %[6]s
replication-user: %[7]s
replication-password-file: %[8]s
catch-up-timeout: 5m
stop-timeout: 1m
start-timeout: 2m
scratch: %[2]s/scratch
owner: %[9]s
option: [%[10]s]
defaults-file: %[11]s
`

// newHost makes the folders and the configuration of a host.
func (s *shard) newHost(alias string, server *mysqltest.Server) *host {
	t, dir := s.world.t, filepath.Join(s.world.dir, alias)
	t.Helper()
	for _, name := range []string{"cache", "state", "scratch"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	_, name, _ := strings.Cut(s.name, "/")
	text := fmt.Sprintf(configText, s.world.dir, dir, name, mysqltest.AdminUser, server.PasswordFile, server.Program, mysqltest.ReplUser,
		server.ReplPasswordFile, "root", strings.Join(server.InstallationOptions(), ", "), server.DefaultsFile)
	h := &host{shard: s, alias: alias, server: server, config: filepath.Join(dir, "config.yaml"), mended: func() {}}
	if err := os.WriteFile(h.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

// newShard starts a primary and replicas of it.
func (w *world) newShard(ctx context.Context, flavor replication.Flavor, name string, number, replicas int) *shard {
	w.t.Helper()
	s := &shard{
		world: w, flavor: flavor, name: "soak/" + name,
		published: map[string]bool{}, gone: map[string]bool{}, maybeGone: map[string]bool{}, pinned: map[string]bool{},
	}
	s.primary = w.keep(mysqltest.Start(w.t, flavor, serverOptions(flavor, false)))
	s.primary.Exec(w.t, schema()...)
	s.base = -1
	for i := range replicas {
		server := w.keep(mysqltest.StartReplica(w.t, s.primary, serverOptions(flavor, true)))
		s.hosts = append(s.hosts, s.newHost(fmt.Sprintf("zone1-%d%02d", number, i+1), server))
	}
	s.target = s.newHost(fmt.Sprintf("zone1-%d99", number), w.keep(mysqltest.New(w.t, flavor, serverOptions(flavor, true))))
	position, err := s.executed(ctx, s.primary.DB(), true)
	if err != nil {
		w.t.Fatal(err)
	}
	s.base = 0
	if s.base, err = s.count(position); err != nil {
		w.t.Fatal(err)
	}
	w.shards = append(w.shards, s)
	return s
}

// serverOptions make servers small, and replicas such that survive being killed.
func serverOptions(flavor replication.Flavor, replica bool) mysqltest.Options {
	cnf := []string{"performance-schema=OFF"}
	if replica {
		cnf = append(cnf, "read-only=ON", "relay-log-recovery=ON")
	}
	if replica && flavor == replication.MySQL {
		cnf = append(cnf, "super-read-only=ON")
	}
	return mysqltest.Options{Cnf: cnf}
}

// keep copies the server's folder before it is removed if the soak has failed.
func (w *world) keep(server *mysqltest.Server) *mysqltest.Server {
	w.t.Cleanup(func() {
		if !w.t.Failed() {
			return
		}
		server.Kill(w.t)
		into := filepath.Join(w.dir, filepath.Base(server.Dir))
		if output, err := exec.Command("cp", "-a", "--sparse=always", server.Dir, into).CombinedOutput(); err != nil {
			w.t.Errorf("keep %s: %v: %s", server.Dir, err, output)
		}
	})
	return server
}

// slay ends the server by SIGKILL.
func (s *shard) slay(server *mysqltest.Server) {
	if pid := server.PID(); pid != 0 {
		s.world.logf("%s: SIGKILL to server %d", s.name, server.ServerID)
		s.world.tally("server killed")
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			s.world.fail(err)
		}
	}
}

// patience is how long a server may take to start.
const patience = 2 * time.Minute

// start starts the server as a service manager does, again if it ends, until one
// answers: perhaps somebody else has started it. MySQL ends where a dead process
// that nobody has asked for yet had its socket.
func (s *shard) start(ctx context.Context, server *mysqltest.Server, args ...string) error {
	for began := time.Now(); time.Since(began) < patience && ctx.Err() == nil; {
		cmd := exec.CommandContext(context.WithoutCancel(ctx), server.Program, append([]string{"--defaults-file=" + server.DefaultsFile}, args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return err
		}
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait() // the error log says why
			close(ended)
		}()
		if s.answers(ctx, server, ended) == nil {
			return nil
		}
	}
	return s.silent(ctx, server)
}

// answers waits until the server does, or the process that was started has ended.
func (s *shard) answers(ctx context.Context, server *mysqltest.Server, ended <-chan struct{}) error {
	for began := time.Now(); time.Since(began) < patience && ctx.Err() == nil; pause(ctx, 50*time.Millisecond) {
		if server.DB().PingContext(ctx) == nil {
			return nil
		}
		select {
		case <-ended:
			return s.silent(ctx, server)
		default:
		}
	}
	return s.silent(ctx, server)
}

// silent is the error of a server that does not answer.
func (s *shard) silent(ctx context.Context, server *mysqltest.Server) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	log, err := os.ReadFile(server.ErrorLog)
	return errors.Join(err, fmt.Errorf("%s: server %d does not answer:\n%s", s.name, server.ServerID, log[max(0, len(log)-3000):]))
}

// end kills the server and waits until nothing of it is left: one that is about to
// end has no name any more, and may still listen.
func (s *shard) end(ctx context.Context, server *mysqltest.Server) {
	for ctx.Err() == nil {
		pid := server.PID()
		if pid == 0 {
			return
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			pause(ctx, 20*time.Millisecond)
			continue // it has just ended
		}
		s.slay(server)
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
		if err := errors.Join(err, unix.Close(fd)); err != nil && !errors.Is(err, unix.EINTR) {
			s.world.fail(err)
		}
	}
}

// listedBackup is what list says of a backup.
type listedBackup struct {
	Name     string               `json:"name"`
	Position replication.Position `json:"position"`
	Marks    []json.RawMessage    `json:"marks"`
	Pin      json.RawMessage      `json:"pin"`
}
