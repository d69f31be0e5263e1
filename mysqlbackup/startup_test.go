package mysqlbackup_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/local"
	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// startupOptions are those of a host that is to be a replica. The repository is
// opened when it is needed, where it is then.
func (b *bench) startupOptions(t testing.TB, srv *mysqltest.Server, mode mysqlbackup.RestoreMode) mysqlbackup.StartupOptions {
	t.Helper()
	opts := mysqlbackup.StartupOptions{
		Restore: b.restoreOptions(t, srv),
		Open: func(ctx context.Context) (*cas.Repository, error) {
			backend, err := local.New(b.root)
			if err != nil {
				return nil, err
			}
			return cas.Open(ctx, backend)
		},
	}
	opts.Restore.Store.Repo, opts.Restore.Topology, opts.Restore.Mode = nil, nil, mode
	return opts
}

// startUp runs startup, which must have the outcome.
func (b *bench) startUp(t *testing.T, opts mysqlbackup.StartupOptions, want mysqlbackup.StartupOutcome) *mysqlbackup.StartupResult {
	t.Helper()
	result, err := mysqlbackup.Startup(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if result.Outcome != want {
		t.Fatalf("outcome %s, want %s", result.Outcome, want)
	}
	return result
}

// away runs do while the repository can't be reached.
func (b *bench) away(t *testing.T, do func()) {
	t.Helper()
	rename(t, b.root, b.root+".away")
	defer rename(t, b.root+".away", b.root)
	do()
}

// checkSeeded verifies that a server is stopped, and a replica when somebody
// starts it.
func (s *stand) checkSeeded(t *testing.T, target *mysqltest.Server) {
	t.Helper()
	if target.Running() {
		t.Error("a server runs")
	}
	s.checkFinished(t, target)
	target.Start(t)
	target.WaitForReplica(t, s.primary)
	if diff := mysqltest.Differences(target.Checksums(t), s.primary.Checksums(t)); len(diff) > 0 {
		t.Errorf("tables differ: %v", diff)
	}
}

func TestStartup(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		target := mysqltest.New(t, flavor, mysqltest.Options{})
		opts := s.startupOptions(t, target, mysqlbackup.ModeSeeded)

		// Nobody can say that there is no backup: nothing is said but that.
		s.away(t, func() {
			_, err := mysqlbackup.Startup(t.Context(), opts)
			checkKinds(t, err)
			if errors.Is(err, mysqlbackup.ErrNoBackup) || err == nil {
				t.Errorf("the repository is away: %v", err)
			}
		})
		checkUntouched(t, target)
		s.startUp(t, opts, mysqlbackup.StartupNoBackup)
		checkUntouched(t, target)

		s.backUp(t)
		result := s.startUp(t, opts, mysqlbackup.StartupRestored)
		if result.Restore.Primary != hostPort(s.primary) || result.Datadir != target.Datadir {
			t.Errorf("got %+v", result.Restore)
		}
		s.checkWarned(t, "does not set read_only")
		s.checkSeeded(t, target)

		// Data are left as they are, whether the server runs or not.
		pid := target.PID()
		s.startUp(t, opts, mysqlbackup.StartupPresent)
		if target.PID() != pid {
			t.Error("the server was restarted")
		}
		target.Stop(t)
		s.away(t, func() { s.startUp(t, opts, mysqlbackup.StartupPresent) })
		opts.Restore.Program = "/nowhere/mysqld"
		s.startUp(t, opts, mysqlbackup.StartupPresent)
		target.Start(t)
		target.WaitForReplica(t, s.primary)
	})
}

