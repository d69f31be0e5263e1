package mysqlbackup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"
)

// errServerLost: the server that was put back has ended, or is another process.
var errServerLost = errors.New("the server is not the one that was put back")

// restartGrace is how long whoever runs a server is given to start it again
// when it has ended by itself.
const restartGrace = 5 * time.Second

// watcher returns what says that the server is lost: that it is another process
// than the one that was put back, or has ended and nobody starts it again.
func (k *keeper) watcher(now func() time.Time) func(*server) error {
	var gone time.Time // since when no process is there
	return func(srv *server) error {
		if k.journal.ServerPID == 0 {
			return nil // it can't be seen from here, or could not be noted
		}
		if pid := int(srv.pid.Load()); pid != k.journal.ServerPID {
			return fmt.Errorf("%w: it was process %d and is process %d", errServerLost, k.journal.ServerPID, pid)
		}
		if isAlive(k.journal.ServerPID) {
			gone = time.Time{}
			return nil
		}
		pids, err := serversOf(k.journal.Datadir, k.journal.DefaultsFile)
		switch {
		case err != nil || len(pids) > 0: // somebody starts it
			gone = time.Time{}
		case gone.IsZero():
			gone = now()
		case now().Sub(gone) > restartGrace:
			return fmt.Errorf("%w: process %d has ended while it caught up", errServerLost, k.journal.ServerPID)
		}
		return nil
	}
}

// watcher returns what says that the restored server has ended and that nobody
// has started it again: waiting for it to catch up is of no use then. A server
// that can't be seen from here is not watched.
func (r *restoreRun) watcher() func(*server) error {
	var gone time.Time // since when no process is there
	return func(srv *server) error {
		pid := int(srv.pid.Load())
		if pid == 0 || isAlive(pid) {
			gone = time.Time{}
			return nil
		}
		pids, err := serversOf(r.target.layout.datadir, r.target.defaults.Path)
		switch {
		case err != nil || len(pids) > 0: // somebody starts it
			gone = time.Time{}
		case gone.IsZero():
			gone = r.Now()
		case r.Now().Sub(gone) > restartGrace:
			return fmt.Errorf("the server, process %d, has ended while it caught up", pid)
		}
		return nil
	}
}

// processStart identifies a process beyond its number, which comes back: after
// a reboot, and in a container that has only one. "" if it can't be told.
// Source: proc_pid_stat(5), starttime.
func processStart(pid int) string {
	const startTime = 19 // of the fields behind the name
	boot, err1 := os.ReadFile("/proc/sys/kernel/random/boot_id")
	stat, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	fields := bytes.Fields(rest)
	if err1 != nil || err2 != nil || len(fields) <= startTime {
		return ""
	}
	return string(bytes.TrimSpace(boot)) + " " + string(fields[startTime])
}
