package mysqlbackup

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/replication"
)

// connectTimeout bounds one try to connect; servers that hang accept and then
// say nothing.
const connectTimeout = 10 * time.Second

// Connection says how to reach the local server.
type Connection struct {
	Socket string // "": as in the defaults file
	Credentials
}

// Credentials are an account.
type Credentials struct {
	User     string
	Password string
}

// server is a running server.
type server struct {
	db      *sql.DB
	version replication.Version
	comment string
	dialect replication.Dialect
	pid     *atomic.Int32 // of mysqld as the socket names it; 0 over TCP or from another pid namespace
}

// connectLocal connects through the socket.
func connectLocal(ctx context.Context, conn Connection) (*server, error) {
	cfg := conn.config()
	cfg.Net, cfg.Addr = "unix", conn.Socket
	srv, err := connect(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the server at %s as %q: %w", conn.Socket, conn.User, err)
	}
	return srv, nil
}

// connectTo connects to a server elsewhere, by TLS where it offers that.
func connectTo(ctx context.Context, addr HostPort, credentials Credentials) (*server, error) {
	cfg := credentials.config()
	cfg.Net, cfg.Addr = "tcp", addr.String()
	cfg.TLSConfig = "preferred"
	srv, err := connect(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to %s as %q: %w", addr, credentials.User, err)
	}
	return srv, nil
}

func (c Credentials) config() *mysql.Config {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd = c.User, c.Password
	cfg.Timeout = connectTimeout
	cfg.InterpolateParams = true
	cfg.Params = map[string]string{"sql_mode": "''"} // Quote relies on backslash escapes
	cfg.Logger = &mysql.NopLogger{}
	return cfg
}

// connect opens a pool that keeps at most two connections, and identifies the
// server.
func connect(ctx context.Context, cfg *mysql.Config) (*server, error) {
	srv := &server{pid: new(atomic.Int32)}
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialer := net.Dialer{Timeout: connectTimeout}
		conn, err := dialer.DialContext(ctx, network, addr)
		if err == nil && network == "unix" {
			srv.pid.Store(peerPID(conn))
		}
		return conn, err
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	srv.db = sql.OpenDB(connector)
	srv.db.SetMaxOpenConns(2)
	if err := srv.identify(ctx); err != nil {
		return nil, errors.Join(explainConnect(err), srv.db.Close())
	}
	return srv, nil
}

// peerPID returns the process at the other end of a Unix socket, 0 if it can't
// be seen from here.
func peerPID(conn net.Conn) int32 {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return 0
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return 0
	}
	var pid int32
	if err := raw.Control(func(fd uintptr) {
		if ucred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = ucred.Pid
		}
	}); err != nil {
		return 0
	}
	return pid
}

// accessDenied is the server's error number for a wrong account or password.
const accessDenied = 1045

func explainConnect(err error) error {
	var refused *mysql.MySQLError
	switch {
	case errors.As(err, &refused) && refused.Number == accessDenied:
		return hint.Wrap(err, "check --user and --password-file")
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		return hint.Wrap(err, "the server does not run, or listens elsewhere: see --socket")
	}
	return err
}

func (s *server) identify(ctx context.Context) error {
	row, err := s.row(ctx, "SELECT @@version AS version, @@version_comment AS comment")
	if err != nil {
		return err
	}
	if s.version, err = replication.ParseVersion(row["version"], row["comment"]); err != nil {
		return err
	}
	s.comment = row["comment"]
	s.dialect, err = replication.DialectFor(s.version)
	return as(ErrRefused, err)
}

// close drops the connections. Their server may have ended: nothing is lost.
func (s *server) close() { _ = s.db.Close() }

func (s *server) flavor() replication.Flavor { return s.version.Flavor }

// exec runs statements one after the other.
func (s *server) exec(ctx context.Context, statements ...string) error {
	for _, statement := range statements {
		if _, err := s.db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", headline(statement), err)
		}
	}
	return nil
}

// headline is the start of a statement: never as much as a password.
func headline(statement string) string {
	for _, end := range []string{" TO ", "="} {
		if i := strings.Index(statement, end); i > 0 {
			return strings.TrimSpace(statement[:i])
		}
	}
	return statement
}

// value returns the only column of the only row; NULL is "".
func (s *server) value(ctx context.Context, query string) (string, error) {
	var value sql.NullString
	if err := s.db.QueryRowContext(ctx, query).Scan(&value); err != nil {
		return "", fmt.Errorf("%s: %w", query, err)
	}
	return value.String, nil
}

