package mysqlbackup_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// otherFlavor returns the other one.
func otherFlavor(flavor replication.Flavor) replication.Flavor {
	if flavor == replication.MySQL {
		return replication.MariaDB
	}
	return replication.MySQL
}

// olderProgram returns a program that says it is an older server.
func olderProgram(t *testing.T, flavor replication.Flavor) string {
	t.Helper()
	says := "mysqld  Ver 8.0.30 for Linux on x86_64 (MySQL Community Server - GPL)"
	if flavor == replication.MariaDB {
		says = "mariadbd  Ver 10.11.1-MariaDB for Linux on x86_64 (Debian)"
	}
	path := filepath.Join(t.TempDir(), "mysqld")
	if err := os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\necho '%s'\n", says), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// refusal is a restore that must be refused before anything is touched.
type refusal struct {
	name   string
	target *mysqltest.Server // nil: an ordinary one
	change func(*mysqlbackup.RestoreOptions)
	kind   error // nil: ErrRefused
	says   string
	hint   string // "": none is asked for
}

func (s *stand) checkRefusal(t *testing.T, r refusal) {
	t.Helper()
	opts := s.restoreOptions(t, r.target)
	if r.change != nil {
		r.change(&opts)
	}
	kind := r.kind
	if kind == nil {
		kind = mysqlbackup.ErrRefused
	}
	_, err := mysqlbackup.Restore(t.Context(), opts)
	checkKinds(t, err, kind)
	checkSays(t, err, r.says)
	if r.hint != "" {
		checkHint(t, err, r.hint)
	}
	checkUntouched(t, r.target)
}

// TestRestoreRefused: the preflight of a restore touches nothing.
func TestRestoreRefused(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		ordinary := mysqltest.New(t, flavor, mysqltest.Options{})
		s.checkRefusal(t, refusal{target: ordinary, kind: mysqlbackup.ErrNoBackup, says: "commerce/-80 has no backup"})
		s.backUp(t)
		with := func(lines ...string) *mysqltest.Server {
			return mysqltest.New(t, flavor, mysqltest.Options{Cnf: lines})
		}
		closed := mysqltest.FreePort(t)
		none := manifest.NewName(time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC), manifest.TabletAlias{Cell: "zone1", UID: 7})
		for _, test := range []refusal{
			{"unknown shard", nil, func(o *mysqlbackup.RestoreOptions) { o.Shard = "80-" }, mysqlbackup.ErrNoBackup, "commerce/80- has no backup", ""},
			{"unknown backup", nil, func(o *mysqlbackup.RestoreOptions) { o.Backup = &none }, mysqlbackup.ErrNoUsableBackup, none.String(), "shardseed list"},
			{
				"primary down", nil, func(o *mysqlbackup.RestoreOptions) {
					o.Topology = mysqlbackup.Fixed{Host: "127.0.0.1", Port: closed}
				}, nil, "connection refused", "primary get commerce/-80",
			},
			{"primary is a replica", nil, func(o *mysqlbackup.RestoreOptions) { o.Topology = mysqlbackup.Fixed(hostPort(s.replica)) }, nil, "read-only", "primary get"},
			{"wrong replication password", nil, func(o *mysqlbackup.RestoreOptions) { o.Replication.Password = "wrong" }, nil, "Access denied", ""},
			{"no replication account", nil, func(o *mysqlbackup.RestoreOptions) { o.Replication.User = "" }, nil, "needs an account", "--replication-user"},
			{"same server_id", mysqltest.New(t, flavor, mysqltest.Options{ServerID: s.primary.ServerID}), nil, nil, "is also the primary's", "server_id"},
			{"page size", with("innodb-page-size=8k"), nil, nil, "innodb_page_size is 16384 in the backup, 8192 here", "set it in"},
			{"system tablespace", with("innodb-data-file-path=ibdata1:12M;ibdata2:12M:autoextend"), nil, nil, "innodb_data_file_path", "set it in"},
			{"case of names", with("lower-case-table-names=1"), nil, nil, "lower_case_table_names is 0 in the backup, 1 here", "set it in"},
			{"older server", nil, func(o *mysqlbackup.RestoreOptions) { o.Program = olderProgram(t, flavor) }, nil, "newer than the", ""},
			{"other flavor", mysqltest.New(t, otherFlavor(flavor), mysqltest.Options{}), nil, nil, "the backup is of a " + string(flavor), ""},
			{"no mysqld", nil, func(o *mysqlbackup.RestoreOptions) { o.Program = "/bin/true" }, nil, "is no mysqld", ""},
		} {
			t.Run(test.name, func(t *testing.T) {
				if test.target == nil {
					test.target = ordinary
				}
				s.checkRefusal(t, test)
			})
		}
		s.testErrant(t, ordinary)
		s.testPurged(t, ordinary)
		s.checkBack(t, 2)
	})
}

// testErrant makes a backup with a transaction that the primary lacks: the one
// before it is named, and works.
func (s *stand) testErrant(t *testing.T, target *mysqltest.Server) {
	t.Helper()
	keys, err := s.repo.Keys(t.Context(), "commerce", "-80")
	if err != nil {
		t.Fatal(err)
	}
	good := filepath.Base(string(keys[0]))
	s.replica.Exec(t, "SET GLOBAL read_only = 0", "CREATE DATABASE errant", "SET GLOBAL read_only = 1")
	if s.replica.Flavor == replication.MySQL {
		s.replica.Exec(t, "SET GLOBAL super_read_only = 1")
	}
	s.backUp(t)
	s.checkRefusal(t, refusal{target: target, says: "transactions that the primary lacks", hint: "the newest backup that fits is " + good})
	name, err := manifest.ParseName(good)
	if err != nil {
		t.Fatal(err)
	}
	opts := s.restoreOptions(t, target)
	opts.Backup = &name
	mustRestore(t, opts)
	checkReplica(t, target, s.primary)
}

// testPurged removes what the backups need from the primary's binary logs.
func (s *stand) testPurged(t *testing.T, target *mysqltest.Server) {
	t.Helper()
	s.primary.Write(t, 3)
	s.replica.WaitForReplica(t, s.primary)
	target.WaitForReplica(t, s.primary)
	target.Kill(t)
	if err := os.RemoveAll(target.Datadir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(target.Datadir, 0o750); err != nil {
		t.Fatal(err)
	}
	s.primary.Exec(t, "FLUSH BINARY LOGS")
	logs := s.primary.Rows(t, "SHOW BINARY LOGS")
	newest := logs[len(logs)-1]["Log_name"]
	eventually(t, func() string { // a log that a replica reads stays
		s.primary.Exec(t, "PURGE BINARY LOGS TO '"+newest+"'")
		if left := s.primary.Rows(t, "SHOW BINARY LOGS"); len(left) > 1 {
			return fmt.Sprintf("binary logs %v are left", left)
		}
		return ""
	})
	s.checkRefusal(t, refusal{target: target, says: "has purged transactions that the backup lacks", hint: "take a new backup"})
}
