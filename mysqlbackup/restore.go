package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/index"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/internal/throttle"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
	"github.com/shardseed/shardseed/walk"
)

// RestoreMode says where a restore ends.
type RestoreMode int

// The modes.
const (
	ModeReplica    RestoreMode = iota // with a replica of the primary; with a standalone server if none is known
	ModeStandalone                    // with a running server without replication
	ModeFiles                         // with the files
	ModeSeeded                        // with a stopped server that replicates from the primary, if one is known, when it is started
)

func modeNames() []string { return []string{"replica", "standalone", "files", "seeded"} }

// String returns the mode's name.
func (m RestoreMode) String() string { return modeNames()[m] }

// MarshalText returns the mode's name.
func (m RestoreMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText takes what MarshalText returns.
func (m *RestoreMode) UnmarshalText(text []byte) error {
	i := slices.Index(modeNames(), string(text))
	if i < 0 {
		return fmt.Errorf("unknown mode %q", text)
	}
	*m = RestoreMode(i)
	return nil
}

// starts reports whether the restore ends with a running server.
func (m RestoreMode) starts() bool { return m == ModeReplica || m == ModeStandalone }

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
	Older       bool              // take an older backup if the newest can't be used
	InPlace     bool              // change what is there into the backup, writing only what differs; not with KeepOld
	Map         map[string]string // folders of external tablespaces: on the source → here
	Owner       string            // of the files; "": as the data directory, or who runs this

	Topology    Topology
	CatchUp     CatchUp
	Replication Credentials
	StateDir    string
	ReadLimit   int64 // bytes per second that are read of the repository and, likewise, of old files; 0: no limit
	WriteLimit  int64 // bytes per second that are written

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
	WentOn   bool                 // an earlier run had written the files
	Written  int64                // bytes of files; the zeros that new files consist of do not count
	Kept     int64                // bytes that were there already; 0 unless in place
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
	reads   *throttle.Limiter
	pin     *cas.Pin // nil: none
	files   []manifest.File
	served  bool              // somebody else has started the server for good
	damaged map[cas.Key]error // backups that turned out to be damaged
	result  RestoreResult
}

// Restore writes the files of a backup and makes a running server of them.
// Nothing is changed before the preflight has passed: an [ErrRefused] says why
// it has not. A data directory that is not complete is marked as such, and
// lacks its redo log, without which no server starts. The same restore run
// again starts over, or keeps what is right by then if it is in place; or, once the server was proved behind its fence, goes on
// with the start for good. A result that comes with an [ErrPutBack] is a server
// that does not run, or does not replicate as it should.
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
	m, err := readMarker(r.target.layout.datadir)
	if err != nil {
		return nil, err
	}
	if m.goesOn(&opts) {
		return r.goOn(ctx, m)
	}
	defer func() { err = errors.Join(err, r.closeStore()) }()
	defer r.unpin(ctx)
	if err := r.preflight(ctx); err != nil {
		return nil, err
	}
	if err := j.clear(); err != nil { // of a server whose files are replaced now
		return nil, err
	}
	if err := r.writeSound(ctx); err != nil {
		return nil, hint.Wrap(err, r.again())
	}
	return r.bringUp(ctx)
}

// again says what a restore that has failed does when it is run again.
func (r *restoreRun) again() string {
	if r.InPlace {
		return "run the same restore again: it keeps what is right by then"
	}
	return "run the same restore again: it clears what it left and starts over; with --delta it keeps what is right"
}

func (r *restoreRun) step(s Step, detail string) { r.Progress.Step(string(s), detail) }

// preflight checks everything that can be checked before anything is changed.
func (r *restoreRun) preflight(ctx context.Context) error {
	if err := r.target.endFenced(ctx); err != nil {
		return err
	}
	r.sweepFenced(ctx)
	if err := r.target.checkIdle(ctx, r.Server.Conn.Socket); err != nil {
		return err
	}
	if err := r.readPrimary(ctx); err != nil {
		return err
	}
	return r.pick(ctx)
}

