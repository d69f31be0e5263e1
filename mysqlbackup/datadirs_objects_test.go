package mysqlbackup_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

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
	statements = []string{
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
		"CREATE TABLE dd.memory (id INT PRIMARY KEY) ENGINE=MEMORY",
		"INSERT INTO dd.memory SELECT id FROM dd.seed",
		"CREATE VIEW dd.seen AS SELECT k, COUNT(*) AS n FROM dd.seed GROUP BY k",
		"CREATE TRIGGER dd.hush BEFORE INSERT ON dd.derived FOR EACH ROW SET NEW.id = ABS(NEW.id)",
	}
	queries = []string{
		"SELECT COUNT(*) AS n FROM dd.words WHERE MATCH (note) AGAINST ('+word77' IN BOOLEAN MODE)",
		"SELECT COUNT(*) AS n FROM dd.places WHERE MBRContains(ST_GeomFromText('Polygon((0 0, 99 0, 99 9999, 0 9999, 0 0))'), g)",
		"SELECT SUM(b) AS s FROM dd.derived FORCE INDEX (a) WHERE a BETWEEN 100 AND 300",
		"SELECT SUM(a) AS a, SUM(b) AS b, SUM(id) AS c FROM dd.derived IGNORE INDEX (a)",
		"SELECT COUNT(*) AS n, SUM(id) AS s FROM other.merged",
		"SELECT COUNT(*) AS n FROM dd.isam_words WHERE MATCH (v) AGAINST ('one')",
		"SELECT SUM(n) AS s FROM dd.seen",
	}
	return statements, queries
}
