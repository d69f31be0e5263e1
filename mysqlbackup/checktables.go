package mysqlbackup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"
)

// checkedTable is a table that a drill checks.
type checkedTable struct {
	schema, table string
	size          int64 // bytes, as the server estimates it
}

func (c checkedTable) quoted() string { return quoteName(c.schema) + "." + quoteName(c.table) }

// listTables returns all tables but views, the largest first.
func (s *server) listTables(ctx context.Context) ([]checkedTable, error) {
	rows, err := s.rows(ctx, `SELECT table_schema AS d, table_name AS t, IFNULL(data_length, 0) + IFNULL(index_length, 0) AS n
		FROM information_schema.tables
		WHERE table_type NOT LIKE '%VIEW' AND table_schema NOT IN ('information_schema', 'performance_schema')`)
	if err != nil {
		return nil, err
	}
	tables := make([]checkedTable, len(rows))
	for i, row := range rows {
		size, _ := strconv.ParseInt(row["n"], 10, 64) // an estimate, for the progress
		tables[i] = checkedTable{schema: row["d"], table: row["t"], size: max(size, 1)}
	}
	slices.SortFunc(tables, func(a, b checkedTable) int {
		return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.schema, b.schema), cmp.Compare(a.table, b.table))
	})
	return tables, nil
}

// tableState is what a check says of a table.
type tableState int

const (
	tableOK tableState = iota
	tableBad
	tableUnchecked
)

// judgeCheck reads the rows of CHECK TABLE. A text comes also with a table that
// is OK, if the server warns of something.
// Source: MySQL Reference Manual, "CHECK TABLE Statement".
func judgeCheck(rows []map[string]string) (tableState, string) {
	state, status := tableBad, ""
	var said []string
	for _, row := range rows {
		text := row["Msg_text"]
		switch strings.ToLower(row["Msg_type"]) {
		case "status":
			status = text
			if text == "OK" || text == "Table is already up to date" {
				state = tableOK
			}
		case "note":
			if state == tableBad && strings.Contains(text, "doesn't support check") {
				state, status = tableUnchecked, text
			}
		default:
			said = append(said, text)
		}
	}
	for _, text := range said {
		if state == tableBad && strings.Contains(text, "Unknown storage engine") {
			return tableUnchecked, text
		}
	}
	if state == tableOK {
		return state, strings.Join(said, "; ")
	}
	if status != "" {
		said = append(said, status)
	}
	if len(said) == 0 {
		return state, "the server said nothing"
	}
	return state, strings.Join(said, "; ")
}

// checkTable checks one table. The error is one of the connection, or of ctx.
func (d *drillRun) checkTable(ctx context.Context, srv *server, table checkedTable) (tableState, string, error) {
	if d.chosen.Pages.Encrypted > 0 {
		_, err := srv.value(ctx, "SELECT 1 FROM "+table.quoted()+" LIMIT 1")
		if isKeyMissing(err, d.chosen.Pages.Bad == 0) {
			return tableUnchecked, "there is no key for it here: " + err.Error(), nil
		}
	}
	rows, err := srv.rows(ctx, "CHECK TABLE "+table.quoted())
	var said *mysql.MySQLError
	if errors.As(err, &said) && !slices.Contains(errsEnding(), said.Number) {
		return tableBad, said.Message, nil
	}
	if err != nil {
		return tableBad, "", err
	}
	state, text := judgeCheck(rows)
	return state, text, nil
}

// errsEnding are the errors that a server which is being shut down has for whoever
// asks it for something: ER_SERVER_SHUTDOWN, ER_QUERY_INTERRUPTED,
// ER_CONNECTION_KILLED, ER_SESSION_WAS_KILLED.
func errsEnding() []uint16 { return []uint16{shutdownInProgress, 1317, 1927, 3169} }

// tableChecks are the tables of a drill that are being checked.
type tableChecks struct {
	mu       sync.Mutex // guards what follows
	queue    []checkedTable
	suspects []checkedTable // being checked when the server ended
}

// take returns the next table.
func (c *tableChecks) take() (checkedTable, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return checkedTable{}, false
	}
	table := c.queue[0]
	c.queue = c.queue[1:]
	return table, true
}

// maxEnds bounds how often a server may end while tables are checked.
const maxEnds = 10

