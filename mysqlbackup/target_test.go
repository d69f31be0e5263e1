package mysqlbackup

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// fakeProgram is a mysqld that says its version and nothing else.
func fakeProgram(t testing.TB, version string) string {
	t.Helper()
	path := writeText(t, t.TempDir()+"/mysqld", "#!/bin/sh\necho '/usr/sbin/mysqld  Ver "+version+"'\n")
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	mysqlVersion   = "9.7.4 for Linux on x86_64 (MySQL Community Server - GPL)"
	mariadbVersion = "10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)"
)

func TestNewTarget(t *testing.T) {
	f := newFolders(t)
	text := strings.ReplaceAll("[mysqld]\ndatadir=$/data\n[mysqld-9.7]\nserver-id=97\n[mysqld-8.4]\nserver-id=84\n[mariadb]\nserver-id=10\nlog-bin=maria\n", "$", f.dir)
	for version, id := range map[string]uint32{mysqlVersion: 97, mariadbVersion: 10} {
		opts := &RestoreOptions{Server: Instance{Defaults: readDefaults(t, text)}, Program: fakeProgram(t, version)}
		place, err := newTarget(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if place.serverID != id || place.layout.datadir != f.data {
			t.Errorf("%s: server_id %d, datadir %s; want %d", version, place.serverID, place.layout.datadir, id)
		}
		if got, _ := opts.Server.Defaults.Option("server_id"); got != fmt.Sprint(id) {
			t.Errorf("%s: the options have server_id %s, want %d", version, got, id)
		}
	}
}

func TestNewTargetRefuses(t *testing.T) {
	for want, c := range map[string]struct{ text, version string }{
		"does not say where":        {"[mysqld]\n", mysqlVersion},
		"is not an absolute path":   {"[mysqld]\ndatadir=data\n", mysqlVersion},
		"is no mysqld":              {"[mysqld]\ndatadir=/data\n", "none"},
		"is not supported":          {"[mysqld]\ndatadir=/data\n", "5.7.44 for Linux on x86_64 (MySQL)"},
		"server_id in":              {"[mysqld]\ndatadir=/data\nserver-id=x\n", mysqlVersion},
		"innodb_page_size":          {"[mysqld]\ndatadir=/data\ninnodb-page-size=big\n", mysqlVersion},
		`there is no user "nobody9`: {"[mysqld]\ndatadir=/nowhere/data\nuser=nobody9\n", mysqlVersion},
	} {
		_, err := newTarget(t.Context(), &RestoreOptions{Server: Instance{Defaults: readDefaults(t, c.text)}, Program: fakeProgram(t, c.version)})
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want a refusal: %s", err, want)
		}
	}
	opts := &RestoreOptions{Server: Instance{Defaults: readDefaults(t, "[mysqld]\ndatadir=/data\n")}, Program: "/nowhere/mysqld"}
	if _, err := newTarget(t.Context(), opts); !errors.Is(err, ErrRefused) {
		t.Errorf("no program: %v, want a refusal", err)
	}
}

func TestSetOwner(t *testing.T) {
	f := newFolders(t)
	const nobody = 65534
	for _, c := range []struct {
		name, owner, line, datadir string
		folder                     int // owner of the data directory
		want                       int
	}{
		{"nothing is said", "", "", "$/data", 0, 0},
		{"folder's owner", "", "user=root", "$/data", nobody, nobody},
		{"option, root's folder", "", "user=nobody", "$/data", 0, nobody},
		{"option, no folder", "", "user=nobody", "$/none", 0, nobody},
		{"option is a number", "", "user=65534", "$/none", 0, nobody},
		{"flag before all", "root", "user=nobody", "$/data", nobody, 0},
		{"flag, no folder", "nobody", "", "$/none", 0, nobody},
	} {
		if err := os.Chown(f.data, c.folder, c.folder); err != nil {
			t.Fatal(err)
		}
		place := newTestTarget(t, f, replication.MySQL, "datadir="+c.datadir, c.line)
		if err := place.setOwner(c.owner); err != nil || place.uid != c.want {
			t.Errorf("%s: user %d, %v; want %d", c.name, place.uid, err, c.want)
		}
	}
	if err := newTestTarget(t, f, replication.MySQL).setOwner("nobody9"); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "--owner") {
		t.Errorf("unknown user: %v, want a refusal", err)
	}
}

func goodManifest(flavor replication.Flavor, version string) *manifest.Manifest {
	return &manifest.Manifest{Server: manifest.Server{
		Flavor: flavor, Version: version, PageSize: 16384, InnoDBDataFilePath: defaultDataFile, GTIDMode: "",
	}}
}

