package mysqlbackup

import (
	"context"
	"fmt"
	"time"

	"github.com/shardseed/shardseed/replication"
)

// HealthState is where a server stands on its way from a spare to one that
// serves.
type HealthState string

// The states, and whether a server in them serves.
const (
	HealthBackup     HealthState = "backup"      // no: a backup, restore or recover works on it
	HealthPutBack    HealthState = "put-back"    // no: a run was killed, and recover must finish it
	HealthRestore    HealthState = "restore"     // no: a restore has not been finished
	HealthDown       HealthState = "down"        // no: the server does not answer
	HealthSpare      HealthState = "spare"       // no: it replicates from nowhere
	HealthPrimary    HealthState = "primary"     // if wanted: it replicates from nowhere and takes writes
	HealthStopped    HealthState = "stopped"     // no: replication is not running
	HealthCatchingUp HealthState = "catching-up" // no: it lags too far behind
	HealthServing    HealthState = "serving"     // yes
)

// HealthStates returns all states.
func HealthStates() []HealthState {
	return []HealthState{
		HealthBackup, HealthPutBack, HealthRestore, HealthDown, HealthSpare, HealthPrimary, HealthStopped, HealthCatchingUp, HealthServing,
	}
}

// HealthOptions say which server is asked, and what it must be like.
type HealthOptions struct {
	Server       Instance // its service is not used
	StateDir     string
	MaxLag       time.Duration
	AllowPrimary bool // a server that takes writes and replicates from nowhere serves too
}

// Health is how a server is.
type Health struct {
	State   HealthState
	Serving bool
	Why     string         // it does not serve; "" if it does
	Lag     *time.Duration // of the channel that lags most; nil: not known
	Source  HostPort       // of the first channel
}

func notServing(state HealthState, format string, args ...any) Health {
	return Health{State: state, Why: fmt.Sprintf(format, args...)}
}

// CheckHealth looks at a server. It changes nothing and takes no locks. A server
// that can't be asked is down; an error is one of this host.
func CheckHealth(ctx context.Context, opts HealthOptions) (Health, error) {
	datadir, err := opts.Server.datadir()
	if err != nil {
		return Health{}, err
	}
	activity, err := ActivityOf(opts.StateDir, datadir)
	if err != nil {
		return Health{}, err
	}
	switch unfinished := checkUnfinished(datadir); {
	case activity.Running:
		return notServing(HealthBackup, "process %d works on the server", activity.PID), nil
	case activity.Phase != "":
		return notServing(HealthPutBack, "a run that was killed has not put the server back: run \"shardseed recover\""), nil
	case unfinished != nil:
		return notServing(HealthRestore, "%v", unfinished), nil
	}
	srv, err := connectLocal(ctx, opts.Server.Conn)
	if err != nil {
		return notServing(HealthDown, "%v", err), nil
	}
	defer srv.close()
	h, err := opts.judge(ctx, srv)
	if err != nil {
		return notServing(HealthDown, "%v", err), nil
	}
	return h, nil
}

// judge judges a server that answers.
func (o HealthOptions) judge(ctx context.Context, srv *server) (Health, error) {
	channels, err := srv.channels(ctx)
	if err != nil {
		return Health{}, err
	}
	if len(channels) == 0 {
		return o.judgeSourceless(ctx, srv)
	}
	h := Health{State: HealthServing, Serving: true, Source: HostPort{Host: channels[0].SourceHost, Port: channels[0].SourcePort}}
	for _, c := range channels {
		if worse := o.judgeChannel(c, &h); worse.State != "" {
			worse.Source = h.Source
			return worse, nil
		}
	}
	return h, nil
}

// judgeChannel returns what is wrong with a channel, a zero state if nothing
// is, and notes its lag.
func (o HealthOptions) judgeChannel(c replication.ReplicaStatus, h *Health) Health {
	source := HostPort{Host: c.SourceHost, Port: c.SourcePort}
	if !c.Running() {
		if err := c.Err(); err != nil {
			return notServing(HealthStopped, "replication from %s: %v", source, err)
		}
		return notServing(HealthStopped, "replication from %s: receiving: %s, applying: %s", source, c.IORunning, c.SQLRunning)
	}
	if c.SecondsBehind == nil {
		return notServing(HealthCatchingUp, "replication from %s: the lag is not known yet", source)
	}
	lag := time.Duration(*c.SecondsBehind) * time.Second
	if h.Lag == nil || *h.Lag < lag {
		h.Lag = &lag
	}
	if lag > o.MaxLag {
		worse := notServing(HealthCatchingUp, "replication from %s: %s behind, more than %s", source, lag, o.MaxLag)
		worse.Lag = &lag
		return worse
	}
	return Health{}
}

func (o HealthOptions) judgeSourceless(ctx context.Context, srv *server) (Health, error) {
	err := srv.checkWritable(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		return notServing(HealthSpare, "no replication is configured"), nil
	case err != nil:
		return Health{}, err
	case o.AllowPrimary:
		return Health{State: HealthPrimary, Serving: true}, nil
	}
	return notServing(HealthPrimary, "no replication is configured, and the server takes writes: it is a primary, or not set up yet"), nil
}
