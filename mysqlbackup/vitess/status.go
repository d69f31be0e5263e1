package vitess

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Status is how a tablet's server is.
type Status struct {
	ServerUUID    string
	Replicates    bool          // it has a source, and both threads run
	Lag           time.Duration // whole seconds
	LagKnown      bool
	BackupRunning bool // vttablet itself is making a backup
	Acknowledges  bool // it is a semi-synchronous replica that its source waits for

	WaitsForReplicas bool // a semi-synchronous source that is in force
	Replicas         int  // those that acknowledge
	WaitFor          int  // how many must
}

// threadRuns is the state of a replication thread that runs.
// Source: replicationdata.proto and go/mysql/replication.
const threadRuns = 3

// ParseStatus reads what GetFullStatus prints.
func ParseStatus(text []byte) (Status, error) {
	var s struct {
		ServerUUID  string `json:"server_uuid"`
		Replication *struct {
			IO            int   `json:"io_state"`
			SQL           int   `json:"sql_state"`
			Lag           int64 `json:"replication_lag_seconds"`
			LagUnknown    bool  `json:"replication_lag_unknown"`
			BackupRunning bool  `json:"backup_running"`
		} `json:"replication_status"`
		Acknowledges bool `json:"semi_sync_replica_status"`
		Waits        bool `json:"semi_sync_primary_status"`
		Clients      int  `json:"semi_sync_primary_clients"`
		WaitFor      int  `json:"semi_sync_wait_for_replica_count"`
	}
	if err := decode(text, &s); err != nil {
		return Status{}, err
	}
	if s.ServerUUID == "" {
		return Status{}, errors.New("a status without server_uuid")
	}
	status := Status{
		ServerUUID: strings.ToLower(s.ServerUUID), Acknowledges: s.Acknowledges,
		WaitsForReplicas: s.Waits, Replicas: s.Clients, WaitFor: s.WaitFor,
	}
	if r := s.Replication; r != nil {
		status.Replicates = r.IO == threadRuns && r.SQL == threadRuns
		status.Lag, status.LagKnown = time.Duration(r.Lag)*time.Second, !r.LagUnknown && r.Lag >= 0
		status.BackupRunning = r.BackupRunning
	}
	return status, nil
}

// Identity is what a vttablet tells of itself.
type Identity struct {
	Alias         Alias
	Keyspace      string
	Shard         string
	Type          Type
	BackupRunning bool // by vttablet itself
}

// ParseVars reads the /debug/vars of a vttablet.
func ParseVars(text []byte) (Identity, error) {
	var v struct {
		Alias    string         `json:"TabletAlias"`
		Keyspace string         `json:"TabletKeyspace"`
		Shard    string         `json:"TabletShard"`
		Type     Type           `json:"TabletType"`
		Backups  map[string]int `json:"BackupIsRunning"`
	}
	if err := decode(text, &v); err != nil {
		return Identity{}, err
	}
	if v.Alias == "" {
		return Identity{}, errors.New("there is no TabletAlias: this is no vttablet, or it is still starting")
	}
	alias, err := ParseAlias(v.Alias)
	if err != nil {
		return Identity{}, err
	}
	identity := Identity{Alias: alias, Keyspace: v.Keyspace, Shard: v.Shard, Type: v.Type}
	for _, n := range v.Backups {
		identity.BackupRunning = identity.BackupRunning || n > 0
	}
	return identity, nil
}

const (
	varsTimeout = 10 * time.Second
	varsMost    = 16 << 20 // bytes
)

// AskVttablet asks the vttablet whose HTTP server is at HOST:PORT who it is.
func AskVttablet(ctx context.Context, address string) (Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, varsTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/debug/vars", nil)
	if err != nil {
		return Identity{}, fmt.Errorf("ask vttablet: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return Identity{}, fmt.Errorf("ask vttablet: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, varsMost))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return Identity{}, fmt.Errorf("ask vttablet at %s: %w", address, err)
	}
	if response.StatusCode != http.StatusOK {
		return Identity{}, fmt.Errorf("ask vttablet at %s: %s", address, response.Status)
	}
	identity, err := ParseVars(text)
	if err != nil {
		return Identity{}, fmt.Errorf("ask vttablet at %s: %w", address, err)
	}
	return identity, nil
}
