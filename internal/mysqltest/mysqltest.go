// Package mysqltest starts throw-away MySQL and MariaDB servers for tests.
//
// The servers are the real ones, which "make servers" puts into .servers (see
// scripts/servers.sh). Each instance has a folder of its own below /tmp, a free
// port on the loopback interface, GTIDs and binary logs, an administrator and a
// replication user, and is ended with the test, whoever started it: the process
// is found by the name of its defaults file. A test without the servers fails
// and says how to get them; it is never skipped.
//
// A test binary that is killed takes the servers it started with it; what was
// started by a program under test is ended by the next run of any test.
package mysqltest

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/replication"
)

// Every fresh server has these users. The passwords hold the characters that
// careless quoting breaks on.
const (
	User         = "root"           // every privilege, on the local host only
	Password     = `r00t "pass'\wd` // of User and AdminUser
	AdminUser    = "admin"          // every privilege, from anywhere
	ReplUser     = "repl"           // may replicate, and nothing else
	ReplPassword = `r3pl 'pass"\wd` // at most 32 bytes, the most MySQL keeps for a source
)

// Options says how a server differs from an ordinary one. The zero value works.
type Options struct {
	// ServerID is the server_id; 0 chooses one that no running test has.
	ServerID int
	// Cnf are more lines for the [mysqld] section. They come last and so win.
	Cnf []string
	// Fresh initializes the data directory with Cnf in force rather than from
	// the cache: slower, and needed for what is fixed at that moment, such as
	// innodb_page_size or lower_case_table_names.
	Fresh bool
}

// Server is one instance. Its methods may be used by one goroutine at a time,
// but for DB, which is safe for concurrent use.
type Server struct {
	Flavor   replication.Flavor
	ServerID int
	Port     int    // TCP, on 127.0.0.1
	Address  string // "127.0.0.1:" and the port

	Dir              string // everything of this instance is below it
	Datadir          string
	DefaultsFile     string // the instance runs as Program --defaults-file=DefaultsFile
	Socket           string
	ErrorLog         string
	Program          string // mysqld or mariadbd
	PasswordFile     string // Password, for User and AdminUser
	ReplPasswordFile string // ReplPassword, for ReplUser

	installation *installation
	options      Options
	lock         *os.File // held as long as the test runs: see reap
	claim        *os.File // of the port
	db           *database
}

// New returns a server that has a configuration and an empty data directory
// and does not run: a place to restore to. Whoever starts it, it is ended with
// the test, and all its files are removed. The end of its log is told if the
// test has failed.
func New(tb testing.TB, flavor replication.Flavor, options Options) *Server {
	tb.Helper()
	s, err := create(tb.Context(), flavor, options)
	if err != nil {
		tb.Fatalf("mysqltest: %v", err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("%s of %s ends with:\n%s", filepath.Base(s.ErrorLog), s.DefaultsFile, s.logTail())
		}
		if err := s.destroy(); err != nil {
			tb.Errorf("mysqltest: end %s: %v", s.DefaultsFile, err)
		}
	})
	return s
}

// Start returns a running server with an empty history: nothing executed.
func Start(tb testing.TB, flavor replication.Flavor, options Options) *Server {
	tb.Helper()
	s := New(tb, flavor, options)
	s.Initialize(tb)
	s.Start(tb)
	return s
}

// Initialize fills the empty data directory of a server that does not run: it
// has an empty history then.
func (s *Server) Initialize(tb testing.TB) {
	tb.Helper()
	if err := s.initialize(tb.Context()); err != nil {
		tb.Fatalf("mysqltest: initialize %s: %v", s.Datadir, err)
	}
}

// StartReplica returns a running replica of the primary that has caught up.
func StartReplica(tb testing.TB, primary *Server, options Options) *Server {
	tb.Helper()
	s := Start(tb, primary.Flavor, options)
	s.Follow(tb, primary)
	s.WaitForReplica(tb, primary)
	return s
}

// Start starts the server with its defaults file, and the given arguments
// after it, and returns when it answers on its socket.
func (s *Server) Start(tb testing.TB, arguments ...string) {
	tb.Helper()
	if err := s.start(tb.Context(), arguments); err != nil {
		tb.Fatalf("mysqltest: start %s: %v", s.DefaultsFile, err)
	}
}

// Ready waits until the server answers, whoever started it.
func (s *Server) Ready(tb testing.TB) {
	tb.Helper()
	if err := s.ready(tb.Context()); err != nil {
		tb.Fatalf("mysqltest: wait for %s: %v", s.DefaultsFile, err)
	}
}

// Stop shuts the server down cleanly and returns when its process has ended.
// It does nothing when the server does not run.
func (s *Server) Stop(tb testing.TB) {
	tb.Helper()
	if err := endAll(s.DefaultsFile, unix.SIGTERM); err != nil {
		tb.Fatalf("mysqltest: stop %s: %v", s.DefaultsFile, err)
	}
}

// Kill ends the server by SIGKILL, whoever started it, and returns when its
// process has ended. It does nothing when the server does not run.
func (s *Server) Kill(tb testing.TB) {
	tb.Helper()
	if err := s.kill(); err != nil {
		tb.Fatalf("mysqltest: kill %s: %v", s.DefaultsFile, err)
	}
}

// PID returns the server's process, and 0 when it does not run.
func (s *Server) PID() int {
	pids := processes(s.DefaultsFile)
	if len(pids) == 0 {
		return 0
	}
	return pids[0]
}

// Running says whether the server's process is there, ready or not.
func (s *Server) Running() bool {
	return s.PID() != 0
}

// Program returns the path of one of the unpacked programs, such as mysql,
// mariadb-backup or innochecksum-mysql.
func Program(tb testing.TB, name string) string {
	tb.Helper()
	i, err := findInstallation()
	if err != nil {
		tb.Fatalf("mysqltest: %v", err)
	}
	return i.program(name)
}

// FreePort returns a loopback port that nothing listens on. No server of any
// running test gets it until this test ends.
func FreePort(tb testing.TB) int {
	tb.Helper()
	i, err := findInstallation()
	if err != nil {
		tb.Fatalf("mysqltest: %v", err)
	}
	port, claim, err := claimPort(tb.Context(), i.path("ports"))
	if err != nil {
		tb.Fatalf("mysqltest: %v", err)
	}
	tb.Cleanup(func() {
		if err := claim.Close(); err != nil {
			tb.Errorf("mysqltest: give up port %s: %v", strconv.Itoa(port), err)
		}
	})
	return port
}
