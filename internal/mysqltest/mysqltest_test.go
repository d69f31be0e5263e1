package mysqltest

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/replication"
)

// flavors runs the test once for each flavor.
func flavors(t *testing.T, test func(t *testing.T, flavor replication.Flavor)) {
	for _, flavor := range []replication.Flavor{replication.MySQL, replication.MariaDB} {
		t.Run(string(flavor), func(t *testing.T) { test(t, flavor) })
	}
}

func TestReplication(t *testing.T) {
	flavors(t, func(t *testing.T, flavor replication.Flavor) {
		primary := Start(t, flavor, Options{})
		if got := primary.Executed(t); got != "" {
			t.Errorf("a fresh server has executed %q, want nothing", got)
		}
		primary.LoadFixture(t)
		replica := StartReplica(t, primary, Options{})

		stop := primary.Writing(t)
		primary.Write(t, 20)
		written := stop() + 20
		replica.WaitForReplica(t, primary)
		if got := replica.Value(t, "SELECT COUNT(*) FROM test.writes"); got != strconv.Itoa(written) {
			t.Errorf("the replica has %s of %d writes", got, written)
		}
		if d := Differences(replica.Checksums(t), primary.Checksums(t)); len(d) > 0 {
			t.Errorf("checksums differ:\n%s", strings.Join(d, "\n"))
		}
		if d := Differences(replica.Objects(t), primary.Objects(t)); len(d) > 0 {
			t.Errorf("objects differ:\n%s", strings.Join(d, "\n"))
		}
		if got, want := replica.Executed(t), primary.Executed(t); got != want {
			t.Errorf("the replica has executed %s, the primary %s", got, want)
		}
	})
}

func TestFixtureIsVaried(t *testing.T) {
	flavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := Start(t, flavor, Options{})
		s.LoadFixture(t)
		sums := s.Checksums(t)
		if len(sums) != 10 {
			t.Errorf("got %d tables, want 10: %v", len(sums), sums)
		}
		if sums["shop.orders"] == sums["shop.parts"] {
			t.Error("orders without some rows has the checksum of parts")
		}
		objects := s.Objects(t)
		for _, name := range []string{
			"database empty_database", "database größe 1-a", "view shop.totals", "trigger shop.orders_audit",
			"event shop.far_away", "routine shop.forget", "routine shop.twice",
		} {
			if objects[name] == "" {
				t.Errorf("no %s among %v", name, objects)
			}
		}
		encoded, err := filepath.Glob(filepath.Join(s.Datadir, "gr@*", "ma@*.ibd"))
		if err != nil || len(encoded) != 1 {
			t.Errorf("got %q and %v, want one table whose name is encoded", encoded, err)
		}
		if got := s.Value(t, "SELECT COUNT(*) FROM shop.audit"); got != "20" {
			t.Errorf("the trigger wrote %s rows, want 20", got)
		}
	})
}

func TestKillAndRestart(t *testing.T) {
	flavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := Start(t, flavor, Options{})
		s.Write(t, 3)
		executed := s.Executed(t)
		first := s.PID()
		s.Kill(t)
		if s.Running() {
			t.Fatalf("process %d is there after Kill, the first was %d", s.PID(), first)
		}
		s.Kill(t)
		s.Stop(t)

		s.Start(t, "--event-scheduler=OFF")
		if got := s.PID(); got == first || got == 0 {
			t.Errorf("process %d after the restart, %d before", got, first)
		}
		if got := s.Value(t, "SELECT @@event_scheduler"); got != "OFF" {
			t.Errorf("event_scheduler is %s, want OFF as the argument says", got)
		}
		if got := s.Value(t, "SELECT COUNT(*) FROM test.writes"); got != "3" {
			t.Errorf("got %s rows, want 3", got)
		}
		if got := s.Executed(t); got != executed {
			t.Errorf("executed %s after the crash, %s before", got, executed)
		}
		s.Stop(t)
		if s.Running() {
			t.Error("it runs after Stop")
		}
	})
}

// TestForeignStart starts the instance as a program under test would.
func TestForeignStart(t *testing.T) {
	flavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := Start(t, flavor, Options{})
		s.Stop(t)
		startForeign(t, s)
		pid := s.PID()
		if err := s.start(t.Context(), nil); err == nil || !strings.Contains(err.Error(), strconv.Itoa(pid)) {
			t.Errorf("start of a running server: got %v, want an error with process %d", err, pid)
		}
	})
}

func startForeign(t *testing.T, s *Server) {
	t.Helper()
	if err := exec.CommandContext(t.Context(), "setsid", "--fork", s.Program, "--defaults-file="+s.DefaultsFile).Run(); err != nil {
		t.Fatal(err)
	}
	s.Ready(t)
}

