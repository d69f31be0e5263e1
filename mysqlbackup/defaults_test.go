package mysqlbackup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/replication"
)

// writeText writes a file for a test, with the folders above it.
func writeText(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func readDefaults(t testing.TB, text string) *Defaults {
	t.Helper()
	d, err := ReadDefaults(writeText(t, filepath.Join(t.TempDir(), "my.cnf"), text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What is wanted here was seen with my_print_defaults of MariaDB 10.11 and
// mysqld --print-defaults of MySQL 9.7.
func TestDefaultsSyntax(t *testing.T) {
	for _, c := range []struct{ line, name, want string }{
		{"datadir=/a", "datadir", "/a"},
		{"  datadir \t=\t /a b \t", "datadir", "/a b"},
		{"datadir = /a # comment", "datadir", "/a"},
		{"datadir=/a#b", "datadir", "/a"},
		{`datadir="/a #b"`, "datadir", "/a #b"},
		{`datadir='/a #b' # "c"`, "datadir", "/a #b"},
		{`datadir='it"s'`, "datadir", `it"s`},
		{`datadir="un#closed`, "datadir", `"un#closed`},
		{`datadir="`, "datadir", `"`},
		{`datadir=""`, "datadir", ""},
		{`datadir="a" "b"`, "datadir", `a" "b`},
		{`datadir="a\"#b"#c`, "datadir", `a"#b`},
		{`datadir="a\\"#c`, "datadir", `a\`},
		{`datadir=a\sb\tc\\d\q\n`, "datadir", "a b\tc\\d\\q\n"},
		{"datadir=x;y", "datadir", "x;y"},
		{"datadir=a=b", "datadir", "a=b"},
		{"datadir", "datadir", ""},
		{"datadir # nothing", "datadir", ""},
		{"datadir=", "datadir", ""},
		{"innodb-page_size=16k", "innodb_page-size", "16k"},
		{"DataDir=/a", "datadir", "/a"},
		{"loose-datadir=/a", "datadir", "/a"},
		{"loose_skip-log-bin", "skip_log_bin", ""},
		{"datadir=/a\r", "datadir", "/a"},
		{"datadir=/a\ndatadir=/b", "datadir", "/b"},
		{"datadir=/a\n[client]\ndatadir=/b", "datadir", "/a"},
		{"[client]\ndatadir=/b\n[mysqld]\ndatadir=/a", "datadir", "/a"},
		{"datadir=/a\n[Server]\ndatadir=/b", "datadir", "/b"},
		{"datadir=/a\n[mysqld ] # c\ndatadir=/b", "datadir", "/b"},
		{"datadir=/a\n[ mysqld]\ndatadir=/b", "datadir", "/a"},
		{"datadir=/a\n!frobnicate x", "datadir", "/a"},
		{"datadir=/a\n!include /nowhere.cnf", "datadir", "/a"},
		{"# x\n; y\n\ndatadir=/a", "datadir", "/a"},
	} {
		got, ok := readDefaults(t, "[mysqld]\n"+c.line+"\n").Option(c.name)
		if !ok || got != c.want {
			t.Errorf("%q: %s is %q, %v; want %q", c.line, c.name, got, ok, c.want)
		}
	}
}

func TestDefaultsNotSet(t *testing.T) {
	for _, text := range []string{
		"", "[mysqld]", "[mysqld]\n#datadir=/a", "[mysqld]\n;datadir=/a", "[mysql]\ndatadir=/a", "[mysqldump]\ndatadir=/a",
		"[mysqld-9.7]\ndatadir=/a", "[mysqld_safe]\ndatadir=/a", "[mysqld]\ndatadirs=/a", "[mysqld]\ndatadir=/a\nskip-datadir",
		"[mysqld]\ndatadir=/a\ndisable_datadir", "[mysqld1]\ndatadir=/a",
	} {
		if got, ok := readDefaults(t, text).Option("datadir"); ok || got != "" {
			t.Errorf("%q: datadir is %q, %v; want none", text, got, ok)
		}
	}
}

func TestDefaultsGroups(t *testing.T) {
	mysql := replication.Version{Flavor: replication.MySQL, Major: 9, Minor: 7, Patch: 4}
	mariadb := replication.Version{Flavor: replication.MariaDB, Major: 10, Minor: 11, Patch: 19}
	for _, c := range []struct {
		group        string
		mysql, maria bool
	}{
		{group: "mysqld", mysql: true, maria: true},
		{group: "server", mysql: true, maria: true},
		{group: "MYSQLD", mysql: true, maria: true},
		{group: "mysqld-9.7", mysql: true},
		{group: "mysqld-9", mysql: false},
		{group: "mysqld-8.4"},
		{group: "mysqld-10.11", maria: true},
		{group: "mariadb", maria: true},
		{group: "mariadb-10.11", maria: true},
		{group: "mariadb-10.6"},
		{group: "mariadb-9.7"},
		{group: "mariadbd", maria: true},
		{group: "mariadbd-10.11", maria: true},
		{group: "client-server", maria: true},
		{group: "galera", maria: true},
		{group: "client"},
		{group: "mysqld-9.7.4"},
	} {
		d := readDefaults(t, "["+c.group+"]\ndatadir=/a\n")
		if _, got := d.For(mysql).Option("datadir"); got != c.mysql {
			t.Errorf("MySQL reads [%s]: %v, want %v", c.group, got, c.mysql)
		}
		if _, got := d.For(mariadb).Option("datadir"); got != c.maria {
			t.Errorf("MariaDB reads [%s]: %v, want %v", c.group, got, c.maria)
		}
	}
}

func TestDefaultsSkipOrder(t *testing.T) {
	for _, c := range []struct {
		lines      string
		set, isOff bool
	}{
		{"log-bin=x\nskip-log-bin", false, true},
		{"skip-log-bin\nlog-bin=x", true, false},
		{"disable-log-bin", false, true},
		{"log-bin", true, false},
		{"other", false, false},
	} {
		_, set, isOff := readDefaults(t, "[mysqld]\n"+c.lines+"\n").lookup("log_bin")
		if set != c.set || isOff != c.isOff {
			t.Errorf("%q: set %v, off %v; want %v, %v", c.lines, set, isOff, c.set, c.isOff)
		}
	}
}

func TestDefaultsIncludes(t *testing.T) {
	dir := t.TempDir()
	main := filepath.Join(dir, "my.cnf")
	writeText(t, filepath.Join(dir, "conf.d", "b.cnf"), "[mysqld]\nport=2\nsocket=/b\n")
	writeText(t, filepath.Join(dir, "conf.d", "a.cnf"), "[mysqld]\nport=1\ndatadir=/a\n")
	writeText(t, filepath.Join(dir, "conf.d", "c.cnf~"), "[mysqld]\nport=3\n")
	writeText(t, filepath.Join(dir, "one [x]*.cnf"), "[mysqld]\nserver-id=7\n[client]\nport=9\n")
	public := writeText(t, filepath.Join(dir, "public.cnf"), "[mysqld]\nport=66\n")
	if err := os.Chmod(public, 0o666); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("[client]\n!includedir %s/conf.d/\n[mysqld]\n!include   %s/one [x]*.cnf  \n!include %s\nuser=x\n", dir, dir, public)
	d, err := ReadDefaults(writeText(t, main, text))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"port": "2", "socket": "/b", "datadir": "/a", "server_id": "7", "user": "x"} {
		if got, _ := d.Option(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if d.Path != main || d.Text != text {
		t.Errorf("path %q and text %q, want %q and the file's own", d.Path, d.Text, main)
	}
}

func TestDefaultsErrors(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ text, want string }{
		{"[mysqld\ndatadir=/a", "line 1: a group has no closing bracket"},
		{"datadir=/a", "line 1: an option stands before the first group"},
		{"\xef\xbb\xbf[mysqld]\ndatadir=/a", "before the first group"}, // servers do not know byte order marks either
		{"[mysqld]\n!includedir " + dir + "/none", "no such file"},
		{"[mysqld]\n!include " + dir + "/my.cnf", "include each other"},
		{"[mysqld]\nx=" + strings.Repeat("y", 2<<20), "too long"},
	} {
		_, err := ReadDefaults(writeText(t, filepath.Join(dir, "my.cnf"), c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: error %v, want %q", c.text, err, c.want)
		}
	}
	if _, err := ReadDefaults(filepath.Join(dir, "none.cnf")); err == nil {
		t.Error("a missing file is no error")
	}
	public := writeText(t, filepath.Join(dir, "public.cnf"), "[mysqld]\ndatadir=/a\n")
	if err := os.Chmod(public, 0o646); err != nil {
		t.Fatal(err)
	}
	_, err := ReadDefaults(public)
	if err == nil || !strings.Contains(err.Error(), "everybody may write it") || len(hint.Of(err)) != 1 {
		t.Errorf("a file that everybody may write: %v, hints %v", err, hint.Of(err))
	}
}

func TestDefaultsRelativePath(t *testing.T) {
	dir := t.TempDir()
	writeText(t, filepath.Join(dir, "my.cnf"), "[mysqld]\n")
	t.Chdir(dir)
	d, err := ReadDefaults("my.cnf")
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(d.Path) {
		t.Errorf("path is %q, want an absolute one", d.Path)
	}
}

func FuzzDefaults(f *testing.F) {
	for _, seed := range []string{
		"[mysqld]\ndatadir=/a\n", "[mysqld] # c\nx=\"a#b\"\r\n", "[mysqld]\nskip-x\nloose-y='\n", "!include\n", "!includedir\n", "[", "[]", "=\n", "\\", "[a]\n=\n\"=\"",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "!include") {
			return // reads other files
		}
		d := &Defaults{}
		if err := d.parse("my.cnf", text, 0); err != nil {
			return
		}
		for _, s := range d.settings {
			d.lookup(s.name)
		}
		if _, err := newLayout(replication.MariaDB, optionsOf(d, replication.MariaDB), ""); err == nil {
			_, _ = newLayout(replication.MySQL, optionsOf(d, replication.MySQL), "/data") // no panic is all that is wanted
		}
	})
}
