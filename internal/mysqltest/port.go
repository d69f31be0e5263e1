package mysqltest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Ports are taken from below the range from which Linux takes the local ports
// of outgoing connections (32768 and up), so that a server that restarts finds
// its port free.
const (
	firstPort = 15000
	lastPort  = 31999
)

// claimPort finds a port that nothing listens on and that no other test has
// claimed. The claim is a lock on a file in dir: it ends when the file is
// closed, at the latest with the process.
func claimPort(ctx context.Context, dir string) (int, *os.File, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return 0, nil, err
	}
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		f, err := lockFile(filepath.Join(dir, strconv.Itoa(port)))
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return 0, nil, err
		}
		if isFree(ctx, port) {
			return port, f, nil
		}
		if err := f.Close(); err != nil {
			return 0, nil, err
		}
	}
	return 0, nil, fmt.Errorf("no free port among %d to %d", firstPort, lastPort)
}

func isFree(ctx context.Context, port int) bool {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", loopback(port))
	return err == nil && l.Close() == nil
}

func loopback(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// lockFile opens the file, making it if need be, and locks it. It returns
// EWOULDBLOCK when somebody else has it locked.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}
