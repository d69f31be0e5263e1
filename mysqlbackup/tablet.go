package mysqlbackup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup/vitess"
)

// Tablet is the Vitess tablet whose server is backed up.
type Tablet struct {
	Client    vitess.Client `json:"client"`
	Alias     vitess.Alias  `json:"alias"`
	Was       vitess.Type   `json:"was"` // its type; set by Backup
	AllowLast bool          `json:"-"`   // also if no other healthy replica, or none that acknowledges, remains
}

func (t *Tablet) String() string {
	return fmt.Sprintf("%s becomes BACKUP; planned reparents of its shard fail while its mysqld is down", t.Alias)
}

// check refuses a tablet that must not be taken out of serving, or that is not
// this server's.
func (t *Tablet) check(ctx context.Context, uuid string, b *backupRun, r *refusals) error {
	record, err := t.Client.Tablet(ctx, t.Alias)
	if errors.Is(err, vitess.ErrNotFound) {
		r.addErr(err)
		return nil
	}
	if err != nil {
		return err
	}
	t.Was = record.Type
	if record.Keyspace != string(b.Keyspace) || record.Shard != string(b.Shard) {
		r.add("tablet %s is of %s/%s, not of %s/%s", t.Alias, record.Keyspace, record.Shard, b.Keyspace, b.Shard)
		return nil
	}
	if !t.checkType(r) {
		return nil
	}
	status, err := t.Client.Status(ctx, t.Alias)
	if err != nil {
		return err
	}
	if status.ServerUUID != strings.ToLower(uuid) {
		r.addHint("run this on the tablet's host, with its own defaults file",
			"tablet %s has the server %s, the one at %s is %s", t.Alias, status.ServerUUID, b.Server.Conn.Socket, uuid)
		return nil
	}
	if status.BackupRunning {
		r.add("vttablet is making a backup of tablet %s by itself", t.Alias)
	}
	if t.AllowLast {
		return nil
	}
	return t.checkOthers(ctx, record, status, r)
}

// checkType refuses types that can't become BACKUP, or are it already.
func (t *Tablet) checkType(r *refusals) bool {
	switch t.Was {
	case vitess.Primary:
		r.addHint("back up another tablet, or run PlannedReparentShard first", "tablet %s is its shard's primary", t.Alias)
	case vitess.Backup, vitess.Restore:
		r.addHint(fmt.Sprintf("if nobody works on it, run \"vtctldclient ChangeTabletType %s REPLICA\"", t.Alias),
			"tablet %s is %s: somebody works on it", t.Alias, t.Was)
	case vitess.Unknown:
		r.add("the type of tablet %s is not known", t.Alias)
	default:
		return true
	}
	return false
}

// checkOthers refuses the last replica that could answer queries or become the
// primary, and the last that the primary's commits wait for.
func (t *Tablet) checkOthers(ctx context.Context, record vitess.Tablet, self vitess.Status, r *refusals) error {
	const told = "wait for the others, or give --allow-last-replica"
	tablets, err := askTablets(ctx, t.Client, record.Keyspace, record.Shard)
	if err != nil {
		return err
	}
	healthy := func(c Candidate) bool {
		return c.Alias != t.Alias && c.Healthy() && (c.Type == vitess.Replica || c.Type == vitess.ReadOnly && record.Type != vitess.Replica)
	}
	if record.Type.Serves() && !slices.ContainsFunc(tablets, healthy) {
		r.addHint(told, "tablet %s is the last healthy %s of %s/%s", t.Alias, record.Type, record.Keyspace, record.Shard)
	}
	if !self.Acknowledges {
		return nil
	}
	for _, primary := range tablets {
		switch {
		case primary.Type != vitess.Primary:
		case primary.Err != nil:
			r.addHint(told, "whether other replicas acknowledge what the primary commits can't be told: %v", primary.Err)
		case primary.Status.WaitsForReplicas && primary.Status.Replicas-1 < primary.Status.WaitFor:
			r.addHint(told, "the primary %s waits for %d replicas that acknowledge (semi-synchronous replication) and has %d, this tablet among them: its commits would hang",
				primary.Alias, primary.Status.WaitFor, primary.Status.Replicas)
		}
	}
	return nil
}

// drain makes the tablet one of type BACKUP: vttablet answers no queries then,
// and VTOrc leaves its replication alone. mysqld must run.
func (t *Tablet) drain(ctx context.Context) error {
	if err := t.Client.ChangeType(ctx, t.Alias, vitess.Backup); err != nil {
		return err
	}
	return t.checkDrained(ctx)
}

// checkDrained returns an error if the tablet is not of type BACKUP: a restart
// of vttablet gives it its own type back, and starts replication.
func (t *Tablet) checkDrained(ctx context.Context) error {
	record, err := t.Client.Tablet(ctx, t.Alias)
	if err == nil && record.Type != vitess.Backup {
		err = fmt.Errorf("tablet %s is %s and not BACKUP: somebody has changed it, or vttablet was restarted", t.Alias, record.Type)
	}
	return err
}

// undrain gives the tablet its type back, unless others have. A vttablet that
// restarts is waited for.
func (t *Tablet) undrain(ctx context.Context, progress Progress) error {
	var last error
	err := poll(ctx, fmt.Sprintf("tablet %s to become %s", t.Alias, t.Was), t.Client.Timeout, func(ctx context.Context) (bool, error) {
		record, err := t.Client.Tablet(ctx, t.Alias)
		if err == nil && record.Type == vitess.Backup {
			err = t.Client.ChangeType(ctx, t.Alias, t.Was)
		}
		if ctx.Err() == nil { // one that our own limit has ended says nothing
			last = err
		}
		switch {
		case err != nil || record.Type == vitess.Backup:
			return false, nil //nolint:nilerr // it is asked again
		case record.Type == t.Was:
			return true, nil
		}
		progress.Warn(fmt.Sprintf("tablet %s stays %s: somebody has changed it, or vttablet was restarted", t.Alias, record.Type))
		return true, nil
	})
	var late *timeoutError
	if errors.As(err, &late) && last != nil {
		err = fmt.Errorf("%w: %w", err, last)
	}
	return hint.Wrap(err, "is vttablet up? it starts only while mysqld runs")
}

