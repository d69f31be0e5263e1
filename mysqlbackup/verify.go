package mysqlbackup

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/internal/throttle"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// VerifyOptions say which backup to drill, and with what.
type VerifyOptions struct {
	Store    Store
	Keyspace manifest.Keyspace
	Shard    manifest.Shard
	Backup   *manifest.Name // nil: the newest without marks

	Program      string   // mysqld
	Scratch      string   // folder below which the drill makes its own
	Owner        string   // user as whom the server runs; "": who runs this, or mysql if that is root
	Options      []string // NAME=VALUE for the server, see [CheckDrillOption]
	Concurrency  int      // of the restore
	Connections  int      // tables that are checked at once
	Keep         bool     // leave the folder
	StartTimeout time.Duration

	CatchUp     *CatchUp // nil: don't
	Topology    Topology
	Replication Credentials

	Host, ToolVersion string
	Progress          Progress
	Now               func() time.Time
}

// VerifyResult is what came of a drill.
type VerifyResult struct {
	Drill  *Drill
	Folder string // that was left; "": none
}

// drillRun is one run of [Verify].
type drillRun struct {
	restoreRun // of the files: target, reader, what was chosen
	opts       VerifyOptions

	scratch  *scratch
	owner    struct{ uid, gid int }
	serverID uint32
	folders  []string          // of roots, below the scratch folder
	external map[string]string // root's path on the source → folder
	process  *child            // nil: none has been started
	srv      *server
	started  bool // it was up once
	begun    time.Time

	mu     sync.Mutex // guards what follows while tables are checked
	record Drill
	bad    []string // tables
}

