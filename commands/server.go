package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/urfave/cli/v2/altsrc"

	"github.com/shardseed/shardseed/mysqlbackup"
)

// connectionFlags say how to reach the server on this host.
func connectionFlags() []cli.Flag {
	return []cli.Flag{
		altsrc.NewStringFlag(&cli.StringFlag{Name: "user", Value: "root", Usage: "`ACCOUNT` on the server of this host"}),
		textFlag("password-file", "`FILE` with the password of --user; without it none is given"),
		altsrc.NewStringFlag(&cli.StringFlag{
			Name: "socket", DefaultText: "as in the defaults file",
			Usage: "`FILE` on which the server listens",
		}),
	}
}

// parseConnection reads the connectionFlags.
func parseConnection(c *cli.Context, k *checks) mysqlbackup.Connection {
	return mysqlbackup.Connection{
		Socket: absolute(k, c.String("socket")),
		Credentials: mysqlbackup.Credentials{
			User:     c.String("user"),
			Password: readPassword(c, k, "password-file"),
		},
	}
}

// serviceFlags say who stops and starts the server.
func serviceFlags() []cli.Flag {
	return []cli.Flag{
		textFlag("service", "systemd `UNIT` that runs the server"),
		textFlag("stop-command", "`COMMAND` for the shell that stops the server and returns when it has stopped"),
		textFlag("start-command", "`COMMAND` for the shell that starts the server"),
		textFlag("mysqlctl", "`PROGRAM` of Vitess that runs a tablet's server: mysqlctl; it also speaks to a mysqlctld"),
		textFlag("mysqlctl-socket", "`FILE` on which mysqlctld listens, if it is not mysqlctl.sock beside the defaults file"),
		textFlag("mysqld", "`PROGRAM` of the server, to start it directly; it is stopped by SQL then"),
		timeFlag("stop-timeout", time.Hour, "longest `TIME` that stopping the server may take"),
		startTimeoutFlag(),
	}
}

func startTimeoutFlag() cli.Flag {
	return timeFlag("start-timeout", time.Hour, "longest `TIME` that starting the server may take, recovery included")
}

// replicationFlags name the account with which replicas connect.
func replicationFlags() []cli.Flag {
	return []cli.Flag{
		textFlag("replication-user", "`ACCOUNT` with which the replica connects to the primary"),
		textFlag("replication-password-file", "`FILE` with the password of --replication-user"),
	}
}

// parseReplication reads the replicationFlags.
func parseReplication(c *cli.Context, k *checks) mysqlbackup.Credentials {
	user := c.String("replication-user")
	if user == "" && c.String("replication-password-file") != "" {
		k.addf("--replication-password-file is of no use without --replication-user")
	}
	return mysqlbackup.Credentials{User: user, Password: readPassword(c, k, "replication-password-file")}
}

// catchUpFlags say how long to wait for a replica, and for what.
func catchUpFlags() []cli.Flag {
	return []cli.Flag{
		timeFlag("catch-up-lag", 10*time.Second, "`LAG` behind the primary below which the replica has caught up"),
		timeFlag("catch-up-timeout", time.Hour, "longest `TIME` to wait until it has"),
	}
}

// stateFlag says where put-back journals are kept.
func stateFlag() cli.Flag {
	return altsrc.NewStringFlag(&cli.StringFlag{
		Name:        "state-dir",
		DefaultText: "/var/lib/shardseed for root, else shardseed in the user's state folder",
		Usage:       "`DIR` of this host for notes on what must be put back; it must survive a reboot",
	})
}

func defaultsFlag() cli.Flag {
	return textFlag("defaults-file", "`FILE` that the server is started with (my.cnf)")
}

// readDefaults reads the defaults file, which must be given. It returns nil if
// it can't.
func readDefaults(c *cli.Context, k *checks) *mysqlbackup.Defaults {
	path := absolute(k, c.String("defaults-file"))
	if path == "" {
		k.addf("flag --defaults-file is missing")
		return nil
	}
	defaults, err := mysqlbackup.ReadDefaults(path)
	if err != nil {
		k.file("defaults-file", err)
		return nil
	}
	return defaults
}

// program returns the program that --mysqld names, "" if it is not given.
func program(c *cli.Context, k *checks) string {
	path := absolute(k, c.String("mysqld"))
	if path == "" {
		return ""
	}
	info, err := os.Stat(path)
	if err != nil {
		k.file("mysqld", err)
	} else if info.IsDir() || info.Mode()&0o111 == 0 {
		k.addf("flag --mysqld: %s is not a program", path)
	}
	return path
}

