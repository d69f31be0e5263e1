package commands_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/replication"
)

const vitessConfig = `
root: %[1]s/root
state-dir: %[1]s/state
topo: vitess
vtctld: 127.0.0.1:15999
vtctld-timeout: 3m
user: %[2]s
password-file: %[3]s
replication-user: %[4]s
replication-password-file: %[5]s
catch-up-timeout: 3m
stop-timeout: 3m
start-timeout: 3m
`

// TestVitessScripts runs the stories of testdata/script/vitess. Each has a
// cluster of stand-ins with the tablets zone1-100 (the primary), zone1-101 and
// zone1-102, whose servers are real and called "primary", "replica" and
// "other". VTDATAROOT holds their folders, VTTABLET is the vttablet of
// zone1-101. The folder of zone1-103, which nobody has heard of, holds nothing
// yet: its server "target" gets TARGET_CNF from INIT_CONFIG.
func TestVitessScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "../testdata/script/vitess",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               startCluster,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit":    exits,
			"sql":     runSQL,
			"write":   writeRows,
			"equal":   compareServers,
			"alive":   isAlive,
			"killed":  kill,
			"tablet":  isTablet,
			"follows": follows,
			"cell":    renameCell,
			"hook":    executeHook,
			"kills":   kills,
			"starts":  starts,
			"startup": runStartup,

			"acknowledges": acknowledges,
			"configure":    configure,
			"blocks":       runBlocks,
		},
	})
}

func startCluster(env *testscript.Env) error {
	t, ok := env.T().(testing.TB)
	if !ok {
		return fmt.Errorf("a test of type %T cannot start servers", env.T())
	}
	primary := mysqltest.Start(t, replication.MySQL, mysqltest.Options{})
	primary.LoadFixture(t)
	asTablet := mysqltest.Options{Cnf: []string{"skip-replica-start", "super-read-only"}}
	replica, other := mysqltest.StartReplica(t, primary, asTablet), mysqltest.StartReplica(t, primary, asTablet)
	state, vtroot := filepath.Join(env.WorkDir, "vitess"), filepath.Join(env.WorkDir, "vtdataroot")
	for _, dir := range []string{state, vtroot} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	cluster := fakeCluster{Cell: "zone1", Primary: 100}
	target := mysqltest.New(t, replication.MySQL, asTablet)
	env.Values["target"] = target
	place := filepath.Join(vtroot, "vt_0000000103")
	if err := errors.Join(os.Rename(target.DefaultsFile, target.DefaultsFile+".template"), os.Symlink(target.Dir, place)); err != nil {
		return err
	}
	env.Defer(func() { // one behind a fence is not known by the name that its own test gives it
		if err := crash(place); err != nil {
			t.Error(err)
		}
	})
	env.Values["tb"] = t
	for i, srv := range []*mysqltest.Server{primary, replica, other} {
		uid := uint32(100 + i)
		env.Values[[]string{"primary", "replica", "other"}[i]] = srv
		kind := "REPLICA"
		if uid == cluster.Primary {
			kind = "PRIMARY"
		}
		cluster.Tablets = append(cluster.Tablets, &fakeTablet{UID: uid, Type: kind, Dir: srv.Dir, Socket: srv.Socket, Port: srv.Port})
		if err := os.Symlink(srv.Dir, filepath.Join(vtroot, fmt.Sprintf("vt_%010d", uid))); err != nil {
			return err
		}
	}
	text, err := json.Marshal(cluster)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(state, "cluster.json"), text, 0o600); err != nil {
		return err
	}
	if err := documents(env, primary); err != nil {
		return err
	}
	recordings, err := filepath.Abs("../mysqlbackup/vitess/testdata")
	if err != nil {
		return err
	}
	vars, err := os.ReadFile(filepath.Join(recordings, "vttablet-101-debug-vars.out"))
	if err != nil {
		return err
	}
	vttablet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(vars) }))
	t.Cleanup(vttablet.Close)
	hooks, err := filepath.Abs("../vthook")
	if err != nil {
		return err
	}
	if err := os.Symlink(hooks, filepath.Join(env.WorkDir, "vthook")); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"VTROOT": filepath.Join(env.WorkDir, "vt"), "SHARDSEED_CONFIG": filepath.Join(env.WorkDir, "config.yaml"),
		"SHARDSEED_CACHE_DIR": filepath.Join(env.WorkDir, "cache"),
		"VITESS_STATE":        state, "VITESS_RECORDED": recordings, "VITESS_MYSQLD": primary.Program, "VTDATAROOT": vtroot,
		"VTTABLET": strings.TrimPrefix(vttablet.URL, "http://"),
		"PRIMARY":  primary.Address, "REPLICA": replica.Address, "OTHER": other.Address, "TARGET": target.Address,
		"TARGET_CNF": filepath.Join(place, "my.cnf"), "TARGET_DATA": target.Datadir,
		"INIT_CONFIG": fmt.Sprintf("mysqlctl --tablet-uid 103 --mysql-port %d init_config", target.Port),
		"MYSQL_ROOT":  filepath.Dir(filepath.Dir(primary.Program)),
		"REPLICA_CNF": replica.DefaultsFile, "REPLICA_DIR": replica.Dir, "MYSQLD": replica.Program,
	} {
		env.Setenv(name, value)
	}
	config := fmt.Sprintf(vitessConfig, env.WorkDir, mysqltest.AdminUser, primary.PasswordFile, mysqltest.ReplUser, primary.ReplPasswordFile)
	return os.WriteFile(filepath.Join(env.WorkDir, "config.yaml"), []byte(config), 0o600)
}

