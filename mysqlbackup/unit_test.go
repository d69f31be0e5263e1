package mysqlbackup_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// fakeSystemctl puts a systemctl first on the PATH that runs one server as the
// unit db.service, and writes down how it was called. As the real one does, its
// stop returns when the process has ended, its start when it was begun.
func fakeSystemctl(t *testing.T, srv *mysqltest.Server) (calls func() string) {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf(`#!/bin/sh
echo "$*" >>%[1]s/calls
pid=$(cat %[2]s/pid 2>/dev/null)
case "$*" in
"stop -- db.service") kill -TERM $pid; while [ -e /proc/$pid ]; do sleep 0.1; done ;;
"start -- db.service") setsid %[3]s --defaults-file=%[4]s </dev/null >/dev/null 2>&1 & ;;
"show -p MainPID --value -- "*) echo $pid ;;
*) echo "Unit $3 not found." >&2; exit 5 ;;
esac
`, dir, srv.Dir, srv.Program, srv.DefaultsFile)
	writeProgram(t, filepath.Join(dir, "systemctl"), script)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() string {
		text, err := os.ReadFile(filepath.Join(dir, "calls"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
}

func writeProgram(t testing.TB, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestUnit backs up a server that systemctl stops and starts, and one of a unit
// that systemctl does not know.
func TestUnit(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor replication.Flavor) {
		b := newBench(t)
		primary := mysqltest.Start(t, flavor, mysqltest.Options{})
		replica := mysqltest.StartReplica(t, primary, mysqltest.Options{})
		b.setPrimary(t, primary)
		calls := fakeSystemctl(t, replica)
		opts := b.backupOptions(t, replica)
		opts.Server.Service = mysqlbackup.Unit{Name: "db.service"}
		b.mustBackUp(t, opts)
		if got, want := calls(), "stop -- db.service\nstart -- db.service"; got != want {
			t.Errorf("systemctl was called with %q, want %q", got, want)
		}
		checkThreads(t, replica, map[string]string{"": "Yes Yes"})

		pid := replica.PID()
		opts.Server.Service = mysqlbackup.Unit{Name: "other.service"}
		_, err := mysqlbackup.Backup(t.Context(), opts)
		checkKinds(t, err)
		checkSays(t, err, "stop the server by systemd unit other.service", "exit status 5", "Unit other.service not found.")
		checkThreads(t, replica, map[string]string{"": "Yes Yes"})
		if replica.PID() != pid {
			t.Error("the server was restarted")
		}
		b.checkBackups(t, 1)
	})
}
