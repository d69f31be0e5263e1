package mysqlbackup

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// drillAllowed are all options that a drill sets by itself.
var drillAllowed = []string{
	"datadir", "tmpdir", "lc_messages", "innodb_page_size", "innodb_data_file_path", "lower_case_table_names", "innodb_data_home_dir",
	"innodb_log_group_home_dir", "innodb_undo_directory", "aria_log_dir_path", "server_id", "report_host", "innodb_doublewrite",
	"innodb_flush_log_at_trx_commit", "sync_binlog", "innodb_buffer_pool_size", "key_buffer_size", "performance_schema", "max_connections",
	"skip_name_resolve", "innodb_parallel_read_threads", "secure_file_priv", "skip_log_bin", "gtid_mode", "enforce_gtid_consistency",
	"innodb_directories", "innodb_undo_tablespaces", "aria_pagecache_buffer_size", "log_slave_updates", "log_bin", "user",
	"loose_innodb_use_native_aio",
}

// hostileValues are what somebody would write into a record to have an option of
// his own in the drill's option file, or a folder outside of the scratch folder.
var hostileValues = []string{
	"x\nplugin_load=evil", "x\"\nplugin_load_add=evil", "x\r\ninit_file=/x", "x\x00y", "x\x0bplugin_load=y", "\nplugin_dir=/x",
	"ibdata1:12M\nplugin_load=evil", "ibdata1:12M:autoextend\"\nplugin_load=evil\n#", `ibdata1:12M" plugin_load="x`,
	"ibdata1:" + strings.Repeat("1", 4095) + "plugin_load=evil", strings.Repeat("a", 4070) + "\"\nplugin_load=x",
	"..", ".", "/", "", "../..", "/etc/passwd", "a;/etc", "a;b", "a/b", "ibdata1:12M;../x:10M", "x\u0085plugin_load=y", "ON\nplugin_load=x", "/a/../..",
	"/dev/sda:10Graw", "[client]", "!includedir /tmp", "#", `\`, `"`, "'", "ibdata1:12M:autoextend",
}

// TestHostileDrillOptions: whatever stands in a record, no option but the drill's
// own comes into its option file, no folder outside of the scratch folder, and no
// line longer than a server reads.
func TestHostileDrillOptions(t *testing.T) {
	for _, flavor := range []replication.Flavor{replication.MySQL, replication.MariaDB} {
		for name, set := range map[string]func(*manifest.Manifest, string){
			"innodb_data_file_path": func(m *manifest.Manifest, s string) { m.Server.InnoDBDataFilePath = s },
			"gtid_mode":             func(m *manifest.Manifest, s string) { m.Server.GTIDMode = s },
			"log_bin":               func(m *manifest.Manifest, s string) { m.Server.LogBin = manifest.Path(s) },
			"relay_log":             func(m *manifest.Manifest, s string) { m.Server.RelayLog = manifest.Path(s) },
			"datadir":               func(m *manifest.Manifest, s string) { m.Server.DataDir = manifest.Path(s) },
			"my_cnf":                func(m *manifest.Manifest, s string) { m.MyCnf = s },
			"version_comment":       func(m *manifest.Manifest, s string) { m.Server.VersionComment = s },
			"character_set_server":  func(m *manifest.Manifest, s string) { m.Server.CharacterSet = s },
			"server_uuid":           func(m *manifest.Manifest, s string) { m.Server.UUID = s },
			"host":                  func(m *manifest.Manifest, s string) { m.Host = s },
			"external root":         func(m *manifest.Manifest, s string) { m.Roots[1].Path = manifest.Path(filepath.Join("/ext", s)) },
			"undo root":             func(m *manifest.Manifest, s string) { m.Roots[2].Path = manifest.Path(filepath.Join("/src", s)) },
		} {
			for _, value := range hostileValues {
				checkDrillOptions(t, flavor, name, value, set)
			}
		}
	}
}

