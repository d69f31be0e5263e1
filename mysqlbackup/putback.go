package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/replication"
)

// threadWait is how long replication threads may take to start.
const threadWait = 20 * time.Second

// keeper puts a server back from its journal.
type keeper struct {
	journal     *journal
	progress    Progress
	topology    Topology
	accounts    accounts
	conn        Connection
	limits      CatchUp
	watch       func(*server) error // see chase
	promotedNow bool                // somebody has promoted the server, and nothing was put back
}

// putBack makes the running server what the journal says it was, respecting
// what others changed meanwhile. The journal stays: see serve.
func (k *keeper) putBack(ctx context.Context, srv *server) error {
	if err := k.checkSame(ctx, srv); err != nil {
		return err
	}
	if err := k.noteRestart(srv); err != nil {
		return err
	}
	now, err := readState(ctx, srv)
	if err != nil {
		return err
	}
	promoted, err := k.promoted(ctx, srv, now)
	if err != nil {
		k.progress.Warn(err.Error())
	}
	k.promotedNow = promoted != ""
	if k.promotedNow {
		k.progress.Warn("nothing is put back: " + promoted)
		return nil
	}
	if err := errors.Join(k.putVariables(ctx, srv, now, false), k.repoint(ctx, srv, now)); err != nil {
		return err
	}
	if err := k.putThreads(ctx, srv, now); err != nil {
		return err
	}
	if err := k.putVariables(ctx, srv, now, true); err != nil {
		return err
	}
	return k.awaitThreads(ctx, srv)
}

// noteBack records that the server is as it was. Without the record a run that
// is killed from here on is finished as if nothing had been put back.
func (k *keeper) noteBack(srv *server) {
	k.journal.Left, k.journal.ServerPID = maps.Clone(k.journal.Saved.Variables), int(srv.pid.Load())
	k.journal.ServerStart = processStart(k.journal.ServerPID)
	if err := k.journal.enter(phaseBack); err != nil {
		k.progress.Warn(err.Error())
	}
}

// settled ends the watch of a run that was killed, if the server is the one
// that it had put back: there is nothing to do.
func (k *keeper) settled(ctx context.Context) (bool, error) {
	if k.journal.Phase != phaseBack || !k.journal.Serving.isZero() {
		return false, nil
	}
	srv, err := connectLocal(ctx, k.conn)
	if err != nil {
		return false, nil // it does not run, or hangs: that is for bringBack
	}
	defer srv.close()
	if pid := int(srv.pid.Load()); pid == 0 || pid != k.journal.ServerPID || processStart(pid) != k.journal.ServerStart {
		return false, nil
	}
	return true, k.journal.clear()
}

// endSession ends the killed run's session. The server counts for more than that.
func (k *keeper) endSession(ctx context.Context, repo *cas.Repository) {
	if err := k.journal.endSession(ctx, repo); err != nil {
		k.progress.Warn(fmt.Sprintf("the next prune waits for %s before it ends the killed run's backup: %v", cas.DefaultStaleAfter, err))
	}
}

// noteRestart notices a server that has been restarted, and not by the run:
// what was set on it is gone, and replication may have started by itself.
func (k *keeper) noteRestart(srv *server) error {
	pid := int(srv.pid.Load())
	if k.journal.ServerPID == 0 || pid == k.journal.ServerPID {
		return nil
	}
	k.progress.Warn(fmt.Sprintf("the server has been restarted by somebody else: it is process %d now", pid))
	k.journal.ServerPID, k.journal.Left = pid, nil
	return k.journal.enter(phaseStarted)
}

// checkSame verifies that the server at the socket is the journal's.
func (k *keeper) checkSame(ctx context.Context, srv *server) error {
	datadir, err := srv.value(ctx, "SELECT @@GLOBAL.datadir")
	if err == nil && filepath.Clean(datadir) != k.journal.Datadir {
		err = fmt.Errorf("the server at %s has its data directory at %s, the one to put back at %s", k.conn.Socket, datadir, k.journal.Datadir)
	}
	return err
}

