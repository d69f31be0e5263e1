package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/replication"
)

const (
	password = "bench-17" // of root and of repl; the servers listen on the loopback only
	replUser = "repl"
)

// server is a throw-away server of the benchmark. It may also be stopped and
// started by shardseed; its pid file says which process it is.
type server struct {
	flavor  replication.Flavor
	servers string // folder of make servers
	dir     string // holds everything
	port    int
	db      *sql.DB
}

// newServer makes the folder of a server that is not initialized and does not
// run. It logs what it changes for replicas if binlog is set.
func (b *bench) newServer(ctx context.Context, flavor replication.Flavor, dir string, binlog bool) (*server, error) {
	s := &server{flavor: flavor, servers: b.config.servers, dir: dir}
	if err := os.MkdirAll(s.path("tmp"), 0o755); err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if address, ok := listener.Addr().(*net.TCPAddr); ok {
		s.port = address.Port
	}
	if err := listener.Close(); err != nil {
		return nil, err
	}
	dsn := mysql.NewConfig()
	dsn.User, dsn.Passwd, dsn.Net, dsn.Addr = "root", password, "unix", s.path("sock")
	dsn.InterpolateParams = true
	connector, err := mysql.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	s.db = sql.OpenDB(connector)
	s.db.SetMaxIdleConns(0) // a server that is stopped waits for idle ones
	b.started = append(b.started, s)
	return s, s.configure(binlog)
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }
func (s *server) datadir() string         { return s.path("data") }
func (s *server) cnf() string             { return s.path("my.cnf") }

func (s *server) program() string {
	name := "mysqld"
	if s.flavor == replication.MariaDB {
		name = "mariadbd"
	}
	return filepath.Join(s.servers, "bin", name)
}

// configure writes my.cnf. Writes need not survive a power cut here; the pages
// and the logs are as with any other setting.
func (s *server) configure(binlog bool) error {
	base := filepath.Join(s.servers, string(s.flavor), "usr")
	lines := []string{
		"[mysqld]",
		"basedir=" + base,
		"plugin-dir=" + filepath.Join(base, "lib/mysql/plugin"),
		"lc-messages-dir=" + filepath.Join(base, "share/mysql"),
		"character-sets-dir=" + filepath.Join(base, "share/mysql/charsets"),
		"datadir=" + s.datadir(),
		"tmpdir=" + s.path("tmp"),
		"socket=" + s.path("sock"),
		"pid-file=" + s.path("pid"),
		"log-error=" + s.path("error.log"),
		"bind-address=127.0.0.1",
		fmt.Sprintf("port=%d", s.port),
		fmt.Sprintf("server-id=%d", s.port),
		"report-host=127.0.0.1",
		fmt.Sprintf("report-port=%d", s.port),
		"innodb-buffer-pool-size=512M",
		"innodb-flush-log-at-trx-commit=2",
	}
	if binlog {
		lines = append(lines, "log-bin=binlog", "relay-log=relay", "sync-binlog=0")
	} else {
		lines = append(lines, "skip-log-bin")
	}
	if os.Getuid() == 0 {
		lines = append(lines, "user=root")
	}
	if s.flavor == replication.MySQL {
		lines = append(lines, "gtid-mode=ON", "enforce-gtid-consistency=ON", "mysqlx=OFF", "secure-file-priv=NULL")
	} else {
		lines = append(lines, "log-slave-updates", "binlog-format=ROW")
	}
	return durable.OS().Replace(s.cnf(), []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

// initialize makes the data directory, with accounts for root and for
// replicas and an empty database "bench", and starts the server.
func (b *bench) initialize(ctx context.Context, s *server) error {
	argv := []string{s.program(), "--defaults-file=" + s.cnf(), "--initialize-insecure"}
	if s.flavor == replication.MariaDB {
		argv = []string{
			filepath.Join(s.servers, "bin", "mariadb-install-db"), "--defaults-file=" + s.cnf(),
			"--auth-root-authentication-method=normal", "--skip-test-db",
		}
	}
	users := s.path("users.sql")
	text := "ALTER USER root@localhost IDENTIFIED BY '" + password + "';\n" +
		"CREATE USER " + replUser + "@'%' IDENTIFIED BY '" + password + "';\n" +
		"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO " + replUser + "@'%';\n" +
		"CREATE DATABASE bench;\n"
	if err := durable.OS().Replace(users, []byte(text), 0o600); err != nil {
		return err
	}
	if err := b.run(ctx, argv...); err != nil {
		return err
	}
	return s.start(ctx, "--init-file="+users)
}

// start starts the server and waits until it answers.
func (s *server) start(ctx context.Context, arguments ...string) error {
	// The server outlives ctx: stop ends it, so that its end is in order.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), s.program(), append([]string{"--defaults-file=" + s.cnf()}, arguments...)...)
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	err := poll(ctx, func() (bool, error) {
		select {
		case err := <-ended:
			return false, fmt.Errorf("server ended: %v", err)
		default:
			return s.db.PingContext(ctx) == nil, nil
		}
	})
	if err != nil {
		text, _ := os.ReadFile(s.path("error.log")) // without it the error still says what failed
		return fmt.Errorf("start %s: %w\n%s", s.dir, err, tail(string(text)))
	}
	return nil
}

// pid returns the server's process, or 0 when it does not run.
func (s *server) pid() int {
	text, err := os.ReadFile(s.path("pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(arguments), "--defaults-file="+s.cnf()) {
		return 0
	}
	return pid
}

// stop ends the server in order and waits until it has gone.
func (s *server) stop(ctx context.Context) error { return s.end(ctx, unix.SIGTERM) }

// kill ends the server at once.
func (s *server) kill(ctx context.Context) error { return s.end(ctx, unix.SIGKILL) }

func (s *server) end(ctx context.Context, signal unix.Signal) error {
	pid := s.pid()
	if pid == 0 {
		return nil
	}
	if err := unix.Kill(pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return poll(ctx, func() (bool, error) { return errors.Is(unix.Kill(pid, 0), unix.ESRCH), nil })
}

func (s *server) exec(ctx context.Context, statements ...string) error {
	for _, statement := range statements {
		if _, err := s.db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// follow makes the server a replica of the primary.
func (s *server) follow(ctx context.Context, primary *server) error {
	source := fmt.Sprintf("%%[1]s_HOST='127.0.0.1', %%[1]s_PORT=%d, %%[1]s_USER='%s', %%[1]s_PASSWORD='%s', ", primary.port, replUser, password)
	if s.flavor == replication.MariaDB {
		return s.exec(ctx, fmt.Sprintf("CHANGE MASTER TO "+source+"%[1]s_USE_GTID=slave_pos", "MASTER"), "START SLAVE")
	}
	return s.exec(ctx, fmt.Sprintf("CHANGE REPLICATION SOURCE TO "+source+"%[1]s_SSL=1, %[1]s_AUTO_POSITION=1", "SOURCE"), "START REPLICA")
}

// catchUp waits until the replica has what the primary has now.
func (s *server) catchUp(ctx context.Context, primary *server) error {
	position, reached := "SELECT @@GLOBAL.gtid_executed", "SELECT GTID_SUBSET(?, @@GLOBAL.gtid_executed)"
	if s.flavor == replication.MariaDB {
		position, reached = "SELECT @@GLOBAL.gtid_binlog_pos", "SELECT MASTER_GTID_WAIT(?, 0) = 0"
	}
	var want string
	if err := primary.db.QueryRowContext(ctx, position).Scan(&want); err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		var there bool
		err := s.db.QueryRowContext(ctx, reached, want).Scan(&there)
		return there, err
	})
}
