package mysqltest

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// database is a pool of connections to one server's socket.
type database struct{ *sql.DB }

func openDatabase(socket string) (*database, error) {
	config := mysql.NewConfig()
	config.User, config.Passwd = User, Password
	config.Net, config.Addr = "unix", socket
	config.Logger = &mysql.NopLogger{} // a server that is not there yet is no news
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(-1) // a server that is to stop waits two seconds for them
	return &database{db}, nil
}

// DB returns connections to the server as User, over its socket. They are made
// when they are needed and closed after it, so that no restart of the server is
// noticed, nor held up.
func (s *Server) DB() *sql.DB {
	return s.db.DB
}

// Exec runs the statements one after the other on one connection.
func (s *Server) Exec(tb testing.TB, statements ...string) {
	tb.Helper()
	if err := s.db.execute(tb.Context(), statements...); err != nil {
		tb.Fatalf("mysqltest: server %d: %v", s.ServerID, err)
	}
}

// Value returns the only value of the query's only row; NULL is "NULL".
func (s *Server) Value(tb testing.TB, query string) string {
	tb.Helper()
	value, err := s.db.value(tb.Context(), query)
	if err != nil {
		tb.Fatalf("mysqltest: server %d: %v", s.ServerID, err)
	}
	return value
}

// Row returns the query's only row by column; a NULL is left out. It returns
// nil when there is no row.
func (s *Server) Row(tb testing.TB, query string) map[string]string {
	tb.Helper()
	rows := s.Rows(tb, query)
	if len(rows) > 1 {
		tb.Fatalf("mysqltest: %s: got %d rows, want one", query, len(rows))
	}
	if len(rows) == 0 {
		return nil
	}
	return rows[0]
}

// Rows returns the query's rows in the server's order, each by column; a NULL
// is left out.
func (s *Server) Rows(tb testing.TB, query string) []map[string]string {
	tb.Helper()
	rows, err := s.db.rows(tb.Context(), query)
	if err != nil {
		tb.Fatalf("mysqltest: server %d: %v", s.ServerID, err)
	}
	return rows
}

// Checksums returns CHECKSUM TABLE of every table outside the system's own
// databases, by "database.table".
func (s *Server) Checksums(tb testing.TB) map[string]string {
	tb.Helper()
	sums := make(map[string]string)
	for _, row := range s.Rows(tb, `SELECT table_schema AS d, table_name AS t FROM information_schema.tables
		WHERE table_type = 'BASE TABLE' AND table_schema NOT IN (`+systemDatabases+`)`) {
		name := quoteName(row["d"]) + "." + quoteName(row["t"])
		sum := s.Row(tb, "CHECKSUM TABLE "+name+" EXTENDED")
		if sum["Checksum"] == "" {
			tb.Fatalf("mysqltest: server %d: table %s cannot be read", s.ServerID, name)
		}
		sums[row["d"]+"."+row["t"]] = sum["Checksum"]
	}
	return sums
}

// Objects returns what is not a table's rows, outside the system's own
// databases: the definition of each database, view, trigger, routine and event,
// by kind and name ("view shop.totals").
func (s *Server) Objects(tb testing.TB) map[string]string {
	tb.Helper()
	objects := make(map[string]string)
	for kind, query := range objectQueries {
		for _, row := range s.Rows(tb, query+" NOT IN ("+systemDatabases+")") {
			objects[kind+" "+row["n"]] = row["x"]
		}
	}
	return objects
}

// systemDatabases are the databases that belong to the server.
const systemDatabases = "'mysql', 'sys', 'performance_schema', 'information_schema'"

// objectQueries give a name n and a definition x, and end with the column that
// names the database.
var objectQueries = map[string]string{ //nolint:gochecknoglobals // a table, never changed
	"database": "SELECT schema_name AS n, default_collation_name AS x FROM information_schema.schemata WHERE schema_name",
	"view":     "SELECT CONCAT(table_schema, '.', table_name) AS n, view_definition AS x FROM information_schema.views WHERE table_schema",
	"trigger":  "SELECT CONCAT(trigger_schema, '.', trigger_name) AS n, action_statement AS x FROM information_schema.triggers WHERE trigger_schema",
	"routine":  "SELECT CONCAT(routine_schema, '.', routine_name) AS n, routine_definition AS x FROM information_schema.routines WHERE routine_schema",
	"event":    "SELECT CONCAT(event_schema, '.', event_name) AS n, event_definition AS x FROM information_schema.events WHERE event_schema",
}

func (db *database) execute(ctx context.Context, statements ...string) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it goes back to the pool
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", shorten(statement), err)
		}
	}
	return nil
}

func (db *database) value(ctx context.Context, query string) (string, error) {
	var value sql.NullString
	if err := db.QueryRowContext(ctx, query).Scan(&value); err != nil {
		return "", fmt.Errorf("%s: %w", shorten(query), err)
	}
	if !value.Valid {
		return "NULL", nil
	}
	return value.String, nil
}

func (db *database) rows(ctx context.Context, query string) ([]map[string]string, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", shorten(query), err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values := make([]sql.NullString, len(columns))
	targets := make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	var result []map[string]string
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return nil, err
		}
		row := make(map[string]string, len(columns))
		for i, column := range columns {
			if values[i].Valid {
				row[column] = values[i].String
			}
		}
		result = append(result, row)
	}
	return result, rows.Err()
}

// Differences returns, sorted, the names whose values differ between two maps
// as Checksums and Objects return them, each with both values.
func Differences(got, want map[string]string) []string {
	names := map[string]string{}
	maps.Copy(names, want)
	maps.Copy(names, got)
	var differences []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		g, inGot := got[name]
		w, inWant := want[name]
		switch {
		case !inGot:
			differences = append(differences, name+": missing")
		case !inWant:
			differences = append(differences, name+": not expected")
		case g != w:
			differences = append(differences, fmt.Sprintf("%s: got %q, want %q", name, g, w))
		}
	}
	return differences
}

// quote returns the text as an SQL string.
func quote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text) + "'"
}

// quoteName returns the name as an SQL identifier.
func quoteName(name string) string {
	return "`" + strings.ReplaceAll(name, "`", "``") + "`"
}

// shorten cuts a statement for a message.
func shorten(statement string) string {
	const limit = 200
	if len(statement) > limit {
		return statement[:limit] + "..."
	}
	return statement
}
