package mysqlbackup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
)

// leaseTime is how long the word of a host counts that backs up a shard. It is
// given again at half of it.
const leaseTime = time.Hour

// leaseSkew is how far clocks may be apart without notice.
const leaseSkew = time.Hour

// lease is the word of a host, kept in the repository, that it backs up a
// shard, so that not all replicas of the shard are stopped at once. It is
// advice, and nothing but convenience rests on it: it expires by the clock, and
// a shared mount may show it late. The same tablet takes it over at once.
type lease struct {
	repo *cas.Repository
	name string
	now  func() time.Time
	gen  uint64 // of the value that was written last
	leaseRecord
	stop chan struct{}
	done chan struct{}
}

// leaseRecord is the value; the zero one says that nobody has the lease.
type leaseRecord struct {
	Holder  string    `json:"holder"` // alias of the tablet
	Host    string    `json:"host"`
	Until   time.Time `json:"until"`
	Session string    `json:"session"` // tells two runs of one tablet apart
}

func (b *backupRun) leaseName() string {
	return "shards/" + string(b.Keyspace) + "/" + string(b.Shard) + "/backup"
}

// takeLease takes the shard's lease; the error is an [ErrBusy] if another
// tablet has it, and an [ErrRefused] if it says so by a clock that is wrong. A
// lease that cannot be read or written is a warning.
func (b *backupRun) takeLease(ctx context.Context) error {
	l := &lease{repo: b.Store.Repo, name: b.leaseName(), now: b.Now, stop: make(chan struct{}), done: make(chan struct{})}
	l.leaseRecord = leaseRecord{Holder: b.Alias.String(), Host: b.Host, Session: string(b.record.Key())}
	err := b.take(ctx, l)
	if errors.Is(err, ErrBusy) || errors.Is(err, ErrRefused) {
		return err
	}
	if err != nil {
		b.Progress.Warn(fmt.Sprintf("other tablets may back up the shard at the same time: %v", err))
		return nil
	}
	b.lease = l
	go l.keep(context.WithoutCancel(ctx))
	return nil
}

func (b *backupRun) take(ctx context.Context, l *lease) error {
	for {
		other, err := l.read(ctx)
		if err != nil {
			return err
		}
		if other.Holder != "" && other.Holder != l.Holder && b.Now().Before(other.Until) {
			if err := b.heed(ctx, other); err != nil {
				return err
			}
		}
		if err := l.write(ctx); !errors.Is(err, cas.ErrExists) {
			return err
		} // somebody was faster
	}
}

// heed returns why a lease that has not expired must be heeded. It need not if the
// backup it is about was ended by garbage collection. One that ends later than any
// can was given by a clock that is ahead, if this one is right, and would block
// the shard for as long: that is told, and when its backup has been published it
// is not heeded.
func (b *backupRun) heed(ctx context.Context, other leaseRecord) error {
	_, err := b.Store.Repo.Record(ctx, cas.Key(other.Session))
	if errors.Is(err, cas.ErrRevoked) {
		return nil
	}
	if !other.Until.After(b.Now().Add(leaseTime + leaseSkew)) {
		return busyShard(b, other)
	}
	if err == nil {
		b.Progress.Warn(fmt.Sprintf("tablet %s on %s says that it backs up the shard until %s, but its backup is there: its clock is wrong, or this host's is",
			other.Holder, other.Host, other.Until.UTC().Format(time.RFC3339)))
		return nil
	}
	return hint.Wrap(as(ErrRefused, fmt.Errorf("tablet %s on %s says that it backs up %s/%s until %s: its clock is wrong, or this host's is",
		other.Holder, other.Host, b.Keyspace, b.Shard, other.Until.UTC().Format(time.RFC3339))),
		"set the clocks right; if that backup has died, \"shardseed prune\" ends it, and then this one may begin")
}

// dropLease gives the lease up.
func (b *backupRun) dropLease(ctx context.Context) {
	if err := b.lease.release(context.WithoutCancel(ctx)); err != nil {
		b.Progress.Warn(fmt.Sprintf("other tablets wait for %s before they back up the shard: %v", leaseTime, err))
	}
}

func busyShard(b *backupRun, other leaseRecord) error {
	return hint.Wrap(as(ErrBusy, fmt.Errorf("tablet %s on %s backs up %s/%s: one at a time per shard", other.Holder, other.Host, b.Keyspace, b.Shard)),
		fmt.Sprintf("wait for it, or retry with --retry; if it has died, its word expires at %s, or when \"shardseed prune\" has ended it", other.Until.UTC().Format(time.RFC3339)))
}

// read reads who has the lease, and which generation of the value says so.
func (l *lease) read(ctx context.Context) (leaseRecord, error) {
	var r leaseRecord
	text, gen, err := l.repo.Value(ctx, l.name)
	l.gen = gen
	if errors.Is(err, cas.ErrNotFound) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read who backs up the shard: %w", err)
	}
	return r, nil
}

func (l *lease) write(ctx context.Context) error {
	l.Until = l.now().Add(leaseTime).UTC()
	return l.set(ctx, l.leaseRecord)
}

// set writes the next generation; the error is a [cas.ErrExists] if somebody
// else has.
func (l *lease) set(ctx context.Context, r leaseRecord) error {
	text, err := json.Marshal(r)
	if err == nil {
		err = l.repo.SetValueAfter(ctx, l.name, l.gen, text)
	}
	if err != nil {
		return fmt.Errorf("tell that the shard is backed up: %w", err)
	}
	l.gen++
	return nil
}

// keep gives the word again until the lease is released.
func (l *lease) keep(ctx context.Context) {
	defer close(l.done)
	ticker := time.NewTicker(leaseTime / 2)
	defer ticker.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-ticker.C:
			_ = l.write(ctx) // advice: the next tick tries again, in vain if another has it now
		}
	}
}

// release gives the lease up, if it is still held.
func (l *lease) release(ctx context.Context) error {
	if l == nil {
		return nil
	}
	close(l.stop)
	<-l.done
	if err := l.set(ctx, leaseRecord{}); !errors.Is(err, cas.ErrExists) {
		return err
	}
	return nil // it has expired, or a later run of the tablet has taken it over
}
