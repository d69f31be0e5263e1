package commands

import (
	"fmt"
	"net/netip"
	"regexp"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
)

func (r *run) primaryCommand() *cli.Command {
	return &cli.Command{
		Name:  "primary",
		Usage: "says or tells which server is a shard's primary",
		Description: `Keeps the address of a shard's primary in the repository. Backups and restores
read it when they need it.

Example:
  shardseed primary set commerce/-80 db1.example.com:3306 --root /backups`,
		Subcommands: []*cli.Command{
			{
				Name:      "set",
				Usage:     "records a shard's primary",
				ArgsUsage: "KEYSPACE/SHARD HOST:PORT",
				Description: `Records the address of a shard's primary. The shard need not have backups yet.

Example:
  shardseed primary set commerce/-80 db1.example.com:3306 --root /backups`,
				Action: r.setPrimary,
			},
			{
				Name:      "get",
				Usage:     "prints a shard's primary",
				ArgsUsage: "KEYSPACE/SHARD",
				Description: `Prints the address of a shard's primary as HOST:PORT.

Example:
  shardseed primary get commerce/-80 --root /backups`,
				Action: r.getPrimary,
			},
		},
	}
}

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?$`)

// parseAddress reads HOST:PORT; "" has been complained about already.
func parseAddress(k *checks, text string) mysqlbackup.HostPort {
	if text == "" {
		return mysqlbackup.HostPort{}
	}
	addr, err := mysqlbackup.ParseHostPort(text)
	if err != nil {
		k.addf("address %q: want HOST:PORT, such as db1.example.com:3306", text)
		return mysqlbackup.HostPort{}
	}
	if _, err := netip.ParseAddr(addr.Host); err != nil && !hostPattern.MatchString(addr.Host) {
		k.addf("address %q: %q is neither a host name nor an IP address", text, addr.Host)
	}
	return addr
}

// primaryObject is a shard's primary in JSON.
type primaryObject struct {
	Type     string            `json:"type"` // "primary"
	Keyspace manifest.Keyspace `json:"keyspace"`
	Shard    manifest.Shard    `json:"shard"`
	Host     string            `json:"host"` // name or IP address, without brackets
	Port     int               `json:"port"`
}

func newPrimaryObject(shard shardName, addr mysqlbackup.HostPort) primaryObject {
	return primaryObject{"primary", shard.keyspace, shard.shard, addr.Host, addr.Port}
}

func (r *run) setPrimary(c *cli.Context) error {
	var k checks
	root := checkGlobals(c, &k).repository(&k)
	args := k.positionals(c, "KEYSPACE/SHARD", "HOST:PORT")
	shard := parseShard(&k, args[0])
	primary := parseAddress(&k, args[1])
	if err := k.err(c); err != nil {
		return err
	}
	repo, err := openRepository(c.Context, root)
	if err != nil {
		return err
	}
	if err := shard.record(repo).SetPrimary(c.Context, primary); err != nil {
		return err
	}
	r.out.Text("primary of %s is now %s", shard, primary)
	r.out.Object(newPrimaryObject(shard, primary))
	return nil
}

func (r *run) getPrimary(c *cli.Context) error {
	var k checks
	root := checkGlobals(c, &k).repository(&k)
	shard := parseShard(&k, k.positionals(c, "KEYSPACE/SHARD")[0])
	if err := k.err(c); err != nil {
		return err
	}
	repo, err := openRepository(c.Context, root)
	if err != nil {
		return err
	}
	primary, err := shard.record(repo).Primary(c.Context)
	if err != nil {
		return err
	}
	if primary.IsZero() {
		return hint.Wrap(fmt.Errorf("primary of %s: none is recorded", shard),
			fmt.Sprintf("run \"shardseed primary set %s HOST:PORT\" to record it", shard))
	}
	r.out.Text("%s", primary)
	r.out.Object(newPrimaryObject(shard, primary))
	return r.out.Err()
}
