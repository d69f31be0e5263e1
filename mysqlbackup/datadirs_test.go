package mysqlbackup_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// place is a folder for what a server keeps outside its data directory.
type place string

// at returns the path of something in the place.
func (p place) at(elements ...string) string {
	return filepath.Join(append([]string{string(p)}, elements...)...)
}

// datadirCase is a kind of data directory: backed up, restored to other paths
// and compared.
type datadirCase struct {
	name    string
	options func(p place) []string // lines of the defaults file; p is the server's own place
	folders []string               // in the place, which must be there when a server starts
	mapped  []string               // folders in the place that a restore is told by --map
	make    func(p place) []string // statements that make the objects
	move    func(t *testing.T, s *mysqltest.Server, p place)
	queries []string // to be answered the same after the restore
	replica bool     // back up a replica, and restore as one
	roots   []string // of the backup, as wanted
	cached  bool     // no option must be in force when the server is initialized
	// opaque says that pages can't be verified, unsure that it depends on chance
	// whether all can be, secret that a key is needed to read some.
	opaque, unsure, secret bool
}

// datadirRun is a case on the way.
type datadirRun struct {
	*bench
	datadirCase
	from, to place
	primary  *mysqltest.Server // nil unless replica is wanted
	source   *mysqltest.Server
	target   *mysqltest.Server
	manifest *manifest.Manifest
}

func testDatadirs(t *testing.T, flavor replication.Flavor, cases []datadirCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { runDatadir(t, flavor, c) })
	}
}

func runDatadir(t *testing.T, flavor replication.Flavor, c datadirCase) {
	t.Parallel()
	r := &datadirRun{bench: newBench(t), datadirCase: c, from: newPlace(t, c.folders), to: newPlace(t, c.folders)}
	r.source = mysqltest.Start(t, flavor, mysqltest.Options{Cnf: r.options(r.from), Fresh: !c.cached})
	if c.replica {
		r.primary = mysqltest.Start(t, flavor, mysqltest.Options{Cnf: r.options(newPlace(t, c.folders)), Fresh: !c.cached})
		r.source.Follow(t, r.primary)
		r.primary.Exec(t, c.make(r.from)...)
		r.source.WaitForReplica(t, r.primary)
	} else {
		r.source.Exec(t, c.make(r.from)...)
	}
	if c.move != nil {
		r.source.Stop(t)
		c.move(t, r.source, r.from)
		r.source.Start(t)
	}
	r.to.clear(t)
	r.target = mysqltest.New(t, flavor, mysqltest.Options{Cnf: r.options(r.to)})
	r.backUp(t)
	r.drill(t)
	r.restore(t)
	r.compare(t)
	r.stopped(t)
	r.again(t)
}

// again backs up what was restored: the tablespaces are known where they are
// now.
func (r *datadirRun) again(t *testing.T) {
	t.Helper()
	if r.mapped == nil && !r.opaque {
		return
	}
	opts := r.backupOptions(t, r.target)
	opts.AllowPrimary = true
	result := r.mustBackUp(t, opts)
	for path := range r.paths(t, result.Manifest) {
		if !strings.HasPrefix(path, string(r.to)) && !strings.HasPrefix(path, r.target.Datadir) {
			t.Errorf("the backup of the restored server has %s", path)
		}
	}
	r.checkManifest(t, result.Manifest)
}

