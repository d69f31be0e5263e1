package mysqlbackup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/index"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/internal/throttle"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// Store is the repository that a run works on.
type Store struct {
	Repo     *cas.Repository
	CacheDir string // of the host, for the index
}

// BackupOptions say what to back up, and how.
type BackupOptions struct {
	Store       Store
	Keyspace    manifest.Keyspace
	Shard       manifest.Shard
	Alias       manifest.TabletAlias
	Host        string
	ToolVersion string

	Server       Instance
	Serving      Serving
	AllowPrimary bool
	UpgradeSafe  bool // slow shutdown, so that the next major version can start on the files
	Compression  cas.Level
	Concurrency  int   // workers; at least 1
	Rehash       bool  // read all files, also those that seem unchanged
	PreCopyFrom  int64 // bytes from which on files are stored while the server still runs; negative: never
	PreCopyAll   bool  // … also those that are probably written to until it stops
	ReadLimit    int64 // bytes per second that are read of the files; 0: no limit
	WriteLimit   int64 // likewise, that are written into the repository
	Gentle       bool  // let other processes go first; ends threads, so that children with a parent-death signal may end

	Topology    Topology
	CatchUp     CatchUp
	Replication Credentials // of replicas; may be empty
	StateDir    string

	Progress Progress
	Now      func() time.Time
}

// Instance is a server on this host.
type Instance struct {
	Defaults     *Defaults
	Datadir      string // "": as in the defaults file
	Conn         Connection
	Service      Service
	StopTimeout  time.Duration
	StartTimeout time.Duration
}

// BackupResult is a published backup.
type BackupResult struct {
	Manifest *manifest.Manifest
	CaughtUp *Proof // nil for a server that does not replicate
}

// backupRun is one run of [Backup].
type backupRun struct {
	BackupOptions
	layout   *layout
	journal  *journal
	keeper   *keeper
	lease    *lease // of the shard
	index    *index.Index
	session  *cas.Session
	endBeats func() // ends the session's signs of life
	writer   *cas.Writer
	reader   *cas.Reader // of what the index knows
	parent   *parent
	reuses   int                    // backups in a row, this one included, that took unchanged files over
	seen     []fileHint             // what the files are like
	early    map[fileKey]*aheadFile // what a pre-copy has stored
	moved    *copier                // of the pre-copy; nil: none was made
	lock     *spaceLock
	copier   *copier
	files    []manifest.File
	spaces   []string // absolute paths of tablespaces that the server knows
	record   manifest.Manifest
	byFile   bool      // the server has no GTIDs: its position is one in a binary log
	down     time.Time // when the server was asked to stop
}

// Backup stops a server, copies it, and puts it back as it was. A result means
// that the backup is published; it may come with an error: [ErrMarked] if the
// backup has marks, [ErrPutBack] if the server is not as it was or has not
// caught up. Without a result nothing is published; the server is as it was
// unless the error is an [ErrPutBack]. When ctx ends, the run is given up, but
// the server still put back.
func Backup(ctx context.Context, opts BackupOptions) (_ *BackupResult, err error) {
	b := &backupRun{BackupOptions: opts}
	b.step(StepIdentify, opts.Alias.Short())
	if err := b.lockJournal(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.journal.close()) }()
	srv, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer srv.close()
	state, err := b.identify(ctx, srv)
	if err != nil {
		return nil, err
	}
	if err := b.openStore(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.closeStore(ctx)) }()
	if err := b.preCopy(ctx); err != nil {
		return nil, err
	}
	return b.run(ctx, srv, state)
}

func (b *backupRun) step(s Step, detail string) { b.Progress.Step(string(s), detail) }

