package mysqlbackup_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/replication"
)

// TestRestoreForAnotherUser restores as root for a server that runs as nobody:
// the files are nobody's, the server is started as nobody, and a backup of it
// starts it as nobody again.
func TestRestoreForAnotherUser(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		s.backUp(t)
		target := mysqltest.New(t, flavor, mysqltest.Options{})
		uid := giveTo(t, target.Dir, "nobody")
		opts := s.restoreOptions(t, target)
		opts.Owner = "nobody"
		mustRestore(t, opts)
		target.WaitForReplica(t, s.primary)
		checkOwner(t, target.Datadir, uid)
		checkRunsAs(t, target, uid)
		s.mustBackUp(t, s.backupOptions(t, target))
		checkRunsAs(t, target, uid)
	})
}

// giveTo makes a user the owner of all below dir, and returns the user's ID.
func giveTo(t *testing.T, dir, name string) int {
	t.Helper()
	account, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, -1)
	}); err != nil {
		t.Fatal(err)
	}
	return uid
}

// checkOwner verifies whose everything below dir is. A server that runs there
// may remove files of its own meanwhile.
func checkOwner(t *testing.T, dir string, uid int) {
	t.Helper()
	seen := 0
	if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var stat syscall.Stat_t
		if err == nil {
			err = syscall.Lstat(path, &stat)
		}
		if errors.Is(err, fs.ErrNotExist) && path != dir {
			return nil
		}
		seen++
		if err == nil && int(stat.Uid) != uid {
			t.Errorf("%s belongs to user %d, want %d", path, stat.Uid, uid)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	if seen < 20 {
		t.Errorf("%s has %d files and folders, which is no data directory", dir, seen)
	}
}

// checkRunsAs verifies whose process a server is.
func checkRunsAs(t *testing.T, srv *mysqltest.Server, uid int) {
	t.Helper()
	var stat syscall.Stat_t
	if err := syscall.Stat(fmt.Sprintf("/proc/%d", srv.PID()), &stat); err != nil {
		t.Fatal(err)
	}
	if int(stat.Uid) != uid {
		t.Errorf("the server runs as user %d, want %d", stat.Uid, uid)
	}
}