func newPlace(t testing.TB, folders []string) place {
	t.Helper()
	p := place(t.TempDir())
	for _, folder := range folders {
		if err := os.MkdirAll(p.at(folder), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// clear leaves only the folders that a restore does not make.
func (p place) clear(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(string(p))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if name := entry.Name(); name != "keys" && name != "scratch" {
			if err := os.RemoveAll(p.at(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// backUp backs up the running server.
func (r *datadirRun) backUp(t *testing.T) {
	t.Helper()
	opts := r.backupOptions(t, r.source)
	opts.AllowPrimary = !r.replica
	r.manifest = r.mustBackUp(t, opts).Manifest
	r.checkManifest(t, r.manifest)
}

// drill wants the backup to pass its drill, with the options that the manifest
// tells, and no table that the drill can check to be left out.
func (r *datadirRun) drill(t *testing.T) {
	t.Helper()
	opts := r.verifyOptions(t, r.source)
	folder, err := os.MkdirTemp("", "drill-") // the name of a case may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.Remove(folder); err != nil { // nothing is in it
			t.Error(err)
		}
	}()
	opts.Scratch = folder
	for _, option := range r.options(r.from) { // as an operator would give them
		if strings.HasPrefix(option, "plugin_load_add=") || strings.Contains(option, "file_key_management") {
			opts.Options = append(opts.Options, option)
		}
	}
	result, err := mysqlbackup.Verify(t.Context(), opts)
	if err != nil {
		t.Errorf("drill: %v", err)
	}
	if result != nil {
		t.Logf("drill: %s %v", result.Drill, result.Drill.Findings)
	}
}

// checkManifest wants pages verified as far as they can be, and the roots.
func (r *datadirRun) checkManifest(t *testing.T, m *manifest.Manifest) {
	t.Helper()
	if m.Pages.Bad != 0 || m.Pages.Checked < 200 && !r.opaque || (m.Pages.Unchecked > 0) != r.opaque && !r.unsure || (m.Pages.Encrypted > 0) != r.secret {
		t.Errorf("pages: %+v", m.Pages)
	}
	if got := rootNames(m); !slices.Equal(got, slices.Sorted(slices.Values(r.roots))) {
		t.Errorf("roots: got %q, want %q", got, r.roots)
	}
	if !m.CleanStop.Proved {
		t.Errorf("clean stop: %+v", m.CleanStop)
	}
}

func rootNames(m *manifest.Manifest) []string {
	var names []string
	for _, root := range m.Roots {
		names = append(names, root.Name)
	}
	return names
}

// restore restores onto the target, whose paths are others.
func (r *datadirRun) restore(t *testing.T) {
	t.Helper()
	opts := r.restoreOptions(t, r.target)
	opts.Map = map[string]string{}
	for _, folder := range r.mapped {
		opts.Map[r.from.at(folder)] = r.to.at(folder)
	}
	if r.primary != nil {
		r.setPrimary(t, r.primary)
		r.primary.Write(t, 10)
	}
	mustRestore(t, opts)
	if r.primary != nil {
		r.target.WaitForReplica(t, r.primary)
		r.source.WaitForReplica(t, r.primary)
	}
}

// compare wants the same of both servers, and whole tables on the target, none
// of whose files lies where the source's do.
func (r *datadirRun) compare(t *testing.T) {
	t.Helper()
	for what, all := range map[string]func(*mysqltest.Server, testing.TB) map[string]string{
		"tables": (*mysqltest.Server).Checksums, "objects": (*mysqltest.Server).Objects,
	} {
		got, want := all(r.target, t), all(r.source, t)
		delete(got, "dd.derived") // of virtual columns, MariaDB gives now one checksum, now another
		delete(want, "dd.derived")
		if diff := mysqltest.Differences(got, want); len(diff) > 0 || len(want) == 0 {
			t.Errorf("%s differ: %v", what, diff)
		}
	}
	for _, query := range r.queries {
		got, want := fmt.Sprint(r.target.Rows(t, query)), fmt.Sprint(r.source.Rows(t, query))
		if got != want || want == "[]" {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
	for _, row := range r.source.Rows(t, "SELECT table_schema AS d, table_name AS t FROM information_schema.tables WHERE table_type <> 'VIEW' AND table_schema NOT IN ('information_schema', 'performance_schema', 'sys')") {
		check := fmt.Sprintf("CHECK TABLE `%s`.`%s`", row["d"], row["t"])
		if got, want := fmt.Sprint(r.target.Rows(t, check)), fmt.Sprint(r.source.Rows(t, check)); got != want {
			t.Errorf("%s: got %s, want %s", check, got, want)
		}
	}
	for _, row := range r.target.Rows(t, spacesQuery(r.target.Flavor)) {
		if strings.HasPrefix(row["path"], string(r.from)) || strings.HasPrefix(row["path"], r.source.Dir+"/") {
			t.Errorf("the restored server uses %s", row["path"])
		}
	}
	r.logErrant(t)
	opened, err := openFiles(r.target.PID())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range opened {
		if strings.HasPrefix(path, string(r.from)) || strings.HasPrefix(path, r.source.Dir+"/") {
			t.Errorf("the restored server has %s open", path)
		}
	}
}

// logErrant notes transactions that only the target has: a server that finds a
// MEMORY table empty after a start writes that down as its own.
func (r *datadirRun) logErrant(t *testing.T) {
	t.Helper()
	if r.primary != nil {
		t.Logf("the primary has %s, the restored replica %s", r.primary.Executed(t), r.target.Executed(t))
	}
}

func spacesQuery(flavor replication.Flavor) string {
	if flavor == replication.MariaDB {
		return "SELECT FILENAME AS path FROM information_schema.INNODB_SYS_TABLESPACES"
	}
	// The dictionary keeps the old paths of the system tablespace, and nothing reads them.
	return "SELECT FILE_NAME AS path FROM information_schema.FILES WHERE TABLESPACE_NAME <> 'innodb_system'"
}

// openFiles lists the paths of the files that a process has open.
func openFiles(pid int) ([]string, error) {
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	var paths []string
	for _, link := range links {
		if path, err := os.Readlink(link); err == nil {
			paths = append(paths, path)
		}
	}
	return paths, err
}

// stopped backs the server up again while it is stopped: refused after it was
// killed; after a clean stop the same files are found without its help.
func (r *datadirRun) stopped(t *testing.T) {
	t.Helper()
	opts := r.backupOptions(t, r.source)
	r.source.Kill(t)
	_, err := mysqlbackup.BackupStopped(t.Context(), opts)
	if err == nil || !strings.Contains(err.Error(), "not stopped in order") {
		t.Errorf("killed: got %v", err)
	}
	r.source.Start(t)
	r.source.Stop(t)
	result, err := mysqlbackup.BackupStopped(t.Context(), opts)
	if err != nil {
		t.Fatalf("stopped in order: %v", err)
	}
	r.checkManifest(t, result.Manifest)
	was, now := r.paths(t, r.manifest), r.paths(t, result.Manifest)
	for path := range was {
		if !now[path] {
			t.Errorf("stopped: %s is missing", path)
		}
	}
	for path := range now {
		if !was[path] && !strings.Contains(path, "/test") && !strings.Contains(path, "aria_log.") && !strings.Contains(path, "ddl_recovery-backup") {
			t.Errorf("stopped: %s is new", path)
		}
	}
	if r.secret {
		r.wantNoKeys(t)
	}
}

// paths returns the absolute paths of a backup's files on the source, but for
// those of the redo log, which come and go.
func (r *datadirRun) paths(t *testing.T, m *manifest.Manifest) map[string]bool {
	t.Helper()
	folders := map[string]string{}
	for _, root := range m.Roots {
		folders[root.Name] = string(root.Path)
	}
	paths := map[string]bool{}
	for _, f := range listFiles(t, r.bench, m) {
		if path := filepath.Join(folders[f.Root], string(f.Path)); !strings.Contains(path, "#ib_redo") {
			paths[path] = true
		}
	}
	return paths
}

func listFiles(t *testing.T, b *bench, m *manifest.Manifest) []manifest.File {
	t.Helper()
	files, err := mysqlbackup.ListFiles(t.Context(), b.repo, m)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// secretKey is what the tests' keys hold.
const secretKey = "770A8A65DA156D24EE2A093277530142"

// wantNoKeys wants no keyring in the backup: neither by name nor by content.
func (r *datadirRun) wantNoKeys(t *testing.T) {
	t.Helper()
	for path := range r.paths(t, r.manifest) {
		data, err := os.ReadFile(path)
		if name := filepath.Base(path); name == keysName || name == "keys.txt" || strings.HasPrefix(name, "component_keyring") || strings.Contains(path, "keys.txt") || err == nil && bytes.Contains(data, []byte(secretKey)) {
			t.Errorf("the backup has %s", path)
		}
	}
}

// wantRefused wants a restore refused for a reason that has all the words.
func (r *datadirRun) wantRefused(t *testing.T, opts mysqlbackup.RestoreOptions, words ...string) {
	t.Helper()
	_, err := mysqlbackup.Restore(t.Context(), opts)
	if !errors.Is(err, mysqlbackup.ErrRefused) {
		t.Errorf("got %v, want a refusal", err)
		return
	}
	for _, word := range words {
		if said := fmt.Sprint(err, hint.Of(err)); !strings.Contains(said, word) {
			t.Errorf("refusal %q lacks %q", said, word)
		}
	}
}
