package mysqlbackup_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// Commands that stop and start a test server from outside.
func stopCommand(srv *mysqltest.Server) string {
	return fmt.Sprintf("kill -TERM $(cat %s)", filepath.Join(srv.Dir, "pid"))
}

func startCommand(srv *mysqltest.Server) string {
	return fmt.Sprintf("%s --defaults-file=%s </dev/null >/dev/null 2>&1 &", srv.Program, srv.DefaultsFile)
}

// withCommands returns options for a backup through commands; "" is the one
// that works.
func (s *stand) withCommands(t *testing.T, stop, start string) mysqlbackup.BackupOptions {
	t.Helper()
	if stop == "" {
		stop = stopCommand(s.replica)
	}
	if start == "" {
		start = startCommand(s.replica)
	}
	opts := s.backupOptions(t, s.replica)
	opts.Server.Service = mysqlbackup.Commands{StopCommand: stop, StartCommand: start}
	return opts
}

func TestServices(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		backups := 0
		t.Run("commands", func(t *testing.T) {
			s.mustBackUp(t, s.withCommands(t, "", ""))
			backups++
			s.checkBack(t, backups)
		})
		for name, start := range map[string]string{"start fails": "exit 1", "start does nothing": "true", "start hangs": "exec sleep 100"} {
			t.Run(name, func(t *testing.T) {
				opts := s.withCommands(t, "", start)
				opts.Server.StartTimeout = time.Second
				result, err := mysqlbackup.Backup(t.Context(), opts)
				checkKinds(t, err, mysqlbackup.ErrPutBack)
				if result == nil || len(result.Manifest.Marks) != 1 || result.Manifest.Marks[0].Kind != manifest.MarkServerDidNotRestart {
					t.Fatalf("got %+v, want a backup with a mark", result)
				}
				backups++
				s.checkBackups(t, backups)
				if len(s.journals(t)) != 1 || s.replica.Running() {
					t.Errorf("journals %v, server runs: %t; want one and a stopped server", s.journals(t), s.replica.Running())
				}
				if _, err := mysqlbackup.Recover(t.Context(), s.recoverOptions(t, s.replica)); err != nil {
					t.Fatal(err)
				}
				s.checkBack(t, backups)
			})
		}
		for name, stop := range map[string]string{"stop fails": "exit 1", "stop does nothing": "true", "stop hangs": "exec sleep 100"} {
			t.Run(name, func(t *testing.T) {
				opts := s.withCommands(t, stop, "")
				opts.Server.StopTimeout = 500 * time.Millisecond
				_, err := mysqlbackup.Backup(t.Context(), opts)
				checkKinds(t, err)
				s.checkBack(t, backups)
			})
		}
		t.Run("stop is late", func(t *testing.T) {
			opts := s.backupOptions(t, s.replica)
			opts.Server.StopTimeout = time.Millisecond
			_, err := mysqlbackup.Backup(t.Context(), opts)
			checkKinds(t, err)
			s.checkBack(t, backups)
		})
		t.Run("another start at once", func(t *testing.T) {
			s.at(mysqlbackup.StepStop, func() { s.startSecond(t) })
			_, err := mysqlbackup.Backup(t.Context(), s.backupOptions(t, s.replica))
			checkKinds(t, err)
			s.checkBack(t, backups)
		})
	})
}

// waitsForLock is what a server says that another one keeps from its files.
var waitsForLock = regexp.MustCompile("Unable to lock|Can't lock aria control file")

// startSecond starts another server on the replica's files and returns when it
// waits for them.
func (s *stand) startSecond(t *testing.T) {
	t.Helper()
	before, err := os.ReadFile(s.replica.ErrorLog)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), s.replica.Program, "--defaults-file="+s.replica.DefaultsFile)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }() // ends with the replica: it is found by its defaults file
	eventually(t, func() string {
		log, err := os.ReadFile(s.replica.ErrorLog)
		if err != nil || !waitsForLock.Match(log[len(before):]) {
			return "the second server does not wait for the first one's files"
		}
		return ""
	})
}

