package mysqlbackup

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/shardseed/shardseed/replication"
)

// layoutOf resolves the lines of a [mysqld] group, for a data directory at
// /data unless they say otherwise.
func layoutOf(t testing.TB, flavor replication.Flavor, lines ...string) *layout {
	t.Helper()
	l, err := tryLayout(t, flavor, lines...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func tryLayout(t testing.TB, flavor replication.Flavor, lines ...string) (*layout, error) {
	t.Helper()
	d := readDefaults(t, "[mysqld]\ndatadir=/data\n"+strings.Join(lines, "\n")+"\n")
	return newLayout(flavor, optionsOf(d, flavor), "")
}

// diffLayouts compares layouts but for what tests of their own look at.
func diffLayouts(want, got *layout) string {
	return cmp.Diff(want, got, cmp.AllowUnexported(layout{}), cmpopts.IgnoreFields(layout{}, "doublewriteFolder", "keys"))
}

func TestLayoutDefaults(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	l := layoutOf(t, replication.MySQL)
	want := &layout{
		flavor: replication.MySQL, datadir: "/data",
		folders: map[string]string{
			rootDatadir: "/data", rootHome: "/data", rootRedo: "/data", rootUndo: "/data", rootAria: "/data", rootBinlog: "/data",
		},
		systemFiles: []string{"/data/ibdata1"}, dataFilePath: "ibdata1:12M:autoextend", pageSize: 16384,
		binlog: "/data/binlog", binlogIndex: "/data/binlog.index",
		relayLog: "/data/" + host + "-relay-bin", relayIndex: "/data/" + host + "-relay-bin.index",
		tempFiles: []string{"/data/ibtmp1"}, tempFolder: "/data/#innodb_temp", own: map[string]bool{},
	}
	if diff := diffLayouts(want, l); diff != "" {
		t.Errorf("layout without options (-want +got):\n%s", diff)
	}
}

func TestLayoutFolders(t *testing.T) {
	l := layoutOf(t, replication.MySQL,
		"innodb_data_home_dir=/home/", "innodb_data_file_path=ibdata1:12M;ibdata2:1G:autoextend:max:5G", "innodb_log_group_home_dir=redo",
		"innodb-undo-directory=./undo/", "aria_log_dir_path=/aria", "log-bin=/logs/bin.log", "log-bin-index=/logs/other", "relay-log=rel.x.y",
		"relay_log_index=r.idx", "innodb_temp_data_file_path=../tmp/ibtmp1:12M;t2:3M:autoextend", "innodb_temp_tablespaces_dir=/t",
		`innodb_directories="/one;two;"`, "innodb_page_size=8K", "lower_case_table_names=1", "pid-file=my.pid", "socket=/run/s")
	want := &layout{
		flavor: replication.MySQL, datadir: "/data",
		folders: map[string]string{
			rootDatadir: "/data", rootHome: "/home", rootRedo: "/data/redo", rootUndo: "/data/undo", rootAria: "/aria", rootBinlog: "/logs",
		},
		systemFiles:  []string{"/home/ibdata1", "/home/ibdata2"},
		dataFilePath: "ibdata1:12M;ibdata2:1G:autoextend:max:5G", pageSize: 8192, lowerCaseTableNames: 1,
		binlog: "/logs/bin", binlogIndex: "/logs/other.index", relayLog: "/data/rel", relayIndex: "/data/r.idx",
		tempFiles: []string{"/tmp/ibtmp1", "/home/t2"}, tempFolder: "/t", directories: []string{"/one", "/data/two"},
		own: map[string]bool{"/data/my.pid": true, "/data/my.pid.lock": true, "/run/s": true, "/run/s.lock": true},
	}
	if diff := diffLayouts(want, l); diff != "" {
		t.Errorf("layout (-want +got):\n%s", diff)
	}
}

func TestLayoutSystemFiles(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  []string
		home  string
	}{
		{[]string{"innodb_data_file_path=ibdata1:12M:autoextend"}, []string{"/data/ibdata1"}, "/data"},
		{[]string{"innodb_data_file_path= a:12M ; b:5M;"}, []string{"/data/a", "/data/b"}, "/data"},
		{[]string{"innodb_data_file_path=sub/a:12M"}, []string{"/data/sub/a"}, "/data/sub"},
		{[]string{"innodb_data_home_dir=", "innodb_data_file_path=/x/a:12M;/x/b:1M"}, []string{"/x/a", "/x/b"}, "/x"},
		{[]string{"innodb_data_home_dir=./", "innodb_data_file_path=../a:12M"}, []string{"/a"}, "/"},
	} {
		l := layoutOf(t, replication.MariaDB, c.lines...)
		if diff := cmp.Diff(c.want, l.systemFiles); diff != "" || l.folders[rootHome] != c.home {
			t.Errorf("%q: home %q, want %q; files (-want +got):\n%s", c.lines, l.folders[rootHome], c.home, diff)
		}
	}
}

// Names as MySQL 9.7.4 and MariaDB 10.11.19 gave them to their logs.
func TestLayoutLogs(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flavor        replication.Flavor
		lines         string
		binlog, relay string
	}{
		{replication.MySQL, "", "/data/binlog", "/data/" + host + "-relay-bin"},
		{replication.MySQL, "log-bin", "/data/" + host + "-bin", "/data/" + host + "-relay-bin"},
		{replication.MySQL, "log-bin=\npid-file=/x/foo.bar.pid", "/data/" + host + "-bin", "/data/" + host + "-relay-bin"},
		{replication.MySQL, "log-bin=1", "/data/1", "/data/" + host + "-relay-bin"},
		{replication.MySQL, "log-bin=a.b.c\nrelay-log=/r.d/x.y.z", "/data/a", "/r.d/x"},
		{replication.MySQL, "skip-log-bin\nlog-bin=a.b", "/data/a", "/data/" + host + "-relay-bin"},
		{replication.MySQL, "log-bin=a\nskip-log-bin", "", "/data/" + host + "-relay-bin"},
		{replication.MySQL, "disable-log-bin", "", "/data/" + host + "-relay-bin"},
		{replication.MariaDB, "", "", "/data/" + host + "-relay-bin"},
		{replication.MariaDB, "log-bin", "/data/" + host + "-bin", "/data/" + host + "-relay-bin"},
		{replication.MariaDB, "log-bin\npid-file=/x/foo.bar.pid", "/data/foo-bin", "/data/foo-relay-bin"},
		{replication.MariaDB, "log-basename=base\nlog-bin", "/data/base-bin", "/data/base-relay-bin"},
		{replication.MariaDB, "log-bin=1", "/data/1", "/data/" + host + "-relay-bin"},
		{replication.MariaDB, "skip-log-bin\nlog-bin=/l/a.b.c\nrelay-log=rel.x", "/l/a", "/data/rel"},
		{replication.MariaDB, "log-bin=a\nskip-log-bin", "", "/data/" + host + "-relay-bin"},
	} {
		l := layoutOf(t, c.flavor, c.lines)
		if l.binlog != c.binlog || l.relayLog != c.relay {
			t.Errorf("%s, %q: logs %q and %q, want %q and %q", c.flavor, c.lines, l.binlog, l.relayLog, c.binlog, c.relay)
		}
	}
}

