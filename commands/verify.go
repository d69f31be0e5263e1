package commands

import (
	"os"
	"slices"

	"github.com/urfave/cli/v2"
	"github.com/urfave/cli/v2/altsrc"

	"github.com/shardseed/shardseed/internal/cpus"
	"github.com/shardseed/shardseed/internal/ui"
	"github.com/shardseed/shardseed/mysqlbackup"
)

// maxConnections is how many tables a drill checks at once by itself.
const maxConnections = 4

func (r *run) verifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "restores a backup for trial and checks every table",
		ArgsUsage: "KEYSPACE/SHARD",
		Description: `The restore drill: restores the newest backup without marks, or the one that
--backup names, into a folder of its own, starts a server on it that nobody
else can reach, compares its position with the backup's, runs CHECK TABLE on
every table, and writes down in the repository what came of it. With --catch-up
the server also has to catch up with the primary. All is removed at the end.

Example:
  shardseed verify commerce/-80 --mysqld /usr/sbin/mysqld --scratch /srv/drill --root /backups`,
		Flags: slices.Concat(
			[]cli.Flag{
				textFlag("mysqld", "`PROGRAM` of the server"),
				textFlag("backup", "`NAME` of the backup, which may be marked; else the newest without marks"),
				altsrc.NewStringFlag(&cli.StringFlag{
					Name: "scratch", DefaultText: "the folder for temporary files",
					Usage: "`DIR` with room for the files; the drill makes a folder of its own in it",
				}),
				altsrc.NewStringFlag(&cli.StringFlag{
					Name: "owner", DefaultText: "who runs this; mysql if that is root",
					Usage: "`USER` as whom the server runs",
				}),
				altsrc.NewStringSliceFlag(&cli.StringSliceFlag{
					Name:  "option",
					Usage: "`NAME=VALUE` of an option for the server, for keyrings, plugins or memory; may be repeated",
				}),
				countFlag("restore-concurrency", "1.5 × CPUs + 1", "`NUMBER` of files and ranges of files that are written at once"),
				countFlag("check-concurrency", "number of CPUs, at most 4", "`NUMBER` of tables that are checked at once"),
				startTimeoutFlag(),
				switchFlag("keep", "leave the files, and say where they are"),
				switchFlag("catch-up", "let the server replicate from the primary until it has caught up"),
				textFlag("primary", "with --catch-up: `HOST:PORT` of the primary, if not the one recorded for the shard"),
			},
			catchUpFlags(), replicationFlags(),
		),
		Action: r.verify,
	}
}

func (r *run) verify(c *cli.Context) error {
	opts, root, err := r.parseVerify(c)
	if err != nil {
		return err
	}
	repo, err := openRepository(c.Context, root)
	if err != nil {
		return err
	}
	opts.Store.Repo = repo
	if opts.Topology == nil {
		opts.Topology = shardName{opts.Keyspace, opts.Shard}.record(repo)
	}
	result, err := mysqlbackup.Verify(c.Context, opts)
	r.out.End()
	if result == nil {
		return err
	}
	r.tellVerify(result)
	if err != nil {
		return withCode(err, mysqlbackup.ErrPutBack, exitGoodNotPutBack)
	}
	return r.out.Err()
}

// parseVerify reads the arguments and flags of verify, and the root.
func (r *run) parseVerify(c *cli.Context) (mysqlbackup.VerifyOptions, string, error) {
	var k checks
	g := checkGlobals(c, &k)
	shard := parseShard(&k, k.positionals(c, "KEYSPACE/SHARD")[0])
	opts := mysqlbackup.VerifyOptions{
		Keyspace: shard.keyspace, Shard: shard.shard,
		Store:        mysqlbackup.Store{CacheDir: g.cache(&k)},
		Program:      program(c, &k),
		Scratch:      absolute(&k, c.String("scratch")),
		Owner:        c.String("owner"),
		Options:      c.StringSlice("option"),
		Concurrency:  count(c, &k, "restore-concurrency", cpus.Copying()),
		Connections:  count(c, &k, "check-concurrency", min(cpus.Count(), maxConnections)),
		StartTimeout: positiveTime(c, &k, "start-timeout"),
		Keep:         c.Bool("keep"),
		Replication:  parseReplication(c, &k),
		Host:         hostName(), ToolVersion: toolVersion(),
		Progress: r.out, Now: r.opts.Now,
	}
	if opts.Scratch == "" {
		opts.Scratch = os.TempDir()
	}
	root := g.repository(&k)
	k.require(c, "mysqld")
	for _, option := range opts.Options {
		if err := mysqlbackup.CheckDrillOption(option); err != nil {
			k.addf("flag --option: %v", err)
		}
	}
	if text := c.String("backup"); text != "" {
		name := parseName(&k, text)
		opts.Backup = &name
	}
	r.parseDrillCatchUp(c, &k, &opts)
	return opts, root, k.err(c)
}

func (r *run) parseDrillCatchUp(c *cli.Context, k *checks, opts *mysqlbackup.VerifyOptions) {
	wanted := parseCatchUp(c, k)
	primary := c.String("primary")
	switch {
	case c.Bool("catch-up"):
		opts.CatchUp = &wanted
		k.require(c, "replication-user")
	case primary != "":
		k.addf("--primary is of no use without --catch-up")
	}
	if primary != "" {
		opts.Topology = mysqlbackup.Fixed(parseAddress(k, primary))
	}
}

// tellVerify tells what came of a drill.
func (r *run) tellVerify(result *mysqlbackup.VerifyResult) {
	d := result.Drill
	r.out.Object(struct {
		Type string `json:"type"` // "drill"
		*mysqlbackup.Drill
		Folder string `json:"folder,omitempty"` // that was kept
	}{"drill", d, result.Folder})
	r.out.Text("%s: %s", d.Key(), d)
	switch {
	case !d.Passed() || d.Position.IsZero():
	case d.PositionChecked:
		r.out.Text("position: %s, as the backup says", d.Position.Short())
	default:
		r.out.Text("position: %s; the backup does not know its own", d.Position.Short())
	}
	for _, f := range d.Findings {
		what := "not checked"
		if f.Bad {
			what = "BAD"
		}
		r.out.Text("%s: %s", what, ui.Line(f.String()))
	}
	if result.Folder != "" {
		r.out.Text("the files are in %s", result.Folder)
	}
}
