package commands

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/urfave/cli/v2"
	"github.com/urfave/cli/v2/altsrc"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/cpus"
	"github.com/shardseed/shardseed/internal/ui"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
)

func (r *run) backupCommand() *cli.Command {
	return &cli.Command{
		Name:      "backup",
		Usage:     "backs up the server of this host",
		ArgsUsage: "ALIAS | KEYSPACE/SHARD",
		Description: `Backs up the server of this host: stops replication and the server, copies its
files, puts the server back as it was and waits until it has caught up. Say who
stops and starts the server by --service, or by --stop-command and
--start-command, or by --mysqld, or by --mysqlctl. With --stopped the files of a
server that does not run are backed up; nothing is stopped or started.

With --topo vitess ALIAS is that of a tablet of this host, which becomes BACKUP
meanwhile. KEYSPACE/SHARD picks the best tablet of this host. The defaults file
is $VTDATAROOT/vt_UID/my.cnf, the server is run by mysqlctl, the account is
vt_dba, all unless flags say otherwise.

Example:
  shardseed backup zone1-101 --keyspace commerce --shard -80 \
    --defaults-file /etc/mysql/my.cnf --service mysql \
    --password-file /etc/shardseed/password --root /backups`,
		Flags: slices.Concat(
			[]cli.Flag{
				textFlag("keyspace", "`KEYSPACE` that the server belongs to"),
				textFlag("shard", "`SHARD` that the server belongs to"),
				defaultsFlag(),
				switchFlag("stopped", "the server does not run, or this is a mounted snapshot of its files"),
				textFlag("datadir", "with --stopped: `DIR` with the data, if it is not the one in the defaults file"),
				countFlag("concurrency", "1.5 × CPUs + 1", "`NUMBER` of files and ranges of files that are read, compressed and written at once"),
				altsrc.NewStringFlag(&cli.StringFlag{
					Name: "compression", Value: "fastest",
					Usage: "how hard to compress, by `LEVEL`: fastest, default or better",
				}),
				switchFlag("rehash", "read all files, also those that have not changed since the last backup"),
				altsrc.NewBoolFlag(&cli.BoolFlag{
					Name: "pre-copy", DisableDefaultText: true, DefaultText: "files that are new or that nobody writes to, from 256 MiB on",
					Usage: "store all files once while the server still runs, so that it is down for a shorter time",
				}),
				rateFlag("read-limit", "`BYTES` per second to read of the server's files at most, such as 100MiB"),
				rateFlag("write-limit", "`BYTES` per second to write into the repository at most"),
				switchFlag("allow-primary", "back up a primary too; it takes no writes until it is put back"),
				switchFlag("upgrade-safe", "stop the server by a slow shutdown, so that another version can start on the files"),
			},
			connectionFlags(), serviceFlags(), catchUpFlags(), replicationFlags(), topologyFlags(), servingFlags(), cronFlags(), []cli.Flag{stateFlag()},
		),
		Action: r.backup,
	}
}

func (r *run) backup(c *cli.Context) error {
	if interval, retry := c.Duration("min-interval"), c.Duration("retry"); interval < 0 || retry < 0 {
		return seeHelp(usagef("flags --min-interval and --retry: want no negative duration"), c.Command.Name)
	}
	w := &watch{Printer: r.out}
	return r.persist(c.Context, c.Duration("retry"), w, func() error { return r.tryBackup(c, w) })
}

// tryBackup makes one try to make a backup.
func (r *run) tryBackup(c *cli.Context, w *watch) error {
	found, err := r.findTablet(c)
	if err != nil {
		return err
	}
	opts, root, err := r.parseBackup(c, found)
	if err != nil {
		return err
	}
	opts.Progress = w
	note := runNote{Command: c.Command.Name, Keyspace: opts.Keyspace, Shard: opts.Shard, Alias: opts.Alias.Short(), Started: r.opts.Now().UTC()}
	skipped, err := r.backUp(c, opts, root, &note)
	if !skipped {
		r.noteRun(c.Context, opts.StateDir, note, err)
	}
	return err
}

