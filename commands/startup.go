package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/urfave/cli/v2"
	"github.com/urfave/cli/v2/altsrc"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/cpus"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
)

func (r *run) startupCommand() *cli.Command {
	return &cli.Command{
		Name:      "startup",
		Usage:     "restores before a server starts, if it has no data",
		ArgsUsage: "KEYSPACE/SHARD",
		Description: `Made to run before every start of a server. Data that are there are never
touched. If there are none, they are restored from the newest backup that can
be used; if there is no backup, nothing is done.

Example:
  shardseed startup commerce/-80 --defaults-file /etc/mysql/my.cnf \
    --mysqld /usr/sbin/mysqld --replication-user repl \
    --replication-password-file /etc/shardseed/repl --root /backups`,
		Flags: slices.Concat(
			[]cli.Flag{
				defaultsFlag(),
				altsrc.NewBoolFlag(&cli.BoolFlag{
					Name: "restore-from-backup", Value: true, DefaultText: "on",
					Usage: "restore if there is no data; off: do nothing at all",
				}),
				altsrc.NewDurationFlag(&cli.DurationFlag{
					Name: "wait-for-backup", DefaultText: "do not wait",
					Usage: "longest `TIME` to wait for a backup, and for the repository and the primary",
				}),
				altsrc.NewStringFlag(&cli.StringFlag{
					Name: "then", Value: "exit",
					Usage: "`END`: leave the start of the restored server to others (exit), or start it and see that it replicates (replicating)",
				}),
				textFlag("init-config-command", "`COMMAND` for the shell that makes the defaults file if it is not there"),
				countFlag("restore-concurrency", "1.5 × CPUs + 1", "`NUMBER` of files and ranges of files that are written at once"),
				textFlag("primary", "`HOST:PORT` of the primary, if not the one that --topo knows"),
				altsrc.NewStringSliceFlag(&cli.StringSliceFlag{
					Name:  "map",
					Usage: "`OLD=NEW`: where a folder outside the data directory goes; may be repeated",
				}),
				textFlag("owner", "`USER` who is to own the files, if not the owner of the data directory"),
			},
			connectionFlags(), serviceFlags(), catchUpFlags(), replicationFlags(), topologyFlags(), []cli.Flag{stateFlag()},
		),
		Action: r.startup,
	}
}

func (r *run) startup(c *cli.Context) error {
	if err := setTargetFlags(c); err != nil {
		return err
	}
	opts, err := r.parseStartup(c)
	if err != nil {
		return err
	}
	if !c.Bool("restore-from-backup") {
		r.tellStartup(opts.Restore, &mysqlbackup.StartupResult{Outcome: startupOff})
		return nil
	}
	note := runNote{Command: c.Command.Name, Keyspace: opts.Restore.Keyspace, Shard: opts.Restore.Shard, Started: r.opts.Now().UTC()}
	result, err := mysqlbackup.Startup(c.Context, opts)
	r.out.End()
	if result == nil {
		r.noteRun(c.Context, opts.Restore.StateDir, note, err)
		return err
	}
	r.tellStartup(opts.Restore, result)
	if errors.Is(err, mysqlbackup.ErrPutBack) {
		err = &codedError{err, exitGoodNotPutBack}
	}
	if result.Restore != nil { // what did nothing has nothing to note
		note.Backup = result.Restore.Manifest.Name.String()
		r.noteRun(c.Context, opts.Restore.StateDir, note, err)
	}
	return err
}

// startupOff is the outcome of --restore-from-backup=false.
const startupOff mysqlbackup.StartupOutcome = "off"