func checkDrillOptions(t *testing.T, flavor replication.Flavor, field, value string, set func(*manifest.Manifest, string)) {
	t.Helper()
	s, err := newScratch(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := &manifest.Manifest{
		Server: manifest.Server{Flavor: flavor, DataDir: "/src", PageSize: 16384, InnoDBDataFilePath: "ibdata1:12M:autoextend", GTIDMode: "ON", LogBin: "/src/binlog"},
		Roots:  []manifest.Root{{Name: rootDatadir, Path: "/src"}, {Name: "external-1", Path: "/ext/a"}, {Name: rootUndo, Path: "/src/undo"}},
	}
	set(m, value)
	d := &drillRun{scratch: s, serverID: 7, restoreRun: restoreRun{chosen: m}}
	d.owner.uid, d.owner.gid = os.Geteuid(), os.Getegid()
	files := []manifest.File{{Root: "external-1", Path: "t.ibd"}}
	if err := d.writeOptions(files); err != nil {
		if !errors.Is(err, ErrRefused) || exists(d.cnf()) {
			t.Errorf("%s %q: %v", field, value, err)
		}
		return
	}
	text, err := os.ReadFile(d.cnf())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(strings.TrimPrefix(string(text), "[mysqld]\n")) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "=")
		if !slices.Contains(drillAllowed, name) || len(line) > 4094 {
			t.Errorf("%s %q: the option file has a line of %d bytes: %.100q", field, value, len(line), line)
		}
	}
	defaults, err := ReadDefaults(d.cnf())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"datadir", "tmpdir", "innodb_undo_directory", "log_bin", "innodb_directories"} {
		got, _ := defaults.Option(name)
		parts := []string{got}
		if name == "innodb_directories" {
			parts = strings.Split(got, ";")
		}
		for _, part := range parts {
			if got != "" && !strings.HasPrefix(filepath.Clean(part), s.folder+"/") {
				t.Errorf("%s %q: %s is %q", field, value, name, got)
			}
		}
	}
	for folder := range maps.Values(d.external) {
		if !strings.HasPrefix(filepath.Clean(folder), s.folder+"/") {
			t.Errorf("%s %q: files go to %q", field, value, folder)
		}
	}
}

// hostileRestore restores a list of files by hand, as [Restore] does, in front of
// what lies outside, and returns the target and what went wrong.
func hostileRestore(t *testing.T, flavor replication.Flavor, inPlace bool, prepare func(data, outside string), entries ...manifest.File) (*target, error) {
	t.Helper()
	f := newFolders(t)
	outside := filepath.Join(f.dir, "outside")
	tree(t, outside, "secret", "sub/")
	place := newTestTarget(t, f, flavor, "log-bin=$/data/binlog", "log-error=$/data/error.log", "innodb-undo-directory=$/undo")
	place.external["external-1"], place.sources["external-1"] = filepath.Join(f.dir, "ext"), "/ext"
	v := newVault(t, testChunk)
	if prepare != nil {
		prepare(f.data, outside)
	}
	before, err := content(outside)
	if err != nil {
		t.Fatal(err)
	}
	plain := []byte("hostile content")
	id := cas.Sum(plain)
	v.store(t, plain)
	for i := range entries {
		if e := &entries[i]; e.Kind == manifest.KindFile {
			e.ChunkSize, e.Size, e.Recipe = testChunk, int64(len(plain)), id
		}
	}
	err = place.checkEntries(entries)
	if err == nil {
		a := &assembler{
			target: place, reader: v.reader(t), workers: 2, inPlace: inPlace, progress: &quiet{},
			roots: []manifest.Root{{Name: rootDatadir, Path: "/src"}, {Name: "external-1", Path: "/ext"}},
		}
		if inPlace {
			err = place.takeOver(marker{Stage: stageWriting, Backup: "k/0/n"}, entries)
		} else {
			err = errors.Join(place.makeFolders(), place.withhold())
		}
		if err == nil {
			err = a.writeFiles(t.Context(), entries)
		}
		if err == nil {
			err = errors.Join(a.finish(), place.checkRelease(), place.release())
		}
	}
	after, contentErr := content(outside)
	if contentErr != nil {
		t.Fatal(contentErr)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("what lies outside has changed:\n%s", diff)
	}
	return place, err
}

func hostileFile(root, path string) manifest.File {
	return manifest.File{Root: root, Path: manifest.Path(path), Kind: manifest.KindFile, Mode: 0o640}
}

