package commands

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/cpus"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// host is a folder with what flags name.
type host struct {
	dir, cnf, mysqld, password string
}

func newHost(t *testing.T) host {
	t.Helper()
	dir := t.TempDir()
	h := host{dir, filepath.Join(dir, "my.cnf"), filepath.Join(dir, "mysqld"), filepath.Join(dir, "password")}
	for _, file := range []struct {
		path, text string
		mode       os.FileMode
	}{
		{h.cnf, "[mysqld]\ndatadir=/srv/data\nsocket=/run/a.sock\n", 0o600},
		{h.mysqld, "#!/bin/sh\n", 0o700},
		{h.password, "secret \r\n", 0o600},
	} {
		if err := os.WriteFile(file.path, []byte(file.text), file.mode); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// with runs do instead of what the command does, on the context that cli makes
// of the arguments.
func with(t *testing.T, do func(r *run, c *cli.Context) error, args ...string) error {
	t.Helper()
	r := &run{opts: Options{
		Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{},
		Now: func() time.Time { return time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC) },
	}}
	app := r.app()
	walkCommands(app.Commands, "", func(_ string, c *cli.Command) {
		c.Action = func(c *cli.Context) error { return do(r, c) }
	})
	arranged, err := arrange(app, args)
	if err != nil {
		return err
	}
	return app.RunContext(t.Context(), arranged)
}

func parseBackupArgs(t *testing.T, args ...string) (mysqlbackup.BackupOptions, string, error) {
	t.Helper()
	var opts mysqlbackup.BackupOptions
	var root string
	err := with(t, func(r *run, c *cli.Context) (err error) {
		opts, root, err = r.parseBackup(c, nil)
		return err
	}, append([]string{"backup"}, args...)...)
	return opts, root, err
}

// ignored are fields that no flag sets.
func ignored() cmp.Option {
	return cmp.Options{
		cmpopts.IgnoreFields(mysqlbackup.BackupOptions{}, "Progress", "Now", "Host", "ToolVersion", "Topology"),
		cmp.Comparer(func(a, b *mysqlbackup.Defaults) bool {
			return (a == nil) == (b == nil) && (a == nil || a.Path == b.Path)
		}),
	}
}

func TestParseBackup(t *testing.T) {
	h := newHost(t)
	alias := manifest.TabletAlias{Cell: "zone1", UID: 101}
	base := mysqlbackup.BackupOptions{
		Store:    mysqlbackup.Store{CacheDir: "/c"},
		Keyspace: "commerce", Shard: "-80", Alias: alias,
		Server: mysqlbackup.Instance{
			Defaults:    &mysqlbackup.Defaults{Path: h.cnf},
			Conn:        mysqlbackup.Connection{Socket: "/run/a.sock", Credentials: mysqlbackup.Credentials{User: "root"}},
			Service:     mysqlbackup.Unit{Name: "mysql"},
			StopTimeout: time.Hour, StartTimeout: time.Hour,
		},
		Concurrency: cpus.Copying(),
		PreCopyFrom: 256 << 20, Gentle: true,
		CatchUp:  mysqlbackup.CatchUp{Lag: 10 * time.Second, Timeout: time.Hour},
		StateDir: "/s",
	}
	where := []string{"zone1-101", "--keyspace=commerce", "--shard=-80", "--root=/r", "--cache-dir=/c", "--state-dir=/s"}
	tests := []struct {
		name   string
		args   []string
		change func(*mysqlbackup.BackupOptions)
	}{
		{"unit", []string{"--defaults-file", h.cnf, "--service", "mysql"}, func(*mysqlbackup.BackupOptions) {}},
		{
			"commands",
			[]string{"--defaults-file", h.cnf, "--stop-command", "stop it", "--start-command", "start it"},
			func(o *mysqlbackup.BackupOptions) {
				o.Server.Service = mysqlbackup.Commands{StopCommand: "stop it", StartCommand: "start it"}
			},
		},
		{
			"program",
			[]string{"--defaults-file", h.cnf, "--mysqld", h.mysqld},
			func(o *mysqlbackup.BackupOptions) {
				o.Server.Service = mysqlbackup.Direct{Program: h.mysqld, DefaultsFile: h.cnf, Datadir: "/srv/data"}
			},
		},
		{
			"all the rest",
			[]string{
				"--defaults-file", h.cnf, "--service", "mysql", "--user", "backup", "--password-file", h.password, "--socket", "/run/b.sock",
				"--concurrency", "3", "--allow-primary", "--upgrade-safe", "--catch-up-lag", "5s", "--catch-up-timeout", "2m",
				"--replication-user", "repl", "--replication-password-file", h.password, "--stop-timeout", "3m", "--start-timeout", "4m",
				"--compression", "better", "--rehash", "--pre-copy", "--read-limit", "100MiB", "--write-limit", "50 MB",
			},
			func(o *mysqlbackup.BackupOptions) {
				o.Compression, o.Rehash, o.PreCopyFrom, o.PreCopyAll, o.ReadLimit, o.WriteLimit = cas.LevelBetter, true, 0, true, 100<<20, 50_000_000
				o.Server.Conn = mysqlbackup.Connection{Socket: "/run/b.sock", Credentials: mysqlbackup.Credentials{User: "backup", Password: "secret "}}
				o.Concurrency, o.AllowPrimary, o.UpgradeSafe = 3, true, true
				o.CatchUp = mysqlbackup.CatchUp{Lag: 5 * time.Second, Timeout: 2 * time.Minute}
				o.Replication = mysqlbackup.Credentials{User: "repl", Password: "secret "}
				o.Server.StopTimeout, o.Server.StartTimeout = 3*time.Minute, 4*time.Minute
			},
		},
		{
			"no pre-copy",
			[]string{"--defaults-file", h.cnf, "--service", "mysql", "--pre-copy=false", "--compression=default"},
			func(o *mysqlbackup.BackupOptions) { o.PreCopyFrom, o.Compression = -1, cas.LevelDefault },
		},
		{
			"stopped, by its folder",
			[]string{"--stopped", "--datadir", "/snapshot"},
			func(o *mysqlbackup.BackupOptions) { o.Server = mysqlbackup.Instance{Datadir: "/snapshot"} },
		},
		{
			"stopped, by its defaults file",
			[]string{"--stopped", "--defaults-file", h.cnf},
			func(o *mysqlbackup.BackupOptions) { o.Server = mysqlbackup.Instance{Defaults: base.Server.Defaults} },
		},
		{
			"stopped, by both",
			[]string{"--stopped", "--defaults-file", h.cnf, "--datadir", "/snapshot"},
			func(o *mysqlbackup.BackupOptions) {
				o.Server = mysqlbackup.Instance{Defaults: base.Server.Defaults, Datadir: "/snapshot"}
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, root, err := parseBackupArgs(t, append(test.args, where...)...)
			if err != nil {
				t.Fatal(err)
			}
			want := base
			test.change(&want)
			if diff := cmp.Diff(want, got, ignored()); diff != "" {
				t.Errorf("want - got +:\n%s", diff)
			}
			if root != "/r" {
				t.Errorf("root: got %q, want /r", root)
			}
		})
	}
}

func TestParseBackupRefuses(t *testing.T) {
	h := newHost(t)
	bare := filepath.Join(h.dir, "bare.cnf")
	twoLines := filepath.Join(h.dir, "two-lines")
	for path, text := range map[string]string{bare: "[mysqld]\n", twoLines: "a\nb\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good := []string{"zone1-101", "--keyspace=commerce", "--shard=-80", "--root=/r", "--cache-dir=/c", "--state-dir=/s"}
	running := append([]string{"--defaults-file", h.cnf}, good...)
	service := append([]string{"--service", "mysql"}, running...)
	tests := []struct {
		name string
		args []string
		want []string // the problems, or how they begin
	}{
		{"nothing", nil, []string{
			"ALIAS is missing", "flag --root is missing", "flag --keyspace is missing", "flag --shard is missing",
			"flag --defaults-file is missing", "who stops and starts the server?",
		}},
		{"names", append([]string{"--service=x", "--defaults-file", h.cnf, "--root=/r", "zone1"}, "--keyspace=a b", "--shard=x-y"), []string{
			`parse keyspace "a b"`, `parse shard "x-y"`, `parse tablet alias "zone1"`,
		}},
		{"limits", append([]string{"--read-limit=fast", "--write-limit=0", "--compression=best"}, service...), []string{
			`flag --compression: "best" is neither`, `flag --read-limit: "fast" is no number`, `flag --write-limit: "0" is no number`,
		}},
		{"nobody runs it", running, []string{"who stops and starts the server?"}},
		{"everybody runs it", append([]string{"--mysqld", h.mysqld, "--stop-command=a"}, service...), []string{
			"--stop-command and --start-command go together", "--service excludes --stop-command and --start-command",
		}},
		{"program and unit", append([]string{"--mysqld", h.mysqld}, service...), []string{"--mysqld excludes"}},
		{"half a pair of commands", append([]string{"--start-command=a"}, running...), []string{"--stop-command and --start-command go together"}},
		{"no program", append([]string{"--mysqld", h.dir + "/none"}, running...), []string{"flag --mysqld: stat"}},
		{"folder as program", append([]string{"--mysqld", h.dir}, running...), []string{"flag --mysqld: "}},
		{"text as program", append([]string{"--mysqld", h.cnf}, running...), []string{"flag --mysqld: "}},
		{"no defaults file", append([]string{"--service=x", "--defaults-file", h.dir + "/none"}, good...), []string{"flag --defaults-file: "}},
		{"defaults file that says nothing", append([]string{"--mysqld", h.mysqld, "--defaults-file", bare}, good...), []string{
			"flag --socket is missing", bare + " does not name the datadir",
		}},
		{"no password", append([]string{"--password-file", h.dir + "/none"}, service...), []string{"flag --password-file: open"}},
		{"two passwords", append([]string{"--password-file", twoLines}, service...), []string{"flag --password-file: "}},
		{"password without an account", append([]string{"--replication-password-file", h.password}, service...), []string{
			"--replication-password-file is of no use without --replication-user",
		}},
		{"numbers", append([]string{"--concurrency=0", "--catch-up-lag=0s", "--catch-up-timeout=-1s", "--stop-timeout=0s"}, service...), []string{
			"flag --concurrency: 0 is not between 1 and 1024", "flag --catch-up-lag: 0s is not a positive duration",
			"flag --catch-up-timeout: -1s is not", "flag --stop-timeout: 0s is not",
		}},
		{"no number", append([]string{"--concurrency=many"}, service...), []string{`invalid value "many" for flag --concurrency`}},
		{"no duration", append([]string{"--catch-up-lag=10"}, service...), []string{`invalid value "10" for flag --catch-up-lag`}},
		{"folder of a running server", append([]string{"--datadir=/d"}, service...), []string{"--datadir goes with --stopped"}},
		{"stopped without files", append([]string{"--stopped"}, good...), []string{"flag --defaults-file is missing"}},
		{"stopped, and yet stopped", append([]string{"--stopped", "--user=x", "--upgrade-safe"}, service...), []string{
			"--user is of no use with --stopped", "--service is of no use with --stopped", "--upgrade-safe is of no use with --stopped",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := parseBackupArgs(t, test.args...)
			wantProblems(t, err, test.want)
		})
	}
}

// A file that can't be read is no mistake in the flag that names it.
func TestUnreadableFile(t *testing.T) {
	const unreadable = "/proc/self/mem" // nothing lies at its beginning
	_, _, err := parseBackupArgs(t, "zone1-101", "--keyspace=commerce", "--shard=-80", "--root=/r", "--cache-dir=/c", "--state-dir=/s", "--service=mysql", "--defaults-file", unreadable)
	if code := exitCode(t.Context(), err); code != exitFailed || !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "--defaults-file: ") {
		t.Errorf("exit code %d, %v", code, err)
	}
}

// wantProblems checks that err is a usage error with exactly these problems,
// each given by its beginning.
func wantProblems(t *testing.T, err error, want []string) {
	t.Helper()
	var usage *usageError
	if !errors.As(err, &usage) {
		t.Fatalf("got %v, want a usage error", err)
	}
	for i, problem := range usage.problems {
		if i >= len(want) || !strings.HasPrefix(problem, want[i]) {
			t.Errorf("problem %d: got %q, want one of %q", i, problem, want)
		}
	}
	if len(usage.problems) != len(want) {
		t.Errorf("got %d problems, want %d: %q", len(usage.problems), len(want), usage.problems)
	}
}

func TestTellBackup(t *testing.T) {
	position, err := replication.ParsePosition("mysql:3e11fa47-71ca-11e1-9e33-c80aa9429562:1-48")
	if err != nil {
		t.Fatal(err)
	}
	started := time.Date(2026, 8, 1, 13, 15, 2, 0, time.UTC)
	alias := manifest.TabletAlias{Cell: "zone1", UID: 101}
	result := &mysqlbackup.BackupResult{
		Manifest: &manifest.Manifest{
			Keyspace: "commerce", Shard: "-80", Name: manifest.NewName(started, alias), TabletAlias: alias,
			Engine: manifest.EngineOffline, Started: started, Finished: started.Add(10 * time.Second), Downtime: 8,
			Server:   manifest.Server{Flavor: replication.MySQL, Version: "9.7.4"},
			Position: position, PositionKnown: true,
			Files:  manifest.FileList{Count: 412},
			Totals: manifest.Totals{Plain: 1 << 30, New: 1 << 20, Stored: 1 << 19},
		},
		CaughtUp: &mysqlbackup.Proof{
			Source: mysqlbackup.HostPort{Host: "db-01", Port: 3306}, Reached: position, LagSeconds: 2, FromPrimary: true, ReadOnly: true,
		},
	}
	tell := func(args ...string) string {
		var stdout *bytes.Buffer
		err := with(t, func(r *run, _ *cli.Context) error {
			stdout, _ = r.opts.Stdout.(*bytes.Buffer)
			r.tellBackup(result)
			return r.out.Err()
		}, append([]string{"version"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return stdout.String()
	}
	want := `backup 2026-08-01.131502.zone1-0000000101 of commerce/-80
size:      1.0 GiB in 412 files, folders and links
new:       1.0 MiB, stored as 512 KiB
took:      10s, 102 MiB/s; the server was down for 8.0s
position:  3e11fa47-71ca-11e1-9e33-c80aa9429562:1-48
the replica has caught up: it replicates from db-01:3306, has all that the primary had, and is 2 seconds behind
`
	if diff := cmp.Diff(want, tell()); diff != "" {
		t.Errorf("want - got +:\n%s", diff)
	}
	got := tell("--json")
	for _, part := range []string{
		`{"type":"backup","keyspace":"commerce","shard":"-80","name":"2026-08-01.131502.zone1-0000000101",`, `"downtime_seconds":8,`,
		`"marks":[],"caught_up":{"source_host":"db-01","source_port":3306,"lag_seconds":2,"position":"mysql:3e11fa47-71ca-11e1-9e33-c80aa9429562:1-48","from_primary":true,"read_only":true}}`,
	} {
		if !strings.Contains(got, part) {
			t.Errorf("got %s, want %s in it", got, part)
		}
	}
	result.CaughtUp = nil
	if got := tell("--json"); strings.Contains(got, "caught_up") {
		t.Errorf("got %s, want no caught_up", got)
	}
}