// parseServer reads the flags of a server but for who runs it: defaults file,
// connection and timeouts.
func parseServer(c *cli.Context, k *checks) mysqlbackup.Instance {
	server := mysqlbackup.Instance{
		Defaults:     readDefaults(c, k),
		Conn:         parseConnection(c, k),
		StopTimeout:  positiveTime(c, k, "stop-timeout"),
		StartTimeout: positiveTime(c, k, "start-timeout"),
	}
	if server.Defaults != nil && server.Conn.Socket == "" {
		server.Conn.Socket = socketOf(k, server.Defaults)
	}
	return server
}

// parseInstance reads the flags of a server that is run by somebody: exactly
// one must be named.
func parseInstance(c *cli.Context, k *checks) mysqlbackup.Instance {
	server := parseServer(c, k)
	server.Service = parseService(c, k, server.Defaults)
	return server
}

// socketOf returns the socket that the defaults file names; a relative one lies
// in the data directory.
func socketOf(k *checks, defaults *mysqlbackup.Defaults) string {
	socket, _ := defaults.Option("socket")
	datadir, _ := defaults.Option("datadir")
	switch {
	case socket == "":
		k.addf("flag --socket is missing, and %s does not name it either", defaults.Path)
	case !filepath.IsAbs(socket):
		return filepath.Join(datadir, socket)
	}
	return socket
}

// parseService reads who stops and starts the server.
func parseService(c *cli.Context, k *checks, defaults *mysqlbackup.Defaults) mysqlbackup.Service {
	mysqld := program(c, k)
	service := manager(c, k, defaults)
	switch {
	case service == nil && mysqld == "":
		k.addf("who stops and starts the server? give --service, or --stop-command and --start-command, or --mysqld")
	case service != nil && mysqld != "":
		k.addf("--mysqld excludes --service, --stop-command and --start-command, and --mysqlctl")
	case service == nil && defaults != nil:
		return direct(k, mysqld, defaults)
	}
	return service
}

// direct is a server that is started as a program.
func direct(k *checks, mysqld string, defaults *mysqlbackup.Defaults) mysqlbackup.Service {
	datadir, _ := defaults.Option("datadir")
	if datadir == "" {
		k.addf("%s does not name the datadir, which --mysqld needs", defaults.Path)
	}
	return mysqlbackup.Direct{Program: mysqld, DefaultsFile: defaults.Path, Datadir: datadir}
}

// manager returns what runs the server if --service, the commands or --mysqlctl
// name it, else nil.
func manager(c *cli.Context, k *checks, defaults *mysqlbackup.Defaults) mysqlbackup.Service {
	unit, stop, start := c.String("service"), c.String("stop-command"), c.String("start-command")
	if (stop == "") != (start == "") {
		k.addf("--stop-command and --start-command go together")
	}
	switch {
	case unit != "" && stop+start != "":
		k.addf("--service excludes --stop-command and --start-command")
	case c.String("mysqlctl") != "" && unit+stop+start != "":
		k.addf("--mysqlctl excludes --service, --stop-command and --start-command")
	case c.String("mysqlctl") != "":
		return mysqlctl(c, k, defaults)
	case unit != "":
		return mysqlbackup.Unit{Name: unit}
	case stop+start != "":
		return mysqlbackup.Commands{StopCommand: stop, StartCommand: start}
	}
	return nil
}

// parseCatchUp reads the catchUpFlags.
func parseCatchUp(c *cli.Context, k *checks) mysqlbackup.CatchUp {
	return mysqlbackup.CatchUp{Lag: positiveTime(c, k, "catch-up-lag"), Timeout: positiveTime(c, k, "catch-up-timeout")}
}

// readPassword returns the content of the file that the flag names, without
// the end of its last line; "" if it names none.
func readPassword(c *cli.Context, k *checks, name string) string {
	const most = 1024 // bytes, more than any server takes
	path := absolute(k, c.String(name))
	if path == "" {
		return ""
	}
	data, err := os.ReadFile(path)
	if err != nil {
		k.file(name, err)
		return ""
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if len(password) > most || strings.ContainsAny(password, "\n\x00") {
		k.addf("flag --%s: %s does not hold one line with a password", name, path)
	}
	return password
}

// parseMap reads OLD=NEW pairs of absolute paths.
func parseMap(k *checks, pairs []string) map[string]string {
	paths := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		from, to, found := strings.Cut(pair, "=")
		if !found || !filepath.IsAbs(from) || !filepath.IsAbs(to) {
			k.addf("flag --map: %q is not OLD=NEW with two absolute paths", pair)
			continue
		}
		from, to = filepath.Clean(from), filepath.Clean(to)
		if _, twice := paths[from]; twice {
			k.add(fmt.Errorf("flag --map: %s is given twice", from))
		}
		paths[from] = to
	}
	return paths
}
