package mysqlbackup_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// verifyOptions are those of a drill with a test server's program, and with
// what that program needs because it is not installed.
func (b *bench) verifyOptions(t testing.TB, srv *mysqltest.Server) mysqlbackup.VerifyOptions {
	t.Helper()
	opts := mysqlbackup.VerifyOptions{
		Store: b.store(), Keyspace: "commerce", Shard: "-80", Program: srv.Program, Scratch: b.scratch(t), Owner: "root",
		Concurrency: 4, Connections: 2, StartTimeout: patience,
		Topology:    b.topology(),
		Replication: mysqlbackup.Credentials{User: mysqltest.ReplUser, Password: mysqltest.ReplPassword},
		Host:        "test", ToolVersion: "test", Progress: b.progress, Now: time.Now,
	}
	defaults := instance(t, srv).Defaults
	for _, name := range []string{"basedir", "plugin_dir", "lc_messages_dir", "character_sets_dir", "innodb_use_native_aio"} {
		if value, ok := defaults.Option(name); ok {
			opts.Options = append(opts.Options, name+"="+value)
		}
	}
	return opts
}

func (b *bench) scratch(t testing.TB) string {
	t.Helper()
	folder := filepath.Join(b.stateDir, "drills")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	return folder
}

// checkSwept verifies that no drill has left anything.
func (b *bench) checkSwept(t testing.TB) {
	t.Helper()
	entries, err := os.ReadDir(b.scratch(t))
	if err != nil || len(entries) > 0 {
		t.Errorf("a drill has left %v, %v", entries, err)
	}
	if pids := b.drillServers(t); len(pids) > 0 {
		t.Errorf("a drill has left the servers %v", pids)
	}
}

// checkReaders verifies that every reader of a backup has said that it has ended:
// prune would wait for the others.
func (b *bench) checkReaders(t testing.TB) {
	t.Helper()
	signs, err := filepath.Glob(filepath.Join(b.root, "readers", "*", "*", "*.0000000001"))
	if err != nil || len(signs) == 0 {
		t.Errorf("readers of backups: %v, %v", signs, err)
	}
	for _, sign := range signs {
		if _, err := os.Stat(strings.TrimSuffix(sign, "0000000001") + "end"); err != nil {
			t.Errorf("a reader has not ended: %v", err)
		}
	}
}

// drillServers returns the processes that were started in the scratch folder.
func (b *bench) drillServers(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(text), "--defaults-file="+b.scratch(t)+"/") {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}

func TestVerify(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		s.primary.LoadFixture(t)
		s.replica.WaitForReplica(t, s.primary)
		backup := s.backUp(t)
		opts := s.verifyOptions(t, s.replica)
		result, err := mysqlbackup.Verify(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		d := result.Drill
		if !d.Passed() || !d.PositionChecked || !d.Position.Equal(backup.Manifest.Position) || d.Tables.OK < 30 || d.Tables.Bad != 0 || d.Name != backup.Manifest.Name {
			t.Errorf("got %+v", d)
		}
		t.Logf("%s in %.1f s: %v", d, d.Seconds, d.Findings)
		s.checkSwept(t)
		s.checkLastDrill(t, backup.Manifest.Key(), d)

		// Catching up: also with statements on accounts, which a server without
		// its accounts refuses.
		s.primary.Exec(t, "CREATE USER later@localhost IDENTIFIED BY 'x'", "GRANT SELECT ON *.* TO later@localhost", "CREATE DATABASE later")
		if flavor == replication.MariaDB { // there is no other account that could tell what the primary has purged
			s.primary.Exec(t, "GRANT BINLOG MONITOR ON *.* TO "+mysqltest.ReplUser)
		}
		s.primary.Write(t, 20)
		opts.CatchUp = &mysqlbackup.CatchUp{Lag: 10 * time.Second, Timeout: patience}
		result, err = mysqlbackup.Verify(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if c := result.Drill.CaughtUp; c == nil || c.Source != s.primary.Address || c.Position == backup.Manifest.Position.String() {
			t.Errorf("caught up: %+v", c)
		}
		s.checkSwept(t)
		s.checkReaders(t)
		s.checkLastDrill(t, backup.Manifest.Key(), result.Drill)
		checkReplica(t, s.replica, s.primary)
	})
}

