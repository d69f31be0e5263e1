package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/index"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/internal/throttle"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// identify learns what the server is and refuses what can't be backed up.
// Nothing is changed.
func (b *backupRun) identify(ctx context.Context, srv *server) (serverState, error) {
	vars, err := srv.variables(ctx)
	if err != nil {
		return serverState{}, err
	}
	get := func(name string) string { return vars[name] }
	if b.layout, err = newLayout(srv.flavor(), get, ""); err != nil {
		return serverState{}, as(ErrRefused, err)
	}
	if err := b.awaitReceivers(ctx, srv); err != nil {
		return serverState{}, err
	}
	state, err := readState(ctx, srv)
	if err != nil {
		return state, err
	}
	if err := b.checkServer(ctx, srv, vars, state); err != nil {
		return state, err
	}
	if err := b.warnMemoryTables(ctx, srv); err != nil {
		return state, err
	}
	b.describe(srv, vars, state)
	return state, nil
}

// awaitReceivers lets receivers connect that have just been started: by the
// put-back of a run that was killed, say. A channel that isn't seen to
// replicate here is not waited for in the end.
func (b *backupRun) awaitReceivers(ctx context.Context, srv *server) error {
	err := poll(ctx, "the receiver to connect", threadWait, func(ctx context.Context) (bool, error) {
		channels, err := srv.channels(ctx)
		return !slices.ContainsFunc(channels, replication.ReplicaStatus.Connecting), err
	})
	if late := (*timeoutError)(nil); errors.As(err, &late) {
		return nil // it is told of when it is not waited for
	}
	return err
}

// warnMemoryTables tells of tables that are empty after a restart: when they
// are first used, the server writes a transaction of its own about it.
func (b *backupRun) warnMemoryTables(ctx context.Context, srv *server) error {
	row, err := srv.row(ctx, "SELECT COUNT(*) AS n, MIN(CONCAT(TABLE_SCHEMA, '.', TABLE_NAME)) AS first FROM information_schema.TABLES"+
		" WHERE ENGINE = 'MEMORY' AND TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys')")
	if err != nil {
		return err
	}
	if row["n"] != "0" {
		b.Progress.Warn(fmt.Sprintf("%s MEMORY tables (%s is one) will be empty after the restart, and the server notes that in its own binary log: an errant transaction",
			row["n"], row["first"]))
	}
	return nil
}

// checkServer collects what speaks against backing up the server.
func (b *backupRun) checkServer(ctx context.Context, srv *server, vars map[string]string, state serverState) error {
	var r refusals
	if datadir, _ := b.Server.Defaults.Option("datadir"); datadir != "" && realPath(filepath.Clean(datadir)) != realPath(b.layout.datadir) {
		r.add("the server at %s has its data directory at %s, the defaults file says %s: they are not of the same server",
			b.Server.Conn.Socket, b.layout.datadir, datadir)
	}
	if len(state.Channels) == 0 && !b.AllowPrimary {
		r.addHint("back up a replica, or give --allow-primary", "the server replicates from nowhere: it may be the primary")
	}
	primary, err := b.Topology.Primary(ctx)
	if err != nil {
		return err
	}
	if self, err := isSelf(ctx, srv, primary); err != nil {
		return err
	} else if self && !b.AllowPrimary {
		r.addHint("back up a replica, or give --allow-primary", "the server is the shard's primary, %s", primary)
	}
	if err := b.checkReplication(ctx, srv, vars, &r); err != nil {
		return err
	}
	if err := b.prepareServing(ctx, vars, &r); err != nil {
		return err
	}
	r.addErr(checkRedoFormat(b.layout))
	r.addErr(checkRedoEncryption(vars))
	r.addErr(checkUnfinished(b.layout.datadir))
	switch service := b.Server.Service.(type) {
	case Direct:
		r.addErr(checkDetached(ctx))
		r.addErr(checkUnit(ctx, int(srv.pid.Load())))
	case Mysqlctl:
		r.addErr(service.check(ctx, int(srv.pid.Load())))
	}
	return r.err()
}

