package mysqlbackup_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/local"
	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// childVariable makes the test binary a run that kills itself: it holds a
// childRun.
const childVariable = "SHARDSEED_TEST_CHILD"

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		fmt.Fprintln(os.Stderr, "not killed:", runChild(text))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// childRun is a backup, a restore or a startup that ends by SIGKILL when a step begins.
type childRun struct {
	TempDir                  string // for its temporary files; "": the usual one
	Restore, Verify, Startup bool
	Mode                     mysqlbackup.RestoreMode // of a startup
	Force, InPlace           bool                    // of a restore
	Root, CacheDir, StateDir string
	Server                   *mysqltest.Server // its exported fields
	DieAt                    mysqlbackup.Step
	DieAfter                 int64 // or, if not 0, when so many bytes are done
}

// childTB is as much of a test as a child's options need.
type childTB struct{ testing.TB }

func (childTB) Helper()             {}
func (childTB) Logf(string, ...any) {}
func (childTB) Fatal(args ...any)   { panic(fmt.Sprint(args...)) }

func runChild(text string) error {
	var c childRun
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	backend, err := local.New(c.Root)
	if err != nil {
		return err
	}
	ctx := context.Background()
	repo, err := cas.Open(ctx, backend)
	if err != nil {
		return err
	}
	b := &bench{repo: repo, root: c.Root, cacheDir: c.CacheDir, stateDir: c.StateDir}
	die := func() {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {} // it is delivered at once, to all threads
	}
	var done atomic.Int64
	b.progress = &testProgress{t: childTB{}, onStep: func(step string) {
		if step == string(c.DieAt) {
			die()
		}
	}, onMore: func(n int64) {
		if c.DieAfter > 0 && done.Add(n) >= c.DieAfter {
			die()
		}
	}}
	if c.Verify {
		_, err = mysqlbackup.Verify(ctx, b.verifyOptions(childTB{}, c.Server))
		return err
	}
	if c.Startup {
		_, err = mysqlbackup.Startup(ctx, b.startupOptions(childTB{}, c.Server, c.Mode))
		return err
	}
	if !c.Restore {
		_, err = mysqlbackup.Backup(ctx, b.backupOptions(childTB{}, c.Server))
		return err
	}
	opts := b.restoreOptions(childTB{}, c.Server)
	opts.Force, opts.InPlace = c.Force, c.InPlace
	_, err = mysqlbackup.Restore(ctx, opts)
	return err
}

// killed runs c in a process of its own and returns when that was killed.
func (b *bench) killed(t *testing.T, c childRun) {
	t.Helper()
	c.Root, c.CacheDir, c.StateDir = b.root, b.cacheDir, b.stateDir
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	if c.TempDir != "" {
		cmd.Env = append(cmd.Env, "TMPDIR="+c.TempDir)
	}
	output, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signal() == unix.SIGKILL {
			return
		}
	}
	t.Fatalf("run to be killed at %s or after %d bytes: %v\n%s", c.DieAt, c.DieAfter, err, output)
}

// stand is a repository, a primary and a replica of it whose flags are unlike
// those with which it starts.
type stand struct {
	*bench
	primary, replica *mysqltest.Server
	want             map[string]string // the replica's state, see stateOf
}

func newStand(t *testing.T, flavor replication.Flavor) *stand {
	t.Helper()
	s := &stand{bench: newBench(t), primary: mysqltest.Start(t, flavor, mysqltest.Options{})}
	s.primary.Write(t, 10)
	s.setPrimary(t, s.primary)
	s.replica = newReplica(t, s.primary)
	s.want = stateOf(t, s.replica)
	return s
}

// newReplica returns a replica with semi-synchronous replication on, its event
// scheduler not as the server's default is, read-only, and with a shutdown that
// would not be clean.
func newReplica(t *testing.T, primary *mysqltest.Server) *mysqltest.Server {
	t.Helper()
	replica := mysqltest.StartReplica(t, primary, mysqltest.Options{})
	if replica.Flavor == replication.MariaDB {
		replica.Exec(t, "SET GLOBAL rpl_semi_sync_slave_enabled = 1", "SET GLOBAL event_scheduler = 1",
			"SET GLOBAL innodb_fast_shutdown = 2", "SET GLOBAL read_only = 1")
		return replica
	}
	replica.Exec(t, "INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'",
		"SET GLOBAL rpl_semi_sync_replica_enabled = 1", "SET GLOBAL event_scheduler = 0",
		"SET GLOBAL innodb_fast_shutdown = 2", "SET GLOBAL super_read_only = 1")
	return replica
}

// backUp makes a backup of the replica, without marks, and forgets what at said.
func (s *stand) backUp(t testing.TB) *mysqlbackup.BackupResult {
	t.Helper()
	s.progress.onStep = nil
	return s.mustBackUp(t, s.backupOptions(t, s.replica))
}