func (b *bench) checkLastDrill(t testing.TB, key cas.Key, want *mysqlbackup.Drill) {
	t.Helper()
	got, err := mysqlbackup.LastDrill(t.Context(), b.repo, key)
	if err != nil || got == nil || !got.Time.Equal(want.Time) || got.String() != want.String() || got.Passed() != want.Passed() {
		t.Errorf("the last drill is %+v, %v; want %+v", got, err, want)
	}
}

// TestVerifyDamage: a page of a table was bad when it was backed up.
func TestVerifyDamage(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		s.primary.Exec(t, "CREATE TABLE test.cold (id INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(600))",
			"INSERT INTO test.cold (text) SELECT REPEAT('row ', 100) FROM test.writes a, test.writes b, test.writes c")
		s.replica.WaitForReplica(t, s.primary)
		s.at(mysqlbackup.StepCopy, func() { damage(t, s.replica) })
		marked, err := mysqlbackup.Backup(t.Context(), s.backupOptions(t, s.replica))
		damage(t, s.replica)
		s.checkMarked(t, marked, err)

		opts := s.verifyOptions(t, s.replica)
		_, err = mysqlbackup.Verify(t.Context(), opts)
		checkKinds(t, err, mysqlbackup.ErrNoUsableBackup)
		opts.Backup = &marked.Manifest.Name
		result, err := mysqlbackup.Verify(t.Context(), opts)
		if !errors.Is(err, mysqlbackup.ErrDrill) || result == nil {
			t.Fatalf("got %v", err)
		}
		checkSays(t, err, "1 of ", "tables are bad: test.cold")
		d := result.Drill
		if d.Passed() || d.Tables.Bad != 1 || d.Tables.OK < 30 || len(d.Problems) != 1 {
			t.Errorf("got %+v", d)
		}
		for _, f := range d.Findings {
			if f.Bad && (f.Schema != "test" || f.Table != "cold") {
				t.Errorf("found %+v", f)
			}
			t.Log(f)
		}
		s.checkSwept(t)
		s.checkLastDrill(t, marked.Manifest.Key(), d)
	})
}