// TestStartupKilled kills a startup at every step, and reboots the host; the
// next one resumes.
func TestStartupKilled(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		s.backUp(t)
		target := mysqltest.New(t, flavor, mysqltest.Options{})
		t.Run("then exit", func(t *testing.T) {
			run := childRun{Startup: true, Server: target, Mode: mysqlbackup.ModeSeeded}
			for _, test := range restoreSteps() {
				if test.whole {
					break // the server is not ours to start
				}
				run.DieAt = test.step
				s.killed(t, run)
				if test.step == mysqlbackup.StepSync { // the fence is left up once, too
					continue
				}
				if test.step != mysqlbackup.StepSeed {
					rebooted(t, target)
				}
				if test.step == mysqlbackup.StepUnmark {
					s.away(t, func() { // a half of a server is no data
						_, err := mysqlbackup.Startup(t.Context(), s.startupOptions(t, target, run.Mode))
						checkKinds(t, err)
					})
				}
			}
			s.startUp(t, s.startupOptions(t, target, run.Mode), mysqlbackup.StartupRestored)
			s.checkSeeded(t, target)
			target.Kill(t)
			emptyFolder(t, target.Datadir)
		})
		t.Run("then replicating", func(t *testing.T) {
			run := childRun{Startup: true, Server: target, Mode: mysqlbackup.ModeReplica}
			for i, test := range restoreSteps() {
				run.DieAt = test.step
				s.killed(t, run)
				if !test.whole {
					continue
				}
				if i%2 == 0 {
					rebooted(t, target)
				}
				result := s.startUp(t, s.startupOptions(t, target, run.Mode), mysqlbackup.StartupRestored)
				if !result.Restore.WentOn || result.Restore.Proof == nil {
					t.Errorf("killed at %s: got %+v, want one that went on", test.step, result.Restore)
				}
				checkReplica(t, target, s.primary)
				s.checkFinished(t, target)
				target.Kill(t)
				emptyFolder(t, target.Datadir)
			}
		})
	})
}

// TestStartupCompletes makes the last move of a restore that was killed when
// all was proved. That needs no repository.
func TestStartupCompletes(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		s.backUp(t)
		target := mysqltest.New(t, flavor, mysqltest.Options{})
		opts := s.startupOptions(t, target, mysqlbackup.ModeSeeded)
		s.startUp(t, opts, mysqlbackup.StartupRestored)
		redo := "ib_logfile0"
		if flavor == replication.MySQL {
			redo = "#innodb_redo"
		}
		private := filepath.Join(target.Datadir, ".shardseed-redo")
		if err := os.Mkdir(private, 0o700); err != nil {
			t.Fatal(err)
		}
		rename(t, filepath.Join(target.Datadir, redo), filepath.Join(private, redo))
		marker := `{"version":1,"stage":"releasing","backup":"commerce/-80/2026-08-01.131502.zone1-0000000101","mode":"seeded"}`
		if err := os.WriteFile(filepath.Join(target.Datadir, ".shardseed-restore"), []byte(marker), 0o600); err != nil {
			t.Fatal(err)
		}
		checkStartsNot(t, target, "releasing")
		s.away(t, func() { s.startUp(t, opts, mysqlbackup.StartupCompleted) })
		s.checkSeeded(t, target)
	})
}

// TestStartupOlder: the newest backup can't be used, then none can be.
func TestStartupOlder(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		first := s.backUp(t)
		target := mysqltest.New(t, flavor, mysqltest.Options{})
		opts := s.startupOptions(t, target, mysqlbackup.ModeSeeded)
		for _, damage := range []func(t testing.TB, path string){flipMiddle, truncate} {
			s.primary.Write(t, 200)
			s.replica.WaitForReplica(t, s.primary)
			next := s.backUp(t)
			for _, pack := range next.Manifest.Packs {
				if !slices.Contains(first.Manifest.Packs, pack) {
					damage(t, s.pathOf(t, pack.String()))
				}
			}
			if err := os.RemoveAll(s.cacheDir); err != nil {
				t.Fatal(err)
			}
			s.progress.warned = nil
			result := s.startUp(t, opts, mysqlbackup.StartupRestored)
			if got := result.Restore.Manifest.Name; got != first.Manifest.Name {
				t.Errorf("restored %s, want %s", got, first.Manifest.Name)
			}
			s.checkWarned(t, next.Manifest.Name.String()+" can't be restored")
			s.checkSeeded(t, target)
			target.Kill(t)
			emptyFolder(t, target.Datadir)
		}
		for _, pack := range first.Manifest.Packs {
			truncate(t, s.pathOf(t, pack.String()))
		}
		_, err := mysqlbackup.Startup(t.Context(), opts)
		if !errors.Is(err, mysqlbackup.ErrNoUsableBackup) {
			t.Errorf("nothing can be restored: %v", err)
		}
		checkSays(t, err, first.Manifest.Name.String())
		if target.Running() {
			t.Error("a server runs")
		}
		// The backups are removed: what is half there is of no use any more.
		for _, key := range s.keys(t) {
			if err := s.repo.Forget(t.Context(), key, nil); err != nil {
				t.Fatal(err)
			}
		}
		s.startUp(t, opts, mysqlbackup.StartupNoBackup)
		checkUntouched(t, target)
	})
}

