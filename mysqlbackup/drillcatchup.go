package mysqlbackup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/replication"
)

// drillUser is the account that a drill makes on its own server.
const drillUser = "shardseed-drill"

// catchUp lets the drill's server replicate until it has all that the primary
// had, then makes it forget the primary. Nobody can connect to it meanwhile. An
// applier that stops with an error speaks against the backup; other errors
// don't.
func (d *drillRun) catchUp(ctx context.Context) error {
	d.step(StepCatchUp, d.primary.String())
	if err := d.enableAccounts(ctx); err != nil {
		return fmt.Errorf("catch up with %s: %w", d.primary, err)
	}
	proof, err := d.followPrimary(ctx)
	var hopeless *hopelessError
	switch {
	case errors.As(err, &hopeless):
		d.fail("it can't catch up with %s: %v", d.primary, hopeless)
		return nil
	case err != nil:
		return fmt.Errorf("catch up with %s: %w", d.primary, err)
	}
	d.record.CaughtUp = &DrillCatchUp{Source: proof.Source.String(), LagSeconds: proof.LagSeconds, Position: proof.Reached.String()}
	return nil
}

// enableAccounts makes the server read its accounts: without them it refuses the
// statements on accounts that a primary sends. From then on it wants one of us
// too.
func (d *drillRun) enableAccounts(ctx context.Context) error {
	password := rand.Text()
	account := replication.Quote(drillUser) + "@'localhost'"
	conn, err := d.srv.db.Conn(ctx) // what it may do was decided when it was opened
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it may be closed with the pool
	for _, statement := range []string{
		"SET SESSION sql_log_bin = 0",
		"FLUSH PRIVILEGES",
		"DROP USER IF EXISTS " + account,
		"CREATE USER " + account + " IDENTIFIED BY " + replication.Quote(password),
		"GRANT ALL ON *.* TO " + account + " WITH GRANT OPTION",
	} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", headline(statement), err)
		}
	}
	d.srv.close()
	d.srv, err = connectLocal(ctx, Connection{
		Socket:      filepath.Join(d.scratch.path("run"), "sock"),
		Credentials: Credentials{User: drillUser, Password: password},
	})
	return err
}

// followPrimary points the server at the primary and waits until it has caught up.
func (d *drillRun) followPrimary(ctx context.Context) (*Proof, error) {
	if err := d.resetReplication(ctx, d.srv); err != nil {
		return nil, err
	}
	if err := d.readPrimary(ctx); err != nil { // it may be another one by now
		return nil, err
	}
	if err := d.checkFollow(d.chosen, d.result.Position); err != nil {
		return nil, hint.Wrap(err, "see \"shardseed show\" for the backup's position")
	}
	if err := d.pointAtPrimary(ctx, d.srv); err != nil {
		return nil, err
	}
	if err := d.srv.exec(ctx, d.srv.dialect.StartReplica); err != nil {
		return nil, err
	}
	c := &chase{CatchUp: d.CatchUp, primary: d.primary, accounts: d.accounts(), progress: d.Progress}
	proof, err := c.run(ctx, d.srv)
	if err != nil {
		return nil, err
	}
	if err := d.srv.exec(ctx, d.srv.dialect.StopReplica); err != nil {
		return nil, err
	}
	return proof, d.resetReplication(ctx, d.srv)
}