func TestCheckServer(t *testing.T) {
	place := newTestTarget(t, newFolders(t), replication.MySQL)
	place.version = replication.Version{Flavor: replication.MySQL, Major: 9, Minor: 7, Patch: 4}
	for name, c := range map[string]struct {
		change func(*manifest.Server)
		want   []string
	}{
		"same":     {func(*manifest.Server) {}, nil},
		"older":    {func(s *manifest.Server) { s.Version = "9.7.3" }, nil},
		"newer":    {func(s *manifest.Server) { s.Version = "9.7.5" }, []string{"can't go back"}},
		"flavor":   {func(s *manifest.Server) { s.Flavor, s.PageSize = replication.MariaDB, 4096 }, []string{"of a mariadb server"}},
		"page":     {func(s *manifest.Server) { s.PageSize = 4096 }, []string{"innodb_page_size is 4096 in the backup, 16384 here"}},
		"file":     {func(s *manifest.Server) { s.InnoDBDataFilePath = "a:1M" }, []string{"innodb_data_file_path"}},
		"case":     {func(s *manifest.Server) { s.LowerCaseTableNames = 1 }, []string{"lower_case_table_names is 1 in the backup, 0 here"}},
		"gtid":     {func(s *manifest.Server) { s.GTIDMode = "ON" }, []string{"gtid_mode"}},
		"gtid off": {func(s *manifest.Server) { s.GTIDMode = "OFF" }, nil},
		"version":  {func(s *manifest.Server) { s.Version = "x" }, []string{"parse server version"}},
		"two":      {func(s *manifest.Server) { s.PageSize, s.LowerCaseTableNames = 4096, 2 }, []string{"innodb_page_size", "lower_case_table_names"}},
	} {
		m := goodManifest(replication.MySQL, "9.7.4")
		c.change(&m.Server)
		var r refusals
		place.checkServer(&r, m)
		if len(r.reasons) != len(c.want) {
			t.Errorf("%s: %v, want %q", name, r.reasons, c.want)
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(r.reasons[i].Error(), want) {
				t.Errorf("%s: %v, want %q", name, r.reasons[i], want)
			}
		}
	}
}

func TestCheckRoots(t *testing.T) {
	place := newTestTarget(t, newFolders(t), replication.MySQL)
	m := &manifest.Manifest{Roots: []manifest.Root{{Name: rootDatadir, Path: "/x"}, {Name: rootUndo, Path: "/u"}, {Name: "external-1", Path: "/ext/one"}, {Name: "external-2", Path: "/two"}}}
	var r refusals
	place.checkRoots(&r, m, map[string]string{"/ext/": "/new", "/two": "relative"})
	if len(r.reasons) != 1 || !strings.Contains(r.reasons[0].Error(), "not an absolute path") {
		t.Errorf("reasons %v, want one about the relative path", r.reasons)
	}
	for root, want := range map[string]string{"external-1": "/new/one", rootUndo: place.layout.folders[rootUndo], rootDatadir: place.layout.datadir, "other": ""} {
		if got, ok := place.folder(root); got != want || ok != (want != "") {
			t.Errorf("%s goes to %q, %v; want %q", root, got, ok, want)
		}
	}
	r = refusals{}
	place.checkRoots(&r, m, nil)
	if err := r.err(); !errors.Is(err, ErrRefused) || len(r.reasons) != 2 || len(hint.Of(err)) != 2 {
		t.Errorf("without --map: %v with hints %v, want two refusals with one each", err, hint.Of(err))
	}
}

func TestMapFolder(t *testing.T) {
	mapped := map[string]string{"/a": "/x", "/a/b/": "/y/", "/": "/root", "/c": "/"}
	for folder, want := range map[string]string{
		"/a": "/x", "/a/c": "/x/c", "/a/b": "/y", "/a/b/c/d": "/y/c/d", "/ab": "/root/ab", "/c/d": "/d", "/c": "/",
	} {
		if got, ok := mapFolder(folder, mapped); !ok || got != want {
			t.Errorf("%s: %q, %v; want %q", folder, got, ok, want)
		}
	}
	if got, ok := mapFolder("/b", map[string]string{"/a": "/x"}); ok {
		t.Errorf("/b: %q, want nothing", got)
	}
}

func TestCheckIdle(t *testing.T) {
	f := newFolders(t)
	place := newTestTarget(t, f, replication.MySQL)
	if err := place.checkIdle(t.Context(), f.dir+"/sock"); err != nil {
		t.Errorf("an empty place: %v", err)
	}
	_, stop := fakeServer(t, "mysqld", f.data)
	if err := place.checkIdle(t.Context(), ""); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "runs: process") {
		t.Errorf("a server works there: %v, want a refusal", err)
	}
	stop()
	tree(t, f.data, "ibdata1")
	if err := place.checkIdle(t.Context(), ""); err != nil {
		t.Errorf("a server that has ended: %v", err)
	}
}