// TestServerKilled ends mysqld by SIGKILL in the middle of a backup.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		backups := 0
		for _, step := range []mysqlbackup.Step{
			mysqlbackup.StepJournal, mysqlbackup.StepFence, mysqlbackup.StepStopReplication, mysqlbackup.StepPosition, mysqlbackup.StepStop,
			mysqlbackup.StepRecheck, mysqlbackup.StepPublish, mysqlbackup.StepPutBack, mysqlbackup.StepCatchUp,
		} {
			s.at(step, func() { s.replica.Kill(t) })
			result, err := mysqlbackup.Backup(t.Context(), s.backupOptions(t, s.replica))
			if slices.Contains([]mysqlbackup.Step{mysqlbackup.StepPublish, mysqlbackup.StepPutBack, mysqlbackup.StepCatchUp}, step) {
				backups++
				if err != nil || result == nil {
					t.Errorf("killed at %s: %v", step, err)
				}
			} else {
				checkKinds(t, err)
			}
			s.checkBack(t, backups)
			if t.Failed() {
				t.Fatalf("server killed at %s", step)
			}
		}
	})
}

// TestServerKilledAtTheEnd ends mysqld when it has been put back and catches
// up: it is put back again, whoever starts it, or the next run does it.
func TestServerKilledAtTheEnd(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		t.Run("nobody starts it", func(t *testing.T) {
			s.at(mysqlbackup.StepCatchUp, func() { s.rebooted(t) })
			s.backUpMeanwhile(t)
			s.checkWarned(t, "has ended while it caught up")
			s.checkBack(t, 1)
		})
		t.Run("somebody starts it", func(t *testing.T) {
			s.at(mysqlbackup.StepCatchUp, func() {
				s.rebooted(t)
				s.replica.Start(t)
			})
			s.backUpMeanwhile(t)
			s.checkWarned(t, "is not the one that was put back")
			s.checkBack(t, 2)
		})
		t.Run("nobody can start it", func(t *testing.T) {
			for _, finish := range []func(){
				func() {
					if _, err := mysqlbackup.Recover(t.Context(), s.recoverOptions(t, s.replica)); err != nil {
						t.Error(err)
					}
				},
				func() { s.backUp(t) },
			} {
				opts := s.withCommands(t, "", "test ! -e "+s.stateDir+"/broken || exit 1; "+startCommand(s.replica))
				s.at(mysqlbackup.StepCatchUp, func() {
					s.rebooted(t)
					makeFile(t, s.stateDir+"/broken")
				})
				result, err := mysqlbackup.Backup(t.Context(), opts)
				checkKinds(t, err, mysqlbackup.ErrPutBack)
				checkHint(t, err, "shardseed recover")
				if result == nil || len(s.journals(t)) != 1 {
					t.Errorf("result %v, journals %q; want one of each", result, s.journals(t))
				}
				if err := os.Remove(s.stateDir + "/broken"); err != nil {
					t.Fatal(err)
				}
				s.progress.onStep = nil
				finish()
				checkState(t, s.replica, s.want)
			}
			s.checkBack(t, 5)
		})
	})
}

func makeFile(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestConnectionLost cuts our connections to the server when a step begins:
// the run goes on, or gives up and puts the server back.
func TestConnectionLost(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		backups := 0
		for _, step := range []mysqlbackup.Step{
			mysqlbackup.StepJournal, mysqlbackup.StepFence, mysqlbackup.StepStopReplication, mysqlbackup.StepPosition, mysqlbackup.StepStop,
			mysqlbackup.StepRecheck, mysqlbackup.StepPublish, mysqlbackup.StepPutBack, mysqlbackup.StepCatchUp,
		} {
			s.at(step, func() { s.cutConnections(t) })
			result, err := mysqlbackup.Backup(t.Context(), s.backupOptions(t, s.replica))
			if err != nil {
				t.Logf("cut at %s: %v", step, err)
			}
			if result != nil {
				backups++
			}
			s.checkBack(t, backups)
			if t.Failed() {
				t.Fatalf("connection lost at %s", step)
			}
		}
	})
}