// promoted says why the server must be taken for a primary now; "" if not.
func (k *keeper) promoted(ctx context.Context, srv *server, now serverState) (string, error) {
	if len(k.journal.Saved.Channels) > 0 && len(now.Channels) == 0 {
		return "the server was a replica and has no source any more: somebody has promoted it", nil
	}
	if tablet := k.journal.Serving.Tablet; tablet != nil {
		return tablet.isPrimary(ctx)
	}
	primary, err := k.topology.Primary(ctx)
	if err != nil || primary.IsZero() || primary.String() == k.journal.Primary {
		return "", err
	}
	self, err := isSelf(ctx, srv, primary)
	if self {
		return fmt.Sprintf("%s has become the shard's primary", primary), err
	}
	return "", err
}

// isSelf reports whether an address is the server's own.
func isSelf(ctx context.Context, srv *server, addr HostPort) (bool, error) {
	row, err := srv.row(ctx, "SELECT @@port AS port, @@hostname AS hostname, @@report_host AS report_host")
	if err != nil || row["port"] != fmt.Sprint(addr.Port) {
		return false, err
	}
	switch addr.Host {
	case row["hostname"], row["report_host"], "127.0.0.1", "localhost", "::1":
		return true, nil
	}
	return false, nil
}

// isFence tells the variables that keep writes out.
func isFence(name string) bool { return name == varReadOnly || name == varSuperReadOnly }

// putVariables puts back the variables that are still as the run left them:
// the fence or all the others.
func (k *keeper) putVariables(ctx context.Context, srv *server, now serverState, fence bool) error {
	for _, name := range watched(srv.dialect) {
		want, saved := k.journal.Saved.Variables[name]
		got, present := now.Variables[name]
		if !saved || !present || isFence(name) != fence {
			continue
		}
		left, known := k.journal.Left[name]
		switch {
		case same(got, want):
		case known && !same(got, left):
			k.progress.Warn(fmt.Sprintf("%s stays %s: somebody has changed it from %s", name, got, left))
		default:
			if err := setVariable(ctx, srv, name, want); err != nil {
				return err
			}
		}
	}
	return nil
}

// same compares values of a variable; OFF is 0 and ON is 1.
func same(a, b string) bool {
	plain := strings.NewReplacer("OFF", "0", "ON", "1")
	return plain.Replace(strings.ToUpper(a)) == plain.Replace(strings.ToUpper(b))
}

// start starts the server. Where that is in our hands it comes up fenced and
// without replication.
func (k *keeper) start(ctx context.Context, service Service, timeout time.Duration) (*server, error) {
	k.journal.Left, k.journal.ServerPID = nil, 0 // whatever was set at run time is gone
	if err := k.journal.enter(phaseStarted); err != nil {
		k.progress.Warn(err.Error()) // the server counts for more
	}
	srv, err := startServer(ctx, service, k.conn, timeout, k.journal.StartFlags...)
	if err != nil {
		return nil, err
	}
	if err := k.noteStarted(ctx, srv); err != nil {
		k.progress.Warn(err.Error())
	}
	return srv, nil
}

// noteStarted records how the server has come up, so that what others change
// from then on is seen.
func (k *keeper) noteStarted(ctx context.Context, srv *server) error {
	now, err := readState(ctx, srv)
	if err != nil {
		return err
	}
	k.journal.Left, k.journal.ServerPID = now.Variables, int(srv.pid.Load())
	return k.journal.save()
}

