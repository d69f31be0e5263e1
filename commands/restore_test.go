package commands

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/internal/cpus"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

func parseRestoreArgs(t *testing.T, args ...string) (mysqlbackup.RestoreOptions, string, error) {
	t.Helper()
	var opts mysqlbackup.RestoreOptions
	var root string
	err := with(t, func(r *run, c *cli.Context) (err error) {
		opts, root, err = r.parseRestore(c)
		return err
	}, append([]string{"restore"}, args...)...)
	return opts, root, err
}

func TestParseRestore(t *testing.T) {
	h := newHost(t)
	name, err := manifest.ParseName("2026-08-01.131502.zone1-101")
	if err != nil {
		t.Fatal(err)
	}
	base := mysqlbackup.RestoreOptions{
		Store:    mysqlbackup.Store{CacheDir: "/c"},
		Keyspace: "commerce", Shard: "-80",
		Server: mysqlbackup.Instance{
			Defaults:    &mysqlbackup.Defaults{Path: h.cnf},
			Conn:        mysqlbackup.Connection{Socket: "/run/a.sock", Credentials: mysqlbackup.Credentials{User: "root"}},
			Service:     mysqlbackup.Direct{Program: h.mysqld, DefaultsFile: h.cnf, Datadir: "/srv/data"},
			StopTimeout: time.Hour, StartTimeout: time.Hour,
		},
		Program:     h.mysqld,
		Concurrency: cpus.Copying(),
		Map:         map[string]string{},
		CatchUp:     mysqlbackup.CatchUp{Lag: 10 * time.Second, Timeout: time.Hour},
		StateDir:    "/s",
	}
	where := []string{"commerce/-80", "--root=/r", "--cache-dir=/c", "--state-dir=/s", "--defaults-file", h.cnf, "--mysqld", h.mysqld}
	tests := []struct {
		name   string
		args   []string
		change func(*mysqlbackup.RestoreOptions)
	}{
		{"by the program", nil, func(*mysqlbackup.RestoreOptions) {}},
		{"by a unit", []string{"--service", "mysql"}, func(o *mysqlbackup.RestoreOptions) {
			o.Server.Service = mysqlbackup.Unit{Name: "mysql"}
		}},
		{"by commands", []string{"--stop-command", "a", "--start-command", "b"}, func(o *mysqlbackup.RestoreOptions) {
			o.Server.Service = mysqlbackup.Commands{StopCommand: "a", StartCommand: "b"}
		}},
		{"a named backup", []string{"--backup", "2026-08-01.131502.zone1-101"}, func(o *mysqlbackup.RestoreOptions) { o.Backup = &name }},
		{"a given primary", []string{"--primary", "db1:3306"}, func(o *mysqlbackup.RestoreOptions) {
			o.Topology = mysqlbackup.Fixed{Host: "db1", Port: 3306}
		}},
		{"without replication", []string{"--no-replication"}, func(o *mysqlbackup.RestoreOptions) { o.Mode = mysqlbackup.ModeStandalone }},
		{"in place, slowly", []string{"--delta", "--read-limit=1MiB", "--write_limit", "2MiB"}, func(o *mysqlbackup.RestoreOptions) {
			o.InPlace, o.ReadLimit, o.WriteLimit = true, 1<<20, 2<<20
		}},
		{"files only", []string{"--files_only"}, func(o *mysqlbackup.RestoreOptions) { o.Mode = mysqlbackup.ModeFiles }},
		{"all the rest", []string{
			"--force", "--keep-old", "--owner", "mysql", "--restore-concurrency", "2",
			"--map", "/fast=/new/fast/", "--map=/a,b=/c=d", "--replication-user", "repl", "--replication-password-file", h.password,
		}, func(o *mysqlbackup.RestoreOptions) {
			o.Force, o.KeepOld, o.Owner, o.Concurrency = true, true, "mysql", 2
			o.Map = map[string]string{"/fast": "/new/fast", "/a,b": "/c=d"}
			o.Replication = mysqlbackup.Credentials{User: "repl", Password: "secret "}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, root, err := parseRestoreArgs(t, append(test.args, where...)...)
			if err != nil {
				t.Fatal(err)
			}
			want := base
			test.change(&want)
			fields := cmpopts.IgnoreFields(mysqlbackup.RestoreOptions{}, "Progress", "Now")
			if diff := cmp.Diff(want, got, fields, ignored()); diff != "" {
				t.Errorf("want - got +:\n%s", diff)
			}
			if root != "/r" {
				t.Errorf("root: got %q, want /r", root)
			}
		})
	}
}

