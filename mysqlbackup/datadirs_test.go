package mysqlbackup_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
	// opaque says that pages can't be verified, secret that a key is needed.
	opaque, secret bool
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
	r.target = mysqltest.New(t, flavor, mysqltest.Options{Cnf: r.options(r.to)})
	r.backUp(t)
	r.restore(t)
	r.compare(t)
	r.stopped(t)
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

// backUp backs up the running server.
func (r *datadirRun) backUp(t *testing.T) {
	t.Helper()
	opts := r.backupOptions(t, r.source)
	opts.AllowPrimary = !r.replica
	result, err := mysqlbackup.Backup(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	r.manifest = result.Manifest
	r.checkManifest(t, result.Manifest)
}

// checkManifest wants pages verified as far as they can be, and the roots.
func (r *datadirRun) checkManifest(t *testing.T, m *manifest.Manifest) {
	t.Helper()
	if m.Pages.Bad != 0 || m.Pages.Checked < 200 && !r.opaque || (m.Pages.Unchecked > 0) != r.opaque || (m.Pages.Encrypted > 0) != r.secret {
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
		primary := mysqlbackup.HostPort{Host: "127.0.0.1", Port: r.primary.Port}
		if err := r.topology().SetPrimary(t.Context(), primary); err != nil {
			t.Fatal(err)
		}
		r.primary.Write(t, 10)
	}
	if _, err := mysqlbackup.Restore(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
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
		want := all(r.source, t)
		if diff := mysqltest.Differences(all(r.target, t), want); len(diff) > 0 || len(want) == 0 {
			t.Errorf("%s differ: %v", what, diff)
		}
	}
	for _, query := range r.queries {
		got, want := fmt.Sprint(r.target.Rows(t, query)), fmt.Sprint(r.source.Rows(t, query))
		if got != want || want == "[]" {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
	for name := range r.source.Checksums(t) {
		database, table, _ := strings.Cut(name, ".")
		for _, row := range r.target.Rows(t, fmt.Sprintf("CHECK TABLE `%s`.`%s`", database, table)) {
			if row["Msg_type"] == "error" || strings.EqualFold(row["Msg_type"], "warning") {
				t.Errorf("check table %s: %v", name, row)
			}
		}
	}
	for _, row := range r.target.Rows(t, spacesQuery(r.target.Flavor)) {
		if strings.HasPrefix(row["path"], string(r.from)) || strings.HasPrefix(row["path"], r.source.Dir+"/") {
			t.Errorf("the restored server uses %s", row["path"])
		}
	}
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

func spacesQuery(flavor replication.Flavor) string {
	if flavor == replication.MariaDB {
		return "SELECT FILENAME AS path FROM information_schema.INNODB_SYS_TABLESPACES"
	}
	return "SELECT FILE_NAME AS path FROM information_schema.FILES"
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
		if strings.Contains(path, "keyring") || strings.Contains(path, "keys.txt") || err == nil && bytes.Contains(data, []byte(secretKey)) {
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
		if !strings.Contains(err.Error(), word) {
			t.Errorf("refusal %q lacks %q", err, word)
		}
	}
}

// tableKinds makes a table of the database dd for each list of table options,
// by name, with rows, long values on pages of their own, and freed pages.
func tableKinds(kinds map[string]string) []string {
	statements := []string{
		"CREATE TABLE dd.seed (id INT PRIMARY KEY, k INT NOT NULL, v VARCHAR(200), b LONGTEXT, KEY (k)) ENGINE=InnoDB",
		"INSERT INTO dd.seed VALUES (1, 7, 'one', REPEAT('long ', 9000)), (2, 9, NULL, NULL), (3, 11, REPEAT('x', 200), ''), (4, 13, '', REPEAT('y', 30000))",
	}
	for n := 4; n < 512; n *= 2 {
		statements = append(statements,
			fmt.Sprintf("INSERT INTO dd.seed SELECT id + %[1]d, k + id, SHA2(id + %[1]d, 256), IF(id %% 50 = 0, b, SHA2(id, 512)) FROM dd.seed", n))
	}
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		statements = append(statements,
			fmt.Sprintf("CREATE TABLE dd.`%s` (id INT PRIMARY KEY, k INT NOT NULL, v VARCHAR(200), b LONGTEXT, KEY (k)) %s", name, kinds[name]),
			fmt.Sprintf("INSERT INTO dd.`%s` SELECT * FROM dd.seed", name),
			fmt.Sprintf("DELETE FROM dd.`%s` WHERE id %% 7 = 0", name))
	}
	return statements
}

// rowFormats are the row formats of InnoDB, without the compressed ones of
// sizes beyond most KiB.
func rowFormats(sizes ...int) map[string]string {
	kinds := map[string]string{}
	for _, format := range []string{"REDUNDANT", "COMPACT", "DYNAMIC"} {
		kinds["row_"+strings.ToLower(format)] = "ENGINE=InnoDB ROW_FORMAT=" + format
	}
	for _, size := range sizes {
		kinds[fmt.Sprintf("zip_%d", size)] = fmt.Sprintf("ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=%d", size)
	}
	return kinds
}

// with returns kinds with more.
func with(kinds, more map[string]string) map[string]string {
	maps.Copy(kinds, more)
	return kinds
}

// everyObject are objects that both flavors have, with queries that look at
// them in ways that checksums do not.
func everyObject() (statements, queries []string) {
	return []string{
			"CREATE TABLE dd.words (id INT PRIMARY KEY, note TEXT, FULLTEXT KEY (note)) ENGINE=InnoDB",
			"INSERT INTO dd.words SELECT id, CONCAT('word', id, ' common ', v) FROM dd.seed WHERE v IS NOT NULL",
			"CREATE TABLE dd.places (id INT PRIMARY KEY, g POINT NOT NULL, SPATIAL KEY (g)) ENGINE=InnoDB",
			"INSERT INTO dd.places SELECT id, POINT(id, k) FROM dd.seed",
			"CREATE TABLE dd.derived (id INT PRIMARY KEY, a INT AS (id * 2) VIRTUAL, b INT AS (id + 1) STORED, KEY (a)) ENGINE=InnoDB",
			"INSERT INTO dd.derived (id) SELECT id FROM dd.seed",
			"CREATE TABLE dd.parts (id INT PRIMARY KEY, v VARCHAR(100)) ENGINE=InnoDB PARTITION BY RANGE (id) SUBPARTITION BY HASH (id) SUBPARTITIONS 2 (PARTITION low VALUES LESS THAN (100), PARTITION `High #` VALUES LESS THAN MAXVALUE)",
			"INSERT INTO dd.parts SELECT id, LEFT(v, 90) FROM dd.seed",
			"CREATE DATABASE `Größe, 1-a.b`",
			"CREATE TABLE `Größe, 1-a.b`.`maß/#1 $@` (id INT PRIMARY KEY) ENGINE=InnoDB",
			"INSERT INTO `Größe, 1-a.b`.`maß/#1 $@` SELECT id FROM dd.seed",
			"CREATE DATABASE nothing", "CREATE DATABASE other CHARACTER SET utf8mb4",
			"CREATE TABLE dd.csv (id INT NOT NULL, v VARCHAR(20) NOT NULL) ENGINE=CSV",
			"INSERT INTO dd.csv SELECT id, 'comma, \"quote\"' FROM dd.seed",
			"CREATE TABLE dd.archive (id INT NOT NULL, v VARCHAR(200)) ENGINE=ARCHIVE",
			"INSERT INTO dd.archive SELECT id, v FROM dd.seed",
			"CREATE TABLE dd.isam1 (id INT NOT NULL, v VARCHAR(200), KEY (id)) ENGINE=MyISAM",
			"CREATE TABLE dd.isam2 LIKE dd.isam1",
			"INSERT INTO dd.isam1 SELECT id, v FROM dd.seed",
			"INSERT INTO dd.isam2 SELECT id + 1000, v FROM dd.seed",
			"CREATE TABLE other.merged (id INT NOT NULL, v VARCHAR(200), KEY (id)) ENGINE=MERGE UNION=(dd.isam1, dd.isam2) INSERT_METHOD=LAST",
			"CREATE TABLE dd.isam_words (id INT PRIMARY KEY, v VARCHAR(200), FULLTEXT KEY (v)) ENGINE=MyISAM",
			"INSERT INTO dd.isam_words SELECT id, v FROM dd.seed",
			"CREATE TABLE dd.hole (id INT) ENGINE=BLACKHOLE",
			"CREATE VIEW dd.seen AS SELECT k, COUNT(*) AS n FROM dd.seed GROUP BY k",
			"CREATE TRIGGER dd.hush BEFORE INSERT ON dd.derived FOR EACH ROW SET NEW.id = ABS(NEW.id)",
		}, []string{
			"SELECT COUNT(*) AS n FROM dd.words WHERE MATCH (note) AGAINST ('+word77' IN BOOLEAN MODE)",
			"SELECT COUNT(*) AS n FROM dd.places WHERE MBRContains(ST_GeomFromText('Polygon((0 0, 99 0, 99 9999, 0 9999, 0 0))'), g)",
			"SELECT SUM(b) AS s FROM dd.derived FORCE INDEX (a) WHERE a BETWEEN 100 AND 300",
			"SELECT COUNT(*) AS n, SUM(id) AS s FROM other.merged",
			"SELECT COUNT(*) AS n FROM dd.isam_words WHERE MATCH (v) AGAINST ('one')",
			"SELECT SUM(n) AS s FROM dd.seen",
		}
}
