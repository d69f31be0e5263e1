package mysqlbackup

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Activity is what the state folder tells of one data directory.
type Activity struct {
	Datadir string    // "": only known while there is something to put back
	Running bool      // a backup, restore or recover works on it now
	PID     int       // its process, or that of the run that was killed; 0: not known
	Backup  string    // key of the backup that is being made, or was; "" if the server was not changed
	Started time.Time // when; zero likewise
	Phase   string    // how far the server was taken aside: fenced, stopped or started; "" likewise
	Drained bool      // it was taken out of serving
}

// Activities returns what goes on, or was left behind, on this host. It takes
// no locks: looking must not make a run fail.
func Activities(stateDir string) ([]Activity, error) {
	locks, err := filepath.Glob(filepath.Join(stateDir, "journal-*.json.lock"))
	if err != nil {
		return nil, err
	}
	var all []Activity
	for _, lock := range locks {
		a, err := activityOf(strings.TrimSuffix(lock, ".lock"))
		if err != nil {
			return nil, err
		}
		if a.Running || a.Phase != "" {
			all = append(all, a)
		}
	}
	return all, nil
}

// ActivityOf returns what goes on in one data directory.
func ActivityOf(stateDir, datadir string) (Activity, error) {
	return activityOf(journalPath(stateDir, datadir))
}

func activityOf(path string) (Activity, error) {
	holder, err := flockHolder(path + ".lock")
	if err != nil {
		return Activity{}, err
	}
	j := journal{path: path}
	if err := j.read(); err != nil {
		return Activity{}, err
	}
	a := Activity{Running: holder != 0, PID: holder, Datadir: j.Datadir, Backup: j.Backup, Started: j.Started, Phase: string(j.Phase), Drained: !j.Serving.isZero()}
	if a.PID == 0 {
		a.PID = j.PID
	}
	return a, nil
}

// flockHolder returns the process that holds a lock on a file, 0 if there is
// none. A process of another namespace is -1.
// Source: proc_locks(5).
func flockHolder(path string) (int, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look for a running backup: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("look for a running backup: %s has no inode", path)
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return 0, fmt.Errorf("look for a running backup: %w", err)
	}
	defer locks.Close() //nolint:errcheck // it was only read
	noted, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("look for a running backup: %w", err)
	}
	lines := bufio.NewScanner(locks)
	for lines.Scan() {
		pid, inode := parseLock(lines.Text())
		if inode == stat.Ino && (pid < 0 || string(noted) == holderNote(pid)) {
			return pid, nil
		}
	}
	return 0, lines.Err()
}

// parseLock reads a line of /proc/locks: the holder, and the inode of the file's
// inode; 0 for anything but flock. The device is not compared: some file systems
// show another one there than to stat, so the holder's own note must agree.
func parseLock(line string) (pid int, inode uint64) {
	var number, kind, mode, access, place string
	if n, err := fmt.Sscan(line, &number, &kind, &mode, &access, &pid, &place); n != 6 || err != nil || kind != "FLOCK" {
		return 0, 0
	}
	parts := strings.Split(place, ":")
	if len(parts) != 3 {
		return 0, 0
	}
	if _, err := fmt.Sscan(parts[2], &inode); err != nil {
		return 0, 0
	}
	if pid == 0 {
		pid = -1
	}
	return pid, inode
}