// TestHostileNames: what no backup holds is not written, however it is called: not
// by a list of files for empty folders, and not by one for old ones.
func TestHostileNames(t *testing.T) {
	for _, name := range []string{
		"mysqld-auto.cnf", "auto.cnf", "my.cnf", ".my.cnf", ".mylogin.cnf", ".ssh", ".forward", ".bashrc", markerName, withheld, "mysqld.my",
		"error.log", "binlog.000001", "binlog.index", "host-relay-bin.000002", "master.info", "relay-log.info", "x.err", "x.pid", "core.1",
		"private_key.pem", "component_keyring_file",
	} {
		for _, inPlace := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s in place %v", name, inPlace), func(t *testing.T) {
				place, err := hostileRestore(t, replication.MySQL, inPlace, func(data, _ string) {
					if inPlace && name != markerName && name != withheld {
						writeText(t, filepath.Join(data, name), "old")
					}
				}, hostileFile(rootDatadir, name), hostileFile(rootDatadir, "test.txt"))
				if err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(place.layout.datadir, name)
				if !slices.Equal(place.leftOut, []string{path}) {
					t.Errorf("left out: %q", place.leftOut)
				}
				if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), "hostile") {
					t.Errorf("%s was written", path)
				}
				if !exists(filepath.Join(place.layout.datadir, "test.txt")) {
					t.Error("what is no such file was left out too")
				}
			})
		}
	}
}

// TestHostileFolders: what is below a folder that is left out is left out too.
func TestHostileFolders(t *testing.T) {
	place, err := hostileRestore(t, replication.MySQL, false, nil,
		manifest.File{Root: rootDatadir, Path: ".config", Kind: manifest.KindDir, Mode: 0o755},
		manifest.File{Root: rootDatadir, Path: ".config/a", Kind: manifest.KindDir, Mode: 0o755},
		hostileFile(rootDatadir, ".config/a/b"),
		manifest.File{Root: rootDatadir, Path: ".rocksdb", Kind: manifest.KindDir, Mode: 0o750},
		hostileFile(rootDatadir, ".rocksdb/CURRENT"),
	)
	if err != nil || len(place.leftOut) != 3 {
		t.Errorf("left out %q, %v", place.leftOut, err)
	}
	if exists(place.layout.datadir+"/.config") || !exists(place.layout.datadir+"/.rocksdb/CURRENT") {
		t.Error("the wrong folder was left out")
	}
}

// TestHostilePlaces: lists that would put two things in one place, something below
// a file or a link, or a redo log where it is not withheld, are refused before
// anything is written.
func TestHostilePlaces(t *testing.T) {
	link := func(path, target string) manifest.File {
		return manifest.File{Root: rootDatadir, Path: manifest.Path(path), Kind: manifest.KindSymlink, Target: manifest.Path(target), Mode: 0o777}
	}
	for name, entries := range map[string][]manifest.File{
		"twice":                       {hostileFile(rootDatadir, "a"), hostileFile(rootDatadir, "a")},
		"below a file":                {hostileFile(rootDatadir, "a"), hostileFile(rootDatadir, "a-b"), hostileFile(rootDatadir, "a/b")},
		"deep below a file":           {hostileFile(rootDatadir, "a"), hostileFile(rootDatadir, "a/b/c/d")},
		"below a link":                {link("db", "/src/other"), hostileFile(rootDatadir, "db/t.ibd")},
		"a file and a link":           {hostileFile(rootDatadir, "a"), link("a", "/src/b")},
		"redo log as a file":          {hostileFile(rootDatadir, "ib_logfile0")},
		"redo log of 8.0.30":          {hostileFile(rootDatadir, "#innodb_redo/#ib_redo7")},
		"system tablespace as a file": {hostileFile(rootDatadir, "ibdata1")},
		"a file as redo log":          {hostileFile(rootRedo, ".my.cnf")},
		"a table as redo log":         {hostileFile(rootRedo, "db/t.ibd")},
		"a file as undo":              {hostileFile(rootUndo, "evil")},
		"a file as system":            {hostileFile(rootHome, "mysqld-auto.cnf")},
		"an unknown root":             {hostileFile("elsewhere", "x")},
	} {
		for _, inPlace := range []bool{false, true} {
			place, err := hostileRestore(t, replication.MySQL, inPlace, nil, entries...)
			if err == nil || exists(place.layout.datadir+"/"+markerName) || exists(place.withheldFolder()) {
				t.Errorf("%s: got %v, and something was written: %v", name, err, exists(place.layout.datadir+"/"+markerName))
			}
		}
	}
}

