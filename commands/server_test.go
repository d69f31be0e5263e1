package commands_test

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/replication"
)

// serverConfig is what the stories' commands have in common; the flags that
// differ stand in the scripts.
const serverConfig = `
root: %[1]s/root
state-dir: %[1]s/state
keyspace: commerce
shard: -80
user: %[2]s
password-file: %[3]s
mysqld: %[4]s
replication-user: %[5]s
replication-password-file: %[6]s
catch-up-timeout: 3m
stop-timeout: 3m
start-timeout: 3m
scratch: %[1]s/scratch
owner: %[7]s
option: [%[8]s]
`

// TestServerScripts runs the stories of testdata/script/server on both
// flavors. Each has a primary and a replica that has caught up, both with the
// fixture's data, and an empty target; the variables PRIMARY (HOST:PORT),
// REPLICA and TARGET (defaults files); and a config.yaml.
func TestServerScripts(t *testing.T) {
	for _, flavor := range []replication.Flavor{replication.MySQL, replication.MariaDB} {
		t.Run(string(flavor), func(t *testing.T) {
			testscript.Run(t, testscript.Params{
				Dir:                 "../testdata/script/server",
				RequireExplicitExec: true,
				RequireUniqueNames:  true,
				Setup:               func(env *testscript.Env) error { return startServers(env, flavor) },
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"exit":     exits,
					"sql":      runSQL,
					"write":    writeRows,
					"equal":    compareServers,
					"alive":    isAlive,
					"killed":   kill,
					"reset":    killAndEmpty,
					"start":    startServer,
					"ready":    awaitServer,
					"document": writeDocumented,
					"position": comparePosition,
					"rows":     countRows,
					"fetch":    fetch,

					"stopreplica": stopReplica,
					"configure":   configure,
					"blocks":      runBlocks,

					"initialize": initialize,
					"follow":     follow,
					"delay":      delay,
					"promote":    promote,
					"becomes":    becomes,
					"metric":     awaitMetric,
				},
			})
		})
	}
}

func startServers(env *testscript.Env, flavor replication.Flavor) error {
	t, ok := env.T().(testing.TB)
	if !ok {
		return fmt.Errorf("a test of type %T cannot start servers", env.T())
	}
	primary := mysqltest.Start(t, flavor, mysqltest.Options{})
	primary.LoadFixture(t)
	replica := mysqltest.StartReplica(t, primary, mysqltest.Options{})
	target := mysqltest.New(t, flavor, mysqltest.Options{})
	env.Values["tb"] = t
	env.Values["primary"], env.Values["replica"], env.Values["target"] = primary, replica, target
	env.Setenv("SHARDSEED_CACHE_DIR", filepath.Join(env.WorkDir, "cache"))
	env.Setenv("PRIMARY", primary.Address)
	env.Setenv("PRIMARY_CNF", primary.DefaultsFile)
	env.Setenv("REPLICA", replica.DefaultsFile)
	env.Setenv("REPLICA_ADDRESS", replica.Address)
	env.Setenv("TARGET", target.DefaultsFile)
	env.Setenv("MY_CNF", target.DefaultsFile)
	env.Setenv("TARGET_DATA", target.Datadir)
	env.Setenv("REPLICA_DIR", replica.Dir)
	env.Setenv("MYSQLD", replica.Program)
	if err := documents(env, primary); err != nil {
		return err
	}
	env.Setenv("LISTEN", fmt.Sprintf("127.0.0.1:%d", mysqltest.FreePort(t)))
	env.Setenv("SCRATCH", filepath.Join(env.WorkDir, "scratch"))
	if err := os.Mkdir(filepath.Join(env.WorkDir, "scratch"), 0o700); err != nil {
		return err
	}
	config := fmt.Sprintf(serverConfig, env.WorkDir, mysqltest.AdminUser, primary.PasswordFile, primary.Program,
		mysqltest.ReplUser, primary.ReplPasswordFile, currentUser(t), strings.Join(primary.InstallationOptions(), ", "))
	return os.WriteFile(filepath.Join(env.WorkDir, "config.yaml"), []byte(config), 0o600)
}

// documents says where the documentation is, and the passwords for its
// examples.
func documents(env *testscript.Env, primary *mysqltest.Server) error {
	docs, err := filepath.Abs("../docs")
	env.Setenv("DOCS", docs)
	env.Setenv("PASSWORD", primary.PasswordFile)
	env.Setenv("REPL_PASSWORD", primary.ReplPasswordFile)
	return err
}

// stopReplica is "stopreplica SERVER": its replication is stopped.
func stopReplica(ts *testscript.TestScript, _ bool, args []string) {
	srv, tb := server(ts, args[0])
	srv.Exec(tb, map[replication.Flavor]string{replication.MySQL: "STOP REPLICA", replication.MariaDB: "STOP SLAVE"}[srv.Flavor])
}

// fetch is "fetch CODE URL": it asks until somebody answers, with that code.
// The answer can be matched in the file "answer".
func fetch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fetch CODE URL")
	}
	var code int
	var text string
	ts.Check(until(time.Minute, args[1], func() (answered bool) {
		var err error
		code, text, err = get(args[1])
		return err == nil
	}))
	ts.Check(os.WriteFile(ts.MkAbs("answer"), []byte(text), 0o600))
	if got := strconv.Itoa(code); got != args[0] {
		ts.Fatalf("got %s, want %s: %s", got, args[0], text)
	}
}

func currentUser(t testing.TB) string {
	t.Helper()
	current, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return current.Username
}