// republish lists a backup under another name, with changes to its record.
func (b *bench) republish(t testing.TB, m *manifest.Manifest, change func(*manifest.Manifest)) *manifest.Manifest {
	t.Helper()
	other := *m
	other.Name.Time = other.Name.Time.Add(time.Hour)
	change(&other)
	data, err := other.Encode()
	if err != nil {
		t.Fatal(err)
	}
	session, err := b.repo.Begin(t.Context(), other.Key(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := session.NewWriter(cas.WriterOptions{})
	if err := errors.Join(session.Commit(t.Context(), w, data), w.Close()); err != nil {
		t.Fatal(err)
	}
	return &other
}

// TestVerifyElsewhere: what speaks against a backup but for its tables, and what
// does not.
func TestVerifyElsewhere(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		backup := s.backUp(t)
		opts := s.verifyOptions(t, s.replica)
		refuses := func(want string, change func(*mysqlbackup.VerifyOptions)) {
			t.Helper()
			o := opts
			change(&o)
			result, err := mysqlbackup.Verify(t.Context(), o)
			checkKinds(t, err, mysqlbackup.ErrRefused)
			checkSays(t, err, want)
			if result != nil {
				t.Errorf("got %+v", result.Drill)
			}
			s.checkSwept(t)
		}
		refuses("part of the fence", func(o *mysqlbackup.VerifyOptions) { o.Options = append(o.Options, "port=3306") })
		refuses("set by what the backup needs", func(o *mysqlbackup.VerifyOptions) { o.Options = append(o.Options, "loose-innodb-page-size=4096") })
		refuses("no user", func(o *mysqlbackup.VerifyOptions) { o.Owner = "nobody-here" })
		refuses("too long", func(o *mysqlbackup.VerifyOptions) { o.Scratch = "/" + strings.Repeat("x", 100) })
		refuses("make a scratch folder", func(o *mysqlbackup.VerifyOptions) { o.Scratch = "/nowhere" })
		refuses("ask the primary", func(o *mysqlbackup.VerifyOptions) {
			o.CatchUp = &mysqlbackup.CatchUp{Lag: time.Second, Timeout: time.Minute}
			o.Topology = mysqlbackup.Fixed{Host: "127.0.0.1", Port: 1}
		})
		if d, err := mysqlbackup.LastDrill(t.Context(), s.repo, backup.Manifest.Key()); d != nil || err != nil {
			t.Errorf("a drill that was refused has left %+v, %v", d, err)
		}

		// Kept, if that is wanted; then it is nobody's.
		opts.Keep = true
		result, err := mysqlbackup.Verify(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(result.Folder, "data", "ibdata1")); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(result.Folder); err != nil {
			t.Error(err)
		}
		opts.Keep = false

		// The position is another than the backup says.
		moved := s.republish(t, backup.Manifest, func(m *manifest.Manifest) {
			m.Position, err = replication.ParseGTIDs(flavor, map[replication.Flavor]string{
				replication.MySQL: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-48", replication.MariaDB: "0-77-48",
			}[flavor])
			if err != nil {
				t.Fatal(err)
			}
		})
		result, err = mysqlbackup.Verify(t.Context(), opts)
		if !errors.Is(err, mysqlbackup.ErrDrill) || result == nil || result.Drill.Tables.Bad != 0 || result.Drill.Tables.OK == 0 {
			t.Errorf("moved: %+v, %v", result, err)
		}
		checkSays(t, err, "the server stands at", "the backup says")
		s.checkSwept(t)
		s.checkLastDrill(t, moved.Key(), result.Drill)

		// No server starts: because of the options, and because of the files.
		opts.Options = append(opts.Options, "no-such-option=1")
		result, err = mysqlbackup.Verify(t.Context(), opts)
		if err == nil || errors.Is(err, mysqlbackup.ErrDrill) || result != nil {
			t.Errorf("wrong option: %+v, %v", result, err)
		}
		checkSays(t, err, "not even an empty data directory", "no-such-option")
		opts.Options = opts.Options[:len(opts.Options)-1]
		s.checkSwept(t)
		s.at(mysqlbackup.StepFenced, func() {
			paths, err := filepath.Glob(filepath.Join(s.scratch(t), "*", "data", "ibdata1"))
			if err != nil || len(paths) != 1 {
				t.Fatalf("got %q, %v", paths, err)
			}
			if err := os.Truncate(paths[0], 16384); err != nil {
				t.Error(err)
			}
		})
		result, err = mysqlbackup.Verify(t.Context(), opts)
		if !errors.Is(err, mysqlbackup.ErrDrill) || result == nil || result.Drill.Tables.Total() != 0 {
			t.Errorf("without its system tablespace: %+v, %v", result, err)
		}
		checkSays(t, err, "no server starts on it")
		s.checkSwept(t)

		// A pack is gone.
		packs, err := filepath.Glob(filepath.Join(s.root, "packs", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		opts.Backup = &backup.Manifest.Name
		s.at(mysqlbackup.StepFiles, func() {
			for _, path := range packs {
				if err := os.Truncate(path, 5000); err != nil {
					t.Error(err)
				}
			}
		})
		result, err = mysqlbackup.Verify(t.Context(), opts)
		if !errors.Is(err, mysqlbackup.ErrDrill) || result == nil || result.Drill.Tables.Total() != 0 {
			t.Errorf("without packs: %+v, %v", result, err)
		}
		checkSays(t, err, "can't be restored")
		s.checkSwept(t)
	})
}

// program makes a program that is the server's, but does something else where the
// drill would start it behind its fence.
func (b *bench) program(t testing.TB, srv *mysqltest.Server, instead string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mysqld")
	text := fmt.Sprintf("#!/bin/sh\nfor arg; do\n[ \"$arg\" = --skip-networking ] && { %s; }\ndone\nexec %s \"$@\"\n", instead, srv.Program)
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestVerifyEnded: somebody ends the drill's server, or it takes its time. That
// says nothing about the backup.
func TestVerifyEnded(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		backup := s.backUp(t)
		opts := s.verifyOptions(t, s.replica)
		opts.Connections = 1 // with more, a table is checked again alone
		verify := func(opts mysqlbackup.VerifyOptions, want string) {
			t.Helper()
			result, err := mysqlbackup.Verify(t.Context(), opts)
			if err == nil || errors.Is(err, mysqlbackup.ErrDrill) || result != nil {
				t.Errorf("%s: %+v, %v", want, result, err)
			}
			checkSays(t, err, want)
			if d, err := mysqlbackup.LastDrill(t.Context(), s.repo, backup.Manifest.Key()); d != nil || err != nil {
				t.Errorf("%s: the drill has left %+v, %v", want, d, err)
			}
			s.checkSwept(t)
		}
		for _, signal := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
			s.progress.onBegin = func(what string) {
				if what == "check tables" {
					s.endDrillServer(t, signal)
				}
			}
			verify(opts, "the drill's server was ended by somebody else: ")
		}
		s.progress.onBegin = nil

		opts.Program = s.program(t, s.replica, "kill -9 $$")
		verify(opts, "the drill's server was ended by somebody else: killed")
		opts.Program = s.program(t, s.replica, "exec sleep 1000")
		opts.StartTimeout = time.Second
		verify(opts, "start the drill's server")
	})
}

