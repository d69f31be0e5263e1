package mysqlbackup

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// tree makes files, each with its own name in it; a name with a slash at the
// end is a folder, one with "->" a symbolic link.
func tree(t testing.TB, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(dir, name)
		link, target, isLink := strings.Cut(name, "->")
		var err error
		switch {
		case isLink:
			path = filepath.Join(dir, link)
			err = os.MkdirAll(filepath.Dir(path), 0o755)
			if err == nil {
				err = os.Symlink(target, path)
			}
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		default:
			writeText(t, path, name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func closeFile(t testing.TB, file io.Closer) {
	t.Helper()
	if err := file.Close(); err != nil {
		t.Error(err)
	}
}

// folders are a folder with a data directory and others for what lies outside.
type folders struct{ dir, data string }

func newFolders(t testing.TB) folders {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := folders{dir, filepath.Join(dir, "data")}
	tree(t, dir, "data/")
	return f
}

// layout resolves options; $ in them is the folder of all.
func (f folders) layout(t testing.TB, flavor replication.Flavor, lines ...string) *layout {
	t.Helper()
	text := strings.ReplaceAll("datadir=$/data\n"+strings.Join(lines, "\n"), "$", f.dir)
	d := readDefaults(t, "[mysqld]\n"+text+"\n")
	l, err := newLayout(flavor, optionsOf(d, flavor), "")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// keys describes a selection as "root/rel", with what links point to, sorted.
func (f folders) keys(s *selection) []string {
	var keys []string
	for _, file := range s.files {
		key := file.root + "/" + file.rel
		switch file.kind {
		case manifest.KindDir:
			key += "/"
		case manifest.KindSymlink:
			key += "->" + strings.ReplaceAll(file.target, f.dir, "$")
		case manifest.KindFile:
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (f folders) roots(s *selection) []string {
	var roots []string
	for _, root := range s.roots {
		roots = append(roots, root.Name+"="+strings.ReplaceAll(string(root.Path), f.dir, "$"))
	}
	return roots
}

// selects checks what a selection consists of.
func (f folders) selects(t *testing.T, l *layout, external, want, roots []string) {
	t.Helper()
	s, err := selectFiles(l, external)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, f.keys(s)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(roots, f.roots(s)); diff != "" {
		t.Errorf("roots (-want +got):\n%s", diff)
	}
}

// The names are those of a MySQL 9.7 data directory after a clean stop, and
// what older and other servers leave in one.
func TestSelectMySQL(t *testing.T) {
	f := newFolders(t)
	kept := []string{
		"mysql.ibd", "db/t.ibd", "db/u#p#p0.ibd", "empty/", "mysql/general_log.CSM", "mysql/slow_log_1.sdi", "db/isam.MYD", "db/isam.MYI",
		"sys/sys_config.ibd", "performance_schema/x.sdi", "mysql_upgrade_history", "ib_buffer_pool", "tc.log", "ts.ibd", "stderr/t.ibd",
		"db/auto.cnf", "db/core", "db/ibdata1", "db/x.err", "#innodb_temp/", "mybinlog.000001", "binlog.0001", "binlog.000001.bak", "old.isl", "keyring/",
	}
	dropped := []string{
		"auto.cnf", "mysqld-auto.cnf", "lost+found/x", "#ib_archive/x", "#clone/x", "ca.pem", "ca-key.pem", "server-cert.pem", "server-key.pem", "client-cert.pem",
		"client-key.pem", "private_key.pem", "public_key.pem", "mysqld.my", "component_keyring_file", "component_keyring_encrypted_file.cnf",
		"#ib_16384_0.dblwr", "#ib_16384_1.bdblwr", "ibtmp1", "core", "core.123", "vm.pid", "vm.err", "x.lower-case-test",
		"binlog.000001", "binlog.index", "binlog.~rec~", "binlog.index_crash_safe", "binlog.1000000", "relay.000001", "relay.index", "relay-ch1.000002", "relay-ch1.index",
		"old-relay-bin.000001", "old-relay-bin.index", "old-relay-bin-ch.000001", "master.info", "relay-log.info", "master-ch.info", "worker-relay-log.info.1",
		"general.log", "mysql.sock.lock", "#innodb_temp/temp_1.ibt", "#innodb_redo/#ib_redo2_tmp",
	}
	tree(t, f.data, kept...)
	tree(t, f.data, dropped...)
	tree(t, f.data, "ibdata1", "#innodb_redo/#ib_redo1", "undo_001", "undo_002", "more.ibu")
	want := []string{
		"innodb_home/ibdata1", "redo/#innodb_redo/", "redo/#innodb_redo/#ib_redo1", "undo/undo_001", "undo/undo_002", "undo/more.ibu",
		"datadir/db/", "datadir/mysql/", "datadir/sys/", "datadir/performance_schema/", "datadir/stderr/",
	}
	for _, name := range kept {
		want = append(want, "datadir/"+name)
	}
	l := f.layout(t, replication.MySQL, "log-bin=binlog", "relay-log=relay", "general-log-file=general.log", "socket=mysql.sock", "log-error=stderr")
	f.selects(t, l, nil, want, []string{"datadir=$/data", "innodb_home=$/data", "redo=$/data", "undo=$/data"})
}

func TestSelectMariaDB(t *testing.T) {
	f := newFolders(t)
	kept := []string{
		"db/t.ibd", "db/t.frm", "db/db.opt", "mysql/global_priv.MAD", "mysql/global_priv.MAI", "mysql/gtid_slave_pos.ibd", "ib_buffer_pool", "mariadb_upgrade_info",
		"ddl_recovery-backup.log", "tc.log", "#rocksdb/CURRENT", "other.state", "aria_log.00000001.bak",
	}
	tree(t, f.data, kept...)
	tree(t, f.data, "binlog.000001", "binlog.index", "binlog.state", "multi-master.info", "master.info", "relay-log.info", "master-x.info", "relay-log-x.info",
		"vm-relay-bin.000001", "vm-relay-bin-x.000001", "vm-relay-bin.index", "idx.index", "ibtmp1",
		"ibdata1", "ib_logfile0", "undo001", "undo002", "aria_log_control", "aria_log.00000001")
	want := []string{
		"binlog/binlog.state", "innodb_home/ibdata1", "redo/ib_logfile0", "undo/undo001", "undo/undo002", "aria_log/aria_log_control", "aria_log/aria_log.00000001",
		"datadir/db/", "datadir/mysql/", "datadir/#rocksdb/",
	}
	for _, name := range kept {
		want = append(want, "datadir/"+name)
	}
	f.selects(t, f.layout(t, replication.MariaDB, "log-bin=binlog", "relay-log-index=idx"), nil, want,
		[]string{"aria_log=$/data", "binlog=$/data", "datadir=$/data", "innodb_home=$/data", "redo=$/data", "undo=$/data"})
}

// Folders outside the data directory are shared: only what is the server's is
// taken from them.
func TestSelectOutside(t *testing.T) {
	f := newFolders(t)
	tree(t, f.data, "mysql.ibd", "db/t.ibd")
	tree(t, f.dir, "home/ibdata1", "home/sub/ibdata9", "home/notes", "redo/#innodb_redo/#ib_redo1", "redo/#innodb_redo/#ib_redo2_tmp", "redo/ib_logfile0.bak",
		"undo/undo_001", "undo/undo_002", "undo/u.ibu", "undo/undo_001.old", "logs/binlog.000001", "home/general.ibd")
	l := f.layout(t, replication.MySQL, "innodb_data_home_dir=$/home", "innodb_log_group_home_dir=$/redo", "innodb_undo_directory=$/undo", "log-bin=$/logs/binlog")
	f.selects(t, l, []string{f.dir + "/undo/undo_001", f.dir + "/undo/u.ibu", f.dir + "/home/general.ibd"}, []string{
		"datadir/db/", "datadir/db/t.ibd", "datadir/mysql.ibd", "innodb_home/ibdata1", "redo/#innodb_redo/", "redo/#innodb_redo/#ib_redo1",
		"undo/undo_001", "undo/undo_002", "undo/u.ibu", "external-1/general.ibd",
	}, []string{"datadir=$/data", "external-1=$/home", "innodb_home=$/home", "redo=$/redo", "undo=$/undo"})
}

func TestSelectOutsideMariaDB(t *testing.T) {
	f := newFolders(t)
	tree(t, f.data, "db/t.isl", "db/s.isl", "ibdata1", "ib_logfile0")
	tree(t, f.dir, "aria/aria_log_control", "aria/aria_log.00000002", "aria/aria_log_control.bak", "undo/undo001", "undo/undo", "logs/binlog.state", "logs/binlog.index", "ext/db/t.ibd", "ext/db/other")
	writeText(t, f.data+"/db/t.isl", f.dir+"/ext/db/t.ibd\n")
	writeText(t, f.data+"/db/s.isl", f.data+"/db/t.isl") // something in the data directory
	l := f.layout(t, replication.MariaDB, "aria-log-dir-path=$/aria", "innodb-undo-directory=$/undo", "log-bin=$/logs/binlog")
	f.selects(t, l, []string{f.dir + "/ext/db/t.ibd"}, []string{
		"datadir/db/", "datadir/db/t.isl", "datadir/db/s.isl", "innodb_home/ibdata1", "redo/ib_logfile0", "aria_log/aria_log_control", "aria_log/aria_log.00000002",
		"undo/undo001", "binlog/binlog.state", "external-1/t.ibd",
	}, []string{"aria_log=$/aria", "binlog=$/logs", "datadir=$/data", "external-1=$/ext/db", "innodb_home=$/data", "redo=$/data", "undo=$/undo"})
}

func TestSelectLinks(t *testing.T) {
	f := newFolders(t)
	tree(t, f.dir, "ext/db/t.ibd", "ext/db/back->../../data", "ext/db/up->..", "ext/one.ibd", "more/x")
	tree(t, f.data, "ibdata1", "ib_logfile0", "a->"+f.dir+"/ext/db", "b->"+f.dir+"/ext/one.ibd", "c->real", "d->.", "e->a", "f->"+f.dir, "real/t.ibd", "null->/dev/null")
	s, err := selectFiles(f.layout(t, replication.MariaDB), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"innodb_home/ibdata1", "redo/ib_logfile0", "datadir/real/", "datadir/real/t.ibd",
		"datadir/a->$/ext/db", "datadir/b->$/ext/one.ibd", "datadir/c->$/data/real", "datadir/d->$/data", "datadir/e->$/ext/db", "datadir/f->$",
		"external-1/t.ibd", "external-1/back->$/data", "external-1/up->$/ext",
		"external-2/one.ibd", // by its own link; all else of that folder by the link to its parent
		"external-3/ext/", "external-3/ext/db/", "external-3/more/", "external-3/more/x",
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, f.keys(s)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{f.data + "/null"}, s.skipped); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
}

// A data directory that is reached by a link is one all the same.
func TestSelectLinkedDatadir(t *testing.T) {
	f := newFolders(t)
	tree(t, f.dir, "real/ibdata1", "real/ib_logfile0", "real/db/t.ibd", "real/x->db", "real/y->"+f.dir+"/real/db", "var->real")
	l, err := newLayout(replication.MariaDB, func(string) string { return "" }, f.dir+"/var")
	if err != nil {
		t.Fatal(err)
	}
	f.selects(t, l, nil, []string{
		"innodb_home/ibdata1", "redo/ib_logfile0", "datadir/db/", "datadir/db/t.ibd", "datadir/x->$/var/db", "datadir/y->$/var/db",
	}, []string{"datadir=$/var", "innodb_home=$/var", "redo=$/var"})
}

func TestSelectSkipsSocketsAndPipes(t *testing.T) {
	f := newFolders(t)
	listener, err := net.Listen("unix", f.data+"/s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFile(t, listener) })
	if err := unix.Mkfifo(f.data+"/p", 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := selectFiles(f.layout(t, replication.MySQL), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{f.data + "/p", f.data + "/s"}, s.skipped); diff != "" || len(s.files) != 0 {
		t.Errorf("files %v; skipped (-want +got):\n%s", f.keys(s), diff)
	}
}

func TestSelectErrors(t *testing.T) {
	for name, c := range map[string]struct {
		make     []string
		flavor   replication.Flavor
		lines    []string
		external []string
		want     string
	}{
		"dangling link":        {make: []string{"data/x->nowhere"}, want: "resolve symbolic link"},
		"link to itself":       {make: []string{"data/x->x"}, want: "resolve symbolic link"},
		"missing external":     {external: []string{"$/ext/t.ibd"}, want: "no such file"},
		"missing in datadir":   {external: []string{"$/data/db/t.ibd"}, want: "the server knows this file"},
		"dropped in datadir":   {make: []string{"data/ca.pem"}, external: []string{"$/data/ca.pem"}, want: "the server knows this file"},
		"missing undo folder":  {lines: []string{"innodb_undo_directory=$/none"}, want: "list $/none"},
		"missing redo folder":  {lines: []string{"innodb_log_group_home_dir=$/none"}, want: "list $/none"},
		"isl without file":     {make: []string{"data/x.isl"}, flavor: replication.MariaDB, want: "follow a link"},
		"isl that is too long": {make: []string{"data/x.isl"}, flavor: replication.MariaDB, want: "holds no path"},
		"empty isl":            {make: []string{"data/x.isl"}, flavor: replication.MariaDB, want: "holds no path"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFolders(t)
			tree(t, f.dir, c.make...)
			switch name {
			case "isl that is too long":
				writeText(t, f.data+"/x.isl", "/"+strings.Repeat("x", 5000))
			case "empty isl":
				writeText(t, f.data+"/x.isl", " \n")
			}
			if c.flavor == "" {
				c.flavor = replication.MySQL
			}
			for i := range c.external {
				c.external[i] = strings.ReplaceAll(c.external[i], "$", f.dir)
			}
			s, err := selectFiles(f.layout(t, c.flavor, c.lines...), c.external)
			if err == nil || !strings.Contains(err.Error(), strings.ReplaceAll(c.want, "$", f.dir)) {
				t.Errorf("selected %+v, error %v; want %q", s, err, c.want)
			}
		})
	}
	if _, err := selectFiles(&layout{datadir: "/nowhere"}, nil); err == nil {
		t.Error("a missing data directory is no error")
	}
}

func TestIsBelow(t *testing.T) {
	for _, c := range []struct {
		folder, path string
		want         bool
	}{
		{"/a", "/a", true},
		{"/a", "/a/b", true},
		{"/a", "/ab", false},
		{"/a/", "/a/b", true},
		{"/", "/a", true},
		{"/a/b", "/a", false},
	} {
		if got := isBelow(c.folder, c.path); got != c.want {
			t.Errorf("%s below %s: %v, want %v", c.path, c.folder, got, c.want)
		}
	}
}

func TestIsTablespace(t *testing.T) {
	l := layoutOf(t, replication.MySQL)
	for _, c := range []struct {
		root, rel string
		want      bool
	}{
		{rootDatadir, "db/t.ibd", true},
		{rootDatadir, "ts.ibu", true},
		{rootHome, "ibdata2", true},
		{rootUndo, "undo_001", true},
		{"external-1", "t.ibd", true},
		{rootDatadir, "db/t.MYD", false},
		{rootRedo, "#innodb_redo/#ib_redo1", false},
	} {
		if got := l.isTablespace(&sourceFile{root: c.root, rel: c.rel}); got != c.want {
			t.Errorf("%s/%s: %v, want %v", c.root, c.rel, got, c.want)
		}
	}
}

func TestCheckUnfinished(t *testing.T) {
	f := newFolders(t)
	if err := checkUnfinished(f.data); err != nil {
		t.Errorf("without the mark: %v", err)
	}
	tree(t, f.data, markerName)
	if err := checkUnfinished(f.data); err == nil {
		t.Error("with the mark: no error")
	}
	if err := checkUnfinished(filepath.Join(f.data, markerName)); err == nil {
		t.Error("a file in place of the folder: no error")
	}
}