// row returns the first row, nil if there is none.
func (s *server) row(ctx context.Context, query string) (map[string]string, error) {
	rows, err := s.rows(ctx, query)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return rows[0], nil
}

// rows returns all rows as column name → value; NULLs are left out.
func (s *server) rows(ctx context.Context, query string) ([]map[string]string, error) {
	rows, err := s.db.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	var all []map[string]string
	for rows.Next() {
		row, err := scanRow(rows, columns)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", query, err)
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	return all, nil
}

func scanRow(rows *sql.Rows, columns []string) (map[string]string, error) {
	values := make([]sql.NullString, len(columns))
	targets := make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	if err := rows.Scan(targets...); err != nil {
		return nil, err
	}
	row := make(map[string]string, len(columns))
	for i, value := range values {
		if value.Valid {
			row[columns[i]] = value.String
		}
	}
	return row, nil
}

// variables returns the global variables. The server cuts values at 1,024
// bytes: GTID sets are read by queries of their own.
func (s *server) variables(ctx context.Context) (map[string]string, error) {
	rows, err := s.rows(ctx, "SHOW GLOBAL VARIABLES")
	if err != nil {
		return nil, err
	}
	vars := make(map[string]string, len(rows))
	for _, row := range rows {
		vars[strings.ToLower(row["Variable_name"])] = row["Value"]
	}
	return vars, nil
}

// channels returns the state of each replication channel that has a source.
func (s *server) channels(ctx context.Context) ([]replication.ReplicaStatus, error) {
	rows, err := s.rows(ctx, s.dialect.ReplicaStatus)
	if err != nil {
		return nil, err
	}
	var all []replication.ReplicaStatus
	for _, row := range rows {
		status, err := replication.ParseReplicaStatus(s.flavor(), row)
		if err != nil {
			return nil, err
		}
		if status.SourceHost != "" {
			all = append(all, status)
		}
	}
	return all, nil
}

// position reads where the server stands. A replica is asked for what it has
// applied, any other server for what it has written.
func (s *server) position(ctx context.Context, channels []replication.ReplicaStatus) (replication.Position, error) {
	gtids, err := s.gtids(ctx, len(channels) > 0)
	if err != nil {
		return replication.Position{}, err
	}
	p, err := replication.ParseGTIDs(s.flavor(), gtids)
	if err != nil {
		return p, err
	}
	if len(channels) > 0 {
		p.SourceFile, p.SourceOffset = channels[0].SourceFile, channels[0].SourceOffset
	}
	if err := s.addHistory(ctx, &p); err != nil {
		return p, err
	}
	return p, s.addBinlog(ctx, &p)
}

func (s *server) gtids(ctx context.Context, replica bool) (string, error) {
	query := s.dialect.PrimaryGTIDs
	if replica {
		query = s.dialect.ReplicaGTIDs
	}
	return s.value(ctx, query)
}

// addHistory adds what has been purged, or MariaDB's binary log state.
func (s *server) addHistory(ctx context.Context, p *replication.Position) error {
	if s.flavor() == replication.MariaDB {
		state, err := s.value(ctx, "SELECT @@GLOBAL.gtid_binlog_state")
		if err == nil {
			p.BinlogState, err = replication.ParseMariaDBPosition(state)
		}
		return err
	}
	purged, err := s.value(ctx, "SELECT @@GLOBAL.gtid_purged")
	if err == nil {
		p.Purged, err = replication.ParseGTIDSet(purged)
	}
	return err
}

func (s *server) addBinlog(ctx context.Context, p *replication.Position) error {
	status, err := s.row(ctx, s.dialect.BinlogStatus)
	if err != nil || status == nil {
		return err
	}
	p.BinlogFile = status["File"]
	if _, err := fmt.Sscan(status["Position"], &p.BinlogOffset); err != nil {
		return fmt.Errorf("%s: position %q: %w", s.dialect.BinlogStatus, status["Position"], err)
	}
	return nil
}

// usesGTIDs reports whether all transactions have GTIDs: always on MariaDB.
func (s *server) usesGTIDs(ctx context.Context) (bool, error) {
	if s.flavor() == replication.MariaDB {
		return true, nil
	}
	mode, err := s.value(ctx, "SELECT @@GLOBAL.gtid_mode")
	return same(mode, "ON"), err
}