// backUp opens the repository and makes the backup, unless none is needed.
func (r *run) backUp(c *cli.Context, opts mysqlbackup.BackupOptions, root string, note *runNote) (skipped bool, err error) {
	repo, err := openRepository(c.Context, root)
	if err != nil {
		return false, err
	}
	shard := shardName{opts.Keyspace, opts.Shard}
	why, err := r.skips(c.Context, repo, shard, c.Duration("min-interval"))
	if err != nil {
		return false, err
	}
	if why != "" {
		return true, r.tellSkipped(shard, why)
	}
	opts.Store.Repo = repo
	if opts.Topology == nil {
		opts.Topology = shard.record(repo)
	}
	backUp := mysqlbackup.Backup
	if c.Bool("stopped") {
		backUp = mysqlbackup.BackupStopped
	}
	result, err := backUp(c.Context, opts)
	r.out.End()
	if result == nil {
		if errors.Is(err, mysqlbackup.ErrBusy) && c.Duration("min-interval") > 0 {
			return true, r.tellSkipped(shard, err.Error())
		}
		return false, err
	}
	note.Backup = result.Manifest.Name.String()
	r.tellBackup(result)
	if errors.Is(err, mysqlbackup.ErrPutBack) {
		err = &codedError{err, exitGoodNotPutBack}
	}
	return false, err
}

// parseBackup reads the arguments and flags of backup, and the root. found is
// the tablet to back up, nil if it is none.
func (r *run) parseBackup(c *cli.Context, found *tablet) (opts mysqlbackup.BackupOptions, root string, err error) {
	var k checks
	g := checkGlobals(c, &k)
	alias := ""
	if found == nil {
		alias = k.positionals(c, "ALIAS")[0]
	} else if c.Args().Len() > 1 {
		k.addf("only ALIAS or KEYSPACE/SHARD is wanted, got %q", c.Args().Slice())
	}
	opts = mysqlbackup.BackupOptions{
		Store: mysqlbackup.Store{CacheDir: g.cache(&k)},
		Host:  hostName(), ToolVersion: toolVersion(),
		AllowPrimary: c.Bool("allow-primary"),
		UpgradeSafe:  c.Bool("upgrade-safe"),
		Compression:  parseCompression(&k, c.String("compression")),
		Rehash:       c.Bool("rehash"),
		PreCopyFrom:  preCopyFrom(c),
		PreCopyAll:   c.Bool("pre-copy"),
		ReadLimit:    parseRate(c, &k, "read-limit"),
		WriteLimit:   parseRate(c, &k, "write-limit"),
		Gentle:       true,
		Concurrency:  count(c, &k, "concurrency", cpus.Copying()),
		CatchUp:      parseCatchUp(c, &k),
		Replication:  parseReplication(c, &k),
		StateDir:     stateDir(c, &k),
		Progress:     r.out,
		Now:          r.opts.Now,
	}
	root = g.repository(&k)
	whose, of := parseWhose(c, &k, alias, found)
	opts.Keyspace, opts.Shard, opts.Alias = whose.keyspace, whose.shard, of
	topo := parseTopology(c, &k)
	if topo.kind != topoStore {
		opts.Topology = topo.of(whose)
	}
	opts.Serving = parseServing(c, &k, topo, found)
	if c.Bool("stopped") {
		opts.Server = parseStopped(c, &k)
	} else {
		opts.Server = parseRunning(c, &k)
	}
	return opts, root, k.err(c)
}

// parseWhose reads whose server is backed up: what the command line says, and
// what Vitess says of the tablet. alias is the argument, "" for a tablet.
func parseWhose(c *cli.Context, k *checks, alias string, found *tablet) (whose shardName, of manifest.TabletAlias) {
	var err error
	if found != nil {
		whose = found.shard
		of, err = mysqlbackup.TabletAlias(found.alias)
		k.add(err)
	} else {
		k.require(c, "keyspace", "shard")
	}
	if text := c.String("keyspace"); text != "" {
		whose.keyspace, err = manifest.ParseKeyspace(text)
		k.add(err)
	}
	if text := c.String("shard"); text != "" {
		whose.shard, err = manifest.ParseShard(text)
		k.add(err)
	}
	if found != nil && whose != found.shard {
		k.addf("tablet %s is of %s, not of %s", found.alias, found.shard, whose)
	}
	if alias != "" {
		of, err = manifest.ParseTabletAlias(alias)
		k.add(err)
	}
	return whose, of
}

// parseRunning reads the flags of a server that is to be stopped.
func parseRunning(c *cli.Context, k *checks) mysqlbackup.Instance {
	if c.String("datadir") != "" {
		k.addf("--datadir goes with --stopped; a running server says itself where its files are")
	}
	return parseInstance(c, k)
}