// parseStartup reads the arguments and flags of startup.
func (r *run) parseStartup(c *cli.Context) (mysqlbackup.StartupOptions, error) {
	var k checks
	g := checkGlobals(c, &k)
	shard := parseShard(&k, k.positionals(c, "KEYSPACE/SHARD")[0])
	opts := mysqlbackup.StartupOptions{
		Restore: mysqlbackup.RestoreOptions{
			Keyspace: shard.keyspace, Shard: shard.shard,
			Store:       mysqlbackup.Store{CacheDir: g.cache(&k)},
			Program:     program(c, &k),
			Mode:        parseThen(c, &k),
			Concurrency: count(c, &k, "restore-concurrency", cpus.Copying()),
			Map:         parseMap(&k, c.StringSlice("map")),
			Owner:       c.String("owner"),
			CatchUp:     parseCatchUp(c, &k),
			Replication: parseReplication(c, &k),
			StateDir:    stateDir(c, &k),
			Progress:    r.out,
			Now:         r.opts.Now,
		},
		InitConfig: c.String("init-config-command"),
		Wait:       c.Duration("wait-for-backup"),
	}
	root := g.repository(&k)
	opts.Open = func(ctx context.Context) (*cas.Repository, error) { return openRepository(ctx, root) }
	if opts.InitConfig != "" && isMissing(absolute(&k, c.String("defaults-file"))) {
		opts.Configure = func() (mysqlbackup.Instance, error) { return configured(c, opts.Restore.Program) }
	} else {
		opts.Restore.Server = parseTarget(c, &k, opts.Restore.Program)
	}
	k.require(c, "mysqld")
	opts.Restore.Topology = parseTopology(c, &k).of(shard)
	if text := c.String("primary"); text != "" {
		opts.Restore.Topology = mysqlbackup.Fixed(parseAddress(&k, text))
	}
	if opts.Wait < 0 {
		k.add(fmt.Errorf("flag --wait-for-backup: %v is negative", opts.Wait))
	}
	return opts, k.err(c)
}

func isMissing(path string) bool {
	_, err := os.Stat(path)
	return path != "" && errors.Is(err, os.ErrNotExist)
}

// configured reads what the defaults file says, which was not there when the
// flags were read: what is wrong with it is no wrong usage any more.
func configured(c *cli.Context, mysqld string) (mysqlbackup.Instance, error) {
	var k checks
	server := parseTarget(c, &k, mysqld)
	if err := k.err(c); err != nil {
		return server, errors.New(err.Error())
	}
	return server, nil
}

// parseThen reads where startup is to end.
func parseThen(c *cli.Context, k *checks) mysqlbackup.RestoreMode {
	switch text := c.String("then"); text {
	case "exit":
	case "replicating":
		return mysqlbackup.ModeReplica
	default:
		k.addf("flag --then: %q is neither exit nor replicating", text)
	}
	return mysqlbackup.ModeSeeded
}

// tellStartup tells what startup has found or done.
func (r *run) tellStartup(opts mysqlbackup.RestoreOptions, result *mysqlbackup.StartupResult) {
	shard := shardName{opts.Keyspace, opts.Shard}
	r.out.Object(startupObject{"startup", opts.Keyspace, opts.Shard, result.Outcome, result.Datadir})
	switch result.Outcome {
	case startupOff:
		r.out.Text("nothing is done: --restore-from-backup is off")
	case mysqlbackup.StartupPresent:
		r.out.Text("%s has data, which are left as they are", result.Datadir)
	case mysqlbackup.StartupNoBackup:
		r.out.Text("there is no backup of %s: nothing is restored, the server is to be initialized", shard)
	case mysqlbackup.StartupCompleted:
		r.out.Text("%s: an earlier run had written and proved the files; all is in its place now", result.Datadir)
	case mysqlbackup.StartupRestored:
		r.tellRestore(result.Restore, &mysqlbackup.RestoreOptions{Mode: opts.Mode})
	}
}

// startupObject is the result of startup in JSON; that of the restore follows
// it.
type startupObject struct {
	Type     string                     `json:"type"` // "startup"
	Keyspace manifest.Keyspace          `json:"keyspace"`
	Shard    manifest.Shard             `json:"shard"`
	Outcome  mysqlbackup.StartupOutcome `json:"outcome"`
	Datadir  string                     `json:"datadir"` // "": not known, there is no defaults file
}