func TestUsers(t *testing.T) {
	flavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := Start(t, flavor, Options{})
		for user, file := range map[string]string{AdminUser: s.PasswordFile, ReplUser: s.ReplPasswordFile} {
			password, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			config := mysql.NewConfig()
			config.User, config.Passwd = user, strings.TrimSuffix(string(password), "\n")
			config.Net, config.Addr = "tcp", s.Address
			config.TLSConfig = "preferred"
			if got := serverID(t, config); got != s.ServerID {
				t.Errorf("%s reaches server %d, want %d", user, got, s.ServerID)
			}
		}
	})
}

func serverID(t *testing.T, config *mysql.Config) (id int) {
	t.Helper()
	db, err := sql.Open("mysql", config.FormatDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // only read
	if err := db.QueryRowContext(t.Context(), "SELECT @@server_id").Scan(&id); err != nil {
		t.Fatalf("as %s: %v", config.User, err)
	}
	return id
}

func TestOptions(t *testing.T) {
	flavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := Start(t, flavor, Options{ServerID: 77, Fresh: true, Cnf: []string{"innodb-page-size=8192", "read-only=ON"}})
		row := s.Row(t, "SELECT @@server_id AS id, @@innodb_page_size AS size, @@read_only AS ro, NULL AS nothing")
		if row["id"] != "77" || row["size"] != "8192" || row["ro"] != "1" {
			t.Errorf("got %v, want server 77 with pages of 8192 bytes, read-only", row)
		}
		if _, ok := row["nothing"]; ok {
			t.Errorf("a NULL is in the row: %v", row)
		}
		if got := s.Value(t, "SELECT NULL"); got != "NULL" {
			t.Errorf("got %q, want NULL", got)
		}
		if got := s.Row(t, "SELECT 1 FROM mysql.user WHERE 1 = 0"); got != nil {
			t.Errorf("got %v, want nil for no row", got)
		}
	})
}

// TestCleanup lets a test end with a running server, and with a restore target
// that somebody else has started.
func TestCleanup(t *testing.T) {
	flavors(t, func(t *testing.T, flavor replication.Flavor) {
		var dirs, files []string
		t.Run("inner", func(t *testing.T) {
			running, target := Start(t, flavor, Options{}), New(t, flavor, Options{})
			if target.Running() || !isEmpty(t, target.Datadir) {
				t.Errorf("a new instance runs, or has files in %s", target.Datadir)
			}
			if err := target.initialize(t.Context()); err != nil {
				t.Fatal(err)
			}
			startForeign(t, target)
			dirs = []string{running.Dir, target.Dir}
			files = []string{running.DefaultsFile, target.DefaultsFile}
		})
		for i := range dirs {
			if _, err := os.Stat(dirs[i]); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s after the test: got %v, want it gone", dirs[i], err)
			}
			if pids := processes(files[i]); len(pids) > 0 {
				t.Errorf("processes %v run after the test", pids)
			}
		}
	})
}

func isEmpty(t *testing.T, dir string) bool {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries) == 0
}

