package soak

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/shardseed/shardseed/replication"
)

// The tables: rows that are rewritten in place, a log that loses its oldest rows,
// and tables that come and go.
const (
	slots   = 400
	logRows = 300
	period  = 30 // transactions from one table to the next
	tables  = 3  // of those at most where they are dropped
	created = 40 // at most where they are not
)

// schema makes what transactions write to.
func schema() []string {
	return []string{
		"CREATE DATABASE soak",
		"CREATE TABLE soak.slots (id INT PRIMARY KEY, seq INT NOT NULL, pad TEXT NOT NULL) ENGINE=InnoDB",
		"CREATE TABLE soak.log (id INT PRIMARY KEY, seq INT NOT NULL, pad TEXT NOT NULL) ENGINE=InnoDB",
	}
}

// change is what a transaction does to one table. A row is replaced unless the
// table is made or dropped.
type change struct {
	table      string
	make, drop bool
	id         int
	pad        string
	delete     int // the row with this number goes; 0: none
}

// changes returns what transaction n does, counted from 1. On MariaDB no table is
// dropped: a replica that is killed meanwhile finishes that when it starts, and
// writes it into its own binary log as a transaction of its own.
func changes(flavor replication.Flavor, n int) []change {
	rng := rand.New(rand.NewPCG(uint64(n), 7))
	drops := flavor == replication.MySQL
	k := n / period
	if !drops {
		k = min(k, created)
	}
	switch {
	case n%period == 0 && k == n/period:
		return []change{{table: tableName(k), make: true}}
	case drops && n%period == period/2 && k > tables:
		return []change{{table: tableName(k - tables), drop: true}}
	case k > 0:
		return []change{
			{table: "slots", id: rng.IntN(slots), pad: pad(rng)},
			{table: "log", id: n, pad: pad(rng), delete: max(0, n-logRows)},
			{table: tableName(k), id: n % period, pad: pad(rng)},
		}
	}
	return []change{{table: "slots", id: rng.IntN(slots), pad: pad(rng)}, {table: "log", id: n, pad: pad(rng)}}
}

func tableName(k int) string { return fmt.Sprintf("t%d", k) }

// pad returns up to 3 KiB that compress to the half.
func pad(rng *rand.Rand) string {
	bytes := make([]byte, rng.IntN(1500))
	for i := range bytes {
		bytes[i] = byte(rng.Uint32())
	}
	return hex.EncodeToString(bytes)
}

// statements returns transaction n: one GTID.
func statements(flavor replication.Flavor, n int) []string {
	all := changes(flavor, n)
	switch first := all[0]; {
	case first.make:
		return []string{fmt.Sprintf("CREATE TABLE soak.%s (id INT PRIMARY KEY, seq INT NOT NULL, pad TEXT NOT NULL) ENGINE=InnoDB", first.table)}
	case first.drop:
		return []string{"DROP TABLE soak." + first.table}
	}
	var lines []string
	for _, c := range all {
		lines = append(lines, fmt.Sprintf("REPLACE INTO soak.%s VALUES (%d, %d, '%s')", c.table, c.id, n, c.pad))
		if c.delete > 0 {
			lines = append(lines, fmt.Sprintf("DELETE FROM soak.%s WHERE id = %d", c.table, c.delete))
		}
	}
	return lines
}

// content is what tables hold: rows by "table/id", and "table" for each table.
type content map[string]string

// after returns the content after n transactions.
func after(flavor replication.Flavor, n int) content {
	c := content{"slots": "", "log": ""}
	for m := 1; m <= n; m++ {
		for _, change := range changes(flavor, m) {
			c.apply(m, change)
		}
	}
	return c
}

func (c content) apply(n int, change change) {
	switch {
	case change.make:
		c[change.table] = ""
	case change.drop:
		maps.DeleteFunc(c, func(name, _ string) bool {
			return name == change.table || len(name) > len(change.table) && name[:len(change.table)+1] == change.table+"/"
		})
	default:
		c[fmt.Sprintf("%s/%d", change.table, change.id)] = fmt.Sprintf("%d %s", n, change.pad)
		if change.delete > 0 {
			delete(c, fmt.Sprintf("%s/%d", change.table, change.delete))
		}
	}
}