// cutConnections kills the replica's connections of the account that backups
// use.
func (s *stand) cutConnections(t *testing.T) {
	t.Helper()
	for _, row := range s.replica.Rows(t, "SELECT ID AS id FROM information_schema.PROCESSLIST WHERE USER = '"+mysqltest.AdminUser+"'") {
		s.replica.Exec(t, "KILL "+row["id"])
	}
}

// TestDisks takes the repository or the state folder away in the middle.
func TestDisks(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		away := func(folder string) (take, back func()) {
			return func() { rename(t, folder, folder+".away") }, func() {
				if err := os.RemoveAll(folder); err != nil {
					t.Fatal(err)
				}
				rename(t, folder+".away", folder)
			}
		}
		for _, step := range []mysqlbackup.Step{mysqlbackup.StepFence, mysqlbackup.StepCopy, mysqlbackup.StepPublish} {
			take, back := away(s.root)
			s.at(step, take)
			_, err := mysqlbackup.Backup(t.Context(), s.backupOptions(t, s.replica))
			back()
			checkKinds(t, err)
			s.checkBack(t, 0)
		}
		if os.Geteuid() == 0 { // only root mounts
			s.testFull(t)
		}
		s.backUp(t)
		s.checkBack(t, 1)
	})
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := unix.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// testFull fills the file systems of the repository and of the state folder,
// and makes that of the repository read-only.
func (s *stand) testFull(t *testing.T) {
	full := &stand{bench: newBenchIn(t, mount(t, "24m")), primary: s.primary, replica: s.replica, want: s.want}
	full.setPrimary(t, s.primary)
	full.stateDir, full.cacheDir = filepath.Join(mount(t, "1m"), "state"), s.cacheDir
	for _, test := range []struct {
		step   mysqlbackup.Step
		folder string
	}{
		{mysqlbackup.StepCopy, full.root},
		{mysqlbackup.StepSeal, full.root},
		{mysqlbackup.StepPublish, full.root},
		{mysqlbackup.StepFence, full.stateDir},
		{mysqlbackup.StepStop, full.stateDir},
	} {
		full.at(test.step, func() { fill(t, test.folder) })
		_, err := mysqlbackup.Backup(t.Context(), full.backupOptions(t, full.replica))
		empty(t, test.folder)
		checkKinds(t, err)
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s full at %s: got error %v, want ENOSPC", test.folder, test.step, err)
		}
		full.checkBack(t, 0)
	}
	full.at(mysqlbackup.StepProve, func() { remount(t, filepath.Dir(full.root), unix.MS_RDONLY) })
	_, err := mysqlbackup.Backup(t.Context(), full.backupOptions(t, full.replica))
	remount(t, filepath.Dir(full.root), 0)
	checkKinds(t, err)
	full.checkBack(t, 0)
	// What can't be written any more does not keep the server from coming back.
	full.at(mysqlbackup.StepSeal, func() { fill(t, full.stateDir) })
	if _, err := mysqlbackup.Backup(t.Context(), full.backupOptions(t, full.replica)); err != nil {
		t.Error(err)
	}
	empty(t, full.stateDir)
	full.checkBack(t, 1)
}

// mount returns a file system of its own.
func mount(t *testing.T, size string) string {
	t.Helper()
	folder := t.TempDir()
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(folder, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return folder
}

func remount(t *testing.T, folder string, flags uintptr) {
	t.Helper()
	if err := unix.Mount("", folder, "", unix.MS_REMOUNT|flags, ""); err != nil {
		t.Fatal(err)
	}
}

// fill takes all the room that is left beside a folder, empty gives it back.
func fill(t *testing.T, folder string) {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(filepath.Dir(folder), "junk"), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	junk := make([]byte, 4096)
	for err == nil {
		_, err = file.Write(junk)
	}
	if closeErr := file.Close(); closeErr != nil || !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err, closeErr)
	}
}

func empty(t *testing.T, folder string) {
	t.Helper()
	if err := os.Remove(filepath.Join(filepath.Dir(folder), "junk")); err != nil {
		t.Fatal(err)
	}
}