// run takes the server aside, copies it and brings it back.
func (b *backupRun) run(ctx context.Context, srv *server, state serverState) (*BackupResult, error) {
	if err := b.begin(ctx, srv, state); err != nil {
		return nil, err
	}
	if err := b.drain(ctx); err != nil {
		return nil, err
	}
	if err := b.takeAside(ctx, srv); err != nil {
		return nil, b.giveUp(ctx, err)
	}
	if err := b.copyAll(ctx); err != nil {
		return nil, b.giveUp(ctx, err)
	}
	if err := b.checkAlone(); err != nil {
		return nil, b.giveUp(ctx, err)
	}
	calm := context.WithoutCancel(ctx)
	back, err := b.start(calm)
	if err != nil {
		return b.publishAlone(ctx, err)
	}
	defer back.close()
	if err := b.recheck(ctx, back); err != nil {
		return nil, b.giveUp(ctx, err)
	}
	if err := b.publish(ctx); err != nil {
		return nil, b.giveUp(ctx, err)
	}
	return b.finish(ctx, back)
}

// begin writes the journal: from here on the server may be changed.
func (b *backupRun) begin(ctx context.Context, srv *server, state serverState) error {
	b.step(StepJournal, b.journal.path)
	primary, err := b.Topology.Primary(ctx)
	if err != nil {
		return err
	}
	b.journal.record = record{
		Datadir: b.layout.datadir, DefaultsFile: b.Server.Defaults.Path, Socket: b.Server.Conn.Socket,
		Alias: b.Alias.String(), Backup: string(b.record.Key()), Repository: b.Store.Repo.UUID().String(), Started: b.Now().UTC(), Saved: state,
		StartFlags: quietFlags(srv.dialect), ServerPID: int(srv.pid.Load()), Serving: b.Serving,
	}
	if b.Serving.Tablet != nil { // whether a tablet's server acknowledges is set up by vttablet, with its type
		b.journal.Saved = state.without(slices.Concat(srv.dialect.SemiSyncReplica, srv.dialect.SemiSyncSource))
	}
	if !primary.IsZero() {
		b.journal.Primary = primary.String()
	}
	if err := b.journal.enter(phaseFenced); err != nil {
		return err
	}
	if err := b.dropNote(); err != nil { // the journal tells of it now
		b.Progress.Warn(err.Error())
	}
	return unmark(b.layout.datadir) // no restore goes on with a server that is in use
}

// quietFlags start a server that does nothing by itself and takes no writes.
func quietFlags(d replication.Dialect) []string {
	flags := []string{d.SkipStartFlag, "--read-only=1"}
	if d.HasSuperReadOnly {
		flags = append(flags, "--super-read-only=1")
	}
	return flags
}

// giveUp ends a run that has failed: the server is put back whatever happens.
// The error is the run's, and an [ErrPutBack] if that failed too; it is no
// longer an [ErrRefused], after which nothing would have been changed.
func (b *backupRun) giveUp(ctx context.Context, cause error) error {
	b.step(StepPutBack, "after a failure")
	cause = unrefused(cause)
	calm := context.WithoutCancel(ctx)
	err := b.lock.close()
	err = errors.Join(err, b.keeper.bringBack(calm, b.Server.Service, b.Server.StartTimeout, b.Server.StopTimeout))
	if err == nil {
		return cause
	}
	return errors.Join(cause, b.notPutBack(err))
}

// notPutBack says that somebody has to look after the server.
func (b *backupRun) notPutBack(err error) error {
	again := "--defaults-file " + b.Server.Defaults.Path
	if tablet := b.Serving.Tablet; tablet != nil {
		again = fmt.Sprintf("%s --topo vitess --vtctld %s", tablet.Alias, tablet.Client.Server)
	}
	return hint.Wrap(as(ErrPutBack, fmt.Errorf("put the server back: %w", err)), fmt.Sprintf("mend what is wrong, then run \"shardseed recover %s\"", again))
}

// copyAll proves that the server was stopped in order, stores all files, and
// seals what is needed to publish them.
func (b *backupRun) copyAll(ctx context.Context) error {
	b.step(StepProve, "")
	proof, err := proveCleanStop(b.layout)
	if err != nil {
		return err
	}
	b.record.CleanStop = proof
	b.step(StepCopy, b.layout.datadir)
	if err := b.copyFiles(ctx); err != nil {
		return err
	}
	if err := proveByPages(&b.record.CleanStop, b.files); err != nil {
		return err
	}
	b.step(StepSeal, "")
	return b.seal(ctx)
}

