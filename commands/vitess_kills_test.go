package commands_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// killedBy is what a story's run does when its step begins, by who is killed. A
// "supervised" vttablet is started again until it stays up, which it does only
// while its mysqld runs.
func killedBy(ts *testscript.TestScript, who, alias string) string {
	switch who {
	case "shardseed":
		return "KILL"
	case "mysqld":
		return "test -e crashed || crash " + alias + " && touch crashed" // a step may begin again
	case "vttablet":
		return "vttablet kill " + alias
	case "supervised":
		return "vttablet kill " + alias + "; { until vttablet start " + alias + "; do sleep 0.1; done; } </dev/null >/dev/null 2>&1 &"
	}
	ts.Fatalf("nobody is called %q", who)
	return ""
}

// allKills makes the stories kill at each step in every way, not in one.
var allKills = flag.Bool("all-kills", false, "kill at each step in all four ways that things may go on")

// killing is a story in which somebody is killed.
type killing struct {
	ts          *testscript.TestScript
	who         string
	alias, name string // of the tablet, and of its server in the story
	reparent    bool   // another tablet becomes the primary before anybody comes back
	podFirst    bool   // what runs the tablet starts again before recover is run, not after
}

// each calls do for every step, in one of the ways that things may go on, or in
// all of them.
func (k killing) each(steps []string, do func(k killing, step string)) {
	for i, step := range steps {
		for way := range 4 {
			if !*allKills && way != i%4 {
				continue
			}
			k.reparent, k.podFirst = way/2 == 1, way%2 == 1
			k.ts.Logf("[%s is killed at %s; reparent: %t, pod first: %t]", k.who, step, k.reparent, k.podFirst)
			do(k, step)
		}
	}
}

// kills is "kills WHO STEP[=CODE]...": for each step, WHO is killed when that of
// a backup of zone1-101 begins, which must end with the code. Then come an
// operator who runs recover, or a restart of the tablet's pod; after that the
// tablet must be as if nothing had been. NOW is the primary's server by then.
func kills(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: kills WHO STEP[=CODE]...")
	}
	killing{ts: ts, who: args[0], alias: "zone1-101", name: "replica"}.each(args[1:], func(k killing, step string) {
		k.at(step, "shardseed", "backup", k.alias, "--config", "config.yaml", "--allow-last-replica", "--vtctld-timeout", k.patience())
		k.meanwhile()
		k.revive()
		k.inOrder()
	})
}

// patience is how long a tablet is waited for that may not come back: in vain if
// its vttablet was killed, and once if its mysqld was.
func (k killing) patience() string {
	return map[string]string{"shardseed": "3m", "mysqld": "15s", "vttablet": "3s", "supervised": "3s"}[k.who]
}

// at runs a command in which WHO is killed at "STEP=CODE".
func (k killing) at(step string, command ...string) {
	name, code, told := strings.Cut(step, "=")
	k.ts.Setenv("SHARDSEED_TEST_STEP", name)
	k.ts.Setenv("SHARDSEED_TEST_DO", killedBy(k.ts, k.who, k.alias))
	k.ts.Check(os.RemoveAll(k.ts.MkAbs("crashed")))
	defer k.ts.Setenv("SHARDSEED_TEST_STEP", "")
	if told {
		exits(k.ts, false, append([]string{code}, command...))
		return
	}
	k.ts.Logf("[exit code %d]", k.run(command...)) // who was faster decides
}

// run runs a command and returns its exit code.
func (k killing) run(command ...string) int {
	err := k.ts.Exec(command[0], command[1:]...)
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return ended.ExitCode()
	}
	k.ts.Check(err)
	return 0
}

// meanwhile lets the shard go on: rows are written, and perhaps another tablet
// becomes the primary.
func (k killing) meanwhile() {
	name := k.primary()
	writeRows(k.ts, false, []string{name, "3"})
	if !k.reparent {
		return
	}
	next, alias := "other", "zone1-102"
	if name == next {
		next, alias = "primary", "zone1-100"
	}
	successor, tb := server(k.ts, next)
	old, _ := server(k.ts, name)
	successor.WaitForReplica(tb, old)
	k.must("vtctldclient", "--server", "x", "--action-timeout", "5s", "EmergencyReparentShard", "commerce/0", "--new-primary", alias)
	writeRows(k.ts, false, []string{next, "3"})
}

// primary returns the name of the primary's server.
func (k killing) primary() string {
	if readCluster(k.ts).Primary == 102 {
		return "other"
	}
	return "primary"
}

func (k killing) must(command ...string) { exits(k.ts, false, append([]string{"0"}, command...)) }

// revive is what an operator does: recover, which can't finish while vttablet is
// down; what does not run is started; and recover again. A pod that starts again
// has started what did not run before that.
func (k killing) revive() {
	again := []string{"shardseed", "recover", k.alias, "--config", "config.yaml"}
	t, err := readCluster(k.ts).tablet(k.alias)
	k.ts.Check(err)
	if !k.podFirst {
		first := again
		if t.Killed { // perhaps in vain
			first = append(again, "--vtctld-timeout", "3s")
		}
		if code := k.run(first...); code != 0 && (code != 5 || !t.Killed) {
			k.ts.Fatalf("recover: exit code %d", code)
		}
	}
	k.startTablet()
	k.must(again...)
}

