package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/mysqlbackup/vitess"
)

// servingFlags say how a server is taken out of serving.
func servingFlags() []cli.Flag {
	return []cli.Flag{
		textFlag("vttablet", "with --topo vitess: `HOST:PORT` of the tablet's vttablet, which says who it is if ALIAS is not given"),
		textFlag("cells", "with --topo vitess and KEYSPACE/SHARD: `LIST` of the cells whose tablets may be picked, with commas"),
		switchFlag("allow-last-replica", "with --topo vitess: back up also the last healthy replica, or the last that acknowledges commits"),
		textFlag("drain-command", "`COMMAND` for the shell that takes the server out of serving"),
		textFlag("undrain-command", "`COMMAND` for the shell that returns it once it has caught up"),
		timeFlag("drain-timeout", 5*time.Minute, "longest `TIME` that either of them may take"),
	}
}

// parseServing reads the servingFlags.
func parseServing(c *cli.Context, k *checks, topo topology, found *tablet) mysqlbackup.Serving {
	drain, undrain := c.String("drain-command"), c.String("undrain-command")
	timeout := positiveTime(c, k, "drain-timeout")
	if (drain == "") != (undrain == "") {
		k.addf("--drain-command and --undrain-command go together")
	}
	if found == nil {
		for _, name := range []string{"vttablet", "cells", "allow-last-replica"} {
			if isGiven(c, name) {
				k.addf("--%s is of no use without --topo vitess", name)
			}
		}
		if drain == "" {
			return mysqlbackup.Serving{}
		}
		return mysqlbackup.Serving{Commands: &mysqlbackup.DrainCommands{Drain: drain, Undrain: undrain, Timeout: timeout}}
	}
	if drain+undrain != "" {
		k.addf("--drain-command and --undrain-command are of no use with --topo vitess: the tablet's type does it")
	}
	return mysqlbackup.Serving{Tablet: &mysqlbackup.Tablet{Client: topo.client, Alias: found.alias, AllowLast: c.Bool("allow-last-replica")}}
}

// tablet is the Vitess tablet that a command line is about.
type tablet struct {
	alias vitess.Alias
	shard shardName
}

// findTablet returns the tablet that the command line names, in any of the ways
// there are; nil without --topo vitess. What is usual for a tablet's server
// becomes the value of the flags that are not given.
func (r *run) findTablet(c *cli.Context) (*tablet, error) {
	var k checks
	topo := parseTopology(c, &k)
	if err := k.err(c); err != nil || !topo.isVitess() || c.Bool("stopped") {
		return nil, err
	}
	found, err := r.resolve(c, topo)
	if err != nil {
		return nil, err
	}
	return found, setTabletFlags(c, found.alias)
}

func (r *run) resolve(c *cli.Context, topo topology) (*tablet, error) {
	arg, vttablet := c.Args().First(), c.String("vttablet")
	if strings.Contains(arg, "/") {
		keyspace, shard, err := manifest.ParseKeyspaceShard(arg)
		if err != nil {
			return nil, usagef("%v", err)
		}
		return r.pick(c, topo, shardName{keyspace, shard})
	}
	var alias vitess.Alias
	if arg != "" {
		parsed, err := vitess.ParseAlias(arg)
		if err != nil {
			return nil, usagef("%v", err)
		}
		alias = parsed
	}
	if vttablet != "" {
		told, err := vitess.AskVttablet(c.Context, vttablet)
		if err != nil {
			return nil, err
		}
		if !alias.IsZero() && alias != told.Alias {
			return nil, refusedf("the vttablet at %s is %s, not %s", vttablet, told.Alias, alias)
		}
		alias = told.Alias
	}
	if alias.IsZero() {
		return nil, seeHelp(usagef("ALIAS, KEYSPACE/SHARD or --vttablet is missing"), c.Command.Name)
	}
	record, err := topo.client.Tablet(c.Context, alias)
	if errors.Is(err, vitess.ErrNotFound) {
		return nil, &codedError{err, exitRefused}
	}
	if err != nil {
		return nil, err
	}
	keyspace, shard, err := manifest.ParseKeyspaceShard(record.Keyspace + "/" + record.Shard)
	return &tablet{alias, shardName{keyspace, shard}}, err
}

// refusedf returns an error with the exit code of a refusal.
func refusedf(format string, args ...any) error {
	return &codedError{fmt.Errorf(format, args...), exitRefused}
}

// myCnf is where the defaults file of a tablet of this host lies.
func myCnf(alias vitess.Alias) string {
	return filepath.Join(vtDataRoot(), fmt.Sprintf("vt_%010d", alias.UID), "my.cnf")
}

// setTabletFlags gives the flags that say how to reach and run the server the
// values that are usual in Vitess.
func setTabletFlags(c *cli.Context, alias vitess.Alias) error {
	usual := map[string]string{"defaults-file": myCnf(alias), "user": "vt_dba", "replication-user": "vt_repl"}
	if c.String("service")+c.String("stop-command")+c.String("start-command")+c.String("mysqld")+c.String("mysqlctl") == "" {
		usual["mysqlctl"] = "mysqlctl"
	}
	return setUsual(c, usual)
}