// mustBackUp makes a backup without marks.
func (b *bench) mustBackUp(t testing.TB, opts mysqlbackup.BackupOptions) *mysqlbackup.BackupResult {
	t.Helper()
	result, err := mysqlbackup.Backup(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if left := b.journals(t); len(left) > 0 {
		t.Errorf("journals are left: %v", left)
	}
	return result
}

// seed restores the newest backup to a new server.
func (b *bench) seed(t testing.TB, flavor replication.Flavor, options mysqltest.Options) *mysqltest.Server {
	t.Helper()
	target := mysqltest.New(t, flavor, options)
	mustRestore(t, b.restoreOptions(t, target))
	return target
}

func mustRestore(t testing.TB, opts mysqlbackup.RestoreOptions) *mysqlbackup.RestoreResult {
	t.Helper()
	result, err := mysqlbackup.Restore(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// setPrimary makes a server the shard's primary in the repository.
func (b *bench) setPrimary(t testing.TB, srv *mysqltest.Server) {
	t.Helper()
	if err := b.topology().SetPrimary(t.Context(), hostPort(srv)); err != nil {
		t.Fatal(err)
	}
}

func hostPort(srv *mysqltest.Server) mysqlbackup.HostPort {
	return mysqlbackup.HostPort{Host: "127.0.0.1", Port: srv.Port}
}

// stateOf returns what a backup must leave as it was.
func stateOf(t testing.TB, srv *mysqltest.Server) map[string]string {
	t.Helper()
	state := map[string]string{}
	for _, row := range srv.Rows(t, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('read_only', 'super_read_only', "+
		"'event_scheduler', 'innodb_fast_shutdown', 'rpl_semi_sync_replica_enabled', 'rpl_semi_sync_slave_enabled')") {
		state[row["Variable_name"]] = row["Value"]
	}
	row := srv.ReplicaStatus(t)
	if row == nil {
		return state
	}
	status, err := replication.ParseReplicaStatus(srv.Flavor, row)
	if err != nil {
		t.Fatal(err)
	}
	state["receiving"], state["applying"] = string(status.IORunning), string(status.SQLRunning)
	state["source"] = strconv.Itoa(status.SourcePort)
	return state
}

// eventually waits until done returns "", else fails with what it returned
// last.
func eventually(t testing.TB, done func() string) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		problem := done()
		if problem == "" {
			return
		}
		select {
		case <-deadline.C:
			t.Fatal(problem)
		case <-ticker.C:
		}
	}
}

// checkState verifies that the server runs and comes to the wanted state.
func checkState(t testing.TB, srv *mysqltest.Server, want map[string]string) {
	t.Helper()
	if !srv.Running() {
		t.Fatal("the server does not run")
	}
	eventually(t, func() string {
		if diff := cmp.Diff(want, stateOf(t, srv)); diff != "" {
			return "state (want - got +):\n" + diff
		}
		return ""
	})
}

// checkBack verifies that the replica is as it was, that nothing is left to
// put back, and how many backups are listed.
func (s *stand) checkBack(t testing.TB, backups int) {
	t.Helper()
	checkState(t, s.replica, s.want)
	if left := s.journals(t); len(left) > 0 {
		t.Errorf("journals are left: %v", left)
	}
	s.checkBackups(t, backups)
}

func (b *bench) checkBackups(t testing.TB, want int) {
	t.Helper()
	keys, err := b.repo.Keys(context.WithoutCancel(t.Context()), "commerce", "-80")
	if err != nil || len(keys) != want {
		t.Errorf("got backups %v, %v; want %d", keys, err, want)
	}
}

// journals lists the put-back journals.
func (b *bench) journals(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(b.stateDir, "journal-*.json"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// at runs do once, when the named step of the next run begins.
func (b *bench) at(step mysqlbackup.Step, do func()) {
	done := false
	b.progress.onStep = func(name string) {
		if name == string(step) && !done {
			done = true
			do()
		}
	}
}

// checkKinds verifies of which kinds an error is.
func checkKinds(t testing.TB, err error, want ...error) {
	t.Helper()
	var got []error
	for _, kind := range []error{
		mysqlbackup.ErrRefused, mysqlbackup.ErrNoBackup, mysqlbackup.ErrNoUsableBackup, mysqlbackup.ErrBusy,
		mysqlbackup.ErrMarked, mysqlbackup.ErrPutBack,
	} {
		if errors.Is(err, kind) {
			got = append(got, kind)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("error %v is of kinds %v, want %v", err, got, want)
	}
	if err == nil {
		t.Error("got no error")
	}
}

// checkSays verifies that an error has all the words.
func checkSays(t testing.TB, err error, words ...string) {
	t.Helper()
	for _, word := range words {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("error %v does not say %q", err, word)
		}
	}
}

// parallelFlavors runs a test on both servers at once.
func parallelFlavors(t *testing.T, test func(t *testing.T, flavor replication.Flavor)) {
	t.Helper()
	for _, flavor := range []replication.Flavor{replication.MySQL, replication.MariaDB} {
		t.Run(string(flavor), func(t *testing.T) {
			t.Parallel()
			test(t, flavor)
		})
	}
}

// recoverOptions are those with which a killed run is finished.
func (b *bench) recoverOptions(t testing.TB, srv *mysqltest.Server) mysqlbackup.RecoverOptions {
	t.Helper()
	opts := b.backupOptions(t, srv)
	return mysqlbackup.RecoverOptions{Server: opts.Server, Repo: b.repo, Replication: opts.Replication, StateDir: b.stateDir, Progress: b.progress}
}
