package faults

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/replication"
)

const shard = "commerce/-80"

// scratch makes a folder in memory, where there is such a file system: syncs cost
// nothing there.
func scratch(t *testing.T) string {
	t.Helper()
	parent := "/dev/shm"
	if info, err := os.Stat(parent); err != nil || !info.IsDir() {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "shardseed-faults-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fixture is what a server left behind that was shut down in order on two days.
type fixture struct {
	days   [2]string // data directories
	mysqld string    // answers for the server's program when its version is asked for
	cnf    string    // lines of the defaults file
}

// newFixture runs a server. Of its files those of InnoDB and of one database
// stay, and what tells the flavor: no server is started on them again.
func newFixture(t *testing.T, dir string) *fixture {
	t.Helper()
	flavor := replication.Flavor(*flavor)
	f := &fixture{mysqld: filepath.Join(dir, "mysqld"), cnf: "log-bin=binlog\nserver-id=7\n"}
	srv := mysqltest.Start(t, flavor, mysqltest.Options{Cnf: []string{map[replication.Flavor]string{
		replication.MariaDB: "innodb-log-file-size=4M", replication.MySQL: "innodb-redo-log-capacity=8M",
	}[flavor]}})
	if flavor == replication.MySQL {
		f.cnf += "gtid-mode=ON\nenforce-gtid-consistency=ON\n"
	}
	srv.Exec(t, "CREATE DATABASE db",
		"CREATE TABLE db.t (id INT PRIMARY KEY, digits CHAR(128))", "CREATE TABLE db.same (id INT PRIMARY KEY)",
		"INSERT INTO db.t SELECT seq, SHA2(seq, 512) FROM (WITH RECURSIVE s(seq) AS (SELECT 1 UNION ALL SELECT seq+1 FROM s WHERE seq < 900) SELECT seq FROM s) AS x")
	for day := range f.days {
		srv.Stop(t)
		f.days[day] = filepath.Join(dir, fmt.Sprint("day", day+1))
		keepFiles(t, srv.Datadir, f.days[day])
		if day+1 < len(f.days) {
			srv.Start(t)
			srv.Exec(t, "UPDATE db.t SET digits = REVERSE(digits) WHERE id % 40 = 0", "CREATE TABLE db.later (id INT PRIMARY KEY)")
		}
	}
	version, err := exec.Command(srv.Program, "--no-defaults", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\necho '%s'\n", bytes.TrimSpace(version))
	if err := os.WriteFile(f.mysqld, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return f
}

// keepFiles copies what is of use here of a data directory.
func keepFiles(t *testing.T, from, to string) {
	t.Helper()
	keep := []string{"ibdata1", "ib_logfile0", "aria_log_control", "aria_log.00000001", "mysql.ibd", "undo_001", "undo_002", "#innodb_redo", "#innodb_temp", "db", "binlog.index", "binlog.state"}
	if err := os.Mkdir(to, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, name := range keep {
		if _, err := os.Lstat(filepath.Join(from, name)); err == nil {
			copyTree(t, filepath.Join(from, name), filepath.Join(to, name))
		}
	}
}

// copyTree copies files and folders with their modes, and leaves holes.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	makeTree(t, from, to, writeCopy)
}

// makeTree makes the folders of a tree anew, and its files by file.
func makeTree(t *testing.T, from, to string, file func(from, to string) error) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		place := to + strings.TrimPrefix(path, from)
		if !entry.IsDir() {
			return file(path, place)
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return os.MkdirAll(place, info.Mode().Perm())
	})
	if err != nil {
		t.Fatal(err)
	}
}

func writeCopy(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeSparse(to, data, info.Mode().Perm())
}

// writeSparse makes a file and leaves blocks of zeros out.
func writeSparse(path string, data []byte, mode fs.FileMode) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	at := int64(0)
	for block := range slices.Chunk(data, 4096) {
		if !cas.AllZero(block) {
			if _, err := file.WriteAt(block, at); err != nil {
				return err
			}
		}
		at += int64(len(block))
	}
	return file.Truncate(at)
}

// world is a folder with all that a host and its repository consist of.
type world struct {
	dir     string
	fixture *fixture
}

func (w *world) in(name string) string { return filepath.Join(w.dir, name) }

// newWorld makes one with an empty repository.
func newWorld(t *testing.T, dir string, f *fixture) *world {
	t.Helper()
	w := &world{dir, f}
	for _, name := range []string{"", "state", "cache"} {
		if err := os.Mkdir(w.in(name), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	w.settle(t)
	w.must(t, 0, "init", "--root", w.in("root"))
	return w
}

// settle writes the defaults files, which name the place: of the command's target,
// and of the one where its results are looked at.
func (w *world) settle(t *testing.T) {
	t.Helper()
	for cnf, datadir := range map[string]string{"my.cnf": "target", "scratch.cnf": "scratch"} {
		text := fmt.Sprintf("[mysqld]\ndatadir=%s\nsocket=%s\n%s", w.in(datadir), w.in("sock"), w.fixture.cnf)
		if err := os.WriteFile(w.in(cnf), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// copy makes another world like this. What nobody writes to again, the source and
// the repository's objects, is linked.
func (w *world) copy(t *testing.T, dir string) *world {
	t.Helper()
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		make := writeCopy
		if e.Name() == "source" || e.Name() == "root" {
			make = os.Link
		}
		makeTree(t, w.in(e.Name()), filepath.Join(dir, e.Name()), make)
	}
	other := &world{dir, w.fixture}
	other.settle(t)
	return other
}

// source puts the files of a day where backups are made of.
func (w *world) source(t *testing.T, day int) {
	t.Helper()
	if err := os.RemoveAll(w.in("source")); err != nil {
		t.Fatal(err)
	}
	copyTree(t, w.fixture.days[day], w.in("source"))
}

// everywhere are the flags of all commands.
func (w *world) everywhere(args ...string) []string {
	return append(args, "--root", w.in("root"), "--cache-dir", w.in("cache"), "--quiet")
}

func (w *world) backupArgs() []string {
	return w.everywhere("backup", "zone1-101", "--keyspace", "commerce", "--shard", "-80", "--stopped", "--datadir", w.in("source"), "--state-dir", w.in("state"))
}

func (w *world) restoreArgs(cnf string, more ...string) []string {
	return append(w.everywhere("restore", shard, "--files-only", "--defaults-file", cnf, "--mysqld", w.fixture.mysqld, "--state-dir", w.in("state")), more...)
}

func (w *world) must(t *testing.T, offset time.Duration, args ...string) outcome {
	t.Helper()
	o := shardseed(offset, args...)
	if o.code != 0 {
		t.Fatalf("%q: %+v", args, o)
	}
	return o
}

// listed is a backup as list tells it.
type listed struct {
	Name  string
	Marks []any
	Pin   *struct{ Reason string }
}

// list returns the backups.
func (w *world) list() ([]listed, outcome) {
	o := shardseed(0, w.everywhere("list", shard, "--json")...)
	var all []listed
	for line := range strings.Lines(o.stdout) {
		var one listed
		if err := json.Unmarshal([]byte(line), &one); err == nil && one.Name != "" {
			all = append(all, one)
		}
	}
	return all, o
}

// tree is what lies in a folder: for each path its kind, mode and content.
type tree map[string]string

func readTree(dir string) (tree, error) {
	found := tree{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(path, dir)
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if !entry.Type().IsRegular() {
			found[rel] = info.Mode().String()
			return nil
		}
		sum, err := sumOf(path)
		if err != nil {
			return err
		}
		stat, _ := info.Sys().(*syscall.Stat_t)
		found[rel] = fmt.Sprintf("%s %d %d %d %s", info.Mode(), stat.Uid, stat.Nlink, info.Size(), sum)
		return nil
	})
	return found, err
}

// sumOf returns the sum of a file's blocks that are not zeros, with their places.
// Holes are not read.
func sumOf(path string) (cas.ID, error) {
	file, err := os.Open(path)
	if err != nil {
		return cas.ID{}, err
	}
	defer file.Close() //nolint:errcheck // it is only read
	var blocks []byte
	block := make([]byte, 4096)
	for at := int64(0); ; at += int64(len(block)) {
		next, err := file.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return cas.Sum(blocks), nil
		}
		if err != nil {
			return cas.ID{}, err
		}
		at = next / int64(len(block)) * int64(len(block))
		n, err := file.ReadAt(block, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return cas.ID{}, err
		}
		if !cas.AllZero(block[:n]) {
			blocks = append(binary.LittleEndian.AppendUint64(blocks, uint64(at)), block[:n]...)
		}
	}
}

// difference names the first path at which two trees differ.
func difference(want, got tree) string {
	for path := range want {
		if want[path] != got[path] {
			return fmt.Sprintf("%s: want %q, got %q", path, want[path], got[path])
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			return fmt.Sprintf("%s is there: %q", path, got[path])
		}
	}
	return ""
}
