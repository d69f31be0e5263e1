package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/ui"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/retention"
)

// cronFlags are for backups that nobody watches.
func cronFlags() []cli.Flag {
	return []cli.Flag{
		timeFlag("min-interval", 0, "do nothing, and exit with 0, if the shard has a good backup younger than this `TIME`, or one is being made"),
		timeFlag("retry", 0, "for how long `TIME` to try again, less and less often, what may pass: the server must be untouched"),
	}
}

// firstPause is how long the first pause between tries is; each is twice the
// one before, up to mostPause.
const (
	firstPause = 5 * time.Second
	mostPause  = 5 * time.Minute
)

// watch is a progress that notices when a server begins to be changed.
type watch struct {
	*ui.Printer
	touched bool
}

// Step passes the step on.
func (w *watch) Step(name, detail string) {
	if name == string(mysqlbackup.StepJournal) {
		w.touched = true
	}
	w.Printer.Step(name, detail)
}

// passes tells failures that may be gone later, and that have changed nothing.
func (w *watch) passes(ctx context.Context, err error) bool {
	code := exitCode(ctx, err)
	return code == exitBusy || code == exitFailed && !w.touched
}

// persist runs do again and again, as long as what it fails with may pass and
// the time is not over.
func (r *run) persist(ctx context.Context, limit time.Duration, w *watch, do func() error) error {
	end := r.opts.Now().Add(limit)
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		err := do()
		if err == nil || !w.passes(ctx, err) || !r.opts.Now().Add(pause).Before(end) {
			return err
		}
		r.out.Warn(fmt.Sprintf("trying again in %s: %v", pause, err))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(err, context.Cause(ctx))
		case <-timer.C:
		}
	}
}

// skips returns why a backup of the shard is not needed yet, "" if it is.
func (r *run) skips(ctx context.Context, repo *cas.Repository, shard shardName, interval time.Duration) (string, error) {
	if interval == 0 {
		return "", nil
	}
	last, err := r.lastGood(ctx, repo, shard)
	if err != nil || last == nil {
		return "", err
	}
	age := r.opts.Now().Sub(last.Started)
	if age >= interval {
		return "", nil
	}
	return fmt.Sprintf("the last good backup of %s, %s, was begun %s ago, which is less than %s",
		shard, last.Name, age.Truncate(time.Second), interval), nil
}

// lastGood returns the newest backup of the shard that has no marks; nil if
// there is none. What can't be read is none, and what is dated in the future may
// be of any age.
func (r *run) lastGood(ctx context.Context, repo *cas.Repository, shard shardName) (*manifest.Manifest, error) {
	keys, err := repo.Keys(ctx, string(shard.keyspace), string(shard.shard))
	if err != nil {
		return nil, err
	}
	for _, key := range slices.Backward(keys) {
		m, err := mysqlbackup.ReadManifest(ctx, repo, key)
		if err == nil && r.isFuture(m) {
			r.warnFuture(m.Name)
			continue
		}
		if err == nil && m.Good() {
			return m, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return nil, nil //nolint:nilnil // there is none
}

// isFuture tells whether a backup is dated in the future.
func (r *run) isFuture(m *manifest.Manifest) bool { return retention.IsFuture(m.Name, r.opts.Now()) }

func (r *run) warnFuture(name manifest.Name) { r.out.Warn(mysqlbackup.FutureText(name)) }

// tellSkipped tells that nothing was done, and why.
func (r *run) tellSkipped(shard shardName, why string) error {
	r.out.Text("skipped: %s", why)
	r.out.Object(struct {
		Type     string            `json:"type"`
		Keyspace manifest.Keyspace `json:"keyspace"`
		Shard    manifest.Shard    `json:"shard"`
		Why      string            `json:"why"`
	}{"skipped", shard.keyspace, shard.shard, why})
	return r.out.Err()
}