// pick chooses a backup and reads what it consists of.
func (r *restoreRun) pick(ctx context.Context) error {
	for {
		m, err := r.choose(ctx)
		if err != nil {
			return err
		}
		r.chosen = m
		r.Progress.Step(string(StepPreflight), "backup "+m.Name.String())
		if err := r.openFiles(ctx); err == nil {
			break
		} else if !r.isDamaged(err) {
			return err
		}
	}
	r.warnFollow(r.chosen)
	r.tellKeys()
	if err := r.target.checkPlace(&r.RestoreOptions, r.files); err != nil {
		return err
	}
	err := r.target.checkSparse(ctx, r.reader, r.files)
	if err != nil && r.isDamaged(err) {
		return r.pick(ctx)
	}
	return err
}

// isDamaged notes a backup that is damaged in the repository, if an older one
// may be taken instead.
func (r *restoreRun) isDamaged(err error) bool {
	if !r.Older || !errors.Is(err, cas.ErrCorrupt) && !errors.Is(err, cas.ErrNotFound) {
		return false
	}
	if r.damaged == nil {
		r.damaged = map[cas.Key]error{}
	}
	r.damaged[r.chosen.Key()] = fmt.Errorf("restore %s: %w", r.chosen.Name, err)
	r.Progress.Warn(fmt.Sprintf("%s can't be restored, looking for an older backup: %v", r.chosen.Name, err))
	return true
}

// writeSound writes the files of the chosen backup, or of an older one if that
// turns out to be damaged and this is wanted.
func (r *restoreRun) writeSound(ctx context.Context) error {
	for {
		err := r.write(ctx)
		if err == nil || !r.isDamaged(err) {
			return err
		}
		if err := r.pick(ctx); err != nil {
			return unrefused(err)
		}
	}
}

// closeStore closes what was opened to read the backup that was chosen last.
func (r *restoreRun) closeStore() error {
	if r.reader == nil {
		return nil
	}
	reader, chunks := r.reader, r.chunks
	r.reader, r.chunks = nil, nil
	return errors.Join(reader.Close(), chunks.Close())
}

// openFiles reads the list of files, from the directories of the packs that
// the manifest names alone.
func (r *restoreRun) openFiles(ctx context.Context) (err error) {
	if err := r.pinBackup(ctx); err != nil {
		return err
	}
	if err := r.closeStore(); err != nil {
		return err
	}
	if r.chunks, err = index.OfBackup(ctx, r.Store.CacheDir, r.Store.Repo, r.chosen.Packs); err != nil {
		return err
	}
	r.reader = r.Store.Repo.NewReader(r.chunks)
	r.reads = throttle.New(r.ReadLimit, r.Now)
	r.reader.Limit(r.reads.Wait)
	r.files, err = walk.Files(ctx, r.reader, r.chosen.Files)
	if err != nil {
		return explainCorrupt(fmt.Errorf("read the list of files of backup %s: %w", r.chosen.Name, err))
	}
	return nil
}

// write puts the files in place. From its first step on the data directory is
// marked.
func (r *restoreRun) write(ctx context.Context) error {
	r.step(StepClear, r.target.layout.datadir)
	old, err := r.makePlace()
	if err != nil {
		return err
	}
	r.result = RestoreResult{Manifest: r.chosen, Datadir: r.target.layout.datadir, OldFiles: old}
	r.step(StepFiles, r.chosen.Name.String())
	a := &assembler{
		target: r.target, reader: r.reader, workers: r.Concurrency, inPlace: r.InPlace, reads: r.reads, writes: throttle.New(r.WriteLimit, r.Now),
		progress: r.Progress, roots: r.chosen.Roots,
	}
	if err := a.writeFiles(ctx, r.files); err != nil {
		return err
	}
	r.result.Written, r.result.Kept = a.written.Load(), a.kept.Load()
	r.step(StepSync, "")
	return a.finish()
}

// makePlace clears the target's folders, or takes over what is in them, and
// marks the data directory. It returns where old files were moved to.
func (r *restoreRun) makePlace() (old []string, err error) {
	if r.InPlace {
		return nil, r.target.takeOver(r.marker(stageWriting), r.files)
	}
	if old, err = r.target.clear(&r.RestoreOptions); err != nil {
		return nil, err
	}
	if err := r.mark(stageWriting); err != nil {
		return nil, err
	}
	return old, r.target.withhold()
}

