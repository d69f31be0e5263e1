package mysqlbackup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup/innodb"
	"github.com/shardseed/shardseed/replication"
)

// checkRedoFormat refuses a server whose redo log is of a format that can't be
// decoded: a clean stop could not be proved. It may be called while the server
// runs.
func checkRedoFormat(l *layout) error {
	_, err := innodb.ReadRedo(l.folders[rootRedo], l.flavor == replication.MariaDB)
	if errors.Is(err, innodb.ErrRedoFormat) {
		return refuse("%v", err)
	}
	return nil // of a running server nothing else can be told
}

// proveCleanStop looks at the files of a server that has ended and returns
// which signs say that it was shut down in order. All signs must agree. What
// the pages say comes with the copy: see [proveByPages].
func proveCleanStop(l *layout) (manifest.CleanStop, error) {
	proof := manifest.CleanStop{Signals: []string{"the system tablespace was not locked"}}
	var r refusals
	removed := l.tempFiles
	if l.flavor == replication.MariaDB {
		removed = append(slices.Clone(removed), filepath.Join(l.datadir, "ddl_recovery.log"))
	}
	for _, path := range removed {
		there, err := isThere(path)
		if err != nil {
			return proof, unprovable(err)
		}
		if there {
			r.add("%s is there, which a shutdown removes", path)
		}
	}
	left, err := leftInTemp(l.tempFolder)
	if err != nil {
		return proof, unprovable(err)
	}
	if left != "" {
		r.add("%s is there, which a shutdown empties", left)
	}
	redo, err := innodb.ReadRedo(l.folders[rootRedo], l.flavor == replication.MariaDB)
	switch {
	case isOfSystem(err):
		return proof, unprovable(err)
	case err != nil:
		r.addErr(err)
	case !redo.Clean:
		r.add("the redo log must be replayed: %s", redo.Why)
	case l.flavor == replication.MySQL:
		err := checkFlushLSN(l, redo.CheckpointLSN)
		if isOfSystem(err) {
			return proof, unprovable(err)
		}
		r.addErr(err)
	}
	if err := r.err(); err != nil {
		return proof, hint.Wrap(fmt.Errorf("the server was not stopped in order: %w", err),
			"start the server, let it recover, and stop it with innodb_fast_shutdown at 0 or 1")
	}
	proof.LSN = redo.CheckpointLSN
	proof.Signals = append(proof.Signals, "no temporary tablespaces were left",
		fmt.Sprintf("the redo log (%s) ends at its checkpoint, LSN %d", redo.Format, redo.CheckpointLSN))
	if l.flavor == replication.MySQL {
		proof.Signals = append(proof.Signals, "the flush LSN is that of the checkpoint")
	}
	return proof, nil
}

func unprovable(err error) error {
	return fmt.Errorf("see whether the server was stopped in order: %w", err)
}

// checkFlushLSN compares the LSN that MySQL writes into the system tablespace
// when it stops with the redo log's checkpoint.
func checkFlushLSN(l *layout, checkpoint uint64) (err error) {
	file, err := os.Open(l.systemFiles[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	head := make([]byte, innodb.HeaderSize)
	if _, err := file.ReadAt(head, 0); err != nil {
		return err
	}
	flushed, err := innodb.FlushLSN(head)
	if err != nil {
		return err
	}
	if flushed != checkpoint {
		return fmt.Errorf("%s says that the server was stopped at LSN %d, the redo log's checkpoint is %d", file.Name(), flushed, checkpoint)
	}
	return nil
}

// proveByPages completes the proof with the highest LSN of all pages copied.
func proveByPages(proof *manifest.CleanStop, files []manifest.File) error {
	for i := range files {
		if files[i].LSN > proof.LSN {
			return fmt.Errorf("the server was not stopped in order: a page of %s has LSN %d, the redo log ends at %d",
				files[i].Path, files[i].LSN, proof.LSN)
		}
	}
	proof.Signals = append(proof.Signals, "no page is newer")
	proof.Proved = true
	return nil
}

// exists tells whether something is at the path, as far as it can be seen.
func exists(path string) bool {
	there, _ := isThere(path)
	return there
}

// isThere tells whether something is at the path.
func isThere(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	return err == nil, err
}

// leftInTemp returns a file in the folder of temporary tablespaces, "" if
// there is none.
func leftInTemp(folder string) (string, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil || len(entries) == 0 {
		return "", err
	}
	return filepath.Join(folder, entries[0].Name()), nil
}