// renameCell is "cell NAME": it is the name of the cell from now on.
func renameCell(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: cell NAME")
	}
	path := filepath.Join(ts.Getenv("VITESS_STATE"), "cluster.json")
	text, err := os.ReadFile(path)
	ts.Check(err)
	var c fakeCluster
	ts.Check(json.Unmarshal(text, &c))
	c.Cell = args[0]
	text, err = json.Marshal(c)
	ts.Check(err)
	ts.Check(os.WriteFile(path, text, 0o600))
}

// isTablet is "tablet ALIAS TYPE": the tablet is of that type.
func isTablet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tablet ALIAS TYPE")
	}
	t, err := readCluster(ts).tablet(args[0])
	ts.Check(err)
	if t.Type != args[1] {
		ts.Fatalf("tablet %s is %s, want %s", args[0], t.Type, args[1])
	}
}

// follows is "follows SERVER SERVER": the first replicates from the second,
// with both threads, as soon as it has connected.
func follows(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: follows REPLICA PRIMARY")
	}
	replica, tb := server(ts, args[0])
	primary, _ := server(ts, args[1])
	row := replica.ReplicaStatus(tb)
	for i := 0; i < 600 && row["Replica_IO_Running"] == "Connecting"; i++ {
		time.Sleep(100 * time.Millisecond)
		row = replica.ReplicaStatus(tb)
	}
	if row["Source_Port"] != fmt.Sprint(primary.Port) || row["Replica_IO_Running"] != "Yes" || row["Replica_SQL_Running"] != "Yes" {
		ts.Fatalf("%s follows port %s (receiving %s, applying %s), want %d", args[0], row["Source_Port"], row["Replica_IO_Running"], row["Replica_SQL_Running"], primary.Port)
	}
}

// acknowledges is "[!] acknowledges SERVER": its source waits for it.
func acknowledges(ts *testscript.TestScript, neg bool, args []string) {
	srv, tb := server(ts, args[0])
	want := "ON"
	if neg {
		want = "OFF"
	}
	for range 600 { // it registers a little after it has connected
		if srv.Row(tb, "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_replica_status'")["Value"] == want {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	ts.Fatalf("%s: semi-synchronous replication is not %s", args[0], want)
}
