package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/index"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// RestoreMode says where a restore ends.
type RestoreMode int

// The modes.
const (
	ModeReplica    RestoreMode = iota // with a replica of the primary; with a standalone server if none is known
	ModeStandalone                    // with a running server without replication
	ModeFiles                         // with the files
)

// RestoreOptions say what to restore, and where to.
type RestoreOptions struct {
	Store    Store
	Keyspace manifest.Keyspace
	Shard    manifest.Shard
	Backup   *manifest.Name // nil: the newest without marks

	Server      Instance
	Program     string // mysqld, for the fenced start
	Mode        RestoreMode
	Concurrency int
	Force       bool              // delete what is in the way
	KeepOld     bool              // with Force: move it aside instead
	Map         map[string]string // folders of external tablespaces: on the source → here
	Owner       string            // of the files; "": as the data directory, or who runs this

	Topology    Topology
	CatchUp     CatchUp
	Replication Credentials
	StateDir    string

	Progress Progress
	Now      func() time.Time
}

// RestoreResult is what a restore has made.
type RestoreResult struct {
	Manifest *manifest.Manifest
	Datadir  string
	Position replication.Position // at the fenced start; zero with [ModeFiles]
	Primary  HostPort             // zero: none was known, or none was wanted
	Proof    *Proof               // nil unless the server is a replica now
	OldFiles []string             // moved aside
}

// restoreRun is one run of [Restore].
type restoreRun struct {
	RestoreOptions
	target  *target
	primary HostPort      // zero: none
	source  *primaryFacts // nil: none
	chosen  *manifest.Manifest
	reader  *cas.Reader
	chunks  *index.Memory
	files   []manifest.File
	result  RestoreResult
}

// Restore writes the files of a backup and makes a running server of them.
// Nothing is changed before the preflight has passed: an [ErrRefused] says why
// it has not. A data directory that is not complete is marked as such, and
// lacks its redo log, without which no server starts; the same restore run
// again starts over. A result that comes with an [ErrPutBack] is a server that
// runs and does not replicate as it should.
func Restore(ctx context.Context, opts RestoreOptions) (_ *RestoreResult, err error) {
	r := &restoreRun{RestoreOptions: opts}
	r.step(StepPreflight, fmt.Sprintf("%s/%s", opts.Keyspace, opts.Shard))
	if r.target, err = newTarget(ctx, &r.RestoreOptions); err != nil {
		return nil, err
	}
	j, err := openJournal(opts.StateDir, r.target.layout.datadir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	if err := r.preflight(ctx); err != nil {
		return nil, err
	}
	if err := j.clear(); err != nil { // of a server whose files are replaced now
		return nil, err
	}
	defer func() { err = errors.Join(err, r.reader.Close()) }()
	if err := r.write(ctx); err != nil {
		return nil, hint.Wrap(err, "run the same restore again: it clears what it left and starts over")
	}
	return r.bringUp(ctx)
}

func (r *restoreRun) step(s Step, detail string) { r.Progress.Step(string(s), detail) }

// preflight checks everything that can be checked before anything is changed.
func (r *restoreRun) preflight(ctx context.Context) error {
	if err := r.target.endFenced(ctx); err != nil {
		return err
	}
	if err := r.target.checkIdle(ctx, r.Server.Conn.Socket); err != nil {
		return err
	}
	if err := r.readPrimary(ctx); err != nil {
		return err
	}
	m, err := r.choose(ctx)
	if err != nil {
		return err
	}
	r.chosen = m
	r.Progress.Step(string(StepPreflight), "backup "+m.Name.String())
	r.warnFollow(m)
	r.tellKeys()
	if err := r.openFiles(ctx); err != nil {
		return err
	}
	if err := r.target.checkPlace(&r.RestoreOptions, r.files); err != nil {
		return errors.Join(err, r.reader.Close())
	}
	return nil
}

// openFiles reads the list of files, from the directories of the packs that
// the manifest names alone.
func (r *restoreRun) openFiles(ctx context.Context) (err error) {
	if r.chunks, err = index.OfPacks(ctx, r.Store.Repo, r.chosen.Packs); err != nil {
		return err
	}
	r.reader = r.Store.Repo.NewReader(r.chunks)
	r.files, err = readFiles(ctx, r.reader, r.chosen.Files)
	if err != nil {
		return errors.Join(err, r.reader.Close())
	}
	return nil
}

// write puts the files in place. From its first step on the data directory is
// marked.
func (r *restoreRun) write(ctx context.Context) error {
	r.step(StepClear, r.target.layout.datadir)
	old, err := r.target.clear(&r.RestoreOptions)
	if err != nil {
		return err
	}
	r.result = RestoreResult{Manifest: r.chosen, Datadir: r.target.layout.datadir, OldFiles: old}
	if err := r.target.mark(r.chosen.Key()); err != nil {
		return err
	}
	r.step(StepFiles, r.chosen.Name.String())
	a := &assembler{target: r.target, reader: r.reader, workers: r.Concurrency, progress: r.Progress, roots: r.chosen.Roots}
	if err := a.writeFiles(ctx, r.files); err != nil {
		return err
	}
	r.step(StepSync, "")
	return a.finish()
}

// bringUp makes a server of the files.
func (r *restoreRun) bringUp(ctx context.Context) (*RestoreResult, error) {
	if r.Mode == ModeFiles {
		return &r.result, r.unmark()
	}
	if err := r.seed(ctx); err != nil {
		return nil, hint.Wrap(err, "mend what is wrong, then run the same restore again with --force")
	}
	if err := r.unmark(); err != nil {
		return nil, err
	}
	r.step(StepStart, r.Server.Service.String())
	srv, err := startServer(context.WithoutCancel(ctx), r.Server.Service, r.Server.Conn, r.Server.StartTimeout)
	if err != nil {
		return &r.result, as(ErrPutBack, err)
	}
	defer srv.close()
	return &r.result, as(ErrPutBack, r.prove(ctx, srv))
}

func (r *restoreRun) unmark() error {
	r.step(StepUnmark, "")
	return r.target.unmark()
}

// prove makes sure that the server replicates and takes no writes.
func (r *restoreRun) prove(ctx context.Context, srv *server) error {
	if r.primary.IsZero() {
		return nil
	}
	r.step(StepProof, r.primary.String())
	calm := context.WithoutCancel(ctx) // what is left to do is done
	if err := setVariable(calm, srv, srv.dialect.ReadOnlyVariable, "1"); err != nil {
		return err
	}
	channels, err := srv.channels(calm)
	if err != nil {
		return err
	}
	if len(channels) == 1 && !channels[0].Running() {
		if err := srv.exec(calm, srv.dialect.StartReplica); err != nil {
			return err
		}
	}
	r.step(StepCatchUp, "")
	c := &chase{CatchUp: r.CatchUp, primary: r.primary, accounts: r.accounts(), progress: r.Progress}
	r.result.Proof, err = c.run(ctx, srv)
	return err
}

func (r *restoreRun) accounts() accounts {
	return accounts{replication: r.Replication, admin: r.Server.Conn.Credentials}
}
