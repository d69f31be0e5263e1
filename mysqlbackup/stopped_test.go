package mysqlbackup

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/replication"
)

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func TestInstanceDatadir(t *testing.T) {
	for name, c := range map[string]struct {
		instance Instance
		want     string
	}{
		"given":    {Instance{Datadir: "/a/"}, "/a"},
		"both":     {Instance{Datadir: "/a", Defaults: readDefaults(t, "[mysqld]\ndatadir=/b\n")}, "/a"},
		"option":   {Instance{Defaults: readDefaults(t, "[mysqld]\ndatadir=/b/\n")}, "/b"},
		"relative": {Instance{Defaults: readDefaults(t, "[mysqld]\ndatadir=b\n")}, ""},
		"not set":  {Instance{Defaults: readDefaults(t, "[mysqld]\n")}, ""},
		"nothing":  {Instance{}, ""},
	} {
		got, err := c.instance.datadir()
		if got != c.want || (c.want == "") != errors.Is(err, ErrRefused) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

func TestFlavorOf(t *testing.T) {
	for name, want := range map[string]replication.Flavor{
		"mysql.ibd": replication.MySQL, "aria_log_control": replication.MariaDB, "mysql/global_priv.MAD": replication.MariaDB, "ibdata1": "", "mysql/user.frm": "",
	} {
		f := newFolders(t)
		tree(t, f.data, name)
		got, err := flavorOf(f.data)
		if got != want || (want == "") != errors.Is(err, ErrRefused) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestVersionOfCreator(t *testing.T) {
	for _, c := range []struct {
		flavor  replication.Flavor
		creator string
		want    string
	}{
		{replication.MySQL, "MySQL 9.7.4", "9.7.4"},
		{replication.MySQL, "MySQL 8.0.36-28", "8.0.36"},
		{replication.MariaDB, "MariaDB 10.11.19", "10.11.19"},
		{replication.MariaDB, "Backup 11.4.2-MariaDB", "11.4.2"},
		{replication.MySQL, "", ""},
		{replication.MySQL, "MySQL", ""},
		{replication.MySQL, "MySQL 5.7.1", ""},
		{replication.MariaDB, "MariaDB 10.6.1", ""},
	} {
		got, err := versionOfCreator(c.flavor, c.creator)
		if (err == nil) != (c.want != "") || err == nil && (got.Flavor != c.flavor || !strings.HasPrefix(got.Text, c.want)) {
			t.Errorf("%q: %+v, %v; want %s %s", c.creator, got, err, c.flavor, c.want)
		}
	}
}

func TestFindBinlog(t *testing.T) {
	for _, c := range []struct {
		names  []string
		flavor replication.Flavor
		want   string
	}{
		{[]string{"my-bin.state", "my-bin.index"}, replication.MariaDB, "my-bin"},
		{[]string{"my-bin.state"}, replication.MariaDB, ""},
		{[]string{"my-bin.index"}, replication.MariaDB, ""},
		{[]string{"a.state", "a.index", "b.state", "b.index"}, replication.MariaDB, ""},
		{nil, replication.MariaDB, ""},
	} {
		f := newFolders(t)
		tree(t, f.data, c.names...)
		l := f.layout(t, c.flavor)
		if err := l.findBinlog(); err != nil {
			t.Error(err)
		}
		if want := c.want; want != "" {
			c.want = f.data + "/" + want
		}
		if l.binlog != c.want {
			t.Errorf("%q: %q, want %q", c.names, l.binlog, c.want)
		}
	}
}

func TestCheckSystemFiles(t *testing.T) {
	f := newFolders(t)
	tree(t, f.data, "ibdata1", "ibdata", "ibdata1.bak", "ibdatax", "xibdata2")
	if err := f.layout(t, replication.MySQL).checkSystemFiles(); err != nil {
		t.Errorf("one file: %v", err)
	}
	tree(t, f.data, "ibdata2")
	if err := f.layout(t, replication.MySQL).checkSystemFiles(); err == nil || !strings.Contains(err.Error(), "ibdata2 is not in innodb_data_file_path") {
		t.Errorf("two files: %v", err)
	}
	if err := f.layout(t, replication.MySQL, "innodb_data_file_path=ibdata1:12M;ibdata2:1M:autoextend").checkSystemFiles(); err != nil {
		t.Errorf("two files, as configured: %v", err)
	}
}

func TestFindTablespaces(t *testing.T) {
	f := newFolders(t)
	tree(t, f.data, "db/t.ibd")
	tree(t, f.dir, "one/db/t.ibd", "one/u.ibu", "one/notes.txt", "one/sub/sub/x.ibd", "two/y.ibd", "three/z.ibd", "one/l.ibd->../three/z.ibd")
	got, err := f.layout(t, replication.MySQL, "innodb_directories='$/one;$/two;$/data;$/one/db'").findTablespaces()
	if diff := cmp.Diff([]string{"one/db/t.ibd", "one/sub/sub/x.ibd", "one/u.ibu", "two/y.ibd"}, f.relative(got)); err != nil || diff != "" {
		t.Errorf("%v; tablespaces (-want +got):\n%s", err, diff)
	}
	if got, err := f.layout(t, replication.MySQL, "innodb_directories=$/none").findTablespaces(); err == nil {
		t.Errorf("a folder that is not there: %q", got)
	}
}

// identified returns what identifyFiles learns of a stopped server.
func identified(t testing.TB, srv *mysqltest.Server, instance Instance) (*backupRun, error) {
	t.Helper()
	b := &backupRun{BackupOptions: BackupOptions{Server: instance, Now: clock}}
	return b, b.identifyFiles()
}

func TestIdentifyFiles(t *testing.T) {
	for _, flavor := range []replication.Flavor{replication.MySQL, replication.MariaDB} {
		srv := mysqltest.Start(t, flavor, mysqltest.Options{})
		if _, err := identified(t, srv, Instance{Datadir: srv.Datadir}); !errors.Is(err, ErrRefused) {
			t.Errorf("%s runs: %v, want a refusal", flavor, err)
		}
		srv.Stop(t)
		d, err := ReadDefaults(srv.DefaultsFile)
		if err != nil {
			t.Fatal(err)
		}
		for name, instance := range map[string]Instance{"by its folder": {Datadir: srv.Datadir}, "by its defaults file": {Defaults: d}} {
			b, err := identified(t, srv, instance)
			if err != nil {
				t.Fatal(err)
			}
			s := b.record.Server
			version, err := replication.ParseVersion(s.Version, s.VersionComment)
			if err != nil || version.Flavor != flavor || s.PageSize != 16384 || version.Supported() != nil {
				t.Errorf("%s %s: %+v is of %s, %v", flavor, name, s, version, err)
			}
			if string(s.LogBin) != srv.Datadir+"/binlog" {
				t.Errorf("%s %s: binary logs %s, want those in the data directory", flavor, name, s.LogBin)
			}
			if wantID := instance.Defaults != nil; wantID != (s.ID != 0) || wantID != (b.record.MyCnf != "") {
				t.Errorf("%s %s: server_id %d, my.cnf %q", flavor, name, s.ID, b.record.MyCnf)
			}
		}
		tree(t, srv.Datadir, markerName)
		if _, err := identified(t, srv, Instance{Datadir: srv.Datadir}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), markerName) {
			t.Errorf("%s, not restored to its end: %v, want a refusal", flavor, err)
		}
	}
}