// server returns the story's server of a name, and its test.
func server(ts *testscript.TestScript, name string) (*mysqltest.Server, testing.TB) {
	srv, ok := ts.Value(name).(*mysqltest.Server)
	if !ok {
		ts.Fatalf("%q is no server of this story", name)
	}
	return srv, scriptTB{ts: ts, TB: mysqltestTB(ts)}
}

// scriptTB lets a failure of mysqltest end the script, which goes on in its
// own goroutine.
type scriptTB struct {
	testing.TB
	ts *testscript.TestScript
}

func (tb scriptTB) Fatalf(format string, args ...any) { tb.ts.Fatalf(format, args...) }
func (tb scriptTB) Helper()                           {}

func mysqltestTB(ts *testscript.TestScript) testing.TB {
	tb, ok := ts.Value("tb").(testing.TB)
	if !ok {
		ts.Fatalf("the story has no test")
	}
	return tb
}

// runSQL is "sql SERVER STATEMENT...": it runs statements.
func runSQL(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: sql SERVER STATEMENT...")
	}
	srv, tb := server(ts, args[0])
	srv.Exec(tb, args[1:]...)
}

// writeRows is "write SERVER N": it commits N small transactions.
func writeRows(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: write SERVER N")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	srv, tb := server(ts, args[0])
	srv.Write(tb, n)
}

// countRows is "rows SERVER N": it has that many rows of those that write adds.
func countRows(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: rows SERVER N")
	}
	srv, tb := server(ts, args[0])
	if got := srv.Value(tb, "SELECT COUNT(*) FROM test.writes"); got != args[1] {
		ts.Fatalf("%s has %s rows, want %s", args[0], got, args[1])
	}
}

// compareServers is "equal SERVER SERVER": the first waits for the second, then
// all their tables and objects are equal.
func compareServers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: equal REPLICA PRIMARY")
	}
	replica, tb := server(ts, args[0])
	primary, _ := server(ts, args[1])
	replica.WaitForReplica(tb, primary)
	for _, diff := range [][]string{
		mysqltest.Differences(replica.Checksums(tb), primary.Checksums(tb)),
		mysqltest.Differences(replica.Objects(tb), primary.Objects(tb)),
	} {
		if len(diff) > 0 {
			ts.Fatalf("%s and %s differ: %v", args[0], args[1], diff)
		}
	}
}

// isAlive is "[!] alive SERVER": its process runs.
func isAlive(ts *testscript.TestScript, neg bool, args []string) {
	srv, _ := server(ts, args[0])
	if srv.Running() == neg {
		ts.Fatalf("%s: running is %v", args[0], !neg)
	}
}

// kill is "killed SERVER": it ends by SIGKILL.
func kill(ts *testscript.TestScript, _ bool, args []string) {
	srv, tb := server(ts, args[0])
	srv.Kill(tb)
}

// startServer is "start SERVER": it is started as whoever runs it does.
func startServer(ts *testscript.TestScript, _ bool, args []string) {
	srv, tb := server(ts, args[0])
	srv.Start(tb)
}

// awaitServer is "ready SERVER": it answers, whoever started it.
func awaitServer(ts *testscript.TestScript, _ bool, args []string) {
	srv, tb := server(ts, args[0])
	srv.Ready(tb)
}

// writeDocumented is "document DOCUMENT NAME FILE": it writes the block of the
// document that follows the comment "test: NAME", with the paths of the test in
// place of those of a host; that of my.cnf is in MY_CNF.
func writeDocumented(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: document DOCUMENT NAME FILE")
	}
	text, err := os.ReadFile(filepath.Join(ts.Getenv("DOCS"), args[0]))
	ts.Check(err)
	_, rest, found := strings.Cut(string(text), "<!-- test: "+args[1]+" -->\n```")
	_, rest, _ = strings.Cut(rest, "\n")
	block, _, closed := strings.Cut(rest, "\n```\n")
	if !found || !closed {
		ts.Fatalf("%s has no block %q", args[0], args[1])
	}
	primary, _ := server(ts, "primary")
	work := ts.Getenv("WORK")
	paths := strings.NewReplacer(
		"/etc/shardseed/shardseed.yaml", work+"/shardseed.yaml",
		"/etc/shardseed/admin", primary.PasswordFile, "/etc/shardseed/password", primary.PasswordFile,
		"/etc/shardseed/repl", primary.ReplPasswordFile,
		"/etc/mysql/my.cnf", ts.Getenv("MY_CNF"), "/usr/sbin/mysqld", primary.Program, "/usr/bin/shardseed", "shardseed",
		"/var/lib/shardseed", work+"/state", "/backups\n", work+"/root\n", "/srv/drill", ts.Getenv("SCRATCH"),
		"db1:3306", primary.Address, "2026-11-23.043115.zone1-0000000101", "$(cat newest)",
	)
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(paths.Replace(block+"\n")), 0o600))
}

// killAndEmpty is "reset SERVER": it is killed and its data removed.
func killAndEmpty(ts *testscript.TestScript, _ bool, args []string) {
	srv, tb := server(ts, args[0])
	srv.Kill(tb) // MySQL may hang if it is asked to stop right after a start
	ts.Check(os.RemoveAll(srv.Datadir))
}

// comparePosition is "position SERVER SERVER": both have executed the same.
func comparePosition(ts *testscript.TestScript, _ bool, args []string) {
	a, tb := server(ts, args[0])
	b, _ := server(ts, args[1])
	if got, want := a.Executed(tb), b.Executed(tb); got != want {
		ts.Fatalf("%s has executed %s, %s %s", args[0], got, args[1], want)
	}
}