// endDrillServer ends the drill's server, and waits for that.
func (b *bench) endDrillServer(t testing.TB, signal unix.Signal) {
	t.Helper()
	for _, text := range b.drillServers(t) {
		pid, err := strconv.Atoi(text)
		if err == nil {
			err = unix.Kill(pid, signal)
		}
		if err != nil {
			t.Error(err)
		}
	}
	for began := time.Now(); len(b.drillServers(t)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Error("the drill's server does not end")
			return
		}
	}
}

// TestVerifyInterrupted cancels a drill, and kills one, at every step: a signal
// leaves nothing, and what a killed one leaves is removed by the next.
func TestVerifyInterrupted(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		backup := s.backUp(t)
		for _, step := range []mysqlbackup.Step{
			mysqlbackup.StepFiles, mysqlbackup.StepFenced, mysqlbackup.StepPosition, mysqlbackup.StepCheckTables, mysqlbackup.StepPublish,
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			s.at(step, func() { cancel(errors.New("terminated signal received")) })
			result, err := mysqlbackup.Verify(ctx, s.verifyOptions(t, s.replica))
			cancel(nil)
			if err == nil || result != nil && step != mysqlbackup.StepPublish {
				t.Errorf("canceled at %s: %+v, %v", step, result, err)
			}
			s.checkSwept(t)
			s.checkReaders(t)
		}
		if d, err := mysqlbackup.LastDrill(t.Context(), s.repo, backup.Manifest.Key()); d != nil || err != nil {
			t.Errorf("a drill that was canceled has left %+v, %v", d, err)
		}
		for _, step := range []mysqlbackup.Step{mysqlbackup.StepFiles, mysqlbackup.StepPosition, mysqlbackup.StepCheckTables} {
			s.killed(t, childRun{Verify: true, Server: s.replica, DieAt: step})
			if servers := s.drillServers(t); (len(servers) == 1) != (step != mysqlbackup.StepFiles) {
				t.Errorf("killed at %s: servers %v", step, servers)
			}
		}
		s.progress.onStep, s.progress.warned = nil, nil
		if _, err := mysqlbackup.Verify(t.Context(), s.verifyOptions(t, s.replica)); err != nil {
			t.Fatal(err)
		}
		if len(s.progress.warned) != 1 || !strings.Contains(s.progress.warned[0], "interrupted drill") {
			t.Errorf("warned %q, want of one remnant: each drill removes that of the one before", s.progress.warned)
		}
		s.checkSwept(t)
	})
}
