package mysqlbackup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/internal/hint"
)

// journalVersion is the version of the journals that this program writes.
const journalVersion = 1

// phase is how far a run has taken a server aside.
type phase string

const (
	phaseFenced  phase = "fenced"  // flags and replication may have been changed; the server has not been stopped
	phaseStopped phase = "stopped" // the server has been asked to stop, and not yet started again
	phaseStarted phase = "started" // the server has been started again
	phaseBack    phase = "back"    // the server is as it was, and watched until it has caught up
)

// record is what a journal holds: what is needed to put a server back. It has
// no passwords.
type record struct {
	Version      int               `json:"version"`
	Datadir      string            `json:"datadir"`
	DefaultsFile string            `json:"defaults_file"`
	Socket       string            `json:"socket"`
	Alias        string            `json:"tablet_alias"`
	Backup       string            `json:"backup"`               // key of the backup that was being made
	Repository   string            `json:"repository,omitempty"` // uuid of the one that it was being made in
	PID          int               `json:"pid"`                  // of the shardseed that wrote this
	Started      time.Time         `json:"started"`
	Phase        phase             `json:"phase"`
	Primary      string            `json:"primary"`      // the shard's, when the run began; "" if it was not known
	Saved        serverState       `json:"saved"`        // before anything was changed
	ServerPID    int               `json:"server_pid"`   // process of the server in which Left holds; 0: not known
	ServerStart  string            `json:"server_start"` // of phaseBack: when that process began, see processStart
	Left         map[string]string `json:"left"`         // variables as the run left them, where it knows
	StartFlags   []string          `json:"start_flags"`  // options with which a direct start leaves all to be put back
	Serving      Serving           `json:"serving"`      // how the server was taken out of serving, and is returned
}

// journal is the put-back journal of one data directory: a file in the state
// folder, written before a server is changed and removed when it is put back.
// Whoever holds its lock is the only run on the data directory.
type journal struct {
	path string
	lock *os.File
	record
}

// openJournal locks the journal of a data directory and reads what an earlier
// run left; a journal with an empty Phase says that there is nothing to put
// back. The error is an [ErrBusy] if another run has the lock.
func openJournal(stateDir, datadir string) (_ *journal, err error) {
	if err := durable.OS().MkdirAll(stateDir, 0o700); err != nil {
		return nil, hint.Wrap(fmt.Errorf("make the state folder: %w", err), "give a folder that can be written with --state-dir")
	}
	if _, err := filepath.EvalSymlinks(datadir); err != nil && !errors.Is(err, fs.ErrNotExist) { // it may have another journal
		return nil, fmt.Errorf("find the journal of %s: %w", datadir, err)
	}
	j := &journal{path: journalPath(stateDir, datadir)}
	if j.lock, err = os.OpenFile(j.path+".lock", os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, hint.Wrap(fmt.Errorf("open the journal's lock: %w", err), "give a folder that can be written with --state-dir")
	}
	if err := flock(j.lock); err != nil {
		return nil, errors.Join(j.busy(datadir, err), j.lock.Close())
	}
	if err := j.noteHolder(); err != nil {
		return nil, errors.Join(err, j.lock.Close())
	}
	if err := j.read(); err != nil {
		return nil, errors.Join(err, j.lock.Close())
	}
	return j, nil
}

// journalPath is where the journal of a data directory is.
func journalPath(stateDir, datadir string) string {
	return filepath.Join(stateDir, "journal-"+noteName(datadir)+".json")
}

// noteName is the part of a file's name in the state folder that tells data
// directories apart.
func noteName(datadir string) string {
	sum := blake3.Sum256([]byte(realPath(datadir)))
	return fmt.Sprintf("%x", sum[:8])
}

