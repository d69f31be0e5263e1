package mysqlbackup_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// spread puts everything that both flavors can put elsewhere into folders of
// its own.
func spread(p place, more ...string) []string {
	return append([]string{
		"innodb_data_home_dir=" + p.at("home"), "innodb_log_group_home_dir=" + p.at("redo"), "innodb_undo_directory=" + p.at("undo"),
		"innodb_tmpdir=" + p.at("scratch"), "tmpdir=" + p.at("scratch"),
		"log_bin=" + p.at("binlogs", "bin"), "log_bin_index=" + p.at("logs.index"), "relay_log=" + p.at("relays", "relay"),
		"innodb_data_file_path=ibdata1:5M;ibdata2:6M;ibdata3:8M:autoextend",
	}, more...)
}

// spreadFolders are the folders that [spread] names.
func spreadFolders(more ...string) []string {
	return append([]string{"home", "redo", "undo", "scratch", "binlogs", "relays"}, more...)
}

func TestMySQLDatadirs(t *testing.T) {
	t.Parallel()
	objects, queries := everyObject()
	testDatadirs(t, replication.MySQL, []datadirCase{
		{
			name: "4K spread", folders: spreadFolders("temp", "doublewrite", "far", "farther"), mapped: []string{"far", "farther"},
			options: func(p place) []string {
				return spread(p, "innodb_page_size=4k", "innodb_temp_tablespaces_dir="+p.at("temp"), "innodb_doublewrite_dir="+p.at("doublewrite"),
					"innodb_directories="+p.at("far")+";"+p.at("farther"))
			},
			make:  func(p place) []string { return append(farTables(p), tableKinds(rowFormats(1, 2, 4))...) },
			roots: []string{"datadir", "external-1", "external-2", "external-3", "innodb_home", "redo", "undo"},
		},
		{
			name: "8K below, innodb checksums, lower case", folders: []string{"far"}, mapped: []string{"far"},
			options: func(place) []string {
				return []string{
					"innodb_page_size=8k", "innodb_checksum_algorithm=innodb", "lower_case_table_names=1",
					"innodb_undo_directory=undo", "innodb_data_file_path=ibdata1:12M",
				}
			},
			make: func(place) []string {
				return append(createDatabase(), append(tableKinds(rowFormats(1, 2, 4, 8)),
					"CREATE UNDO TABLESPACE more ADD DATAFILE 'more.ibu'",
					"CREATE DATABASE Linked", "CREATE TABLE Linked.Upper (id INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO linked.upper SELECT id FROM dd.seed",
					"CREATE TABLE Linked.Isam (id INT PRIMARY KEY) ENGINE=MyISAM", "INSERT INTO linked.isam SELECT id FROM dd.seed")...)
			},
			move:  linkDatabase("linked"),
			roots: []string{"datadir", "external-1", "innodb_home", "redo", "undo"},
		},
		{
			name: "16K replica, all objects", replica: true,
			options: func(place) []string { return nil },
			make: func(place) []string {
				return append(append(createDatabase(), tableKinds(with(rowFormats(1, 2, 4, 8, 16), mysqlKinds()))...), objects...)
			},
			move: linkDatadir, queries: queries,
			roots: []string{"datadir", "innodb_home", "redo", "undo"},
		},
		{
			name: "32K without checksums", opaque: true,
			options: func(p place) []string {
				return []string{
					"innodb_page_size=32k", "innodb_checksum_algorithm=none",
					"innodb_data_home_dir=", "innodb_data_file_path=" + p.at("ibdata1") + ":16M;" + p.at("ibdata2") + ":8M:autoextend:max:900M",
				}
			},
			make:  func(place) []string { return append(createDatabase(), tableKinds(rowFormats())...) },
			roots: []string{"datadir", "innodb_home", "redo", "undo"},
		},
		{
			name:    "64K, page compression",
			options: func(place) []string { return []string{"innodb_page_size=64k"} },
			make: func(place) []string {
				return append(createDatabase(), tableKinds(with(rowFormats(), map[string]string{
					"zlib": "ENGINE=InnoDB COMPRESSION='zlib'", "lz4": "ENGINE=InnoDB COMPRESSION='lz4'",
				}))...)
			},
			roots: []string{"datadir", "innodb_home", "redo", "undo"},
		},
	})
}

func createDatabase() []string { return []string{"CREATE DATABASE dd CHARACTER SET utf8mb4"} }