// Verify is the restore drill: it restores a backup into a folder of its own,
// starts a server on it that nobody else can reach, compares its position with
// the backup's, checks every table, lets it catch up with the primary if that
// is wanted, and writes down in the repository what came of it. All is removed
// at the end. An error that is an [ErrDrill] says what is wrong with the backup
// and comes with a result. With any other the backup is as good as it was, and
// nothing is written down; but an [ErrPutBack] with a result says that all was
// right until the server was to catch up.
func Verify(ctx context.Context, opts VerifyOptions) (_ *VerifyResult, err error) {
	d := &drillRun{opts: opts, begun: opts.Now()}
	defer func() { err = errors.Join(err, d.closeStore()) }()
	defer d.unpin(ctx)
	if err := d.preflight(ctx); err != nil {
		return nil, err
	}
	result := &VerifyResult{Drill: &d.record}
	defer func() { err = errors.Join(err, d.cleanUp(ctx, result)) }()
	if err := d.drill(ctx); err != nil {
		return nil, err
	}
	var behind error
	if d.opts.CatchUp != nil && len(d.record.Problems) == 0 {
		behind = d.catchUp(ctx)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := d.conclude(ctx); err != nil {
		return nil, err
	}
	if !d.record.Passed() {
		return result, as(ErrDrill, fmt.Errorf("drill of %s: %s", d.record.Key(), strings.Join(d.record.Problems, "; ")))
	}
	return result, as(ErrPutBack, behind)
}

// fail notes a fact that speaks against the backup.
func (d *drillRun) fail(format string, args ...any) {
	d.record.Problems = append(d.record.Problems, strings.ToValidUTF8(fmt.Sprintf(format, args...), "?"))
}

// preflight chooses the backup and makes room for it.
func (d *drillRun) preflight(ctx context.Context) error {
	opts := &d.opts
	opts.Progress.Step(string(StepPreflight), fmt.Sprintf("%s/%s", opts.Keyspace, opts.Shard))
	if err := d.setOwner(); err != nil {
		return err
	}
	version, err := programVersion(ctx, opts.Program)
	if err != nil {
		return err
	}
	c := chooser{
		repo: opts.Store.Repo, keyspace: opts.Keyspace, shard: opts.Shard, name: opts.Backup, progress: opts.Progress, now: opts.Now,
		fits: func(_ context.Context, m *manifest.Manifest) error { return fitsVersion(m, version) },
	}
	m, err := c.choose(ctx)
	if err != nil {
		return err
	}
	opts.Progress.Step(string(StepPreflight), "backup "+m.Name.String())
	if n := m.Pages.Encrypted; n > 0 {
		opts.Progress.Warn(fmt.Sprintf("the backup has %d encrypted pages: tables whose keys the drill's server does not get, by --option, are not checked", n))
	}
	d.restoreRun = d.restoreRunOf(m)
	if err := d.openFiles(ctx); err != nil {
		return err
	}
	if err := d.prepare(ctx); err != nil {
		return errors.Join(err, d.cleanUp(ctx, nil))
	}
	return nil
}

// restoreRunOf returns the restore that the drill is, without a target.
func (d *drillRun) restoreRunOf(m *manifest.Manifest) restoreRun {
	opts := &d.opts
	r := restoreRun{chosen: m, RestoreOptions: RestoreOptions{
		Store: opts.Store, Keyspace: opts.Keyspace, Shard: opts.Shard, Program: opts.Program, Mode: ModeStandalone,
		Server:      Instance{StopTimeout: opts.StartTimeout, StartTimeout: opts.StartTimeout},
		Concurrency: opts.Concurrency, Topology: opts.Topology, Replication: opts.Replication, Progress: opts.Progress, Now: opts.Now,
		Owner: strconv.Itoa(d.owner.uid),
	}}
	if opts.CatchUp != nil {
		r.Mode, r.CatchUp = ModeReplica, *opts.CatchUp
	}
	return r
}

// setOwner finds the user as whom the server runs.
func (d *drillRun) setOwner() (err error) {
	d.owner.uid, d.owner.gid = os.Geteuid(), os.Getegid()
	name := d.opts.Owner
	if name == "" && d.owner.uid == 0 {
		name = "mysql"
	}
	if name == "" {
		return nil
	}
	if d.owner.uid, d.owner.gid, err = lookupUser(name); err != nil {
		return hint.Wrap(refuse("run the drill's server: %v", err), "say with --owner as which user the server is to run")
	}
	return (&target{uid: d.owner.uid}).checkOwner()
}

// fitsVersion refuses a backup of a server that the program can't continue.
func fitsVersion(m *manifest.Manifest, program replication.Version) error {
	var reasons refusals
	checkVersions(&reasons, m, program)
	if err := reasons.err(); err != nil {
		return fmt.Errorf("drill %s: %w", m.Name, err)
	}
	return nil
}

// prepare makes the scratch folder with an option file that fits the backup.
func (d *drillRun) prepare(ctx context.Context) error {
	opts := &d.opts
	if err := d.readPrimary(ctx); err != nil {
		return err
	}
	if opts.CatchUp != nil && d.primary.IsZero() {
		return hint.Wrap(refuse("no primary of %s/%s is known to catch up with", opts.Keyspace, opts.Shard), "give --primary HOST:PORT")
	}
	if err := d.drawServerID(ctx); err != nil {
		return err
	}
	swept, err := d.sweepScratch(ctx, opts.Scratch)
	for _, folder := range swept {
		opts.Progress.Warn("removed what an interrupted drill had left in " + folder)
	}
	if err != nil {
		return err
	}
	if d.scratch, err = newScratch(opts.Scratch); err != nil {
		return err
	}
	if err := d.writeOptions(d.files); err != nil {
		return err
	}
	if d.Server.Defaults, err = ReadDefaults(d.cnf()); err != nil {
		return err
	}
	d.Map = d.external
	d.Server.Conn.Socket = d.scratch.path("run", "sock")
	if d.target, err = newTarget(ctx, &d.RestoreOptions); err != nil {
		return err
	}
	if err := d.fits(ctx, d.chosen); err != nil {
		return err
	}
	if err := d.target.checkEntries(d.files); err != nil {
		return err
	}
	d.target.tellLeftOut(opts.Progress)
	d.target.setWritten(d.files)
	err = d.target.checkRoom(d.files, nil)
	if err == nil {
		err = d.target.checkSparse(ctx, d.reader, d.files)
	}
	if err != nil {
		return hint.Wrap(err, "give --scratch a folder with more room")
	}
	return nil
}

// drawServerID chooses the server_id of the drill's server.
func (d *drillRun) drawServerID(ctx context.Context) error {
	var random [4]byte
	if _, err := io.ReadFull(rand.Reader, random[:]); err != nil {
		return fmt.Errorf("choose a server_id: %w", err)
	}
	var taken []uint32
	if !d.primary.IsZero() {
		taken = append(taken, d.source.serverID)
		// What this account may not see is left to chance, of one in two thousand millions.
		_ = d.accounts().each(ctx, d.primary, func(srv *server) error {
			ids, err := srv.replicaIDs(ctx)
			taken = append(taken, ids...)
			return err
		})
	}
	d.serverID = freeServerID(binary.LittleEndian.Uint32(random[:]), taken)
	return nil
}

// replicaIDs returns the server_ids of a primary's connected replicas.
func (s *server) replicaIDs(ctx context.Context) ([]uint32, error) {
	query := "SHOW SLAVE HOSTS"
	if s.flavor() == replication.MySQL && s.version.AtLeast(8, 0, 22) {
		query = "SHOW REPLICAS"
	}
	rows, err := s.rows(ctx, query)
	var ids []uint32
	for _, row := range rows {
		for name, value := range row {
			if id, err := strconv.ParseUint(value, 10, 32); err == nil && strings.EqualFold(name, "server_id") {
				ids = append(ids, uint32(id))
			}
		}
	}
	return ids, err
}

// drill restores, starts and checks. What speaks against the backup is noted;
// an error is one of the surroundings.
func (d *drillRun) drill(ctx context.Context) error {
	m := d.chosen
	d.record = Drill{
		Keyspace: m.Keyspace, Shard: m.Shard, Name: m.Name, Host: d.opts.Host, ToolVersion: d.opts.ToolVersion,
		Flavor: d.target.version.Flavor, ServerVersion: d.target.version.String(),
	}
	d.step(StepFiles, m.Name.String())
	if err := d.restore(ctx); err != nil {
		return d.blame(err, "the files can't be restored")
	}
	d.record.PlainBytes = m.Totals.Plain
	d.step(StepFenced, d.opts.Program)
	if err := d.start(ctx); err != nil {
		return err
	}
	if d.srv == nil {
		return nil // noted
	}
	d.step(StepPosition, "")
	if err := d.comparePosition(ctx); err != nil {
		return err
	}
	d.step(StepCheckTables, "")
	if err := d.checkTables(ctx); err != nil {
		return err
	}
	d.blameTables()
	return nil
}

// blame notes an error of damaged data; any other is returned.
func (d *drillRun) blame(err error, what string) error {
	if !errors.Is(err, cas.ErrCorrupt) && !errors.Is(err, cas.ErrNotFound) {
		return err
	}
	d.fail("%s: %v", what, err)
	return nil
}

// blameTables notes which tables are bad.
func (d *drillRun) blameTables() {
	if len(d.bad) == 0 {
		return
	}
	slices.Sort(d.bad)
	names := d.bad
	const most = 20
	more := ""
	if len(names) > most {
		more = fmt.Sprintf(" and %d more", len(names)-most)
		names = names[:most]
	}
	d.fail("%d of %d tables are bad: %s%s", d.record.Tables.Bad, d.record.Tables.Total(), strings.Join(names, ", "), more)
}

// restore writes the files.
func (d *drillRun) restore(ctx context.Context) error {
	if err := errors.Join(d.target.makeFolders(), d.target.withhold()); err != nil {
		return err
	}
	a := &assembler{target: d.target, reader: d.reader, workers: d.Concurrency, progress: d.Progress, roots: d.chosen.Roots}
	if err := a.writeFiles(ctx, d.files); err != nil {
		return err
	}
	return a.finish()
}

// start starts the drill's server, which lets other processes go first. If it
// does not come up that is noted, and there is none.
func (d *drillRun) start(ctx context.Context) error {
	d.end()
	if err := os.RemoveAll(d.serverLog()); err != nil { // of the server before it
		return err
	}
	started := make(chan error)
	go func() { // its thread, and what it starts, is nice
		throttle.Yield()
		var err error
		d.process, err = startDetached(d.opts.Program, d.fencedArguments(d.scratch.path("run")), d.scratch.datadir())
		started <- err
	}()
	if err := <-started; err != nil {
		return err
	}
	conn := Connection{Socket: d.Server.Conn.Socket, Credentials: Credentials{User: "root"}}
	srv, err := awaitServer(ctx, conn, d.Server.StartTimeout, d.process.exited)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		d.srv, d.started = srv, true
		return nil
	}
	return d.notStarted(ctx, err)
}

