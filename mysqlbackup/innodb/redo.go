package innodb

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Redo is what a redo log says about the last stop of its server.
type Redo struct {
	Format        string // "mysql 6" or "mariadb Phys"
	Creator       string // server that made the log, as it named itself
	CheckpointLSN uint64 // newest valid checkpoint
	EndLSN        uint64 // end of what was read as valid: at least the checkpoint, not always the end of the log
	Clean         bool   // nothing has to be replayed
	Why           string // if not Clean: what was found, for people
}

// ErrRedoFormat says that a redo log has a format that is not decoded here,
// or is encrypted. Nothing is known about the stop then.
var ErrRedoFormat = errors.New("redo log format is not supported")

// ReadRedo decodes the redo log in dir, the server's
// innodb_log_group_home_dir (the data directory by default): #innodb_redo in
// it for MySQL 8.0.30 and later, ib_logfile0 for MariaDB 10.8 and later.
//
// A log that needs recovery is no error: see Redo.Clean. Clean is necessary
// for a clean stop but not sufficient: a server that was killed while idle,
// right after a checkpoint, leaves the same log.
//
// It returns an error that wraps [ErrRedoFormat] and names the format for a log that
// is not supported, and another one if there is no log, or it is damaged.
func ReadRedo(dir string, mariadb bool) (Redo, error) {
	return readRedo(os.DirFS(dir), mariadb)
}

func readRedo(fsys fs.FS, mariadb bool) (Redo, error) {
	read := readMySQLRedo
	if mariadb {
		read = readMariaRedo
	}
	r, err := read(fsys)
	if err != nil {
		return Redo{}, fmt.Errorf("read redo log: %w", err)
	}
	return r, nil
}

// replayWhy says that the log does not end at its checkpoint.
func replayWhy(r *Redo) string {
	return fmt.Sprintf("changes after checkpoint %d, up to LSN %d or more, have to be replayed", r.CheckpointLSN, r.EndLSN)
}

// redoBlock is the size of a block, in bytes, of which the last four are the
// CRC-32C of the others. Headers of both servers are such blocks.
const redoBlock = 512

func redoBlockOK(b []byte) bool { return sumOK(b[:redoBlock]) }

// sumOK reports whether the last four bytes are the CRC-32C of the others.
func sumOK(b []byte) bool {
	end := len(b) - 4
	return be32(b[end:]) == crc32c(b[:end])
}

// Fields that the header block of both servers has.
const (
	offRedoFormat  = 0
	offRedoStart   = 8 // LSN of the first byte after the file's header
	offRedoCreator = 16
	redoCreatorLen = 32
)

// creator returns the text that a header block has about its author.
func creator(header []byte) string {
	b := header[offRedoCreator : offRedoCreator+redoCreatorLen]
	for i, c := range b {
		if c < ' ' || c > '~' {
			return string(b[:i])
		}
	}
	return string(b)
}

// redoFile is an open file of a redo log.
type redoFile struct {
	fs.File
	at   io.ReaderAt
	size int64
}

// openRedo opens a file. The caller closes it.
func openRedo(fsys fs.FS, name string) (redoFile, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return redoFile{}, err
	}
	info, err := f.Stat()
	at, ok := f.(io.ReaderAt)
	if err == nil && (!ok || !info.Mode().IsRegular()) {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		return redoFile{}, errors.Join(err, f.Close())
	}
	return redoFile{File: f, at: at, size: info.Size()}, nil
}
