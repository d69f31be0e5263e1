package mysqlbackup_test

import (
	"os"
	"testing"

	"github.com/shardseed/shardseed/replication"
)

func TestMariaDBDatadirs(t *testing.T) {
	t.Parallel()
	objects, queries := everyObject()
	moreObjects, moreQueries := mariaDBObjects()
	ordinary := []string{"aria_log", "binlog", "datadir", "innodb_home", "redo"}
	testDatadirs(t, replication.MariaDB, []datadirCase{
		{
			name: "4K spread", folders: spreadFolders("aria", "far", "farther"), mapped: []string{"far", "farther"},
			options: func(p place) []string {
				return spread(p, "innodb_page_size=4k", "aria_log_dir_path="+p.at("aria"), "innodb_undo_tablespaces=3", "symbolic-links=1")
			},
			make:  func(p place) []string { return append(mariaDBFarTables(p), tableKinds(rowFormats(1, 2, 4))...) },
			roots: []string{"aria_log", "binlog", "datadir", "external-1", "external-2", "external-3", "external-4", "innodb_home", "redo", "undo"},
		},
		{
			name: "8K below, lower case", folders: []string{"far"}, mapped: []string{"far"},
			options: func(place) []string {
				return []string{"innodb_page_size=8k", "lower_case_table_names=1", "innodb_data_file_path=ibdata1:12M", "innodb_checksum_algorithm=strict_full_crc32"}
			},
			make: func(place) []string {
				return append(createDatabase(), append(tableKinds(rowFormats(1, 2, 4, 8)),
					"CREATE DATABASE Linked", "CREATE TABLE Linked.Upper (id INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO linked.upper SELECT id FROM dd.seed",
					"CREATE TABLE Linked.Aria (id INT PRIMARY KEY) ENGINE=Aria", "INSERT INTO linked.aria SELECT id FROM dd.seed")...)
			},
			move:  linkDatabase("linked"),
			roots: []string{"aria_log", "binlog", "datadir", "external-1", "innodb_home", "redo"},
		},
		{
			name: "16K replica, all objects, encrypted", cached: true, replica: true, secret: true, folders: []string{"keys"},
			options: func(p place) []string {
				return mariaDBKeys(t, p, "innodb_encrypt_tables=OFF", "plugin_load_add=ha_archive", "plugin_load_add=ha_blackhole")
			},
			make: func(place) []string {
				return append(append(append(createDatabase(), tableKinds(with(rowFormats(1, 2, 4, 8, 16), mariaDBKinds()))...), objects...), moreObjects...)
			},
			move: linkDatadir, queries: append(queries, moreQueries...),
			roots: ordinary,
		},
		{
			name: "16K crc32, all encrypted", cached: true, secret: true, unsure: true, folders: []string{"keys"},
			options: func(p place) []string {
				return mariaDBKeys(t, p, "innodb_checksum_algorithm=crc32", "innodb_encrypt_tables=ON", "encrypt_tmp_files=ON", "aria_encrypt_tables=ON")
			},
			make: func(place) []string {
				return append(createDatabase(), tableKinds(with(rowFormats(1, 2, 4, 8, 16), mariaDBKinds()))...)
			},
			roots: ordinary,
		},
		{
			name: "32K",
			options: func(p place) []string {
				return []string{"innodb_page_size=32k", "innodb_data_home_dir=", "innodb_data_file_path=" + p.at("ibdata1") + ":16M;" + p.at("ibdata2") + ":8M:autoextend"}
			},
			make:  func(place) []string { return append(createDatabase(), tableKinds(rowFormats())...) },
			roots: ordinary,
		},
		{
			name:    "64K crc32",
			options: func(place) []string { return []string{"innodb_page_size=64k", "innodb_checksum_algorithm=crc32"} },
			make: func(place) []string {
				return append(createDatabase(), tableKinds(with(rowFormats(), map[string]string{"packed": "ENGINE=InnoDB PAGE_COMPRESSED=1"}))...)
			},
			roots: ordinary,
		},
	})
}

