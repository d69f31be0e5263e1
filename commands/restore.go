package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"
	"github.com/urfave/cli/v2/altsrc"

	"github.com/shardseed/shardseed/internal/cpus"
	"github.com/shardseed/shardseed/internal/ui"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
)

func (r *run) restoreCommand() *cli.Command {
	return &cli.Command{
		Name:      "restore",
		Usage:     "makes a replica of a backup",
		ArgsUsage: "KEYSPACE/SHARD",
		Description: `Turns an empty host into a replica of the shard's primary, from the newest
backup without marks or from the one that --backup names. Everything is checked
before anything is touched. With --service or --start-command the server is
started by them for good, else --mysqld is. With --delta old files are kept as
far as they are those of the backup.

Example:
  shardseed restore commerce/-80 --defaults-file /etc/mysql/my.cnf \
    --mysqld /usr/sbin/mysqld --service mysql --replication-user repl \
    --replication-password-file /etc/shardseed/repl --root /backups`,
		Flags: slices.Concat(
			[]cli.Flag{
				defaultsFlag(),
				textFlag("backup", "`NAME` of the backup, which may be marked; else the newest without marks"),
				countFlag("restore-concurrency", "1.5 × CPUs + 1", "`NUMBER` of files and ranges of files that are written at once"),
				textFlag("primary", "`HOST:PORT` of the primary, if not the one that --topo knows"),
				switchFlag("no-replication", "end with a clean server that replicates from nowhere"),
				switchFlag("files-only", "write the files and start nothing"),
				switchFlag("force", "delete what the target folders hold, once everything has been checked"),
				switchFlag("keep-old", "with --force: move it aside instead"),
				switchFlag("delta", "change what the target folders hold into the backup: read it, write only what differs, delete what is not in the backup"),
				altsrc.NewStringSliceFlag(&cli.StringSliceFlag{
					Name:  "map",
					Usage: "`OLD=NEW`: where a folder outside the data directory goes; may be repeated",
				}),
				textFlag("owner", "`USER` who is to own the files, if not the owner of the data directory"),
				rateFlag("read-limit", "`BYTES` per second to read of the repository, and with --delta of the old files, at most, such as 100MiB"),
				rateFlag("write-limit", "`BYTES` per second to write into the server's files at most"),
			},
			connectionFlags(), serviceFlags(), catchUpFlags(), replicationFlags(), topologyFlags(), []cli.Flag{stateFlag()},
		),
		Action: r.restore,
	}
}

func (r *run) restore(c *cli.Context) error {
	if err := setTargetFlags(c); err != nil {
		return err
	}
	opts, root, err := r.parseRestore(c)
	if err != nil {
		return err
	}
	note := runNote{Command: c.Command.Name, Keyspace: opts.Keyspace, Shard: opts.Shard, Started: r.opts.Now().UTC()}
	err = r.restoreFrom(c.Context, opts, root, &note)
	r.noteRun(c.Context, opts.StateDir, note, err)
	return err
}

// restoreFrom opens the repository and restores.
func (r *run) restoreFrom(ctx context.Context, opts mysqlbackup.RestoreOptions, root string, note *runNote) error {
	repo, err := openRepository(ctx, root)
	if err != nil {
		return err
	}
	opts.Store.Repo = repo
	if opts.Topology == nil {
		opts.Topology = shardName{opts.Keyspace, opts.Shard}.record(repo)
	}
	result, err := mysqlbackup.Restore(ctx, opts)
	r.out.End()
	if result == nil {
		return err
	}
	note.Backup = result.Manifest.Name.String()
	r.tellRestore(result, &opts)
	if errors.Is(err, mysqlbackup.ErrPutBack) {
		return &codedError{err, exitGoodNotPutBack}
	}
	return err
}

// parseRestore reads the arguments and flags of restore, and the root.
func (r *run) parseRestore(c *cli.Context) (mysqlbackup.RestoreOptions, string, error) {
	var k checks
	g := checkGlobals(c, &k)
	shard := parseShard(&k, k.positionals(c, "KEYSPACE/SHARD")[0])
	opts := mysqlbackup.RestoreOptions{
		Keyspace: shard.keyspace, Shard: shard.shard,
		Store:       mysqlbackup.Store{CacheDir: g.cache(&k)},
		Program:     program(c, &k),
		Mode:        parseMode(c, &k),
		Concurrency: count(c, &k, "restore-concurrency", cpus.Copying()),
		Force:       c.Bool("force"),
		KeepOld:     c.Bool("keep-old"),
		InPlace:     c.Bool("delta"),
		Map:         parseMap(&k, c.StringSlice("map")),
		Owner:       c.String("owner"),
		CatchUp:     parseCatchUp(c, &k),
		Replication: parseReplication(c, &k),
		StateDir:    stateDir(c, &k),
		ReadLimit:   parseRate(c, &k, "read-limit"),
		WriteLimit:  parseRate(c, &k, "write-limit"),
		Progress:    r.out,
		Now:         r.opts.Now,
	}
	if topo := parseTopology(c, &k); topo.kind != topoStore {
		opts.Topology = topo.of(shard)
	}
	root := g.repository(&k)
	opts.Server = parseTarget(c, &k, opts.Program)
	k.require(c, "mysqld")
	if text := c.String("backup"); text != "" {
		name := parseName(&k, text)
		opts.Backup = &name
	}
	if text := c.String("primary"); text != "" {
		opts.Topology = mysqlbackup.Fixed(parseAddress(&k, text))
	}
	k.exclusive(c, "keep-old", "delta")
	if opts.KeepOld && !opts.Force && !opts.InPlace {
		k.addf("--keep-old is of no use without --force")
	}
	return opts, root, k.err(c)
}