// bringUp makes a server of the files.
func (r *restoreRun) bringUp(ctx context.Context) (*RestoreResult, error) {
	if r.Mode != ModeFiles {
		if err := r.seed(ctx); err != nil {
			return nil, hint.Wrap(err, "mend what is wrong, then run the same restore again")
		}
	}
	if err := r.release(); err != nil {
		return nil, hint.Wrap(err, "run the same restore again")
	}
	if r.Mode == ModeSeeded && !r.primary.IsZero() && !r.target.startsReadOnly() {
		r.Progress.Warn(fmt.Sprintf("%s does not set read_only: the replica takes writes from others when it is started", r.target.defaults.Path))
	}
	if !r.Mode.starts() {
		return &r.result, nil
	}
	return r.serve(ctx)
}

// release gives the proved files their redo log. From here on they are never
// written again, whatever happens.
func (r *restoreRun) release() error {
	r.step(StepUnmark, "")
	if err := errors.Join(r.target.checkRelease(), r.target.syncAll()); err != nil {
		return err
	}
	if err := r.mark(stageReleasing); err != nil {
		return err
	}
	return r.finishRelease()
}

// finishRelease does what is left of a release.
func (r *restoreRun) finishRelease() error {
	if err := r.target.release(); err != nil {
		return err
	}
	if !r.Mode.starts() {
		return unmark(r.target.layout.datadir)
	}
	return r.mark(stageWhole)
}

// mark notes in the data directory how far the restore has come.
func (r *restoreRun) mark(s stage) error { return r.target.mark(r.marker(s)) }

func (r *restoreRun) marker(s stage) marker {
	return marker{Stage: s, Backup: string(r.chosen.Key()), Mode: r.Mode, Primary: r.primaryText()}
}

// goOn brings up a server whose files an earlier run has written and proved.
// Somebody else may have started it since.
func (r *restoreRun) goOn(ctx context.Context, m *marker) (_ *RestoreResult, err error) {
	r.step(StepPreflight, "going on with "+m.Backup)
	if r.served, err = r.target.isServed(); err != nil {
		return nil, err
	}
	if !r.served {
		if err := r.target.checkIdle(ctx, r.Server.Conn.Socket); err != nil {
			return nil, err
		}
	}
	startOver := "give --force to start over"
	if r.chosen, err = ReadManifest(ctx, r.Store.Repo, cas.Key(m.Backup)); err != nil {
		return nil, hint.Wrap(fmt.Errorf("go on with %s: %w", m.Backup, err), "start the server by hand, or "+startOver)
	}
	if err := r.readPrimary(ctx); err != nil {
		return nil, err
	}
	if (m.Primary == "") != r.primary.IsZero() {
		return nil, hint.Wrap(refuse("%s was restored to follow %q, and the primary is %q now", m.Backup, m.Primary, r.primaryText()), startOver)
	}
	r.result = RestoreResult{Manifest: r.chosen, Datadir: r.target.layout.datadir, Primary: r.primary, WentOn: true}
	if err := r.finishRelease(); err != nil {
		return nil, hint.Wrap(err, "run the same restore again")
	}
	if !r.Mode.starts() {
		return &r.result, nil
	}
	return r.serve(ctx)
}

func (r *restoreRun) primaryText() string {
	if r.primary.IsZero() {
		return ""
	}
	return r.primary.String()
}

// serve starts the server for good, unless it runs, and proves what it is.
func (r *restoreRun) serve(ctx context.Context) (*RestoreResult, error) {
	err := r.serveProved(ctx)
	if err == nil {
		err = unmark(r.target.layout.datadir)
	}
	if err != nil {
		err = hint.Wrap(as(ErrPutBack, err), "run the same restore again without --force: it goes on from here")
	}
	return &r.result, err
}

