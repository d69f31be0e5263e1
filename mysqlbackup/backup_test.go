package mysqlbackup_test

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/local"
	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// eachFlavor runs a test on both servers, one after the other.
func eachFlavor(t *testing.T, test func(t *testing.T, flavor replication.Flavor)) {
	t.Helper()
	for _, flavor := range []replication.Flavor{replication.MySQL, replication.MariaDB} {
		t.Run(string(flavor), func(t *testing.T) { test(t, flavor) })
	}
}

// testProgress logs what a run tells.
type testProgress struct {
	t       testing.TB
	onStep  func(step string)
	onBegin func(what string)
	onMore  func(n int64) // called from several goroutines at once
	warned  []string
}

func (p *testProgress) Step(name, detail string) {
	p.t.Logf("step %s %s", name, detail)
	if p.onStep != nil {
		p.onStep(name)
	}
}

func (p *testProgress) Warn(text string) {
	p.t.Logf("warning: %s", text)
	p.warned = append(p.warned, text)
}

func (p *testProgress) Begin(what string, _ int64) {
	if p.onBegin != nil {
		p.onBegin(what)
	}
}

func (p *testProgress) Advance(n int64) {
	if p.onMore != nil {
		p.onMore(n)
	}
}
func (p *testProgress) End() {}

// bench is a repository and the folders that runs need.
type bench struct {
	repo     *cas.Repository
	root     string
	cacheDir string
	stateDir string
	progress *testProgress
}

func newBench(t testing.TB) *bench {
	t.Helper()
	return newBenchIn(t, t.TempDir())
}

// newBenchIn keeps everything in a folder.
func newBenchIn(t testing.TB, dir string) *bench {
	t.Helper()
	b := &bench{
		root: filepath.Join(dir, "root"), cacheDir: filepath.Join(dir, "cache"), stateDir: filepath.Join(dir, "state"),
		progress: &testProgress{t: t},
	}
	backend, err := local.Create(b.root)
	if err != nil {
		t.Fatal(err)
	}
	if b.repo, err = cas.Create(t.Context(), backend, cas.Config{ChunkSize: cas.DefaultChunkSize}, rand.Reader, time.Now); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) store() mysqlbackup.Store {
	return mysqlbackup.Store{Repo: b.repo, CacheDir: b.cacheDir}
}

// patience is how long servers are waited for: they come up in a second, or in half
// a minute where many others do.
const patience = 3 * time.Minute

// instance describes a test server as the command line would.
func instance(t testing.TB, srv *mysqltest.Server) mysqlbackup.Instance {
	t.Helper()
	defaults, err := mysqlbackup.ReadDefaults(srv.DefaultsFile)
	if err != nil {
		t.Fatal(err)
	}
	return mysqlbackup.Instance{
		Defaults: defaults,
		Conn: mysqlbackup.Connection{
			Socket: srv.Socket, Credentials: mysqlbackup.Credentials{User: mysqltest.AdminUser, Password: mysqltest.Password},
		},
		Service:     mysqlbackup.Direct{Program: srv.Program, DefaultsFile: srv.DefaultsFile, Datadir: srv.Datadir},
		StopTimeout: patience, StartTimeout: patience,
	}
}

func (b *bench) backupOptions(t testing.TB, srv *mysqltest.Server) mysqlbackup.BackupOptions {
	t.Helper()
	return mysqlbackup.BackupOptions{
		Store: b.store(), Keyspace: "commerce", Shard: "-80", Alias: manifest.TabletAlias{Cell: "zone1", UID: 101},
		Host: "test", ToolVersion: "test", Server: instance(t, srv), Concurrency: 4,
		Topology: b.topology(), CatchUp: mysqlbackup.CatchUp{Lag: 10 * time.Second, Timeout: patience},
		Replication: mysqlbackup.Credentials{User: mysqltest.ReplUser, Password: mysqltest.ReplPassword},
		StateDir:    b.stateDir, Progress: b.progress, Now: time.Now,
	}
}

func (b *bench) restoreOptions(t testing.TB, srv *mysqltest.Server) mysqlbackup.RestoreOptions {
	t.Helper()
	return mysqlbackup.RestoreOptions{
		Store: b.store(), Keyspace: "commerce", Shard: "-80", Server: instance(t, srv), Program: srv.Program, Concurrency: 4,
		Topology: b.topology(), CatchUp: mysqlbackup.CatchUp{Lag: 10 * time.Second, Timeout: patience},
		Replication: mysqlbackup.Credentials{User: mysqltest.ReplUser, Password: mysqltest.ReplPassword},
		StateDir:    b.stateDir, Progress: b.progress, Now: time.Now,
	}
}

func (b *bench) topology() mysqlbackup.ShardRecord {
	return mysqlbackup.ShardRecord{Repo: b.repo, Keyspace: "commerce", Shard: "-80"}
}

func TestBackup(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor replication.Flavor) {
		b := newBench(t)
		primary := mysqltest.Start(t, flavor, mysqltest.Options{})
		primary.LoadFixture(t)
		replica := mysqltest.StartReplica(t, primary, mysqltest.Options{})
		first, err := mysqlbackup.Backup(t.Context(), b.backupOptions(t, replica))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", first.Manifest)
		second, err := mysqlbackup.Backup(context.WithoutCancel(t.Context()), b.backupOptions(t, replica))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", second.Manifest.Totals)
		primary.Write(t, 20)
		target := mysqltest.New(t, flavor, mysqltest.Options{})
		b.setPrimary(t, primary)
		result := mustRestore(t, b.restoreOptions(t, target))
		t.Logf("%+v", result.Proof)
		target.WaitForReplica(t, primary)
		if diff := mysqltest.Differences(target.Checksums(t), primary.Checksums(t)); len(diff) > 0 {
			t.Errorf("tables differ: %v", diff)
		}
		if got, most := second.Manifest.Totals.Stored, first.Manifest.Totals.Stored/5; got > most {
			t.Errorf("second backup stored %d bytes, want at most %d", got, most)
		}
		if left := b.journals(t); len(left) > 0 {
			t.Errorf("journals are left: %v", left)
		}
	})
}

// TestMemoryTables: the operator is told of tables that a restart empties.
func TestMemoryTables(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		s.primary.Exec(t, "CREATE DATABASE scratch", "CREATE TABLE scratch.sessions (id INT) ENGINE=MEMORY")
		s.replica.WaitForReplica(t, s.primary)
		s.backUp(t)
		for _, warning := range s.progress.warned {
			if strings.Contains(warning, "scratch.sessions") {
				return
			}
		}
		t.Errorf("no warning names the table: %q", s.progress.warned)
	})
}