// parseStopped reads the flags of a server that does not run. Flags that are
// about a running one are refused.
func parseStopped(c *cli.Context, k *checks) mysqlbackup.Instance {
	for _, name := range []string{
		"user", "password-file", "socket", "service", "stop-command", "start-command", "mysqld",
		"allow-primary", "upgrade-safe", "pre-copy", "replication-user", "replication-password-file",
		"mysqlctl", "mysqlctl-socket", "topo", "vttablet", "cells", "allow-last-replica", "drain-command", "undrain-command",
	} {
		if c.IsSet(name) && isGiven(c, name) {
			k.addf("--%s is of no use with --stopped", name)
		}
	}
	datadir := absolute(k, c.String("datadir"))
	if datadir != "" && c.String("defaults-file") == "" {
		return mysqlbackup.Instance{Datadir: datadir}
	}
	return mysqlbackup.Instance{Datadir: datadir, Defaults: readDefaults(c, k)}
}

// parseCompression reads the value of --compression.
func parseCompression(k *checks, text string) cas.Level {
	switch text {
	case "fastest":
		return cas.LevelFastest
	case "default":
		return cas.LevelDefault
	case "better":
		return cas.LevelBetter
	}
	k.addf("flag --compression: %q is neither fastest, default nor better", text)
	return 0
}

// preCopyWorth is how much there must be to store for a pre-copy by default, in
// bytes: less takes about a second.
const preCopyWorth = 256 << 20

// preCopyFrom returns from how many bytes on a pre-copy is made.
func preCopyFrom(c *cli.Context) int64 {
	switch {
	case !c.IsSet("pre-copy"):
		return preCopyWorth
	case c.Bool("pre-copy"):
		return 0
	}
	return -1
}

// hostName returns this host's name, "" if it is not known.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// tellBackup tells of a backup that was published.
func (r *run) tellBackup(result *mysqlbackup.BackupResult) {
	m := result.Manifest
	s := m.Summary()
	object := struct {
		backupObject
		CaughtUp *caughtUp `json:"caught_up,omitempty"`
	}{newBackupObject(s), newCaughtUp(result.CaughtUp)}
	r.out.Object(object)
	r.out.Text("backup %s of %s/%s", s.Name, s.Keyspace, s.Shard)
	r.out.Table(nil, [][]string{
		{"size:", fmt.Sprintf("%s in %d files, folders and links", ui.Bytes(s.Plain), m.Files.Count)},
		{"new:", fmt.Sprintf("%s, stored as %s", ui.Bytes(s.New), ui.Bytes(s.Stored))},
		{"took:", fmt.Sprintf("%s, %s/s; the server was down for %s", ui.Seconds(s.Duration), rate(s.Plain, s.Duration), ui.Seconds(s.Downtime))},
		{"position:", shortPosition(s)},
	})
	if object.CaughtUp != nil {
		r.out.Text("%s", object.CaughtUp)
	}
}

// rate is bytes per second, for people.
func rate(bytes int64, seconds float64) string {
	if seconds <= 0 {
		return ui.Bytes(0)
	}
	return ui.Bytes(int64(float64(bytes) / seconds))
}

// caughtUp is a replica that has caught up, in JSON.
type caughtUp struct {
	SourceHost  string `json:"source_host"`
	SourcePort  int    `json:"source_port"`
	LagSeconds  int64  `json:"lag_seconds"`
	Position    string `json:"position"`     // of the replica
	FromPrimary bool   `json:"from_primary"` // it was compared with the primary's own position
	ReadOnly    bool   `json:"read_only"`
}

// newCaughtUp returns nil for nil.
func newCaughtUp(p *mysqlbackup.Proof) *caughtUp {
	if p == nil {
		return nil
	}
	return &caughtUp{p.Source.Host, p.Source.Port, p.LagSeconds, p.Reached.String(), p.FromPrimary, p.ReadOnly}
}

// String tells people.
func (c *caughtUp) String() string {
	than := "all that it had received"
	if c.FromPrimary {
		than = "all that the primary had"
	}
	return fmt.Sprintf("the replica has caught up: it replicates from %s, has %s, and is %d seconds behind",
		mysqlbackup.HostPort{Host: c.SourceHost, Port: c.SourcePort}, than, c.LagSeconds)
}
