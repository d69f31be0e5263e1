package mysqlbackup

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// serverState is what a backup may disturb on a server, as it was before.
type serverState struct {
	Variables map[string]string `json:"variables"` // those that exist, by name
	Channels  []channelState    `json:"channels"`
}

// channelState is one replication channel.
type channelState struct {
	Name       string `json:"name"`
	Host       string `json:"source_host"`
	Port       int    `json:"source_port"`
	IORunning  bool   `json:"io_running"` // or trying to connect
	SQLRunning bool   `json:"sql_running"`
	Replicates bool   `json:"replicates"` // connected, and both threads run
	Delayed    bool   `json:"delayed"`    // on purpose
}

func (c channelState) source() HostPort { return HostPort{Host: c.Host, Port: c.Port} }

// changes returns the threads to start and to stop so that current becomes c.
func (c channelState) changes(current channelState) (start, stop []replication.Thread) {
	for _, t := range []struct {
		thread    replication.Thread
		want, got bool
	}{{replication.SQLThread, c.SQLRunning, current.SQLRunning}, {replication.IOThread, c.IORunning, current.IORunning}} {
		switch {
		case t.want && !t.got:
			start = append(start, t.thread)
		case !t.want && t.got:
			stop = append(stop, t.thread)
		}
	}
	return start, stop
}

const (
	varReadOnly      = "read_only"
	varSuperReadOnly = "super_read_only"
	varFastShutdown  = "innodb_fast_shutdown"
	varEvents        = "event_scheduler"
)

// watched lists the variables of a serverState in the order in which they are
// put back: what fences comes last, as it may open the server for writes.
func watched(d replication.Dialect) []string {
	names := slices.Concat([]string{varFastShutdown}, d.SemiSyncReplica, d.SemiSyncSource, []string{varEvents, varSuperReadOnly, varReadOnly})
	return names
}

// readState reads the present state of a running server.
func readState(ctx context.Context, srv *server) (serverState, error) {
	vars, err := srv.variables(ctx)
	if err != nil {
		return serverState{}, err
	}
	channels, err := srv.channels(ctx)
	if err != nil {
		return serverState{}, err
	}
	state := serverState{Variables: map[string]string{}, Channels: []channelState{}}
	for _, name := range watched(srv.dialect) {
		if value, ok := vars[name]; ok {
			state.Variables[name] = value
		}
	}
	for _, c := range channels {
		state.Channels = append(state.Channels, channelState{
			Name: c.Channel, Host: c.SourceHost, Port: c.SourcePort,
			IORunning:  c.IORunning != replication.ThreadStopped,
			SQLRunning: c.SQLRunning != replication.ThreadStopped,
			Replicates: c.Running(),
			Delayed:    c.Delay > 0,
		})
	}
	return state, nil
}

// without returns the state without the variables of the names.
func (s serverState) without(names []string) serverState {
	s.Variables = maps.Clone(s.Variables)
	for _, name := range names {
		delete(s.Variables, name)
	}
	return s
}

// isOn reports whether a variable is set to true, in any of its spellings.
func (s serverState) isOn(name string) bool {
	switch strings.ToUpper(s.Variables[name]) {
	case "ON", "1", "YES":
		return true
	}
	return strings.HasPrefix(strings.ToUpper(s.Variables[name]), "NO_LOCK") // MariaDB 12's read_only has levels
}

// anyOn reports whether one of the names is set to true.
func (s serverState) anyOn(names []string) bool { return slices.ContainsFunc(names, s.isOn) }

// channel returns the channel of a name.
func (s serverState) channel(name string) (channelState, bool) {
	i := slices.IndexFunc(s.Channels, func(c channelState) bool { return c.Name == name })
	if i < 0 {
		return channelState{}, false
	}
	return s.Channels[i], true
}

// manifest returns the state as a backup records it.
func (s serverState) manifest(d replication.Dialect) manifest.State {
	state := manifest.State{
		ReadOnly:          s.isOn(varReadOnly),
		SuperReadOnly:     s.isOn(varSuperReadOnly),
		SemiSyncReplica:   s.anyOn(d.SemiSyncReplica),
		SemiSyncSource:    s.anyOn(d.SemiSyncSource),
		ReplicaConfigured: len(s.Channels) > 0,
	}
	for _, c := range s.Channels {
		state.ReplicaIORunning = state.ReplicaIORunning || c.IORunning
		state.ReplicaSQLRunning = state.ReplicaSQLRunning || c.SQLRunning
	}
	return state
}

// setVariable sets a global variable to a value that it had before.
func setVariable(ctx context.Context, srv *server, name, value string) error {
	literal := value
	if strings.Trim(value, "0123456789") != "" || value == "" {
		literal = replication.Quote(value)
	}
	if err := srv.exec(ctx, fmt.Sprintf("SET GLOBAL %s = %s", name, literal)); err != nil {
		return fmt.Errorf("set %s to %s: %w", name, value, err)
	}
	return nil
}
