package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/replication"
)

// CatchUp says when a replica counts as caught up.
type CatchUp struct {
	Lag     time.Duration // at most
	Timeout time.Duration // for getting there
}

// Proof is what was seen of a replica that has caught up.
type Proof struct {
	Source      HostPort             // from which it replicates
	Target      replication.Position // the primary's, or what had been received if that can't be read
	Reached     replication.Position // the replica's, which contains Target
	LagSeconds  int64
	FromPrimary bool // Target is the primary's own
	ReadOnly    bool
}

// chase is a replica that is to catch up.
type chase struct {
	CatchUp
	primary  HostPort        // zero: judge by what has been received
	skip     map[string]bool // channels that are not waited for
	accounts accounts
	progress Progress
	watch    func(srv *server) error              // says whether the server is lost; nil: nobody knows
	received map[string]replication.ReplicaStatus // by channel, when it was first looked at
}

// run waits until both threads of all channels run, the primary's position as
// it is now is reached and the lag is below the limit.
func (c *chase) run(ctx context.Context, srv *server) (*Proof, error) {
	proof := &Proof{}
	c.received = map[string]replication.ReplicaStatus{}
	if !c.primary.IsZero() {
		target, err := c.readTarget(ctx)
		if err != nil {
			c.progress.Warn(fmt.Sprintf("the primary's position could not be read, judging by what the replica has received: %v", err))
		} else {
			proof.Target, proof.FromPrimary = target, true
		}
	}
	var last error
	err := poll(ctx, "the replica to catch up", c.Timeout, func(ctx context.Context) (bool, error) {
		last = c.look(ctx, srv, proof)
		if c.watch != nil && ctx.Err() == nil {
			if err := c.watch(srv); err != nil {
				return false, err
			}
		}
		var hopeless *hopelessError
		if errors.As(last, &hopeless) {
			return false, last
		}
		return last == nil, nil
	})
	var late *timeoutError
	if errors.As(err, &late) && last != nil {
		err = fmt.Errorf("%w: %w", err, last)
	}
	if err != nil {
		return nil, hint.Wrap(err, "look at "+srv.dialect.ReplicaStatus+" on the server")
	}
	return proof, nil
}

// readTarget reads the primary's position. A primary without GTIDs has only
// that in its binary log.
func (c *chase) readTarget(ctx context.Context) (position replication.Position, err error) {
	err = c.accounts.each(ctx, c.primary, func(primary *server) error {
		if position, err = primary.primaryPosition(ctx); err != nil {
			return err
		}
		gtids, err := primary.usesGTIDs(ctx)
		if err != nil || gtids {
			return err
		}
		return primary.addBinlog(ctx, &position)
	})
	return position, err
}

// hopelessError is a state that waiting does not change.
type hopelessError struct{ err error }

func (e *hopelessError) Error() string { return e.err.Error() }
func (e *hopelessError) Unwrap() error { return e.err }

// look returns nil if the replica has caught up, else what is missing.
func (c *chase) look(ctx context.Context, srv *server, p *Proof) error {
	channels, err := srv.channels(ctx)
	if err != nil {
		return err
	}
	if len(channels) == 0 {
		return &hopelessError{errors.New("the server has no source any more")}
	}
	if p.Reached, err = srv.position(ctx, channels); err != nil {
		return err
	}
	p.LagSeconds = 0
	for _, channel := range channels {
		if c.skip[channel.Channel] {
			continue
		}
		if err := c.lookAt(channel, p); err != nil {
			return err
		}
		if p.Source != c.primary || p.Source.IsZero() {
			p.Source = HostPort{Host: channel.SourceHost, Port: channel.SourcePort}
		}
	}
	if p.FromPrimary && !p.Reached.Contains(p.Target) {
		return missing(p.Target, p.Reached)
	}
	on, err := srv.value(ctx, "SELECT @@GLOBAL.read_only")
	p.ReadOnly = !same(on, "OFF")
	return err
}

func missing(want, have replication.Position) error {
	return fmt.Errorf("transactions are missing: %s", want.Subtract(have).Short())
}

// lookAt judges one channel.
func (c *chase) lookAt(channel replication.ReplicaStatus, p *Proof) error {
	if channel.SQLErrno != 0 && channel.SQLRunning == replication.ThreadStopped {
		return &hopelessError{channel.Err()}
	}
	source := HostPort{Host: channel.SourceHost, Port: channel.SourcePort}
	if !channel.Running() {
		if err := channel.Err(); err != nil {
			return err
		}
		return fmt.Errorf("replication from %s: receiving: %s, applying: %s", source, channel.IORunning, channel.SQLRunning)
	}
	if channel.SecondsBehind == nil {
		return fmt.Errorf("replication from %s: the lag is not known yet", source)
	}
	behind := *channel.SecondsBehind - channel.Delay
	p.LagSeconds = max(p.LagSeconds, behind)
	if time.Duration(behind)*time.Second > c.Lag {
		return fmt.Errorf("replication from %s: %d s behind", source, behind)
	}
	if channel.Delay > 0 {
		return nil // what it has received is not applied on purpose
	}
	first, ok := c.received[channel.Channel]
	if !ok {
		first = channel
		c.received[channel.Channel] = first
	}
	if !p.FromPrimary {
		p.Target = first.Retrieved
		if !p.Reached.Contains(p.Target) {
			return missing(p.Target, p.Reached)
		}
	}
	return c.lookAtFiles(channel, first, p)
}

// lookAtFiles judges a channel that replicates by file and position: it must
// have applied all that it had received, and that its source had, when the
// chase began.
func (c *chase) lookAtFiles(channel, first replication.ReplicaStatus, p *Proof) error {
	if channel.AutoPosition {
		return nil
	}
	source := HostPort{Host: channel.SourceHost, Port: channel.SourcePort}
	file, offset := first.ReadFile, first.ReadOffset
	if p.FromPrimary && source == c.primary && p.Target.BinlogFile != "" {
		file, offset = p.Target.BinlogFile, p.Target.BinlogOffset
	}
	if replication.LogReached(channel.SourceFile, channel.SourceOffset, file, offset) {
		return nil
	}
	return fmt.Errorf("replication from %s: applied up to %s:%d, wanted %s:%d", source, channel.SourceFile, channel.SourceOffset, file, offset)
}