// checkTables checks all tables, several at once. A server may end over a
// damaged page: it is started again, and those that were being checked are
// checked one by one, to learn which of them it was.
func (d *drillRun) checkTables(ctx context.Context) error {
	tables, err := d.srv.listTables(ctx)
	if err != nil {
		return fmt.Errorf("list the tables: %w", err)
	}
	total := int64(0)
	for _, table := range tables {
		total += table.size
	}
	d.Progress.Begin("check tables", total)
	defer d.Progress.End()
	checks := &tableChecks{queue: tables}
	for ends := 0; ; ends++ {
		ended, err := d.checkQueue(ctx, checks, d.opts.Connections)
		if err != nil || !ended {
			return err
		}
		if ends += len(checks.suspects); ends > maxEnds {
			d.giveUp(checks)
			return nil
		}
		if err := d.checkSuspects(ctx, checks); err != nil {
			return err
		}
	}
}

// giveUp counts what is left as not checked.
func (d *drillRun) giveUp(checks *tableChecks) {
	for _, table := range slices.Concat(checks.suspects, checks.queue) {
		d.found(table, tableUnchecked, "the server has ended too often")
	}
	d.fail("the server ended more than %d times while tables were checked", maxEnds)
}

// checkSuspects starts a server that has ended, and checks each table during
// whose check it did alone.
func (d *drillRun) checkSuspects(ctx context.Context, checks *tableChecks) error {
	suspects := checks.suspects
	checks.suspects = nil
	log := d.lastWords()
	if err := d.start(ctx); err != nil {
		return err
	}
	if len(suspects) == 1 {
		d.found(suspects[0], tableBad, "the server ended while it was checked"+log)
		return nil
	}
	for _, table := range suspects {
		alone := &tableChecks{queue: []checkedTable{table}}
		ended, err := d.checkQueue(ctx, alone, 1)
		if err != nil {
			return err
		}
		if ended {
			d.found(table, tableBad, "the server ended while it was checked"+d.lastWords())
			if err := d.start(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkQueue checks tables until none is left or the server has ended.
func (d *drillRun) checkQueue(ctx context.Context, checks *tableChecks, workers int) (ended bool, err error) {
	group, groupCtx := errgroup.WithContext(ctx)
	d.srv.db.SetMaxOpenConns(max(workers, 2))
	d.srv.db.SetMaxIdleConns(max(workers, 2))
	for range max(1, workers) {
		group.Go(func() error {
			for {
				table, ok := checks.take()
				if !ok {
					return nil
				}
				state, text, err := d.checkTable(groupCtx, d.srv, table)
				if err == nil {
					d.found(table, state, text)
					d.Progress.Advance(table.size)
					continue
				}
				checks.mu.Lock()
				checks.suspects = append(checks.suspects, table)
				checks.mu.Unlock()
				return fmt.Errorf("check table %s: %w", table.quoted(), err)
			}
		})
	}
	err = group.Wait()
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err != nil && d.hasEnded() {
		return true, d.checkEnd()
	}
	return false, err
}

// endWait is how long a server that drops a connection may take to end.
const endWait = 30 * time.Second

// hasEnded waits a little for the end of a server that dropped a connection.
func (d *drillRun) hasEnded() bool {
	timer := time.NewTimer(endWait)
	defer timer.Stop()
	select {
	case <-d.process.exited:
		return true
	case <-timer.C:
		return false
	}
}

// found counts a table, and keeps what was said of it.
func (d *drillRun) found(table checkedTable, state tableState, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	counts := &d.record.Tables
	switch state {
	case tableOK:
		counts.OK++
	case tableBad:
		counts.Bad++
	case tableUnchecked:
		counts.Unchecked++
	}
	if text == "" && state == tableOK {
		return
	}
	finding := TableFinding{Schema: table.schema, Table: table.table, Bad: state == tableBad, Text: text}
	if len(d.record.Findings) < maxFindings {
		d.record.Findings = append(d.record.Findings, finding)
	} else if finding.Bad { // it takes the place of one that is not
		if i := slices.IndexFunc(d.record.Findings, func(f TableFinding) bool { return !f.Bad }); i >= 0 {
			d.record.Findings[i] = finding
		}
	}
	if finding.Bad {
		d.bad = append(d.bad, finding.Schema+"."+finding.Table)
	}
}