// pathOf finds a file of the repository by its name.
func (b *bench) pathOf(t testing.TB, name string) string {
	t.Helper()
	found := ""
	if err := filepath.WalkDir(b.root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == name {
			found = path
		}
		return err
	}); err != nil || found == "" {
		t.Fatalf("find %s: %q, %v", name, found, err)
	}
	return found
}

func (b *bench) keys(t testing.TB) []cas.Key {
	t.Helper()
	keys, err := b.repo.Keys(t.Context(), "commerce", "-80")
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func flipMiddle(t testing.TB, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 200; i < len(data)/2; i += 64 {
		data[i] ^= 0x55
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, data, 0o600)); err != nil {
		t.Fatal(err)
	}
}

func truncate(t testing.TB, path string) {
	t.Helper()
	if err := errors.Join(os.Chmod(path, 0o600), os.Truncate(path, 100)); err != nil {
		t.Fatal(err)
	}
}

// TestStartupErrant: the newest backup that fits is taken, not the newest.
func TestStartupErrant(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		first := s.backUp(t)
		s.replica.Exec(t, "SET GLOBAL read_only = 0")
		s.replica.Exec(t, "CREATE DATABASE errant", "SET GLOBAL read_only = 1")
		s.backUp(t)
		target := mysqltest.New(t, flavor, mysqltest.Options{})
		result := s.startUp(t, s.startupOptions(t, target, mysqlbackup.ModeReplica), mysqlbackup.StartupRestored)
		if got := result.Restore.Manifest.Name; got != first.Manifest.Name {
			t.Errorf("restored %s, want %s", got, first.Manifest.Name)
		}
		s.checkWarned(t, "an older backup is taken")
		checkReplica(t, target, s.primary)
	})
}

// TestStartupWaits: for the repository, for a backup, for the primary.
func TestStartupWaits(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		target := mysqltest.New(t, flavor, mysqltest.Options{})
		opts := s.startupOptions(t, target, mysqlbackup.ModeSeeded)
		opts.Wait = 2 * time.Second
		started := time.Now()
		s.startUp(t, opts, mysqlbackup.StartupNoBackup)
		if waited := time.Since(started); waited < opts.Wait {
			t.Errorf("waited %v, want %v", waited, opts.Wait)
		}
		// Each time it says what it waits for, that comes.
		opts.Wait = 2 * time.Minute
		other := *s.bench
		other.progress = &testProgress{t: t}
		comes := []func(){
			func() { rename(t, s.root+".away", s.root) },
			func() {
				if _, err := mysqlbackup.Backup(t.Context(), other.backupOptions(t, s.replica)); err != nil {
					t.Error(err)
				}
				s.primary.Stop(t)
			},
			func() { s.primary.Start(t) },
		}
		opts.Restore.Progress = &waitProgress{s.progress, &comes}
		rename(t, s.root, s.root+".away")
		s.startUp(t, opts, mysqlbackup.StartupRestored)
		if len(comes) > 0 {
			t.Errorf("%d of 3 were not waited for", len(comes))
		}
		s.checkSeeded(t, target)
	})
}

// waitProgress does the next thing whenever a run says that it waits.
type waitProgress struct {
	*testProgress
	next *[]func()
}

func (p *waitProgress) Warn(text string) {
	p.testProgress.Warn(text)
	if len(*p.next) > 0 && len(text) > 8 && text[:8] == "waiting " {
		do := (*p.next)[0]
		*p.next = (*p.next)[1:]
		do()
	}
}