func TestLayoutErrors(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"innodb_page_size=x", "is no size"},
		{"innodb_page_size=k", "is no size"},
		{"innodb_page_size=-1", "is no size"},
		{"lower_case_table_names=yes", "lower_case_table_names"},
		{"innodb_data_file_path=;", "names no file"},
		{"innodb_data_file_path=a:1M;/elsewhere/b:1M", "several folders"},
	} {
		if _, err := tryLayout(t, replication.MySQL, c.line); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.line, err, c.want)
		}
	}
	none := func(string) string { return "" }
	if _, err := newLayout(replication.MySQL, none, ""); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("no datadir: error %v, want one that is no refusal yet", err)
	}
	if l, err := newLayout(replication.MySQL, none, "/x/"); err != nil || l.datadir != "/x" {
		t.Errorf("given datadir: %v, %v", l, err)
	}
	if l := layoutOf(t, replication.MySQL, "innodb_temp_data_file_path=;"); len(l.tempFiles) != 0 {
		t.Errorf("temporary files %q, want none", l.tempFiles)
	}
}

func TestCovers(t *testing.T) {
	l := layoutOf(t, replication.MySQL, "innodb_undo_directory=/undo", "innodb_temp_tablespaces_dir=/temp")
	for path, want := range map[string]bool{
		"/data/db/t.ibd": true, "/data": true, "/database/t.ibd": false, "/temp/temp_1.ibt": true,
		"/undo/more.ibu": false, // a root is no promise that all in its folder is copied
		"/ext/t.ibd":     false,
	} {
		if got := l.covers(path); got != want {
			t.Errorf("covers %s: %v, want %v", path, got, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "16384": 16384, "16k": 16384, "16K": 16384, "2m": 2 << 20, "3G": 3 << 30, "4294967295": 1<<32 - 1, "4294967295g": (1<<32 - 1) << 30,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "k", "1kk", "-1", "+1", "1.5k", "4294967296", "1 k", "0x10"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q: %d, want an error", text, got)
		}
	}
}
