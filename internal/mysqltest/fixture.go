package mysqltest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shardseed/shardseed/replication"
)

// fixtureRows is the number of rows of each of the fixture's larger tables.
const fixtureRows = 2000

// fixture makes a database of each sort of thing that a data directory can
// hold, on both flavors. Its statements are fit for replication by GTIDs.
const fixture = `
CREATE DATABASE shop
CREATE DATABASE empty_database
CREATE DATABASE ` + "`größe 1-a`" + `
CREATE TABLE shop.orders (id INT PRIMARY KEY, customer VARCHAR(40), total DECIMAL(10,2), note TEXT, KEY (customer)) ENGINE=InnoDB
CREATE TABLE shop.audit (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(60)) ENGINE=InnoDB
CREATE TABLE shop.parts (id INT PRIMARY KEY, customer VARCHAR(40), total DECIMAL(10,2), note TEXT) ENGINE=InnoDB PARTITION BY HASH (id) PARTITIONS 3
CREATE TABLE shop.packed (id INT PRIMARY KEY, customer VARCHAR(40), total DECIMAL(10,2), note TEXT) ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8
CREATE TABLE shop.old (id INT PRIMARY KEY, customer VARCHAR(40), total DECIMAL(10,2), note TEXT, KEY (customer)) ENGINE=MyISAM
CREATE TABLE shop.words (id INT PRIMARY KEY, customer VARCHAR(40), total DECIMAL(10,2), note TEXT, FULLTEXT KEY (note)) ENGINE=InnoDB
CREATE TABLE shop.bare (a INT) ENGINE=InnoDB
CREATE TABLE ` + "`größe 1-a`.`maß, #1`" + ` (id INT PRIMARY KEY, customer VARCHAR(40), total DECIMAL(10,2), note TEXT) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
CREATE VIEW shop.totals AS SELECT customer, SUM(total) AS total FROM shop.orders GROUP BY customer
CREATE TRIGGER shop.orders_audit AFTER DELETE ON shop.orders FOR EACH ROW INSERT INTO shop.audit (what) VALUES (CONCAT('deleted ', OLD.id))
CREATE EVENT shop.far_away ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01 00:00:00' DO DELETE FROM shop.audit
CREATE PROCEDURE shop.forget(IN number INT) DELETE FROM shop.orders WHERE id = number
CREATE FUNCTION shop.twice(number INT) RETURNS INT DETERMINISTIC RETURN 2 * number
`

// mysqlFixture and mariadbFixture are what only one of the flavors has.
const (
	mysqlFixture = `
CREATE TABLESPACE roomy ADD DATAFILE 'roomy.ibd' ENGINE=InnoDB
CREATE TABLE shop.tenant (id INT PRIMARY KEY, customer VARCHAR(40), total DECIMAL(10,2), note TEXT) TABLESPACE roomy
CREATE TABLE shop.punched (id INT PRIMARY KEY, customer VARCHAR(40), total DECIMAL(10,2), note TEXT) ENGINE=InnoDB COMPRESSION='zlib'
`
	mariadbFixture = `
CREATE TABLE shop.tenant (id INT PRIMARY KEY, customer VARCHAR(40), total DECIMAL(10,2), note TEXT) ENGINE=Aria TRANSACTIONAL=1
CREATE TABLE shop.punched (id INT PRIMARY KEY, customer VARCHAR(40), total DECIMAL(10,2), note TEXT) ENGINE=InnoDB PAGE_COMPRESSED=1
CREATE SEQUENCE shop.numbers START WITH 7
`
)

// LoadFixture makes the databases shop, empty_database and one whose name must
// be encoded: tables of several engines, row formats and tablespaces with some
// thousand rows, views, triggers, events and routines. The same call makes the
// same rows every time.
func (s *Server) LoadFixture(tb testing.TB) {
	tb.Helper()
	more := mysqlFixture
	if s.Flavor == replication.MariaDB {
		more = mariadbFixture
	}
	s.Exec(tb, strings.Split(strings.TrimSpace(fixture+strings.TrimSpace(more)), "\n")...)
	rows := fixtureValues(fixtureRows)
	for _, table := range []string{
		"shop.orders", "shop.parts", "shop.packed", "shop.old", "shop.words", "shop.tenant", "shop.punched", "`größe 1-a`.`maß, #1`",
	} {
		s.Exec(tb, "INSERT INTO "+table+" (id, customer, total, note) VALUES "+rows)
	}
	s.Exec(tb, "INSERT INTO shop.bare VALUES (1), (2), (NULL)", "DELETE FROM shop.orders WHERE id % 100 = 0")
}

// fixtureValues returns the rows with the numbers 1 to n.
func fixtureValues(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		if i > 1 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "(%d, 'customer %d', %d.%02d, '%s, sheet %d')", i, i%37, i*7, i%100, strings.Repeat("note ", i%40), i)
	}
	return b.String()
}

// Write makes n small transactions, a row of test.writes each. The first call
// makes the table.
func (s *Server) Write(tb testing.TB, n int) {
	tb.Helper()
	s.prepareWrites(tb)
	for i := range n {
		if err := s.write(tb.Context(), i); err != nil {
			tb.Fatalf("mysqltest: server %d: %v", s.ServerID, err)
		}
	}
}

// Writing makes small transactions, as Write does, one every few milliseconds,
// until the returned function is called, which says how many there were. It
// must be called, once.
func (s *Server) Writing(tb testing.TB) (stop func() int) {
	tb.Helper()
	s.prepareWrites(tb)
	ctx, cancel := context.WithCancel(tb.Context())
	type outcome struct {
		n   int
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		n, err := s.writeUntil(ctx)
		done <- outcome{n, err}
	}()
	return func() int {
		tb.Helper()
		cancel()
		o := <-done
		if o.err != nil {
			tb.Fatalf("mysqltest: server %d: after %d transactions: %v", s.ServerID, o.n, o.err)
		}
		return o.n
	}
}

// writeUntil writes until ctx is done; that is no error.
func (s *Server) writeUntil(ctx context.Context) (int, error) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return n, nil
		case <-ticker.C:
		}
		// A write that has begun is finished, so that n is what the server has.
		if err := s.write(context.WithoutCancel(ctx), n); err != nil {
			return n, err
		}
	}
}

func (s *Server) prepareWrites(tb testing.TB) {
	tb.Helper()
	if s.Value(tb, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'test' AND table_name = 'writes'") == "0" {
		s.Exec(tb, "CREATE DATABASE IF NOT EXISTS test",
			"CREATE TABLE test.writes (id INT AUTO_INCREMENT PRIMARY KEY, note VARCHAR(60)) ENGINE=InnoDB")
	}
}

func (s *Server) write(ctx context.Context, i int) error {
	_, err := s.db.ExecContext(ctx, fmt.Sprintf("INSERT INTO test.writes (note) VALUES ('write %d')", i))
	if err != nil {
		return errors.Join(fmt.Errorf("write number %d", i), err)
	}
	return nil
}