// isPrimary says why the tablet must be taken for a primary; "" if not.
func (t *Tablet) isPrimary(ctx context.Context) (string, error) {
	record, err := t.Client.Tablet(ctx, t.Alias)
	if err == nil && record.Type == vitess.Primary {
		return fmt.Sprintf("tablet %s has become the shard's primary", t.Alias), nil
	}
	return "", err
}

// reparent lets vttablet point its server at the primary as it is now.
func (t *Tablet) reparent(ctx context.Context) error { return t.Client.Reparent(ctx, t.Alias) }

// startTablet lets vttablet start the replication that ran before, with its
// hooks. What it does not do is done without it.
func (k *keeper) startTablet(ctx context.Context) {
	tablet, channels := k.journal.Serving.Tablet, k.journal.Saved.Channels
	if tablet == nil || len(channels) != 1 || !channels[0].IORunning || !channels[0].SQLRunning {
		return
	}
	if err := tablet.Client.StartReplication(ctx, tablet.Alias); err != nil {
		k.progress.Warn(fmt.Sprintf("vttablet could not start replication: %v", err))
	}
}

// followPrimary makes sure that a replica follows the shard's primary as it is
// now: START REPLICA alone goes back to the one that the server has saved, and
// no health check tells.
func (k *keeper) followPrimary(ctx context.Context, srv *server) error {
	if len(k.journal.Saved.Channels) != 1 || !k.journal.Saved.Channels[0].SQLRunning {
		return nil
	}
	primary, err := k.topology.Primary(ctx)
	if err != nil {
		k.progress.Warn(err.Error())
		return nil
	}
	channels, err := srv.channels(ctx)
	if err != nil || primary.IsZero() || len(channels) != 1 {
		return err
	}
	if source := (HostPort{Host: channels[0].SourceHost, Port: channels[0].SourcePort}); source == primary {
		return nil
	}
	tablet := k.journal.Serving.Tablet
	if err := errors.Join(tablet.reparent(ctx), tablet.Client.StartReplication(ctx, tablet.Alias)); err != nil {
		return err
	}
	return k.awaitThreads(ctx, srv)
}

// Candidate is a tablet, and how its server is.
type Candidate struct {
	vitess.Tablet
	Status vitess.Status
	Err    error // why it could not be asked
}

// Healthy reports whether the tablet's server replicates.
func (c Candidate) Healthy() bool {
	return c.Runs() && c.Err == nil && c.Status.Replicates && c.Status.LagKnown
}

// askLimit is how many tablets are asked at once.
const askLimit = 8

// askTablets asks all tablets of a shard how they are.
func askTablets(ctx context.Context, client vitess.Client, keyspace, shard string) ([]Candidate, error) {
	tablets, err := client.Tablets(ctx, keyspace, shard)
	if err != nil {
		return nil, err
	}
	candidates := make([]Candidate, len(tablets))
	var group errgroup.Group
	group.SetLimit(askLimit)
	for i, tablet := range tablets {
		group.Go(func() error {
			candidates[i].Tablet = tablet
			candidates[i].Status, candidates[i].Err = client.Status(ctx, tablet.Alias)
			return nil
		})
	}
	return candidates, group.Wait()
}

// RankTablets returns the tablets of a shard that can be backed up, the best
// first: those whose lag is below the limit before the others, RDONLY before
// others, then by lag and alias. cells are those wanted; none: all.
func RankTablets(ctx context.Context, shard VitessShard, limit CatchUp, cells []string) ([]Candidate, error) {
	all, err := askTablets(ctx, shard.Client, string(shard.Keyspace), string(shard.Shard))
	if err != nil {
		return nil, err
	}
	candidates := slices.DeleteFunc(all, func(c Candidate) bool {
		return !c.Healthy() || !c.Type.Serves() && c.Type != vitess.Spare || len(cells) > 0 && !slices.Contains(cells, c.Alias.Cell)
	})
	rank := func(c Candidate) int {
		switch {
		case c.Status.Lag > limit.Lag:
			return 2
		case c.Type != vitess.ReadOnly:
			return 1
		}
		return 0
	}
	slices.SortFunc(candidates, func(a, b Candidate) int {
		return cmp.Or(rank(a)-rank(b), cmp.Compare(a.Status.Lag, b.Status.Lag),
			cmp.Compare(a.Alias.Cell, b.Alias.Cell), cmp.Compare(a.Alias.UID, b.Alias.UID))
	})
	return candidates, nil
}

// TabletAlias is a tablet's alias as backups have it. Vitess also allows cells
// whose names begin with a dash or a dot.
func TabletAlias(alias vitess.Alias) (manifest.TabletAlias, error) {
	return manifest.ParseTabletAlias(alias.String())
}

// ServerUUID asks the server of this host who it is.
func ServerUUID(ctx context.Context, conn Connection) (string, error) {
	srv, err := connectLocal(ctx, conn)
	if err != nil {
		return "", as(ErrRefused, err)
	}
	defer srv.close()
	uuid, err := srv.value(ctx, "SELECT @@server_uuid")
	return strings.ToLower(uuid), err
}
