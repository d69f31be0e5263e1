package innodb_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/mysqlbackup/innodb"
	"github.com/shardseed/shardseed/replication"
)

// datadirCase is one way to configure a server, and the tables it gets.
type datadirCase struct {
	name   string
	flavor replication.Flavor
	size   int // innodb_page_size in KiB
	cnf    []string
	tables []string // options of CREATE TABLE
	// encrypted says that some pages can only be read with a key.
	encrypted bool
}

func datadirCases(t *testing.T) []datadirCase {
	t.Helper()
	crypt := append(keyring(t), "innodb_encryption_threads=0")
	classic := append([]string{"innodb_checksum_algorithm=crc32"}, crypt...)
	rows := []string{"ROW_FORMAT=REDUNDANT", "ROW_FORMAT=COMPACT", "ROW_FORMAT=DYNAMIC"}
	zip := func(kib ...int) (tables []string) {
		for _, k := range kib {
			tables = append(tables, fmt.Sprintf("ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=%d", k))
		}
		return tables
	}
	packed := []string{"COMPRESSION='zlib'", "COMPRESSION='lz4'"}
	secret := []string{"PAGE_COMPRESSED=1", "ENCRYPTED=YES", "ENCRYPTED=YES PAGE_COMPRESSED=1"}
	secretZip := []string{"ENCRYPTED=YES ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"}
	all := func(lists ...[]string) (tables []string) {
		for _, l := range lists {
			tables = append(tables, l...)
		}
		return tables
	}
	return []datadirCase{
		{name: "4K", flavor: replication.MySQL, size: 4, tables: all(rows, zip(1, 2, 4))},
		{name: "16K", flavor: replication.MySQL, size: 16, tables: all(rows, zip(1, 2, 4, 8, 16), packed)},
		{name: "64K", flavor: replication.MySQL, size: 64, tables: all(rows, packed)},
		{name: "innodb", flavor: replication.MySQL, cnf: []string{"innodb_checksum_algorithm=innodb"}, size: 16, tables: all(rows[2:], zip(8))},
		{name: "none", flavor: replication.MySQL, cnf: []string{"innodb_checksum_algorithm=none"}, size: 16, tables: all(rows[2:], zip(8))},
		{name: "4K", flavor: replication.MariaDB, size: 4, cnf: crypt, tables: all(rows, zip(1, 2, 4), secret, secretZip), encrypted: true},
		{name: "16K", flavor: replication.MariaDB, size: 16, cnf: crypt, tables: all(rows, zip(1, 2, 4, 8, 16), secret, secretZip), encrypted: true},
		{name: "64K", flavor: replication.MariaDB, size: 64, cnf: crypt, tables: all(rows, secret), encrypted: true},
		{name: "crc32", flavor: replication.MariaDB, size: 16, cnf: classic, tables: all(rows, zip(1, 2, 4, 8, 16), secret, secretZip), encrypted: true},
	}
}