// describe fills in what the manifest says of the server.
func (b *backupRun) describe(srv *server, vars map[string]string, state serverState) {
	id, _ := strconv.ParseUint(vars["server_id"], 10, 32)          // the server's own word
	domain, _ := strconv.ParseUint(vars["gtid_domain_id"], 10, 32) // "" on MySQL
	b.record = manifest.Manifest{
		Keyspace: b.Keyspace, Shard: b.Shard, TabletAlias: b.Alias, Host: b.Host, ToolVersion: b.ToolVersion,
		Engine:  manifest.EngineOffline,
		Started: b.Now().UTC(),
		State:   state.manifest(srv.dialect),
		MyCnf:   manifest.RedactConfig(b.Server.Defaults.Text),
		Server: manifest.Server{
			Flavor: srv.flavor(), Version: srv.version.Text, VersionComment: srv.comment,
			UUID: vars["server_uuid"], ID: uint32(id), DataDir: manifest.Path(b.layout.datadir),
			PageSize: b.layout.pageSize, InnoDBDataFilePath: b.layout.dataFilePath, LowerCaseTableNames: b.layout.lowerCaseTableNames,
			GTIDMode: vars["gtid_mode"], GTIDDomainID: uint32(domain), LogBin: manifest.Path(b.layout.binlog),
			RelayLog: manifest.Path(b.layout.relayLog), CharacterSet: vars["character_set_server"],
		},
	}
	if srv.flavor() == replication.MariaDB {
		b.record.Server.UUID = ""
	}
	if len(state.Channels) > 0 {
		b.record.Source = manifest.Source{Host: state.Channels[0].Host, Port: state.Channels[0].Port}
	}
}

// lockJournal makes this the only run on the server, and finishes what an
// earlier one left: the server may be stopped, or fenced, by it.
func (b *backupRun) lockJournal(ctx context.Context) error {
	datadir, err := b.findDatadir(ctx)
	if err != nil {
		return err
	}
	j, err := openJournal(b.StateDir, datadir)
	if err != nil {
		return err
	}
	b.journal = j
	b.keeper = &keeper{journal: j, progress: b.Progress, topology: b.Topology, conn: b.Server.Conn, accounts: b.accounts(), limits: b.CatchUp}
	if !j.pending() {
		return nil
	}
	b.keeper.endSession(ctx, b.Store.Repo)
	if old, now := j.Serving.Tablet, b.Serving.Tablet; old != nil && now != nil {
		old.Client = now.Client
	}
	if settled, err := b.keeper.settled(ctx); settled || err != nil {
		if err != nil {
			err = errors.Join(err, j.close())
		}
		return err
	}
	b.Progress.Warn(fmt.Sprintf("an earlier run (process %d, %s) has not put the server back: doing that first", j.PID, j.Started.Format(time.RFC3339)))
	if err := b.keeper.bringBack(ctx, b.Server.Service, b.Server.StartTimeout, b.Server.StopTimeout); err != nil {
		return errors.Join(b.notPutBack(err), j.close())
	}
	return nil
}

// findDatadir returns the data directory that the defaults file names, else
// the one that the running server names.
func (b *backupRun) findDatadir(ctx context.Context) (string, error) {
	if datadir, err := b.Server.datadir(); err == nil {
		return datadir, nil
	}
	srv, err := b.connect(ctx)
	if err != nil {
		return "", err
	}
	defer srv.close()
	datadir, err := srv.value(ctx, "SELECT @@GLOBAL.datadir")
	return filepath.Clean(datadir), err
}

func (b *backupRun) connect(ctx context.Context) (*server, error) {
	srv, err := connectLocal(ctx, b.Server.Conn)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return srv, as(ErrRefused, err)
}

