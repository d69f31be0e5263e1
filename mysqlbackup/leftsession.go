package mysqlbackup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/durable"
)

// leftSession is a note on this host of the session that a run has begun, one for
// each data directory and repository, until the run has a journal or the session
// has ended. A run that is killed before leaves nothing else. The next run on the data
// directory, which has the lock of it, ends the session. It is a convenience:
// garbage collection would wait for signs of life and then do so.
type leftSession struct {
	Version int     `json:"version"`
	Backup  cas.Key `json:"backup"`
	PID     int     `json:"pid"`
}

const leftSessionVersion = 1

func (b *backupRun) leftSessionPath() string {
	return filepath.Join(b.StateDir, "session-"+noteName(b.layout.datadir)+"-"+b.Store.Repo.UUID().String()+".json")
}

// noteSession writes the note.
func (b *backupRun) noteSession() {
	data, err := json.Marshal(leftSession{leftSessionVersion, b.record.Key(), os.Getpid()})
	if err == nil {
		err = durable.OS().MkdirAll(b.StateDir, 0o700)
	}
	if err == nil {
		err = durable.OS().Replace(b.leftSessionPath(), data, 0o600)
	}
	if err != nil {
		b.Progress.Warn(fmt.Sprintf("should this run be killed early, the next prune waits for %s before it ends its backup: %v", cas.DefaultStaleAfter, err))
	}
}

// dropNote removes the note of the session.
func (b *backupRun) dropNote() error {
	err := durable.OS().Remove(b.leftSessionPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// endLeftSession ends the session of a run that was killed.
func (b *backupRun) endLeftSession(ctx context.Context) {
	data, err := os.ReadFile(b.leftSessionPath())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var left leftSession
	if err == nil {
		err = json.Unmarshal(data, &left)
	}
	if err == nil && left.Version != leftSessionVersion {
		err = fmt.Errorf("the note's version is %d, this program knows %d", left.Version, leftSessionVersion)
	}
	if err == nil {
		err = b.Store.Repo.EndSession(ctx, left.Backup, fmt.Sprintf("its process %d was killed", left.PID))
	}
	if err == nil {
		err = b.dropNote()
	}
	if err != nil {
		b.Progress.Warn(fmt.Sprintf("the next prune waits for %s before it ends the backup of an earlier run: %v", cas.DefaultStaleAfter, err))
	}
}
