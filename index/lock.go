package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	busyTries = 50                    // to get a lock
	busyPause = 20 * time.Millisecond // between two tries
	maxSeal   = 256                   // bytes
)

// errBusy says that another process, or another open index of this one, holds
// the lock.
var errBusy = errors.New("index file is in use by another run")

// seal is the file that is locked while a database is used and that holds the
// database's size and hash: one open file for both, so that the hash is always
// read and written under the lock. The locks are those of the open file (OFD),
// which change between shared and exclusive without a gap and end with the
// process.
type seal struct {
	file *os.File
}

func openSeal(path string) (*seal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &seal{file: file}, nil
}

// lock takes or changes the lock, at once or not at all: kind is unix.F_RDLCK,
// for any number of holders, or unix.F_WRLCK, for one. A lock that was held
// before stays if errBusy is returned.
func (s *seal) lock(kind int16) error {
	err := unix.FcntlFlock(s.file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Whence: io.SeekStart})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return errBusy
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", s.file.Name(), err)
	}
	return nil
}

// lockSoon is lock, tried for about a second: as long as a small update takes.
func (s *seal) lockSoon(ctx context.Context, kind int16) error {
	ticker := time.NewTicker(busyPause)
	defer ticker.Stop()
	for try := 1; ; try++ {
		err := s.lock(kind)
		if err == nil || !errors.Is(err, errBusy) || try == busyTries {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// read returns what the seal says; "" after clear.
func (s *seal) read() (string, error) {
	text, err := io.ReadAll(io.NewSectionReader(s.file, 0, maxSeal))
	return string(text), err
}

// clear declares the database void.
func (s *seal) clear() error { return s.file.Truncate(0) }

// write declares the database good. It is on disk before.
func (s *seal) write(text string) error {
	if err := s.clear(); err != nil {
		return err
	}
	if _, err := s.file.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	return s.file.Sync()
}

// close ends the lock.
func (s *seal) close() error { return s.file.Close() }