// keyring returns what makes MariaDB encrypt with a key from a file.
func keyring(t *testing.T) []string {
	t.Helper()
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("1;770A8A65DA156D24EE2A093277530142\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"plugin-load-add=file_key_management", "loose-file-key-management-filename=" + keys}
}

// TestRealDatadirs checks every page of servers that were stopped cleanly, and
// a damaged page of each table, against the servers' own innochecksum.
func TestRealDatadirs(t *testing.T) {
	t.Parallel()
	for _, tc := range datadirCases(t) {
		t.Run(string(tc.flavor)+"/"+tc.name, func(t *testing.T) {
			s := mysqltest.Start(t, tc.flavor, mysqltest.Options{Fresh: true, Cnf: append([]string{
				fmt.Sprintf("innodb_page_size=%dk", tc.size),
				"innodb_data_file_path=ibdata1:16M;ibdata2:8M:autoextend",
			}, tc.cnf...)})
			fill(t, s, tc.tables)
			s.Stop(t)
			total := checkDatadir(t, s)
			if total.Encrypted > 0 != tc.encrypted {
				t.Errorf("%d encrypted pages", total.Encrypted)
			}
			if none := tc.name == "none"; (total.Unchecked > 0) != none || total.Checked < 200 && !none {
				t.Errorf("%d pages checked, %d not", total.Checked, total.Unchecked)
			}
			wantClean(t, s, total)
			for i, options := range tc.tables {
				d := damaged{server: s, path: filepath.Join(s.Datadir, "kinds", fmt.Sprintf("t%d.ibd", i)), options: options}
				d.blind = tc.name == "none"
				d.blind = d.blind || tc.name == "crc32" && options == "ENCRYPTED=YES PAGE_COMPRESSED=1"
				d.blindProgram = d.blind || tc.name == "crc32" && strings.Contains(options, "PAGE_COMPRESSED")
				d.check(t)
			}
		})
	}
}

// fill makes one table for each list of options, with rows, long values that
// go to pages of their own, and pages that were freed.
func fill(t *testing.T, s *mysqltest.Server, tables []string) {
	t.Helper()
	s.Exec(t, "CREATE DATABASE kinds")
	for i, options := range tables {
		name := fmt.Sprintf("kinds.t%d", i)
		s.Exec(t,
			"CREATE TABLE "+name+" (id INT AUTO_INCREMENT PRIMARY KEY, k INT, v VARCHAR(200), b LONGBLOB, KEY (k)) ENGINE=InnoDB DEFAULT CHARSET=latin1 "+options,
			"INSERT INTO "+name+" (k, v, b) VALUES (1, REPEAT('a', 100), REPEAT('long', 30000)), (2, REPEAT(2, 50), NULL), (3, REPEAT(3, 50), NULL), (4, REPEAT(4, 50), NULL)")
		for range 7 {
			s.Exec(t, "INSERT INTO "+name+" (k, v) SELECT k + 1, LEFT(CONCAT(CONVERT(SHA2(RAND(), 224) USING latin1), v), 200) FROM "+name)
		}
		s.Exec(t, "DELETE FROM "+name+" WHERE id % 3 = 0")
	}
}

// checkDatadir checks every InnoDB file of a stopped server.
func checkDatadir(t *testing.T, s *mysqltest.Server) innodb.Report {
	t.Helper()
	var total innodb.Report
	var system *innodb.Checker
	err := filepath.WalkDir(s.Datadir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !isInnoDB(d.Name()) {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		c, err := innodb.NewChecker(bytes.NewReader(data), s.Flavor == replication.MariaDB)
		if d.Name() == "ibdata2" { // after ibdata1 in the order of names
			c, err = system.From(uint32(16<<20/system.Space().PageSize)), nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		var r innodb.Report
		c.Check(0, data, &r)
		for _, bad := range r.Bad {
			t.Errorf("%s: page %d: %s", path, bad.No, bad.Why)
		}
		if d.Name() == "ibdata1" {
			system = c
		} else if err := c.CheckSize(int64(len(data))); err != nil && d.Name() != "ibdata2" {
			t.Errorf("%s: %v", path, err)
		}
		total.Merge(r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

func isInnoDB(name string) bool {
	return strings.HasSuffix(name, ".ibd") || strings.HasPrefix(name, "ibdata") || strings.HasPrefix(name, "undo")
}

// wantClean wants all that proves a clean stop from files alone.
func wantClean(t *testing.T, s *mysqltest.Server, total innodb.Report) {
	t.Helper()
	r, err := innodb.ReadRedo(s.Datadir, s.Flavor == replication.MariaDB)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Clean {
		t.Errorf("after a clean stop: %+v", r)
	}
	if total.MaxLSN > r.CheckpointLSN || total.MaxLSN == 0 {
		t.Errorf("highest page LSN %d, checkpoint %d", total.MaxLSN, r.CheckpointLSN)
	}
	if s.Flavor == replication.MySQL && (total.MaxLSN != r.CheckpointLSN || flushLSN(t, s) != r.CheckpointLSN) {
		t.Errorf("highest page LSN %d, checkpoint %d, flush LSN %d", total.MaxLSN, r.CheckpointLSN, flushLSN(t, s))
	}
}

func flushLSN(t *testing.T, s *mysqltest.Server) uint64 {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.Datadir, "ibdata1"))
	if err != nil {
		t.Fatal(err)
	}
	lsn, err := innodb.FlushLSN(data)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// damaged is a table of which a page gets damaged.
type damaged struct {
	server       *mysqltest.Server
	path         string
	options      string // of CREATE TABLE
	blind        bool   // there is nothing to find damage with
	blindProgram bool   // innochecksum does not look at such pages
}

// check changes a few bytes of the root of the first index: both
// checkers pass the file before and find that page afterwards.
func (d damaged) check(t *testing.T) {
	t.Helper()
	data, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := innodb.NewChecker(bytes.NewReader(data), d.server.Flavor == replication.MariaDB)
	if err != nil {
		t.Fatal(err)
	}
	no := 3
	if d.server.Flavor == replication.MySQL {
		no = 4 // after the dictionary of the table itself
	}
	page := data[no*c.Space().PageSize:]
	d.wantType(t, c.Space(), page)
	if out := d.innochecksum(t); out != "" {
		t.Errorf("%s: innochecksum refuses a good table: %s", d.options, out)
	}
	for i := range 4 {
		page[60+i] ^= 0xff
	}
	if err := os.WriteFile(d.path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var r innodb.Report
	c.Check(0, data, &r)
	if found := r.BadCount == 1 && r.Bad[0].No == uint32(no); found == d.blind {
		t.Errorf("%s: page %d damaged: got %+v", d.options, no, r)
	}
	if out := d.innochecksum(t); (out == "") != d.blindProgram {
		t.Errorf("%s: page %d damaged: innochecksum says %q", d.options, no, out)
	}
}

// wantType wants a page that was stored as its table asked for.
func (d damaged) wantType(t *testing.T, s innodb.Space, page []byte) {
	t.Helper()
	pageType := binary.BigEndian.Uint16(page[24:])
	var want bool // of a page compressed table
	switch {
	case strings.HasPrefix(d.options, "COMPRESSION"):
		want = pageType == 14
	case !strings.Contains(d.options, "PAGE_COMPRESSED"):
		return
	case s.FullCRC32:
		want = pageType&(1<<15) != 0
	case strings.Contains(d.options, "ENCRYPTED"):
		want = pageType == 37401
	default:
		want = pageType == 34354
	}
	if !want {
		t.Errorf("%s: page of type %d", d.options, pageType)
	}
}

// innochecksum returns what the server's own program says of a bad file.
func (d damaged) innochecksum(t *testing.T) string {
	t.Helper()
	program := mysqltest.Program(t, "innochecksum-"+string(d.server.Flavor))
	out, err := exec.CommandContext(t.Context(), program, d.path).CombinedOutput()
	if err == nil {
		return ""
	}
	return fmt.Sprintf("%v: %s", err, out)
}

// TestRealStops stops servers in every way and looks what the redo log says.
func TestRealStops(t *testing.T) {
	t.Parallel()
	for _, flavor := range []replication.Flavor{replication.MySQL, replication.MariaDB} {
		t.Run(string(flavor), func(t *testing.T) {
			s := mysqltest.Start(t, flavor, mysqltest.Options{})
			s.Exec(t, "CREATE DATABASE stops", "CREATE TABLE stops.t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(300)) ENGINE=InnoDB")
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rnd := rand.New(rand.NewPCG(seed, 0))
			for range 4 {
				killUnderLoad(t, s, 1+rnd.IntN(300))
				wantUnclean(t, s)
				s.Start(t)
				s.Stop(t)
				wantClean(t, s, checkDatadir(t, s))
				s.Start(t)
			}
			s.Exec(t, "INSERT INTO stops.t (v) VALUES ('last')", "SET GLOBAL innodb_fast_shutdown = 2")
			s.Stop(t)
			wantUnclean(t, s)
			s.Start(t)
			killIdle(t, s)
		})
	}
}

// killUnderLoad kills the server while it writes, after some commits.
func killUnderLoad(t *testing.T, s *mysqltest.Server, commits int) {
	t.Helper()
	db := s.DB()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	enough, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		write(ctx, db, commits, enough)
	}()
	<-enough
	s.Kill(t)
	cancel()
	<-done
}

// write commits rows until it fails, and closes enough after some.
func write(ctx context.Context, db *sql.DB, commits int, enough chan<- struct{}) {
	defer func() {
		if commits > 0 {
			close(enough)
		}
	}()
	for {
		_, err := db.ExecContext(ctx, "INSERT INTO stops.t (v) VALUES (REPEAT('x', 200)), (REPEAT('y', 300))")
		if err != nil {
			return
		}
		if commits--; commits == 0 {
			close(enough)
		}
	}
}

func wantUnclean(t *testing.T, s *mysqltest.Server) {
	t.Helper()
	r, err := innodb.ReadRedo(s.Datadir, s.Flavor == replication.MariaDB)
	if err != nil {
		t.Fatal(err)
	}
	if r.Clean || r.Why == "" {
		t.Errorf("after an unclean stop: %+v", r)
	}
}

// killIdle kills a server that has nothing to do. Its redo log may be as after
// a clean stop: other signs tell, of MySQL its flush LSN.
func killIdle(t *testing.T, s *mysqltest.Server) {
	t.Helper()
	s.Kill(t)
	r, err := innodb.ReadRedo(s.Datadir, s.Flavor == replication.MariaDB)
	if err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat(filepath.Join(s.Datadir, "ibtmp1"))
	switch {
	case err != nil:
		t.Errorf("after an idle kill: %v", err)
	case s.Flavor == replication.MySQL && r.Clean && flushLSN(t, s) == r.CheckpointLSN:
		t.Errorf("after an idle kill: flush LSN %d, %+v", flushLSN(t, s), r)
	}
}

// TestRealRedoRefusals has servers that write a redo log which proves nothing.
func TestRealRedoRefusals(t *testing.T) {
	t.Parallel()
	t.Run("mariadb encrypts it", func(t *testing.T) {
		s := mysqltest.Start(t, replication.MariaDB, mysqltest.Options{Cnf: append(keyring(t), "innodb_encrypt_log=ON")})
		s.Stop(t)
		r, err := innodb.ReadRedo(s.Datadir, true)
		if !errors.Is(err, innodb.ErrRedoFormat) {
			t.Errorf("got %+v, %v", r, err)
		}
	})
	t.Run("mysql does not write it", func(t *testing.T) {
		s := mysqltest.Start(t, replication.MySQL, mysqltest.Options{})
		s.Exec(t, "ALTER INSTANCE DISABLE INNODB REDO_LOG", "CREATE DATABASE stops", "CREATE TABLE stops.t (id INT PRIMARY KEY)")
		s.Stop(t)
		wantClean(t, s, checkDatadir(t, s))
		s.Start(t)
		s.Exec(t, "INSERT INTO stops.t VALUES (1), (2), (3)")
		s.Kill(t)
		wantUnclean(t, s)
	})
}
