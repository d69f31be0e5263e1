package mysqlbackup

import (
	"context"
	"errors"
	"path"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup/vitess"
)

// RecoverOptions say which server to put back.
type RecoverOptions struct {
	Server      Instance
	Repo        *cas.Repository                                  // in which the session of the killed run is ended; nil: none
	Topology    func(manifest.Keyspace, manifest.Shard) Topology // nil: the shard's primary is not known
	Vitess      *vitess.Client                                   // how to reach Vitess now; nil: as when the server was taken aside
	CatchUp     CatchUp                                          // what a server must reach that was taken out of serving
	Replication Credentials
	StateDir    string
	Progress    Progress
}

// RecoverResult says what was put back.
type RecoverResult struct {
	Pending bool      // false: there was nothing to put back
	Backup  string    // key of the backup that was being made
	Started time.Time // when
}

// Recover finishes putting back a server that a killed run has left: it starts
// the server if it does not run and gives it back its flags and its
// replication. An [ErrPutBack] says that it did not succeed.
func Recover(ctx context.Context, opts RecoverOptions) (_ *RecoverResult, err error) {
	datadir, err := opts.Server.datadir()
	if err != nil {
		return nil, err
	}
	if err := checkUnfinished(datadir); err != nil {
		return nil, err
	}
	j, err := openJournal(opts.StateDir, datadir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	if !j.pending() {
		return &RecoverResult{}, nil
	}
	result := &RecoverResult{Pending: true, Backup: j.Backup, Started: j.Started}
	if tablet := j.Serving.Tablet; tablet != nil && opts.Vitess != nil {
		tablet.Client = *opts.Vitess
	}
	k := &keeper{
		journal: j, progress: opts.Progress, topology: opts.topology(j), conn: opts.Server.Conn, limits: opts.CatchUp,
		accounts: accounts{replication: opts.Replication, admin: opts.Server.Conn.Credentials},
	}
	k.endSession(ctx, opts.Repo)
	if settled, err := k.settled(ctx); settled || err != nil {
		return &RecoverResult{}, err
	}
	opts.Progress.Step(string(StepPutBack), j.Backup)
	if err := k.bringBack(ctx, opts.Server.Service, opts.Server.StartTimeout, opts.Server.StopTimeout); err != nil {
		return nil, as(ErrPutBack, err)
	}
	return result, nil
}

// topology returns what knows the primary of a backup's shard: Vitess, if the
// server is that of a tablet.
func (o RecoverOptions) topology(j *journal) Topology {
	keyspace, shard, err := manifest.ParseKeyspaceShard(path.Dir(j.Backup))
	switch {
	case err != nil:
		return Fixed{}
	case j.Serving.Tablet != nil:
		return VitessShard{Client: j.Serving.Tablet.Client, Keyspace: keyspace, Shard: shard}
	case o.Topology == nil:
		return Fixed{}
	}
	return o.Topology(keyspace, shard)
}