func TestParseRestoreRefuses(t *testing.T) {
	h := newHost(t)
	good := []string{"commerce/-80", "--root=/r", "--cache-dir=/c", "--state-dir=/s", "--defaults-file", h.cnf, "--mysqld", h.mysqld}
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"nothing", nil, []string{
			"KEYSPACE/SHARD is missing", "flag --root is missing", "flag --defaults-file is missing", "flag --mysqld is missing",
		}},
		{"no program", []string{"commerce/-80", "--root=/r", "--defaults-file", h.cnf, "--service=x"}, []string{"flag --mysqld is missing"}},
		{"modes", append([]string{"--no-replication", "--files-only"}, good...), []string{"--no-replication and --files-only exclude each other"}},
		{"primary of no use", append([]string{"--primary=db1:1", "--files-only"}, good...), []string{"--primary and --files-only exclude each other"}},
		{"keep what", append([]string{"--keep-old"}, good...), []string{"--keep-old is of no use without --force"}},
		{"keep and change", append([]string{"--keep-old", "--delta"}, good...), []string{"--keep-old and --delta exclude each other"}},
		{"no rate", append([]string{"--read-limit=x", "--write-limit=-1"}, good...), []string{"flag --read-limit", "flag --write-limit"}},
		{"paths", append([]string{"--map=a", "--map=/a=b", "--map=/a=/b", "--map=/a/=/c"}, good...), []string{
			`flag --map: "a" is not OLD=NEW`, `flag --map: "/a=b" is not OLD=NEW`, "flag --map: /a is given twice",
		}},
		{"names", append([]string{"--backup=latest", "--primary=db1"}, good...), []string{`parse backup name "latest"`, `address "db1"`}},
		{"two managers", append([]string{"--service=x", "--start-command=y"}, good...), []string{
			"--stop-command and --start-command go together", "--service excludes",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := parseRestoreArgs(t, test.args...)
			wantProblems(t, err, test.want)
		})
	}
}