// TestStartupConfigures: the defaults file is made when there is a backup, and
// only if it is not there.
func TestStartupConfigures(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		target := mysqltest.New(t, flavor, mysqltest.Options{})
		config := s.startupOptions(t, target, mysqlbackup.ModeSeeded)
		opts := config
		opts.Restore.Server = mysqlbackup.Instance{}
		opts.InitConfig = "test ! -e " + target.DefaultsFile + " && cp " + target.DefaultsFile + ".saved " + target.DefaultsFile
		opts.Configure = func() (mysqlbackup.Instance, error) { return instance(t, target), nil }
		rename(t, target.DefaultsFile, target.DefaultsFile+".saved")
		s.startUp(t, opts, mysqlbackup.StartupNoBackup)
		if exists(target.DefaultsFile) {
			t.Error("the defaults file was made, and there is no backup")
		}
		s.backUp(t)
		s.startUp(t, opts, mysqlbackup.StartupRestored)
		s.checkSeeded(t, target)
		_, err := mysqlbackup.Startup(t.Context(), opts) // the command fails: the file is there
		checkSays(t, err, "make the defaults file")
		s.startUp(t, config, mysqlbackup.StartupPresent)
	})
}

// TestStartupRefuses: what is wrong with this host is no reason to look for
// older backups.
func TestStartupRefuses(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		s.backUp(t)
		target := mysqltest.New(t, flavor, mysqltest.Options{})
		for name, change := range map[string]func(*mysqlbackup.RestoreOptions){
			"a wrong account": func(o *mysqlbackup.RestoreOptions) { o.Replication.Password = "wrong" },
			"no account":      func(o *mysqlbackup.RestoreOptions) { o.Replication = mysqlbackup.Credentials{} },
			"no primary": func(o *mysqlbackup.RestoreOptions) {
				o.Mode, o.Topology = mysqlbackup.ModeReplica, mysqlbackup.Fixed{}
			},
			"no program": func(o *mysqlbackup.RestoreOptions) { o.Program = "/nowhere/mysqld" },
		} {
			opts := s.startupOptions(t, target, mysqlbackup.ModeSeeded)
			change(&opts.Restore)
			_, err := mysqlbackup.Startup(t.Context(), opts)
			checkKinds(t, err, mysqlbackup.ErrRefused)
			checkUntouched(t, target)
			if t.Failed() {
				t.Fatal(name)
			}
		}
		// Two at once: the second is busy, whatever it finds.
		opts := s.startupOptions(t, target, mysqlbackup.ModeSeeded)
		for _, step := range []mysqlbackup.Step{mysqlbackup.StepPreflight, mysqlbackup.StepFiles, mysqlbackup.StepUnmark} {
			count := 0
			s.progress.onStep = func(name string) {
				if count++; name != string(step) || step == mysqlbackup.StepPreflight && count < 2 {
					return // the first is before the lock
				}
				s.progress.onStep = nil
				second := *s.bench
				second.progress = &testProgress{t: t}
				_, err := mysqlbackup.Startup(t.Context(), second.startupOptions(t, target, mysqlbackup.ModeSeeded))
				checkKinds(t, err, mysqlbackup.ErrBusy)
			}
			s.startUp(t, opts, mysqlbackup.StartupRestored)
			emptyFolder(t, target.Datadir)
		}
	})
}

// TestStartupLeftFence: the server behind the fence of a startup that was
// killed is ended by the next one, and a foreign one that waits for its files is
// told of.
func TestStartupLeftFence(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		s.backUp(t)
		target := mysqltest.New(t, flavor, mysqltest.Options{})
		s.killed(t, childRun{Startup: true, Server: target, Mode: mysqlbackup.ModeSeeded, DieAt: mysqlbackup.StepSeed})
		foreign := exec.CommandContext(t.Context(), target.Program, "--defaults-file="+target.DefaultsFile)
		if err := foreign.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- foreign.Wait() }()
		eventually(t, func() string {
			log, err := os.ReadFile(target.ErrorLog)
			if err != nil || !waitsForLock.Match(log) {
				return "the other server does not wait for the files"
			}
			return ""
		})
		_, err := mysqlbackup.Startup(t.Context(), s.startupOptions(t, target, mysqlbackup.ModeSeeded))
		if err != nil {
			checkKinds(t, err, mysqlbackup.ErrRefused) // it has not given up yet
		}
		if err := <-ended; err == nil {
			t.Error("the other server has run, and ended well")
		}
		if err != nil {
			s.startUp(t, s.startupOptions(t, target, mysqlbackup.ModeSeeded), mysqlbackup.StartupRestored)
		}
		s.checkSeeded(t, target)
	})
}