// mariaDBKeys makes MariaDB encrypt with keys from a file in the place.
func mariaDBKeys(t *testing.T, p place, more ...string) []string {
	t.Helper()
	keys := p.at("keys", "keys.txt")
	if err := os.WriteFile(keys, []byte("1;"+secretKey+"\n2;"+secretKey+secretKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return append([]string{"plugin_load_add=file_key_management", "loose_file_key_management_filename=" + keys, "innodb_encryption_threads=1"}, more...)
}

// mariaDBKinds are the tables that only MariaDB has.
func mariaDBKinds() map[string]string {
	return map[string]string{
		"aria": "ENGINE=Aria TRANSACTIONAL=1", "aria_plain": "ENGINE=Aria TRANSACTIONAL=0", "aria_dynamic": "ENGINE=Aria TRANSACTIONAL=0 ROW_FORMAT=DYNAMIC",
		"isam": "ENGINE=MyISAM", "packed": "ENGINE=InnoDB PAGE_COMPRESSED=1", "packed_9": "ENGINE=InnoDB PAGE_COMPRESSED=1 PAGE_COMPRESSION_LEVEL=9",
		"crypt": "ENGINE=InnoDB ENCRYPTED=YES", "crypt_2": "ENGINE=InnoDB ENCRYPTED=YES ENCRYPTION_KEY_ID=2",
		"crypt_packed": "ENGINE=InnoDB ENCRYPTED=YES PAGE_COMPRESSED=1", "crypt_zip": "ENGINE=InnoDB ENCRYPTED=YES ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4",
	}
}

func mariaDBObjects() (statements, queries []string) {
	statements = []string{
		"CREATE SEQUENCE dd.numbers START WITH 7 INCREMENT BY 3",
		"DO NEXTVAL(dd.numbers)",
		"CREATE TABLE dd.versioned (id INT PRIMARY KEY, v VARCHAR(20)) ENGINE=InnoDB WITH SYSTEM VERSIONING",
		"INSERT INTO dd.versioned SELECT id, 'first' FROM dd.seed",
		"UPDATE dd.versioned SET v = 'second' WHERE id % 2 = 0",
		"DELETE FROM dd.versioned WHERE id % 5 = 0",
		"CREATE TABLE dd.history (id INT) ENGINE=InnoDB WITH SYSTEM VERSIONING PARTITION BY SYSTEM_TIME (PARTITION old HISTORY, PARTITION now CURRENT)",
		"INSERT INTO dd.history SELECT id FROM dd.seed", "DELETE FROM dd.history WHERE id < 100",
	}
	queries = []string{
		"SELECT next_not_cached_value AS v FROM dd.numbers",
		"SELECT COUNT(*) AS n, SUM(id) AS s FROM dd.versioned FOR SYSTEM_TIME ALL",
		"SELECT COUNT(*) AS n FROM dd.history FOR SYSTEM_TIME ALL",
	}
	return statements, queries
}

// mariaDBFarTables are tablespaces and data files outside the data directory.
func mariaDBFarTables(p place) []string {
	far, farther := p.at("far"), p.at("farther")
	return []string{
		"CREATE DATABASE dd CHARACTER SET utf8mb4",
		"CREATE TABLE dd.alone (id INT PRIMARY KEY) ENGINE=InnoDB DATA DIRECTORY='" + far + "'",
		"CREATE TABLE dd.isam (id INT PRIMARY KEY) ENGINE=MyISAM DATA DIRECTORY='" + far + "' INDEX DIRECTORY='" + farther + "'",
		"CREATE TABLE dd.aria (id INT PRIMARY KEY) ENGINE=Aria DATA DIRECTORY='" + farther + "'",
		"CREATE TABLE dd.parts (id INT PRIMARY KEY) ENGINE=InnoDB PARTITION BY HASH (id) (PARTITION a DATA DIRECTORY='" + far + "', PARTITION b DATA DIRECTORY='" + farther + "', PARTITION c)",
		"INSERT INTO dd.alone VALUES (1), (2)", "INSERT INTO dd.isam VALUES (3), (4)", "INSERT INTO dd.aria VALUES (5), (6)",
		"INSERT INTO dd.parts VALUES (1), (2), (3), (4), (5)",
	}
}
