package mysqlbackup_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// hostileRows make a server load and run things when it starts on its files: a
// plugin of its plugin folder, on MySQL a component, a function out of a shared
// object, an event that writes to a table. active asks how many of the libraries
// are loaded.
func hostileRows(flavor replication.Flavor) (rows []string, active string) {
	event := []string{
		"CREATE TABLE test.hits (at INT)",
		"CREATE EVENT test.evil ON SCHEDULE EVERY 1 SECOND DO INSERT INTO test.hits VALUES (1)",
		"SET GLOBAL event_scheduler = ON",
	}
	if flavor == replication.MySQL {
		return append(event,
			"INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'",
			"INSTALL COMPONENT 'file://component_query_attributes'",
			"INSERT INTO mysql.func VALUES ('evil', 0, 'auth_socket.so', 'function')",
		), "SELECT (SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_LIBRARY LIKE 'auth_socket%' AND PLUGIN_STATUS = 'ACTIVE') + (SELECT COUNT(*) FROM performance_schema.user_defined_functions WHERE UDF_NAME = 'mysql_query_attribute_string')"
	}
	return append(event,
		"INSTALL PLUGIN server_audit SONAME 'server_audit.so'",
		"INSTALL PLUGIN sql_error_log SONAME 'sql_errlog.so'",
		"INSERT INTO mysql.func VALUES ('evil', 0, 'server_audit.so', 'function')",
	), "SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_LIBRARY IN ('server_audit.so', 'sql_errlog.so') AND PLUGIN_STATUS = 'ACTIVE'"
}

// TestHostileRows drills a backup whose tables name what a server loads and runs
// when it starts. A server that is started as usual does so; the drill's does not.
func TestHostileRows(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		b := newBench(t)
		srv := mysqltest.Start(t, flavor, mysqltest.Options{Cnf: []string{"event-scheduler=ON"}})
		rows, active := hostileRows(flavor)
		srv.Exec(t, "CREATE DATABASE IF NOT EXISTS test")
		srv.Exec(t, rows...)
		srv.Stop(t)
		srv.Start(t)
		begun := time.Now()
		for srv.Value(t, "SELECT COUNT(*) > 1 FROM test.hits") != "1" {
			if time.Since(begun) > time.Minute {
				t.Fatal("the event does not run where it should")
			}
		}
		if got := srv.Value(t, active); got != "2" {
			t.Fatalf("%s of 2 libraries are loaded where they should", got)
		}
		if !strings.Contains(textOf(t, srv.ErrorLog), "evil") {
			t.Error("the function is not looked for where it should")
		}
		srv.Stop(t)
		if _, err := mysqlbackup.BackupStopped(t.Context(), b.backupOptions(t, srv)); err != nil {
			t.Fatal(err)
		}
		looked := false
		b.at(mysqlbackup.StepCheckTables, func() {
			looked = true
			b.lookAtDrill(t, active)
		})
		result, err := mysqlbackup.Verify(t.Context(), b.verifyOptions(t, srv))
		if err != nil || !result.Drill.Passed() || !looked {
			t.Errorf("got %+v, %v, looked %v", result, err, looked)
		}
		b.checkSwept(t)
	})
}

// lookAtDrill asks the drill's server what it has loaded and runs.
func (b *bench) lookAtDrill(t *testing.T, active string) {
	sockets, err := filepath.Glob(filepath.Join(b.scratch(t), "*", "run", "sock"))
	if err != nil || len(sockets) != 1 {
		t.Fatalf("sockets %q, %v", sockets, err)
	}
	db, err := sql.Open("mysql", fmt.Sprintf("root@unix(%s)/", sockets[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	ask := func(query string) (answer string) {
		if err := db.QueryRowContext(t.Context(), query).Scan(&answer); err != nil {
			t.Errorf("%s: %v", query, err)
		}
		return answer
	}
	if got := ask("SELECT COUNT(*) FROM test.hits"); got == "0" {
		t.Error("it has other tables")
	}
	if got := ask(active); got != "0" {
		t.Errorf("%s libraries are loaded", got)
	}
	if got := ask("SELECT @@GLOBAL.event_scheduler"); got != "OFF" && got != "DISABLED" {
		t.Errorf("the scheduler of events is %s", got)
	}
	if got := ask("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'event_scheduler'"); got != "0" {
		t.Error("the scheduler of events runs")
	}
	if text := textOf(t, filepath.Join(filepath.Dir(sockets[0]), "log.err")); strings.Contains(text, "evil") || text == "" {
		t.Errorf("it has tried to load a function:\n%s", text)
	}
}

func textOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