// newCopier returns a copier that compares with the parent.
func (b *backupRun) newCopier() *copier {
	return &copier{
		writer: b.writer, chunkSize: b.Store.Repo.ChunkSize(), workers: b.Concurrency, layout: b.layout, parent: b.parent, reader: b.reader,
		limit: throttle.New(b.ReadLimit, b.Now), gentle: b.Gentle, progress: b.Progress,
	}
}

func (b *backupRun) copyFiles(ctx context.Context) error {
	listed := b.Now()
	selected, err := selectFiles(b.layout, b.external())
	if err != nil {
		return err
	}
	for _, path := range selected.skipped {
		b.Progress.Warn(path + " is neither a file nor a folder and is left out")
	}
	for _, path := range selected.homes {
		b.Progress.Warn(path + " is no server's data but options, or of somebody's home, and is left out")
	}
	b.copier = b.newCopier()
	b.copier.unchanged = b.findUnchanged(selected.files)
	b.copier.early = b.early
	if b.files, err = b.copier.copyFiles(ctx, selected.files); err != nil {
		return err
	}
	for _, problem := range slices.Concat(b.copier.problems, b.writer.Problems()) {
		b.Progress.Warn(fmt.Sprintf("stored in full instead of as a delta: %v", problem))
	}
	after, err := selectFiles(b.layout, b.external())
	if err != nil {
		return err
	}
	b.record.Roots = selected.roots
	if err := sameFiles(selected.files, after.files); err != nil {
		return err
	}
	b.notice(selected.files, after.files, listed, b.copier.zeros)
	return nil
}