// notStarted finds out why the drill's server has not come up, and notes it if
// the backup is to blame: not if the server still tries to, or was ended.
func (d *drillRun) notStarted(ctx context.Context, cause error) error {
	words := d.lastWords()
	var late *timeoutError
	if errors.As(cause, &late) {
		cause = hint.Wrap(fmt.Errorf("start the drill's server: %w%s", cause, words), "give it more time with --start-timeout")
		return errors.Join(cause, d.process.kill())
	}
	if !d.hasEnded() {
		return errors.Join(fmt.Errorf("start the drill's server: %w%s", cause, words), d.process.kill())
	}
	if err := d.checkEnd(); err != nil {
		return err
	}
	if !d.started {
		if d.chosen.Pages.Encrypted > 0 {
			return hint.Wrap(fmt.Errorf("start the drill's server: %w%s", cause, words),
				"the backup has encrypted pages, and without their keys a server may not start: configure its keyring with --option")
		}
		if err := d.tryProgram(ctx); err != nil {
			return hint.Wrap(fmt.Errorf("start the drill's server: %w", err),
				"see --option and --owner; AppArmor and SELinux may keep it out of "+d.opts.Scratch)
		}
	}
	d.fail("no server starts on it: %v%s", cause, words)
	return nil
}

// checkEnd returns an error if somebody has ended the drill's server, which says
// nothing about the backup.
func (d *drillRun) checkEnd() error {
	how := d.process.endedByOthers()
	if how == "" {
		return nil
	}
	return hint.Wrap(fmt.Errorf("the drill's server was ended by somebody else: %s", how),
		"the system kills where memory runs out: see \"dmesg\"; \"--option innodb_buffer_pool_size=64M\" takes less")
}