// TestHostileLinks: no link of a restored tree leads out of the target's folders,
// and nothing is written through those that lie in an old one.
func TestHostileLinks(t *testing.T) {
	for _, target := range []string{"/etc/passwd", "../outside/secret", "..", "/", "/src/../etc", "/srcs/x", "x", "/ext/../src/../etc/shadow"} {
		_, err := hostileRestore(t, replication.MySQL, false, nil,
			manifest.File{Root: rootDatadir, Path: "db", Kind: manifest.KindSymlink, Target: manifest.Path(target), Mode: 0o777})
		if err == nil {
			t.Errorf("a link to %q was made", target)
		}
	}
	links := map[string]func(data, outside string) error{
		"file":   func(data, outside string) error { return os.Symlink(outside+"/secret", data+"/a") },
		"folder": func(data, outside string) error { return os.Symlink(outside+"/sub", data+"/db") },
		"redo":   func(data, outside string) error { return os.Symlink(outside+"/sub", data+"/"+withheld) },
		"hard":   func(data, outside string) error { return os.Link(outside+"/secret", data+"/a") },
		"marker": func(data, outside string) error { return os.Symlink(outside+"/secret", data+"/"+markerName) },
	}
	for name, link := range links {
		place, err := hostileRestore(t, replication.MySQL, true, func(data, outside string) {
			if err := link(data, outside); err != nil {
				t.Fatal(err)
			}
		}, hostileFile(rootDatadir, "a"), manifest.File{Root: rootDatadir, Path: "db", Kind: manifest.KindDir, Mode: 0o750}, hostileFile(rootDatadir, "db/t.ibd"),
			hostileFile(rootRedo, "ib_logfile0"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		info, err := os.Lstat(place.layout.datadir + "/db")
		if err != nil || !info.IsDir() {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// TestHostileISL: MariaDB follows the paths in .isl files, relative ones from its
// data directory.
func TestHostileISL(t *testing.T) {
	for _, text := range []string{"/etc/shadow", "../outside/secret", "/src/../../etc/x.ibd", "../../../../etc/x.ibd"} {
		f := newFolders(t)
		place := newTestTarget(t, f, replication.MariaDB)
		v := newVault(t, testChunk)
		v.store(t, []byte(text))
		if err := errors.Join(place.makeFolders(), place.withhold()); err != nil {
			t.Fatal(err)
		}
		a := &assembler{target: place, reader: v.reader(t), workers: 1, progress: &quiet{}, roots: []manifest.Root{{Name: rootDatadir, Path: "/src"}}}
		err := a.writeFiles(t.Context(), []manifest.File{{
			Root: rootDatadir, Path: "t.isl", Kind: manifest.KindFile, Size: int64(len(text)), ChunkSize: testChunk, Recipe: cas.Sum([]byte(text)), Mode: 0o640,
		}})
		if err == nil {
			t.Errorf("a .isl file that leads to %q was restored", text)
		}
	}
}

// TestHostileModes: others can't write to what is restored, and no file is a
// program, whatever the list of files says.
func TestHostileModes(t *testing.T) {
	for recorded, want := range map[uint32]os.FileMode{0o7777: 0o664, 0o4755: 0o644, 0o640: 0o640, 0o600: 0o600, 0o777: 0o664, 0o444: 0o444} {
		file, folder := hostileFile(rootDatadir, "a"), manifest.File{Root: rootDatadir, Path: "d", Kind: manifest.KindDir, Mode: 0o7777}
		file.Mode = recorded
		place, err := hostileRestore(t, replication.MySQL, false, nil, file, folder)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(place.layout.datadir + "/a")
		if err != nil || info.Mode() != want {
			t.Errorf("recorded %#o: got %v, %v", recorded, info.Mode(), err)
		}
		if info, err = os.Lstat(place.layout.datadir + "/d"); err != nil || info.Mode() != os.ModeDir|0o775 {
			t.Errorf("folder: got %v, %v", info.Mode(), err)
		}
	}
}

// store stores a chunk for whoever reads from the vault.
func (v *vault) store(t testing.TB, plain []byte) {
	t.Helper()
	if _, err := v.writer.Put(t.Context(), cas.KindData, cas.Sum(plain), plain); err != nil {
		t.Fatal(err)
	}
}