// read returns the content of a server.
func read(ctx context.Context, db *sql.DB) (content, error) {
	names, err := column(ctx, db, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'soak'")
	if err != nil {
		return nil, err
	}
	c := content{}
	for _, name := range names {
		c[name] = ""
		if err := c.readTable(ctx, db, name); err != nil {
			return nil, fmt.Errorf("read table %s: %w", name, err)
		}
	}
	return c, nil
}

func (c content) readTable(ctx context.Context, db *sql.DB, name string) (err error) {
	rows, err := db.QueryContext(ctx, "SELECT id, seq, pad FROM soak."+name)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, seq int
		var pad string
		if err := rows.Scan(&id, &seq, &pad); err != nil {
			return err
		}
		c[fmt.Sprintf("%s/%d", name, id)] = fmt.Sprintf("%d %s", seq, pad)
	}
	return rows.Err()
}

func column(ctx context.Context, db *sql.DB, query string) ([]string, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var values []string
	for rows.Next() {
		var value string
		if err := rows.Scan(&value); err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, rows.Err()
}

// differences says in what got is not want, nil if they are equal.
func differences(got, want content) error {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if text, found := got[name]; !found || text != want[name] {
			texts = append(texts, fmt.Sprintf("%s is %.40q, want %.40q", name, text, want[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, found := want[name]; !found {
			texts = append(texts, name+" is there and should not be")
		}
	}
	if len(texts) == 0 {
		return nil
	}
	return fmt.Errorf("%d rows and tables differ: %q", len(texts), texts[:min(5, len(texts))])
}

// onlyPrimary are the positions of servers that have transactions of one server,
// without a gap; the last number is how many.
var onlyPrimary = map[replication.Flavor]*regexp.Regexp{
	replication.MySQL:   regexp.MustCompile(`^[0-9a-f-]{36}:1(?:-([0-9]+))?$`),
	replication.MariaDB: regexp.MustCompile(`^0-[0-9]+-([0-9]+)$`),
}

// count returns how many of the model's transactions are in a position.
func (s *shard) count(gtids string) (int, error) {
	found := onlyPrimary[s.flavor].FindStringSubmatch(gtids)
	if found == nil {
		return 0, fmt.Errorf("position %q is not all that one primary did up to some transaction", gtids)
	}
	total, err := strconv.Atoi(found[1])
	if err != nil || total < s.base {
		return 0, fmt.Errorf("position %q is before the tables were made", gtids)
	}
	return total - s.base, nil
}

// executed returns the position of a server: what a replica has applied, or what
// a primary has written.
func (s *shard) executed(ctx context.Context, db *sql.DB, primary bool) (string, error) {
	query := `SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '')`
	switch {
	case s.flavor == replication.MariaDB && primary:
		query = "SELECT @@GLOBAL.gtid_binlog_pos"
	case s.flavor == replication.MariaDB:
		query = "SELECT @@GLOBAL.gtid_slave_pos"
	}
	var position string
	err := db.QueryRowContext(ctx, query).Scan(&position)
	return position, err
}

// compare compares a server that is not written to with the model.
func (s *shard) compare(ctx context.Context, db *sql.DB, primary bool) (n int, err error) {
	position, err := s.executed(ctx, db, primary)
	if err != nil {
		return 0, err
	}
	if n, err = s.count(position); err != nil {
		return 0, err
	}
	got, err := read(ctx, db)
	if err != nil {
		return n, err
	}
	if err := differences(got, after(s.flavor, n)); err != nil {
		return n, fmt.Errorf("after %d transactions, at %s: %w", n, position, err)
	}
	return n, nil
}

// write is the load: one transaction after the other, as long as the world acts.
// The primary is killed meanwhile; what it has then says where to go on.
func (s *shard) write(ctx context.Context) {
	n := s.written(ctx)
	for s.world.acting(ctx) {
		if err := s.commit(ctx, n+1); err != nil {
			s.world.logf("%s: write %d: %v", s.name, n+1, err)
			s.world.tally(s.name + " writes interrupted")
			n = s.written(ctx)
			continue
		}
		n++
		pause(ctx, 25*time.Millisecond)
	}
	s.world.add(s.name+" transactions", n)
}

// written waits until the primary answers and returns how many transactions it has.
func (s *shard) written(ctx context.Context) int {
	for ctx.Err() == nil {
		position, err := s.executed(ctx, s.primary.DB(), true)
		if err == nil {
			n, err := s.count(position)
			if err != nil {
				s.world.fail(fmt.Errorf("%s: primary: %w", s.name, err))
			}
			return n
		}
		pause(ctx, 100*time.Millisecond)
	}
	return 0
}

func (s *shard) commit(ctx context.Context, n int) error {
	ctx = context.WithoutCancel(ctx) // what was begun is finished
	tx, err := s.primary.DB().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, line := range statements(s.flavor, n) { // one that makes or drops a table commits by itself
		if _, err := tx.ExecContext(ctx, line); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

// pause waits.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