// external lists the tablespaces outside the layout's folders.
func (b *backupRun) external() []string {
	var paths []string
	for _, path := range b.spaces {
		if !b.layout.covers(path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// seal stores the list of files and makes everything durable that the record
// will refer to.
func (b *backupRun) seal(ctx context.Context) error {
	var list bytes.Buffer
	if err := manifest.WriteFiles(&list, b.files); err != nil {
		return err
	}
	chunkSize := b.Store.Repo.ChunkSize()
	root, err := storeBytes(ctx, b.writer, list.Bytes(), chunkSize)
	if err != nil {
		return fmt.Errorf("store the list of files: %w", err)
	}
	b.record.Files = manifest.FileList{Count: int64(len(b.files)), Size: int64(list.Len()), ChunkSize: chunkSize, Root: root}
	if err := b.writer.Flush(ctx); err != nil {
		return err
	}
	b.record.Packs = b.writer.Relied()
	b.record.Totals = manifest.Totals{
		Plain: b.copier.plain.Load(), Zero: b.copier.zero.Load(), New: b.copier.fresh.Load(),
		Chunks: b.copier.chunks.Load(), NewChunks: b.copier.freshChunks.Load(),
	}
	if b.moved != nil {
		b.record.Totals.New += b.moved.fresh.Load()
		b.record.Totals.NewChunks += b.moved.freshChunks.Load()
	}
	for _, pack := range b.writer.Packs() {
		b.record.Totals.Stored += pack.Size
	}
	b.sumPages()
	return nil
}

// sumPages adds up the page checks, and marks a backup with bad pages.
func (b *backupRun) sumPages() {
	worst := ""
	for i := range b.files {
		if pages := b.files[i].Pages; pages != nil {
			b.record.Pages = b.record.Pages.Add(pages.Pages)
			if pages.Bad > 0 && worst == "" {
				worst = string(b.files[i].Path)
			}
			for _, bad := range pages.BadPages {
				b.Progress.Warn(fmt.Sprintf("page %d of %s: %s; copied as it is", bad.Number, b.files[i].Path, bad.Why))
			}
		}
	}
	if b.record.Pages.Bad > 0 {
		b.mark(manifest.MarkBadPages, fmt.Sprintf("%d bad pages, the first in %s", b.record.Pages.Bad, worst))
	}
}

func (b *backupRun) mark(kind manifest.MarkKind, detail string) {
	b.record.Marks = append(b.record.Marks, manifest.NewMark(kind, detail))
}

// start lets go of the files and starts the server.
func (b *backupRun) start(ctx context.Context) (*server, error) {
	b.step(StepStart, b.Server.Service.String())
	if err := b.lock.close(); err != nil {
		return nil, err
	}
	srv, err := b.keeper.start(ctx, b.Server.Service, b.Server.StartTimeout)
	if err != nil {
		return nil, err
	}
	b.record.Downtime = b.Now().Sub(b.down).Seconds()
	return srv, nil
}

// publish makes the backup one that is listed.
func (b *backupRun) publish(ctx context.Context) error {
	b.step(StepPublish, b.record.Name.String())
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	b.record.Finished = b.Now().UTC()
	data, err := b.record.Encode()
	if err != nil {
		return err
	}
	if err := b.session.Commit(ctx, b.writer, data); err != nil {
		return err
	}
	b.saveHints()
	return nil
}

// publishAlone publishes a backup whose server does not come back, with a mark:
// what was copied is proved good but for the second look at the position.
func (b *backupRun) publishAlone(ctx context.Context, cause error) (*BackupResult, error) {
	b.record.Downtime = b.Now().Sub(b.down).Seconds()
	b.mark(manifest.MarkServerDidNotRestart, cause.Error())
	lost := b.notPutBack(cause)
	if err := b.publish(ctx); err != nil {
		return nil, errors.Join(err, lost)
	}
	return &BackupResult{Manifest: &b.record}, lost
}

// finish puts the server back and waits until it has caught up.
func (b *backupRun) finish(ctx context.Context, srv *server) (*BackupResult, error) {
	b.step(StepPutBack, "")
	result := &BackupResult{Manifest: &b.record}
	if err := b.putBack(context.WithoutCancel(ctx), srv); err != nil {
		return result, b.notPutBack(err)
	}
	var err error
	if result.CaughtUp, err = b.watchCatchUp(ctx, srv); err != nil {
		return result, err
	}
	if err := b.keeper.serve(context.WithoutCancel(ctx), srv); err != nil {
		return result, b.notPutBack(err)
	}
	if !b.record.Good() {
		return result, b.marked()
	}
	return result, nil
}

// putBack puts the running server back, also if it ends meanwhile.
func (b *backupRun) putBack(ctx context.Context, srv *server) error {
	err := b.keeper.putBack(ctx, srv)
	if isLost(err) {
		return b.keeper.bring(ctx, b.Server.Service, b.Server.StartTimeout, b.Server.StopTimeout, nil)
	}
	return err
}

func (b *backupRun) marked() error {
	return as(ErrMarked, fmt.Errorf("the backup is marked: %s", b.record.Marks[0]))
}

// watchCatchUp waits until the server has caught up, and puts it back again if
// it ends meanwhile or is restarted by somebody. The journal stays until then.
func (b *backupRun) watchCatchUp(ctx context.Context, srv *server) (*Proof, error) {
	calm := context.WithoutCancel(ctx)
	for try := 1; !b.keeper.promotedNow; try++ {
		b.keeper.noteBack(srv)
		b.keeper.watch = b.keeper.watcher(b.Now)
		proof, err := b.keeper.catchUp(ctx, srv)
		switch {
		case err == nil:
			return proof, nil
		case !errors.Is(err, errServerLost):
			return nil, b.notCaughtUp(err)
		case try == bringTries:
			return nil, b.notPutBack(err)
		}
		b.Progress.Warn(err.Error() + ": putting it back again")
		if err := b.keeper.bring(calm, b.Server.Service, b.Server.StartTimeout, b.Server.StopTimeout, nil); err != nil {
			return nil, b.notPutBack(err)
		}
		srv.pid.Store(int32(b.journal.ServerPID))
	}
	return nil, nil //nolint:nilnil // a primary has nothing to catch up with
}

// notCaughtUp says what remains to be done for a server that is put back. One
// that was taken out of serving stays so.
func (b *backupRun) notCaughtUp(err error) error {
	if b.Serving.isZero() { // it is as it was
		return errors.Join(as(ErrPutBack, err), b.journal.clear())
	}
	return b.notPutBack(fmt.Errorf("it stays out of serving: %w", err))
}

func (b *backupRun) accounts() accounts {
	return accounts{replication: b.Replication, admin: b.Server.Conn.Credentials}
}
