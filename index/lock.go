package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/internal/durable"
)

const (
	busyTries = 50                    // to get a lock: a second, as long as a small update takes
	busyPause = 20 * time.Millisecond // between two tries
)

// errBusy says that another process, or another open index of this one, holds
// the lock.
var errBusy = errors.New("index is being written by another run")

// lock locks the file, which is made if need be, in so many tries. The lock is
// that of the open file and ends when it is closed, or with the process. If it is
// taken, lock returns errBusy.
func lock(ctx context.Context, path string, tries int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(busyPause)
	defer ticker.Stop()
	for try := 1; ; try++ {
		err := durable.Uninterrupted(func() error {
			return unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
		})
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
		if try >= tries {
			return nil, errors.Join(errBusy, file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), file.Close())
		case <-ticker.C:
		}
	}
}