// mysqlKinds are the tables that only MySQL has.
func mysqlKinds() map[string]string {
	return map[string]string{
		"isam": "ENGINE=MyISAM", "zlib": "ENGINE=InnoDB COMPRESSION='zlib'", "lz4": "ENGINE=InnoDB COMPRESSION='lz4'",
		"isam_fixed": "ENGINE=MyISAM ROW_FORMAT=DYNAMIC CHECKSUM=1 DELAY_KEY_WRITE=1",
	}
}

// farTables are tablespaces outside the data directory.
func farTables(p place) []string {
	far, farther := p.at("far"), p.at("farther")
	return []string{
		"CREATE DATABASE dd CHARACTER SET utf8mb4",
		"CREATE UNDO TABLESPACE more ADD DATAFILE 'more.ibu'",
		"CREATE UNDO TABLESPACE far ADD DATAFILE '" + far + "/far.ibu'",
		"CREATE TABLESPACE near ADD DATAFILE 'near.ibd'",
		"CREATE TABLESPACE far_general ADD DATAFILE '" + far + "/general.ibd'",
		"CREATE TABLE dd.in_near (id INT PRIMARY KEY) TABLESPACE near",
		"CREATE TABLE dd.in_far (id INT PRIMARY KEY) TABLESPACE far_general",
		"CREATE TABLE dd.alone (id INT PRIMARY KEY) DATA DIRECTORY='" + far + "'",
		fmt.Sprintf("CREATE TABLE dd.parts (id INT PRIMARY KEY) PARTITION BY HASH (id) (PARTITION a DATA DIRECTORY='%s', PARTITION b DATA DIRECTORY='%s', PARTITION c)", far, farther),
		"INSERT INTO dd.in_near VALUES (1), (2)", "INSERT INTO dd.in_far VALUES (3), (4)", "INSERT INTO dd.alone VALUES (5), (6)",
		"INSERT INTO dd.parts VALUES (1), (2), (3), (4), (5)",
	}
}

// linkDatabase moves a database's folder away and puts a link in its place.
func linkDatabase(name string) func(*testing.T, *mysqltest.Server, place) {
	return func(t *testing.T, s *mysqltest.Server, p place) {
		t.Helper()
		moveAndLink(t, filepath.Join(s.Datadir, name), p.at("far", name))
	}
}

// linkDatadir does that with the whole data directory.
func linkDatadir(t *testing.T, s *mysqltest.Server, p place) {
	t.Helper()
	moveAndLink(t, s.Datadir, p.at("moved"))
}

func moveAndLink(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, from); err != nil {
		t.Fatal(err)
	}
}

// TestMySQLMovedTablespaces has a restore whose target does not look where its
// tablespaces are to go, and one that is not told where they go.
func TestMySQLMovedTablespaces(t *testing.T) {
	t.Parallel()
	folders := []string{"far", "farther"}
	c := datadirCase{options: func(p place) []string {
		return []string{"innodb_directories=\"" + p.at("far") + ";" + p.at("farther") + "\""}
	}}
	r := &datadirRun{bench: newBench(t), datadirCase: c, from: newPlace(t, folders), to: newPlace(t, folders)}
	r.source = mysqltest.Start(t, replication.MySQL, mysqltest.Options{Cnf: r.options(r.from)})
	r.source.Exec(t, farTables(r.from)...)
	r.source.Stop(t)
	if _, err := mysqlbackup.BackupStopped(t.Context(), r.backupOptions(t, r.source)); err != nil {
		t.Fatal(err)
	}
	blind := mysqltest.New(t, replication.MySQL, mysqltest.Options{Cnf: []string{"innodb_directories=" + r.to.at("far")}})
	opts := r.restoreOptions(t, blind)
	r.wantRefused(t, opts, "outside the data directory", r.from.at("far"))
	opts.Map = map[string]string{r.from.at("far"): r.to.at("far"), r.from.at("farther"): r.to.at("farther")}
	r.wantRefused(t, opts, "innodb_directories", r.to.at("farther"))
	if entries, err := os.ReadDir(blind.Datadir); err != nil || len(entries) > 0 {
		t.Errorf("after a refusal: %v, %v", entries, err)
	}
	opts.Map = map[string]string{string(r.from): r.to.at("far")} // all below one folder that it looks into
	mustRestore(t, opts)
	r.target = blind
	r.source.Start(t)
	r.compare(t)
	r.target.Stop(t)
	r.target.Start(t)
	r.target.Exec(t, "INSERT INTO dd.parts VALUES (100), (101), (102)", "DROP TABLE dd.alone", "ALTER UNDO TABLESPACE far SET INACTIVE")
	for _, row := range r.target.Rows(t, spacesQuery(replication.MySQL)) {
		if strings.HasPrefix(row["path"], string(r.from)) {
			t.Errorf("the dictionary still has %s", row["path"])
		}
	}
}