// putThreads starts the replication threads that ran, and stops those that did
// not and that our own start of the server has started. before is the state
// before the variables were put back: a receiver reads whether it acknowledges
// when it connects, and one that has started by itself must connect again.
func (k *keeper) putThreads(ctx context.Context, srv *server, before serverState) error {
	k.startTablet(ctx)
	now, err := readState(ctx, srv)
	if err != nil {
		return err
	}
	reconnect := now.anyOn(srv.dialect.SemiSyncReplica) != before.anyOn(srv.dialect.SemiSyncReplica)
	for _, saved := range k.journal.Saved.Channels {
		current, ok := now.channel(saved.Name)
		if !ok {
			k.progress.Warn(fmt.Sprintf("replication channel %q is gone: somebody has removed it", saved.Name))
			continue
		}
		if reconnect && saved.IORunning && current.IORunning {
			if err := srv.exec(ctx, srv.dialect.StopChannel(saved.Name, replication.IOThread)); err != nil {
				return err
			}
			current.IORunning = false
		}
		start, stop := saved.changes(current)
		if len(stop) > 0 && k.journal.Phase == phaseStarted {
			if err := srv.exec(ctx, srv.dialect.StopChannel(saved.Name, stop...)); err != nil {
				return err
			}
		}
		if len(start) == 0 {
			continue
		}
		if err := srv.exec(ctx, srv.dialect.StartChannel(saved.Name, start...)); err != nil {
			return err
		}
	}
	return nil
}