// TestReap makes what a killed test leaves behind: a folder that nobody has
// locked, and a server in it.
func TestReap(t *testing.T) {
	parent := t.TempDir()
	lost, held := filepath.Join(parent, dirPattern+"lost"), filepath.Join(parent, dirPattern+"held")
	for _, dir := range []string{lost, held} {
		if err := os.Mkdir(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		lock, err := own(dir)
		if err != nil {
			t.Fatal(err)
		}
		if dir == lost {
			if err := lock.Close(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		defer lock.Close() //nolint:errcheck // nothing is written
	}
	// A shell under a server's name stands for the server: it is about the
	// process here, and nobody could start a server in the folder again.
	program := filepath.Join(parent, "mysqld")
	if err := writeFile(program, "while :; do sleep 1; done\n"); err != nil {
		t.Fatal(err)
	}
	ended, err := launch(t.Context(), "/bin/sh", program, "--defaults-file="+filepath.Join(lost, defaultsFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := reap(parent); err != nil {
		t.Fatal(err)
	}
	<-ended
	if _, err := os.Stat(lost); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lost folder: got %v, want it gone", err)
	}
	if _, err := os.Stat(held); err != nil {
		t.Errorf("the folder in use: %v", err)
	}
}

// TestKilledBinary runs itself as another process, which is killed while it
// has a server.
func TestKilledBinary(t *testing.T) {
	const variable, mark = "MYSQLTEST_CHILD", "defaults file: "
	if flavor := os.Getenv(variable); flavor != "" {
		s := Start(t, replication.Flavor(flavor), Options{})
		fmt.Fprintln(os.Stdout, mark+s.DefaultsFile)
		select {}
	}
	flavors(t, func(t *testing.T, flavor replication.Flavor) {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledBinary$")
		child.Env = append(os.Environ(), variable+"="+string(flavor))
		output, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		line, readErr := bufio.NewReader(output).ReadString('\n')
		file, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), mark)
		running := len(processes(file)) > 0
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // it was killed, as it should
		if readErr != nil || !ok || !running {
			t.Fatalf("the child says %q (%v), its server runs: %v", line, readErr, running)
		}
		if err := poll(t.Context(), func() (bool, error) { return len(processes(file)) == 0, nil }); err != nil {
			t.Errorf("the server of the killed process: %v", err)
		}
		if err := reap(tempDir()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Dir(file)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: got %v, want it gone", filepath.Dir(file), err)
		}
	})
}

func TestIsServer(t *testing.T) {
	const cnf = "/tmp/x/my.cnf"
	for _, test := range []struct {
		arguments string
		want      bool
	}{
		{"/usr/sbin/mysqld --defaults-file=/tmp/x/my.cnf", true},
		{"/usr/sbin/mariadbd --defaults-file=/tmp/x/my.cnf --skip-networking", true},
		{"/bin/sh /y/bin/mysqld --defaults-file=/tmp/x/my.cnf", true},
		{"/y/ld-linux-x86-64.so.2 --library-path /y --argv0 /y/mysqld /y/mysqld --defaults-file=/tmp/x/my.cnf", true},
		{"/y/ld-linux-x86-64.so.2 --library-path /y --argv0 /y/mysql /y/mysql --defaults-file=/tmp/x/my.cnf", false},
		{"/usr/sbin/mysqld --defaults-file=/tmp/x/my.cnf.other", false},
		{"/usr/sbin/mysqld", false},
		{"shardseed backup --mysqld /usr/sbin/mysqld --defaults-file=/tmp/x/my.cnf", false},
		{"vi --defaults-file=/tmp/x/my.cnf", false},
		{"", false},
	} {
		cmdline := strings.ReplaceAll(test.arguments, " ", "\x00") + "\x00"
		if got := isServer([]byte(cmdline), cnf); got != test.want {
			t.Errorf("%q: got %v, want %v", test.arguments, got, test.want)
		}
	}
}

func TestPorts(t *testing.T) {
	dir := t.TempDir()
	seen := make(map[int]bool)
	for range 50 {
		port, claim, err := claimPort(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		defer claim.Close() //nolint:errcheck // nothing is written
		if seen[port] {
			t.Fatalf("port %d was given twice", port)
		}
		seen[port] = true
		if _, err := lockFile(filepath.Join(dir, strconv.Itoa(port))); !errors.Is(err, unix.EWOULDBLOCK) {
			t.Fatalf("lock a claimed port: got %v, want %v", err, unix.EWOULDBLOCK)
		}
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()                                        //nolint:errcheck // nothing is written
	if isFree(t.Context(), l.Addr().(*net.TCPAddr).Port) { //nolint:errcheck // the network is tcp
		t.Error("a port that is listened on counts as free")
	}
	if port := FreePort(t); !isFree(t.Context(), port) {
		t.Errorf("FreePort gives %d, which is in use", port)
	}
}

func TestServersMissing(t *testing.T) {
	t.Setenv("SHARDSEED_SERVERS", t.TempDir())
	_, err := findInstallation()
	if err == nil || !strings.Contains(err.Error(), `run "make servers"`) {
		t.Errorf("got %v, want an error that says how to get them", err)
	}
	if hints := hint.Of(err); len(hints) != 1 {
		t.Errorf("got hints %q, want one", hints)
	}
}

func TestReadStamp(t *testing.T) {
	for _, test := range []struct {
		name, text, want string
	}{
		{"both", "recipe x\nMySQL 9.7.4: /a/mysqld\nMariaDB 10.11.19-MariaDB: /a/mariadbd\nprograms: x\n", "map[mariadb:10.11.19-MariaDB mysql:9.7.4]"},
		{"one missing", "recipe x\nMySQL 9.7.4: /a/mysqld\n", ""},
		{"empty", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "stamp")
			if err := writeFile(path, test.text); err != nil {
				t.Fatal(err)
			}
			versions, err := readStamp(path)
			if test.want == "" {
				if err == nil {
					t.Errorf("got %v, want an error", versions)
				}
				return
			}
			if got := fmt.Sprint(versions); err != nil || got != test.want {
				t.Errorf("got %s and %v, want %s", got, err, test.want)
			}
		})
	}
}

func TestDifferences(t *testing.T) {
	got := map[string]string{"a": "1", "b": "2", "d": "4"}
	want := map[string]string{"a": "1", "b": "3", "c": "3"}
	text := strings.Join(Differences(got, want), "; ")
	if text != `b: got "2", want "3"; c: missing; d: not expected` {
		t.Errorf("got %s", text)
	}
	if d := Differences(want, want); d != nil {
		t.Errorf("equal maps differ: %v", d)
	}
}

func TestQuote(t *testing.T) {
	if got, want := quote(`a'b\c"`), `'a''b\\c"'`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := quoteName("a`b"), "`a``b`"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTail(t *testing.T) {
	text := strings.Repeat("early\n", 100) + strings.Repeat("late\n", logTailLines-1) + strings.Repeat("x", 2*logLineSize) + "\n"
	want := strings.Repeat("late\n", logTailLines-1) + strings.Repeat("x", logLineSize) + "..."
	if got := tail(text); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := tail(""); got != "" {
		t.Errorf("of nothing: %q", got)
	}
}
