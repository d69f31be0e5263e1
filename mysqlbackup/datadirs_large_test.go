package mysqlbackup_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/replication"
)

// bigSize is the length of the file with holes, in bytes.
const bigSize int64 = 3 << 30

// TestManyTables has three thousand tablespaces and one of three gigabytes of which
// most is a hole.
func TestManyTables(t *testing.T) {
	t.Parallel()
	eachFlavor(t, func(t *testing.T, flavor replication.Flavor) {
		r := &datadirRun{bench: newBench(t), from: newPlace(t, nil), to: newPlace(t, nil)}
		r.source = mysqltest.Start(t, flavor, mysqltest.Options{Cnf: []string{"table_open_cache=400", "innodb_open_files=300", "innodb_flush_method=nosync"}})
		began := time.Now()
		r.source.Exec(t, append(createDatabase(), "CREATE TABLE dd.big (id INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO dd.big VALUES (1), (2)")...)
		makeMany(t, r.source)
		t.Logf("made in %v", time.Since(began))
		r.source.Stop(t)
		big := filepath.Join(r.source.Datadir, "dd", "big.ibd")
		if err := os.Truncate(big, bigSize); err != nil {
			t.Fatal(err)
		}
		r.source.Start(t)
		opts := r.backupOptions(t, r.source)
		opts.AllowPrimary = true
		began = time.Now()
		result := r.mustBackUp(t, opts)
		t.Logf("%d files backed up in %v, %.1f s of it stopped: %+v", result.Manifest.Files.Count, time.Since(began), result.Manifest.Downtime, result.Manifest.Totals)
		if m := result.Manifest; m.Files.Count < 3000 || m.Totals.Zero < bigSize/2 || m.Totals.Stored > 100<<20 {
			t.Errorf("got %d files, %+v", m.Files.Count, m.Totals)
		}
		r.target = mysqltest.New(t, flavor, mysqltest.Options{})
		began = time.Now()
		mustRestore(t, r.restoreOptions(t, r.target))
		t.Logf("restored in %v", time.Since(began))
		wantHoles(t, filepath.Join(r.target.Datadir, "dd", "big.ibd"))
		for _, query := range []string{
			"SELECT COUNT(*) AS n FROM information_schema.tables WHERE table_schema = 'dd'",
			"SELECT SUM(id) AS s FROM dd.big", "SELECT SUM(id) AS s FROM dd.t17", "SELECT COUNT(*) AS n, SUM(id) AS s FROM dd.p1",
		} {
			got, want := fmt.Sprint(r.target.Rows(t, query)), fmt.Sprint(r.source.Rows(t, query))
			if got != want || want == "[]" {
				t.Errorf("%s: got %s, want %s", query, got, want)
			}
		}
	})
}

// makeMany makes 1,000 tables, and two of 1,000 partitions each, which are
// quicker to make.
func makeMany(t *testing.T, s *mysqltest.Server) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	const hands, each = 4, 250
	for hand := range hands {
		group.Go(func() error {
			for i := range each {
				if _, err := s.DB().ExecContext(ctx, fmt.Sprintf("CREATE TABLE dd.t%d (id INT PRIMARY KEY) ENGINE=InnoDB", hand*each+i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	ids := make([]string, 3000)
	for i := range ids {
		ids[i] = fmt.Sprintf("(%d)", i)
	}
	for _, name := range []string{"p1", "p2"} {
		s.Exec(t, "CREATE TABLE dd."+name+" (id INT PRIMARY KEY) ENGINE=InnoDB PARTITION BY HASH (id) PARTITIONS 1000",
			"INSERT INTO dd."+name+" VALUES "+strings.Join(ids, ","))
	}
	s.Exec(t, "INSERT INTO dd.t17 VALUES (4), (5)")
}

func wantHoles(t *testing.T, path string) {
	t.Helper()
	var stat syscall.Stat_t
	if err := syscall.Stat(path, &stat); err != nil {
		t.Fatal(err)
	}
	if stat.Size != bigSize || stat.Blocks*512 > 1<<20 {
		t.Errorf("%s: %d bytes, %d on disk", path, stat.Size, stat.Blocks*512)
	}
}