func (r *restoreRun) serveProved(ctx context.Context) error {
	srv, err := r.reach(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	defer srv.close()
	return r.prove(ctx, srv)
}

// reach starts the server for good, or connects to the one that somebody has
// started.
func (r *restoreRun) reach(ctx context.Context) (*server, error) {
	if r.served {
		srv, err := awaitServer(ctx, r.Server.Conn, r.Server.StartTimeout, nil)
		if err != nil {
			return nil, err
		}
		if err := r.checkServed(ctx, srv); err != nil {
			srv.close()
			return nil, err
		}
		return srv, nil
	}
	r.step(StepStart, r.Server.Service.String())
	return startServer(ctx, r.Server.Service, r.Server.Conn, r.Server.StartTimeout)
}

// checkServed verifies that the server at the socket is that of the files.
func (r *restoreRun) checkServed(ctx context.Context, srv *server) error {
	datadir, err := srv.value(ctx, "SELECT @@GLOBAL.datadir")
	if err == nil && realPath(filepath.Clean(datadir)) != realPath(r.target.layout.datadir) {
		err = fmt.Errorf("the server at %s has its data directory at %s, not at %s", r.Server.Conn.Socket, datadir, r.target.layout.datadir)
	}
	return err
}

// prove makes sure that the server replicates and takes no writes. The primary
// may have changed while it was started, and again while it caught up.
func (r *restoreRun) prove(ctx context.Context, srv *server) error {
	if r.primary.IsZero() {
		return nil
	}
	for {
		r.askAgain(ctx)
		followed := r.primary
		if err := r.proveOnce(ctx, srv); err != nil {
			return err
		}
		if r.askAgain(ctx); r.primary == followed {
			return nil
		}
	}
}

// askAgain reads the primary again. If nobody can say, it is the one of before.
func (r *restoreRun) askAgain(ctx context.Context) {
	before := r.primary
	if err := r.readPrimary(ctx); err != nil {
		r.Progress.Warn(fmt.Sprintf("going on with %s as the primary: %v", before, err))
	}
	r.result.Primary = r.primary
}

// proveOnce makes sure that the server replicates from one primary.
func (r *restoreRun) proveOnce(ctx context.Context, srv *server) error {
	r.step(StepProof, r.primary.String())
	calm := context.WithoutCancel(ctx) // what is left to do is done
	channels, err := srv.channels(calm)
	if err != nil {
		return err
	}
	if len(channels) == 0 {
		return errors.New("the server has no source any more: somebody has made something else of it")
	}
	if err := setVariable(calm, srv, srv.dialect.ReadOnlyVariable, "1"); err != nil {
		return err
	}
	if err := r.follow(calm, srv, channels); err != nil {
		return err
	}
	r.step(StepCatchUp, "")
	c := &chase{CatchUp: r.CatchUp, primary: r.primary, accounts: r.accounts(), progress: r.Progress, watch: r.watcher()}
	r.result.Proof, err = c.run(ctx, srv)
	return err
}

// follow starts replication where it does not run, from the primary of now: it
// may be another one than when the server was seeded.
func (r *restoreRun) follow(ctx context.Context, srv *server, channels []replication.ReplicaStatus) error {
	channel := channels[0]
	if source := (HostPort{Host: channel.SourceHost, Port: channel.SourcePort}); len(channels) == 1 && source != r.primary {
		position, err := srv.position(ctx, channels)
		if err != nil {
			return err
		}
		if !channel.AutoPosition {
			return fmt.Errorf("the primary is %s now, and the server follows %s by file and position, which mean nothing there", r.primary, source)
		}
		if err := r.checkFollow(r.chosen, position); err != nil {
			return fmt.Errorf("the primary is %s now, the server follows %s: %w", r.primary, source, err)
		}
		r.Progress.Warn(fmt.Sprintf("the primary is %s now, no longer %s: pointing the server there", r.primary, source))
		return srv.exec(ctx, srv.dialect.StopChannel(channel.Channel), srv.dialect.MoveSource(channel.Channel, r.primary.Host, r.primary.Port), srv.dialect.StartReplica)
	}
	if len(channels) == 1 && !channel.Running() {
		return srv.exec(ctx, srv.dialect.StartReplica)
	}
	return nil
}

func (r *restoreRun) accounts() accounts {
	return accounts{replication: r.Replication, admin: r.Server.Conn.Credentials}
}