func TestTellRestore(t *testing.T) {
	position, err := replication.ParsePosition("mariadb:0-1-100")
	if err != nil {
		t.Fatal(err)
	}
	alias := manifest.TabletAlias{Cell: "zone1", UID: 101}
	name := manifest.NewName(time.Date(2026, 8, 1, 13, 15, 2, 0, time.UTC), alias)
	tests := []struct {
		name   string
		mode   mysqlbackup.RestoreMode
		result mysqlbackup.RestoreResult
		args   []string
		stdout string
		stderr string
	}{
		{
			"replica", mysqlbackup.ModeReplica,
			mysqlbackup.RestoreResult{
				Position: position, Primary: mysqlbackup.HostPort{Host: "db-01", Port: 3306}, OldFiles: []string{"/srv/data.before-restore"},
				Proof: &mysqlbackup.Proof{Source: mysqlbackup.HostPort{Host: "db-01", Port: 3306}, FromPrimary: true},
			},
			nil, `restored commerce/-80/2026-08-01.131502.zone1-0000000101 to /srv/data
the old files are in /srv/data.before-restore
position: 0-1-100
the replica has caught up: it replicates from db-01:3306, has all that the primary had, and is 0 seconds behind
`, "",
		},
		{
			"no primary", mysqlbackup.ModeReplica,
			mysqlbackup.RestoreResult{Position: position},
			nil, "restored commerce/-80/2026-08-01.131502.zone1-0000000101 to /srv/data\nposition: 0-1-100\n",
			"shardseed: warning: no primary of commerce/-80 is known: the server replicates from nowhere; record it with " +
				"\"shardseed primary set commerce/-80 HOST:PORT\" and restore again, or point the server at it by hand\n",
		},
		{
			"standalone", mysqlbackup.ModeStandalone,
			mysqlbackup.RestoreResult{},
			nil, "restored commerce/-80/2026-08-01.131502.zone1-0000000101 to /srv/data\nthe server replicates from nowhere, as wanted\n", "",
		},
		{
			"files", mysqlbackup.ModeFiles,
			mysqlbackup.RestoreResult{},
			nil, "restored commerce/-80/2026-08-01.131502.zone1-0000000101 to /srv/data\nthe files are in place, and nothing was started\n", "",
		},
		{
			"went on", mysqlbackup.ModeStandalone,
			mysqlbackup.RestoreResult{WentOn: true},
			nil, "restored commerce/-80/2026-08-01.131502.zone1-0000000101 to /srv/data\nan earlier run had written and proved the files; this one went on from there\n" +
				"the server replicates from nowhere, as wanted\n", "",
		},
		{
			"in place", mysqlbackup.ModeFiles,
			mysqlbackup.RestoreResult{Written: 1 << 20, Kept: 3 << 30},
			nil, "restored commerce/-80/2026-08-01.131502.zone1-0000000101 to /srv/data\nwrote 1.0 MiB, kept 3.0 GiB of the old files\n" +
				"the files are in place, and nothing was started\n", "",
		},
		{
			"JSON", mysqlbackup.ModeReplica,
			mysqlbackup.RestoreResult{Position: position, Primary: mysqlbackup.HostPort{Host: "db-01", Port: 3306}},
			[]string{"--json"},
			`{"type":"restored","keyspace":"commerce","shard":"-80","name":"2026-08-01.131502.zone1-0000000101","datadir":"/srv/data",` +
				`"plain_bytes":5,"written_bytes":0,"kept_bytes":0,"position":"mariadb:0-1-100","primary":"db-01:3306","old_files":[],"went_on":false}` + "\n", "",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			result := test.result
			result.Datadir = "/srv/data"
			result.Manifest = &manifest.Manifest{Keyspace: "commerce", Shard: "-80", Name: name, Totals: manifest.Totals{Plain: 5}}
			var stdout, stderr string
			err := with(t, func(r *run, _ *cli.Context) error {
				r.tellRestore(&result, &mysqlbackup.RestoreOptions{Mode: test.mode, InPlace: test.result.Kept > 0})
				stdout, stderr = written(t, r.opts.Stdout), written(t, r.opts.Stderr)
				return nil
			}, append([]string{"version"}, test.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.stdout, stdout); diff != "" {
				t.Errorf("stdout, want - got +:\n%s", diff)
			}
			if diff := cmp.Diff(test.stderr, stderr); diff != "" {
				t.Errorf("stderr, want - got +:\n%s", diff)
			}
		})
	}
}

func written(t *testing.T, w any) string {
	t.Helper()
	buffer, ok := w.(*bytes.Buffer)
	if !ok {
		t.Fatalf("got a %T, want a buffer", w)
	}
	return buffer.String()
}

func TestParseMap(t *testing.T) {
	var k checks
	got := parseMap(&k, []string{"/a=/b", "/c/d/=/e/../f"})
	want := map[string]string{"/a": "/b", "/c/d": "/f"}
	if diff := cmp.Diff(want, got); diff != "" || len(k.problems) > 0 {
		t.Errorf("problems %s, want - got +:\n%s", strings.Join(k.problems, "; "), diff)
	}
}