// flock locks a file. A process that has just been forked, by somebody who held
// the lock and was killed, holds it until it becomes another program: that is
// waited for.
func flock(file *os.File) error {
	const tries, pause = 10, 50 * time.Millisecond
	for try := 1; ; try++ {
		err := durable.Uninterrupted(func() error { return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
		if !errors.Is(err, unix.EWOULDBLOCK) || try == tries {
			return err
		}
		<-time.After(pause)
	}
}

// realPath returns a path without symbolic links, so that a folder has one
// journal whatever it is called. The end of it need not exist.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	parent := filepath.Dir(path)
	if parent == path {
		return path
	}
	return filepath.Join(realPath(parent), filepath.Base(path))
}

// busy says who holds the lock.
func (j *journal) busy(datadir string, cause error) error {
	if !errors.Is(cause, unix.EWOULDBLOCK) {
		return fmt.Errorf("lock the journal: lock %s.lock: %w", j.path, cause)
	}
	holder, err := os.ReadFile(j.path + ".lock")
	if err != nil || len(holder) == 0 {
		holder = []byte("another process")
	}
	return hint.Wrap(as(ErrBusy, fmt.Errorf("another run works on %s: %s", datadir, holder)), "wait for it: the lock goes with its process")
}

// noteHolder writes into the lock file who holds it; for messages only.
func (j *journal) noteHolder() error {
	if err := j.lock.Truncate(0); err != nil {
		return fmt.Errorf("note the lock's holder: %w", err)
	}
	if _, err := j.lock.WriteAt([]byte(holderNote(os.Getpid())), 0); err != nil {
		return fmt.Errorf("note the lock's holder: %w", err)
	}
	return nil
}

// holderNote is what the lock file says of its holder.
func holderNote(pid int) string { return fmt.Sprintf("process %d", pid) }

func (j *journal) read() error {
	data, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	if j.record, err = decodeRecord(data); err != nil {
		return hint.Wrap(fmt.Errorf("read the journal %s: %w", j.path, err),
			"look at the server, put it back by hand, and remove the journal")
	}
	return nil
}

func decodeRecord(data []byte) (record, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, err
	}
	if r.Version != journalVersion {
		return record{}, fmt.Errorf("its version is %d, this program knows %d", r.Version, journalVersion)
	}
	switch r.Phase {
	case phaseFenced, phaseStopped, phaseStarted, phaseBack:
		return r, nil
	}
	return record{}, fmt.Errorf("unknown phase %q", r.Phase)
}

// pending reports whether there is something to put back.
func (j *journal) pending() bool { return j.Phase != "" }

// save writes the record; on return it survives a power cut.
func (j *journal) save() error {
	j.Version = journalVersion
	j.PID = os.Getpid()
	data, err := json.MarshalIndent(&j.record, "", " ")
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if err := durable.OS().Replace(j.path, data, 0o600); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}

// enter records that the server is in a phase before it gets there.
func (j *journal) enter(p phase) error {
	j.Phase = p
	return j.save()
}

// clear removes the record: the server is put back.
func (j *journal) clear() error {
	if !j.pending() {
		return nil
	}
	if err := durable.OS().Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the journal: %w", err)
	}
	j.record = record{}
	return nil
}

// endSession ends the session of the run that left the journal, so that garbage
// collection need not wait for it: whoever holds the journal's lock knows that
// the run's process is gone. In another repository than the run's it does
// nothing. It returns why the session could not be ended.
func (j *journal) endSession(ctx context.Context, repo *cas.Repository) error {
	if repo == nil || j.Repository != repo.UUID().String() {
		return nil
	}
	key, err := cas.ParseKey(j.Backup)
	if err != nil {
		return fmt.Errorf("the journal's backup: %w", err)
	}
	return repo.EndSession(ctx, key, fmt.Sprintf("its process %d was killed", j.PID))
}

// close releases the lock; the record stays if it was not cleared. It is
// released by name: a process that we have just forked holds it, too, and would
// keep it from the next run.
func (j *journal) close() error {
	err := durable.Uninterrupted(func() error { return unix.Flock(int(j.lock.Fd()), unix.LOCK_UN) })
	if err != nil {
		err = fmt.Errorf("unlock the journal: %w", &fs.PathError{Op: "unlock", Path: j.lock.Name(), Err: err})
	}
	return errors.Join(err, j.lock.Close())
}