// startTablet starts what does not run of a tablet, in the order of Vitess'
// examples.
func (k killing) startTablet() {
	srv, _ := server(k.ts, k.name)
	t, err := readCluster(k.ts).tablet(k.alias)
	died := err != nil || t.Killed
	if !srv.Running() {
		uid := strings.TrimPrefix(k.alias, "zone1-")
		k.must("mysqlctl", "--tablet-uid", uid, "start", "--wait-time", "180s")
		died = true
	}
	if died {
		k.must("vttablet", "start", k.alias)
	}
}

// inOrder verifies that the tablet is a REPLICA which replicates from the
// primary of now, has what that has, and serves; and that nothing is left to be
// done.
func (k killing) inOrder() {
	isTablet(k.ts, false, []string{k.alias, "REPLICA"})
	follows(k.ts, false, []string{k.name, k.primary()})
	compareServers(k.ts, false, []string{k.name, k.primary()})
	srv, _ := server(k.ts, k.name)
	k.must("shardseed", "recover", k.alias, "--config", "config.yaml")
	if text := k.ts.ReadFile("stdout"); !strings.Contains(text, "there is nothing to put back") {
		k.ts.Fatalf("recover: %s", text)
	}
	journals, err := filepath.Glob(k.ts.MkAbs("state/journal-*.json"))
	k.ts.Check(err)
	if len(journals) > 0 {
		k.ts.Fatalf("journals are left: %s", journals)
	}
	if exists(filepath.Join(srv.Datadir, ".shardseed-restore")) {
		k.ts.Fatalf("the data directory is marked as one that is being restored")
	}
	k.ts.Setenv("NOW", k.primary())
	code := 0
	for range 600 { // a lag is not known as soon as replication runs
		if code = k.run("shardseed", "health", "--defaults-file", srv.DefaultsFile, "--config", "config.yaml"); code == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	k.ts.Fatalf("health: exit code %d", code)
}

// starts is "starts WHO THEN STEP[=CODE]...": for each step, WHO is killed when
// that of a start of the new tablet zone1-103 begins, before which its server
// has neither my.cnf nor data. THEN is that of startup. The next start must make
// of it what a start that was not killed does.
func starts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: starts WHO THEN STEP[=CODE]...")
	}
	command := startupOf103(ts, "--then", args[1])
	killing{ts: ts, who: args[0], alias: "zone1-103", name: "target"}.each(args[2:], func(k killing, step string) {
		k.forget()
		k.at(step, command...)
		k.meanwhile()
		k.must(command...)
		k.startTablet()
		k.inOrder()
	})
}

// startupOf103 is the start-up hook of zone1-103.
func startupOf103(ts *testscript.TestScript, more ...string) []string {
	ts.Setenv("VT_MYSQL_ROOT", ts.Getenv("MYSQL_ROOT"))
	return append([]string{
		"shardseed", "startup", "commerce/0", "--config", "config.yaml",
		"--defaults-file", ts.Getenv("TARGET_CNF"), "--init-config-command", ts.Getenv("INIT_CONFIG"),
	}, more...)
}

// runStartup is "startup CODE [FLAG...]": it runs the start-up hook of
// zone1-103, which must end with the code.
func runStartup(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: startup CODE [FLAG...]")
	}
	exits(ts, false, append(args[:1:1], startupOf103(ts, args[1:]...)...))
}

// forget ends zone1-103, and removes what its host has of it.
func (k killing) forget() {
	srv, _ := server(k.ts, k.name)
	k.must("crash", k.alias)
	k.must("vttablet", "kill", k.alias)
	k.ts.Check(errors.Join(os.RemoveAll(srv.Datadir), os.RemoveAll(srv.DefaultsFile)))
}

// readCluster returns the state of the stand-ins.
func readCluster(ts *testscript.TestScript) *fakeCluster {
	text, err := os.ReadFile(filepath.Join(ts.Getenv("VITESS_STATE"), "cluster.json"))
	ts.Check(err)
	var c fakeCluster
	ts.Check(json.Unmarshal(text, &c))
	return &c
}

// crashMysqld is the program "crash ALIAS": the tablet's servers, also one
// behind a fence, end by SIGKILL.
func crashMysqld() {
	uid, err := strconv.Atoi(strings.TrimPrefix(os.Args[1], "zone1-"))
	if err == nil {
		err = crash(filepath.Join(os.Getenv("VTDATAROOT"), fmt.Sprintf("vt_%010d", uid)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// crash ends the servers of a tablet's folder, and waits until nothing is left
// of them: MySQL takes a dead process for one that holds its socket.
func crash(dir string) error {
	dirs := []string{dir}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dirs = append(dirs, real)
	}
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		for _, dir := range dirs {
			if !strings.Contains(string(text)+"\x00", "\x00--defaults-file="+filepath.Join(dir, "my.cnf")+"\x00") {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				return err
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
			if err := until(time.Minute, "a server that was killed to go", func() bool { return !exists(filepath.Dir(file)) }); err != nil {
				return err
			}
		}
	}
	return nil
}
