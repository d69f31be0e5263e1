package mysqlbackup_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// keepRunning starts the server again as soon as it ends, as a container or a
// unit with Restart=always does, until the test ends. pause is how long it
// waits before, for sleep(1).
func keepRunning(t *testing.T, srv *mysqltest.Server, pause string) {
	t.Helper()
	srv.Stop(t)
	script := fmt.Sprintf("while :; do %s --defaults-file=%s </dev/null >/dev/null 2>&1; sleep %s; done", srv.Program, srv.DefaultsFile, pause)
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // it would end with any other thread
		defer runtime.UnlockOSThread()
		started <- cmd.Start()
		_ = cmd.Wait() // killed
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		srv.Kill(t)                                                // it may be starting, and deaf to anything else
		if err := os.RemoveAll(srv.Socket + ".lock"); err != nil { // it names a process that nobody may have reaped
			t.Error(err)
		}
	})
	srv.Ready(t)
}

// TestKeptRunning backs up a server that somebody starts again as soon as it
// ends. That is noticed whether the other is the first to lock the files, waits
// for them, or comes while they are copied; the server is as it was, though it
// was restarted by others.
func TestKeptRunning(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := &stand{bench: newBench(t), primary: mysqltest.Start(t, flavor, mysqltest.Options{})}
		s.primary.Write(t, 10)
		s.setPrimary(t, s.primary)
		s.replica = mysqltest.StartReplica(t, s.primary, mysqltest.Options{})
		d := dialectOf(t, s.replica)
		for _, pause := range []string{"0", "0.3"} {
			t.Run(pause, func(t *testing.T) {
				keepRunning(t, s.replica, pause)
				s.replica.Exec(t, d.StopChannel("", replication.SQLThread), "SET GLOBAL read_only = 1")
				checkThreads(t, s.replica, map[string]string{"": "Yes No"})
				s.want = stateOf(t, s.replica)
				if pause != "0" {
					s.at(mysqlbackup.StepCopy, func() { awaitOther(t, s.replica) })
				}
				_, err := mysqlbackup.Backup(t.Context(), s.backupOptions(t, s.replica))
				checkKinds(t, err)
				s.checkBack(t, 0)
				if pause == "0" {
					s.checkWarned(t, "restarted by somebody else")
				}
			})
			s.replica.Start(t)
		}
	})
}

// awaitOther waits until a process of the server is there again.
func awaitOther(t testing.TB, srv *mysqltest.Server) {
	t.Helper()
	eventually(t, func() string {
		if !srv.Running() {
			return "nobody starts the server"
		}
		return ""
	})
}