// parseMode reads where the restore is to end.
func parseMode(c *cli.Context, k *checks) mysqlbackup.RestoreMode {
	k.exclusive(c, "primary", "no-replication", "files-only")
	switch {
	case c.Bool("files-only"):
		return mysqlbackup.ModeFiles
	case c.Bool("no-replication"):
		return mysqlbackup.ModeStandalone
	}
	return mysqlbackup.ModeReplica
}

// parseTarget reads the flags of the server that is to be made.
func parseTarget(c *cli.Context, k *checks, mysqld string) mysqlbackup.Instance {
	server := parseServer(c, k)
	server.Service = manager(c, k, server.Defaults)
	if server.Service == nil && server.Defaults != nil {
		server.Service = direct(k, mysqld, server.Defaults)
	}
	return server
}

// tellRestore tells of a restore that has come to its end, or almost.
func (r *run) tellRestore(result *mysqlbackup.RestoreResult, opts *mysqlbackup.RestoreOptions) {
	object := newRestoredObject(result)
	r.out.Object(object)
	r.out.Text("restored %s to %s", result.Manifest.Key(), result.Datadir)
	if result.WentOn {
		r.out.Text("an earlier run had written and proved the files; this one went on from there")
	}
	if opts.InPlace {
		r.out.Text("wrote %s, kept %s of the old files", ui.Bytes(result.Written), ui.Bytes(result.Kept))
	}
	for _, old := range result.OldFiles {
		r.out.Text("the old files are in %s", old)
	}
	if !result.Position.IsZero() {
		r.out.Text("position: %s", result.Position.Short())
	}
	switch {
	case object.CaughtUp != nil:
		r.out.Text("%s", object.CaughtUp)
	case opts.Mode == mysqlbackup.ModeSeeded && !result.Primary.IsZero():
		r.out.Text("the server is stopped; when it is started it replicates from %s", result.Primary)
	case opts.Mode == mysqlbackup.ModeSeeded:
		r.out.Text("the server is stopped, and has no source")
	case opts.Mode == mysqlbackup.ModeFiles:
		r.out.Text("the files are in place, and nothing was started")
	case opts.Mode == mysqlbackup.ModeStandalone:
		r.out.Text("the server replicates from nowhere, as wanted")
	case result.Primary.IsZero():
		shard := shardName{result.Manifest.Keyspace, result.Manifest.Shard}
		r.out.Warn(fmt.Sprintf("no primary of %s is known: the server replicates from nowhere; record it with "+
			"\"shardseed primary set %s HOST:PORT\" and restore again, or point the server at it by hand", shard, shard))
	}
}

// restoredObject is the result of restore in JSON.
type restoredObject struct {
	Type     string            `json:"type"` // "restored"
	Keyspace manifest.Keyspace `json:"keyspace"`
	Shard    manifest.Shard    `json:"shard"`
	Name     manifest.Name     `json:"name"`
	Datadir  string            `json:"datadir"`
	Plain    int64             `json:"plain_bytes"`
	Written  int64             `json:"written_bytes"`
	Kept     int64             `json:"kept_bytes"`         // were there already
	Position string            `json:"position"`           // of the server before it replicated; "" with --files-only
	Primary  string            `json:"primary"`            // HOST:PORT; "": none was known or wanted
	OldFiles []string          `json:"old_files"`          // folders that were moved aside
	WentOn   bool              `json:"went_on"`            // an earlier run had written and proved the files
	CaughtUp *caughtUp         `json:"caught_up,omitzero"` // the proof that it replicates
}

func newRestoredObject(result *mysqlbackup.RestoreResult) restoredObject {
	m := result.Manifest
	object := restoredObject{
		Type: "restored", Keyspace: m.Keyspace, Shard: m.Shard, Name: m.Name, Datadir: result.Datadir,
		Plain: m.Totals.Plain, Written: result.Written, Kept: result.Kept, Position: result.Position.String(), OldFiles: result.OldFiles, WentOn: result.WentOn, CaughtUp: newCaughtUp(result.Proof),
	}
	if !result.Primary.IsZero() {
		object.Primary = result.Primary.String()
	}
	if object.OldFiles == nil {
		object.OldFiles = []string{}
	}
	return object
}