// setUsual gives flags that are not given a value.
func setUsual(c *cli.Context, usual map[string]string) error {
	for name, value := range usual {
		if c.IsSet(name) {
			continue
		}
		if err := c.Set(name, value); err != nil {
			return fmt.Errorf("set --%s: %w", name, err)
		}
	}
	return nil
}

// setTargetFlags gives the flags of a place to restore to the values that are
// usual in Vitess, if --topo says that it is one. There --mysqld is the program
// of the fenced start, and mysqlctl runs what lies in a tablet's folder.
func setTargetFlags(c *cli.Context) error {
	if c.String("topo") != topoVitess {
		return nil
	}
	usual := map[string]string{"user": "vt_dba", "replication-user": "vt_repl"}
	dir := filepath.Base(filepath.Dir(c.String("defaults-file")))
	if c.String("service")+c.String("stop-command")+c.String("start-command") == "" && tabletDirPattern.MatchString(dir) {
		usual["mysqlctl"] = "mysqlctl"
	}
	if mysqld := vitessMysqld(); mysqld != "" {
		usual["mysqld"] = mysqld
	}
	return setUsual(c, usual)
}

// vitessMysqld returns the mysqld that Vitess' programs take, "" if the
// environment does not say where it is.
func vitessMysqld() string {
	root := os.Getenv("VT_MYSQL_ROOT")
	if root == "" {
		return ""
	}
	for _, folder := range []string{"sbin", "bin", "libexec", "scripts"} {
		if path := filepath.Join(root, folder, "mysqld"); !isMissing(path) {
			return path
		}
	}
	return ""
}

// pick returns the best tablet of a shard among those of this host. These are
// the ones whose my.cnf lies below $VTDATAROOT, or whose server is the one that
// --defaults-file names.
func (r *run) pick(c *cli.Context, topo topology, shard shardName) (*tablet, error) {
	var k checks
	view := mysqlbackup.VitessShard{Client: topo.client, Keyspace: shard.keyspace, Shard: shard.shard}
	var cells []string
	if text := c.String("cells"); text != "" {
		cells = strings.Split(text, ",")
	}
	limit := parseCatchUp(c, &k)
	isLocal := localTablets(c, &k)
	if err := k.err(c); err != nil {
		return nil, err
	}
	ranked, err := mysqlbackup.RankTablets(c.Context, view, limit, cells)
	if err != nil {
		return nil, err
	}
	if len(ranked) == 0 {
		return nil, refusedf("%s has no healthy replica to back up", shard)
	}
	local, err := isLocal(c.Context)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(ranked, local)
	if i < 0 {
		best := ranked[0]
		return nil, hint.Wrap(refusedf("none of the healthy replicas of %s is on this host", shard),
			fmt.Sprintf("run \"shardseed backup %s\" on %s, where the best one is", best.Alias, best.Host))
	}
	picked := ranked[i]
	r.out.Step("pick", fmt.Sprintf("%s of %s: %s, %s behind", picked.Alias, shard, picked.Type, picked.Status.Lag))
	return &tablet{picked.Alias, shard}, nil
}

// localTablets returns what finds out how tablets of this host are told.
func localTablets(c *cli.Context, k *checks) func(context.Context) (func(mysqlbackup.Candidate) bool, error) {
	if !c.IsSet("defaults-file") {
		isHere := func(t mysqlbackup.Candidate) bool {
			_, err := os.Stat(myCnf(t.Alias))
			return err == nil
		}
		return func(context.Context) (func(mysqlbackup.Candidate) bool, error) { return isHere, nil }
	}
	conn := parseServer(c, k).Conn
	if !c.IsSet("user") {
		conn.User = "vt_dba"
	}
	return func(ctx context.Context) (func(mysqlbackup.Candidate) bool, error) {
		uuid, err := mysqlbackup.ServerUUID(ctx, conn)
		return func(t mysqlbackup.Candidate) bool { return t.Status.ServerUUID == uuid }, err
	}
}

var tabletDirPattern = regexp.MustCompile(`^vt_([0-9]{10})$`)

// mysqlctl returns the service that --mysqlctl names, for the tablet in whose
// folder the defaults file lies.
func mysqlctl(c *cli.Context, k *checks, defaults *mysqlbackup.Defaults) mysqlbackup.Service {
	if defaults == nil {
		return nil
	}
	dir := filepath.Dir(defaults.Path)
	service := mysqlbackup.Mysqlctl{Program: c.String("mysqlctl"), Dir: dir, Socket: absolute(k, c.String("mysqlctl-socket"))}
	parts := tabletDirPattern.FindStringSubmatch(filepath.Base(dir))
	if parts == nil {
		k.addf("--mysqlctl: %s is not in the folder of a tablet, such as vt_0000000101", defaults.Path)
		return service
	}
	uid, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil {
		k.addf("--mysqlctl: %s is not the number of a tablet", parts[1])
	}
	service.UID = uint32(uid)
	return service
}
