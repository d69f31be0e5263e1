package commands

import (
	"os"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/urfave/cli/v2/altsrc"

	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/mysqlbackup/vitess"
)

// The values of --topo.
const (
	topoStore   = "store"
	topoVitess  = "vitess"
	topoCommand = "command"
)

// topologyFlags say who knows the primary of a shard.
func topologyFlags() []cli.Flag {
	return []cli.Flag{
		altsrc.NewStringFlag(&cli.StringFlag{
			Name: "topo", Value: topoStore,
			Usage: "who knows a shard's primary, by `KIND`: store (\"primary set\"), vitess or command",
		}),
		textFlag("topo-command", "with --topo command: `COMMAND` for the shell that prints the primary as HOST:PORT"),
		textFlag("vtctld", "with --topo vitess: `HOST:PORT` of vtctld"),
		altsrc.NewStringFlag(&cli.StringFlag{
			Name: "vtctldclient", Value: "vtctldclient",
			Usage: "with --topo vitess: `PROGRAM` that calls vtctld",
		}),
		timeFlag("vtctld-timeout", time.Minute, "with --topo vitess: longest `TIME` that a call of vtctld may take"),
	}
}

// topology is what the topologyFlags say.
type topology struct {
	kind    string
	command string
	client  vitess.Client
}

// parseTopology reads the topologyFlags.
func parseTopology(c *cli.Context, k *checks) topology {
	t := topology{
		kind: c.String("topo"), command: c.String("topo-command"),
		client: vitess.Client{Program: c.String("vtctldclient"), Server: c.String("vtctld"), Timeout: positiveTime(c, k, "vtctld-timeout")},
	}
	switch {
	case t.kind != topoStore && t.kind != topoVitess && t.kind != topoCommand:
		k.addf("flag --topo: %q is neither store, vitess nor command", t.kind)
	case t.kind == topoCommand && t.command == "":
		k.addf("flag --topo-command is missing")
	case t.kind == topoVitess && t.client.Server == "":
		k.addf("flag --vtctld is missing")
	}
	return t
}

func (t topology) isVitess() bool { return t.kind == topoVitess }

// of returns what knows the primary of a shard; nil: the repository does.
func (t topology) of(shard shardName) mysqlbackup.Topology {
	switch t.kind {
	case topoVitess:
		return mysqlbackup.VitessShard{Client: t.client, Keyspace: shard.keyspace, Shard: shard.shard}
	case topoCommand:
		return mysqlbackup.CommandTopology{Command: t.command, Keyspace: shard.keyspace, Shard: shard.shard}
	}
	return nil
}

// vtDataRoot is the folder of the tablets of this host, as Vitess finds it.
func vtDataRoot() string {
	if root := os.Getenv("VTDATAROOT"); root != "" {
		return root
	}
	return "/vt"
}