// tryProgram makes an empty data directory with the same program and options:
// if that fails, it is not the backup's fault that no server starts on it.
func (d *drillRun) tryProgram(ctx context.Context) (err error) {
	limited, cancel := context.WithTimeout(ctx, d.opts.StartTimeout)
	defer cancel()
	folder := d.scratch.path("run", "empty")
	if err := errors.Join(os.Mkdir(folder, 0o700), os.Chown(folder, d.owner.uid, d.owner.gid)); err != nil {
		return err
	}
	args := []string{
		"--defaults-file=" + d.cnf(), "--datadir=" + folder, "--innodb-data-home-dir=" + folder, "--innodb-log-group-home-dir=" + folder,
		"--innodb-undo-directory=" + folder, "--skip-log-bin", "--log-error=" + d.scratch.path("run", "empty.err"),
	}
	if d.target.version.Flavor == replication.MySQL {
		args = append(args, "--initialize-insecure")
	} else {
		args = append(args, "--aria-log-dir-path="+folder, "--bootstrap", "--skip-grant-tables")
	}
	cmd := exec.CommandContext(limited, d.opts.Program, args...)
	cmd.Dir = "/"
	owner, err := ownerOf(folder)
	if err != nil {
		return err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: owner}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("not even an empty data directory can be made with these options: %w%s", err, lastWords(d.scratch.path("run", "empty.err")))
	}
	return nil
}

// lastWords returns what the server's log says of its end: the first errors, and
// not what follows from them or the stack; else the log's end.
func (d *drillRun) lastWords() string { return lastWords(d.serverLog()) }

func (d *drillRun) serverLog() string { return d.scratch.path("run", "log.err") }

func lastWords(path string) string {
	const most = 3
	log, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	var errs []string
	for line := range strings.Lines(string(log)) {
		if _, text, ok := strings.Cut(line, "[ERROR]"); ok {
			errs = append(errs, strings.TrimSpace(text))
		}
	}
	if len(errs) == 0 {
		return quoteTail(log)
	}
	return quoteTail([]byte(strings.Join(errs[:min(most, len(errs))], "; ")))
}

// end ends the drill's server at once.
func (d *drillRun) end() {
	if d.srv != nil {
		d.srv.close()
		d.srv = nil
	}
	if d.process != nil {
		_ = d.process.kill() // it fails if there is nothing to end
		d.process = nil
	}
}

// comparePosition compares where the server stands with the backup.
func (d *drillRun) comparePosition(ctx context.Context) error {
	position, err := d.restoredPosition(ctx, d.srv)
	if err != nil {
		return err
	}
	d.record.Position, d.record.PositionChecked = position, d.chosen.PositionKnown
	d.result.Position = position
	if d.chosen.PositionKnown && !position.Equal(d.chosen.Position) {
		d.fail("the server stands at %s, the backup says %s", position.Short(), d.chosen.Position.Short())
	}
	return nil
}

// conclude writes down what came of the drill.
func (d *drillRun) conclude(ctx context.Context) error {
	r := &d.record
	r.Outcome = DrillPassed
	if len(r.Problems) > 0 {
		r.Outcome = DrillFailed
	}
	now := d.opts.Now()
	r.Time, r.Seconds = now.UTC().Truncate(time.Second), max(0, now.Sub(d.begun).Seconds())
	d.step(StepPublish, r.String())
	if err := writeDrill(ctx, d.Store.Repo, r); err != nil {
		return fmt.Errorf("drill of %s: %s; %w", r.Key(), r, err)
	}
	return nil
}

// cleanUp ends the server and removes all files, unless they are to be kept.
func (d *drillRun) cleanUp(ctx context.Context, result *VerifyResult) error {
	d.end()
	if d.scratch == nil {
		return nil
	}
	if d.opts.Keep && result != nil && ctx.Err() == nil {
		result.Folder = d.scratch.folder
		return errors.Join(d.target.release(), d.scratch.unlock())
	}
	return d.scratch.remove()
}