// awaitThreads waits until the threads that ran do so again.
func (k *keeper) awaitThreads(ctx context.Context, srv *server) error {
	var last error
	err := poll(ctx, "replication to run again", threadWait, func(ctx context.Context) (bool, error) {
		channels, err := srv.channels(ctx)
		if err != nil {
			return false, err
		}
		for _, c := range channels {
			saved := k.saved(c.Channel)
			if saved.SQLRunning && c.SQLRunning != replication.ThreadRunning || saved.IORunning && c.IORunning == replication.ThreadStopped {
				last = c.Err()
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil && last != nil {
		return fmt.Errorf("%w: %w", err, last)
	}
	return err
}

func (k *keeper) saved(channel string) channelState {
	for _, c := range k.journal.Saved.Channels {
		if c.Name == channel {
			return c
		}
	}
	return channelState{}
}

// repoint gives a replica the shard's new primary if that changed during the
// run, is writable and has all that the replica has. Else the replica keeps
// its own source, also if nobody can say which the primary is.
func (k *keeper) repoint(ctx context.Context, srv *server, now serverState) error {
	if tablet := k.journal.Serving.Tablet; tablet != nil {
		err := tablet.reparent(ctx)
		if err == nil {
			return nil
		}
		k.progress.Warn(fmt.Sprintf("vttablet could not point the server at the primary: %v", err))
	}
	primary, err := k.topology.Primary(ctx)
	if err != nil || primary.IsZero() || primary.String() == k.journal.Primary || len(now.Channels) != 1 {
		return nil //nolint:nilerr // promoted has told it
	}
	current := now.Channels[0]
	if current.source() == primary || current.source() != k.saved(current.Name).source() {
		return nil // it is right already, or somebody else has pointed it elsewhere
	}
	if err := k.fits(ctx, srv, primary); err != nil {
		k.progress.Warn(fmt.Sprintf("the shard's primary is %s now, the replica keeps its source %s: %v", primary, current.source(), err))
		return nil
	}
	return srv.exec(ctx, srv.dialect.StopChannel(current.Name), srv.dialect.MoveSource(current.Name, primary.Host, primary.Port))
}

// fits reports whether the replica can follow the primary.
func (k *keeper) fits(ctx context.Context, srv *server, addr HostPort) error {
	channels, err := srv.channels(ctx)
	if err != nil {
		return err
	}
	for _, c := range channels {
		if !c.AutoPosition {
			return errors.New("it replicates by file and position, which mean nothing on another server")
		}
	}
	own, err := srv.position(ctx, channels)
	if err != nil {
		return err
	}
	return k.accounts.each(ctx, addr, func(primary *server) error {
		if err := primary.checkWritable(ctx); err != nil {
			return err
		}
		state, err := primary.state(ctx)
		if err != nil {
			return err
		}
		return replication.CanFollow(own, state)
	})
}

// bringTries is how often a server is brought back that ends meanwhile.
const bringTries = 3

// bringBack starts the server if it does not run and puts it back. It is how a
// run that failed and one that was killed end.
func (k *keeper) bringBack(ctx context.Context, service Service, startTimeout, stopTimeout time.Duration) error {
	return k.bring(ctx, service, startTimeout, stopTimeout, k.catchUpAndServe)
}

// bring is bringBack up to what follows when the server is put back; nil:
// nothing, and the journal stays.
func (k *keeper) bring(ctx context.Context, service Service, startTimeout, stopTimeout time.Duration, then func(context.Context, *server) error) error {
	ends := k.journal.Phase == phaseStopped
	for try := 1; ; try++ {
		if ends {
			if err := k.awaitStopped(ctx, stopTimeout); err != nil {
				return err
			}
		}
		srv, err := k.reach(ctx, service, startTimeout)
		if err != nil {
			return err
		}
		if err = k.putBack(ctx, srv); err == nil && then != nil {
			err = then(ctx, srv)
		}
		srv.close()
		if try == bringTries || !isLost(err) {
			return err
		}
		k.progress.Warn(fmt.Sprintf("the server has ended while it was put back: %v", err))
		ends = true
	}
}

// isLost tells the errors of a server that ends while it is asked.
func isLost(err error) bool {
	var said *mysql.MySQLError
	return errors.As(err, &said) && said.Number == shutdownInProgress || err != nil && isNotUp(err)
}

// shutdownInProgress is the error number of a server that ends.
const shutdownInProgress = 1053

// leastStopWait is how long a server that was asked to stop is waited for even
// if less was allowed for a backup: it ends all the same.
const leastStopWait = time.Minute

// awaitStopped lets a server that was asked to stop come to an end: a start
// before that would be lost. A server that answers was not stopped, or has
// been started again.
func (k *keeper) awaitStopped(ctx context.Context, timeout time.Duration) error {
	return poll(ctx, "the server to end or to answer", max(timeout, leastStopWait), func(ctx context.Context) (bool, error) {
		pids, err := serversOf(k.journal.Datadir, k.journal.DefaultsFile)
		if err != nil || len(pids) == 0 {
			return err == nil, err
		}
		srv, err := connectLocal(ctx, k.conn)
		if err == nil {
			srv.close()
		}
		return err == nil, nil
	})
}

// reach connects to the server, and starts it if no process of it runs.
func (k *keeper) reach(ctx context.Context, service Service, timeout time.Duration) (*server, error) {
	srv, err := connectLocal(ctx, k.conn)
	if err == nil {
		return srv, nil
	}
	pids, scanErr := serversOf(k.journal.Datadir, k.journal.DefaultsFile)
	if scanErr != nil {
		return nil, errors.Join(err, scanErr)
	}
	if len(pids) > 0 { // it is coming up, or hangs
		return awaitServer(ctx, k.conn, timeout, nil)
	}
	if k.journal.Phase == phaseFenced {
		k.progress.Warn("the server has ended by itself; starting it")
	}
	return k.start(ctx, service, timeout)
}

// catchUp waits for the channels that replicated before. It returns nil if
// there is none to wait for.
func (k *keeper) catchUp(ctx context.Context, srv *server) (*Proof, error) {
	c := &chase{CatchUp: k.limits, skip: map[string]bool{}, accounts: k.accounts, progress: k.progress, watch: k.watch}
	first, whole := HostPort{}, true
	for _, channel := range k.journal.Saved.Channels {
		switch {
		case !channel.Replicates:
			k.progress.Warn(fmt.Sprintf("replication from %s did not run before and is not waited for", channel.source()))
			c.skip[channel.Name], whole = true, false
			continue
		case channel.Delayed:
			whole = false
		}
		if first.IsZero() {
			first = channel.source()
		}
	}
	if first.IsZero() {
		return nil, nil //nolint:nilnil // there is nothing to prove
	}
	k.progress.Step(string(StepCatchUp), "")
	if whole {
		c.primary = k.knownPrimary(ctx, first)
	}
	return c.run(ctx, srv)
}

// knownPrimary is the shard's primary, or else the server's source.
func (k *keeper) knownPrimary(ctx context.Context, source HostPort) HostPort {
	primary, err := k.topology.Primary(ctx)
	if err != nil {
		k.progress.Warn(err.Error())
	}
	if primary.IsZero() {
		return source
	}
	return primary
}