// openStore reserves the backup's name and then, as garbage collection wants
// it, opens the index.
func (b *backupRun) openStore(ctx context.Context) error {
	b.endLeftSession(ctx)
	if err := b.reserve(ctx); err != nil {
		return err
	}
	b.noteSession()
	b.endBeats = b.session.Live(ctx, cas.BeatEvery)
	if err := b.takeLease(ctx); err != nil {
		b.endSession(ctx)
		return err
	}
	chunks, err := index.Open(ctx, b.Store.CacheDir, b.Store.Repo)
	if err != nil {
		b.endSession(ctx)
		b.dropLease(ctx)
		return err
	}
	for _, problem := range chunks.Problems() {
		b.Progress.Warn(problem.Error())
	}
	b.index = chunks
	b.writer = b.session.NewWriter(cas.WriterOptions{
		Known: chunks, Learn: chunks.Save, Compression: b.Compression, Wait: throttle.New(b.WriteLimit, b.Now).Wait,
	})
	b.reader = b.Store.Repo.NewReader(chunks)
	b.parent = b.findParent(ctx)
	return nil
}

// endSession ends the session, unless it has published the backup: garbage
// collection need not wait for it.
func (b *backupRun) endSession(ctx context.Context) {
	b.endBeats()
	err := b.session.Abandon(context.WithoutCancel(ctx))
	if err == nil {
		err = b.dropNote()
	}
	if err != nil {
		b.Progress.Warn(fmt.Sprintf("the next prune waits for %s before it ends it: %v", cas.DefaultStaleAfter, err))
	}
}

// maxSeconds bounds how far a name may lie in the future.
const maxSeconds = 60

// reserve takes the name of the present second, or of the next that is free:
// another host may have taken it.
func (b *backupRun) reserve(ctx context.Context) error {
	at := b.Now()
	for range maxSeconds {
		b.record.Name = manifest.NewName(at, b.Alias)
		session, err := b.Store.Repo.Begin(ctx, b.record.Key(), []byte(b.Host))
		if err == nil {
			b.session = session
			return nil
		}
		if !errors.Is(err, cas.ErrExists) {
			return fmt.Errorf("reserve %s: %w", b.record.Name, err)
		}
		at = at.Add(time.Second)
	}
	return hint.Wrap(fmt.Errorf("reserve a name for the backup: the %d after %s are taken", maxSeconds, b.record.Name), "check this host's clock")
}

// closeStore brings the index up to date with what was written, whether or not
// it was published: the next run need not store it again.
func (b *backupRun) closeStore(ctx context.Context) error {
	defer b.endSession(ctx)
	defer b.dropLease(ctx)
	if err := errors.Join(b.reader.Close(), b.index.Save(context.WithoutCancel(ctx)), b.index.Close()); err != nil { // no backup depends on it
		b.Progress.Warn(fmt.Sprintf("this host's index may be out of date until the next run: %v", err))
	}
	return b.writer.Close()
}

// tablespaces lists the absolute paths of InnoDB's files as the server knows
// them, without the temporary ones and those of the system tablespace: these the
// options name, and MySQL's dictionary keeps absolute paths of the server on
// which they were made.
func (s *server) tablespaces(ctx context.Context) ([]string, error) {
	query := "SELECT FILE_NAME AS path FROM information_schema.FILES WHERE ENGINE = 'InnoDB' AND FILE_TYPE <> 'TEMPORARY' AND TABLESPACE_NAME <> 'innodb_system'"
	if s.flavor() == replication.MariaDB {
		query = "SELECT FILENAME AS path FROM information_schema.INNODB_SYS_TABLESPACES WHERE SPACE <> 4294967294"
	}
	rows, err := s.rows(ctx, query)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, row := range rows {
		if filepath.IsAbs(row["path"]) {
			paths = append(paths, filepath.Clean(row["path"]))
		}
	}
	slices.Sort(paths)
	return paths, nil
}
