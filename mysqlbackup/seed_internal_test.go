package mysqlbackup

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What a restore has left that was killed together with its fenced server is
// removed, and nothing of a restore or of a server that lives.
func TestSweepFenced(t *testing.T) {
	parent, err := os.MkdirTemp("", "sweep") // a short path, for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(parent) })
	t.Setenv("TMPDIR", parent)
	fence := func(killed bool) *scratch {
		t.Helper()
		s, err := makeScratch(parent, fencedPrefix)
		if err == nil {
			err = os.WriteFile(s.path("log.err"), nil, 0o600)
		}
		if err == nil && killed {
			err = s.lock.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	living, dead, listening, started := fence(false), fence(true), fence(true), fence(true)
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "unix", listening.path("sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := exec.CommandContext(t.Context(), "sh", "-c", "read line", "mysqld", "--socket="+started.path("sock"))
	input, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	older := filepath.Join(parent, fencedPrefix+"7") // of a program that made no locks: nobody knows
	if err := os.Mkdir(older, 0o700); err != nil {
		t.Fatal(err)
	}
	r := &restoreRun{RestoreOptions: RestoreOptions{Progress: &quiet{}}}
	r.sweepFenced(t.Context())
	for name, folder := range map[string]string{"living": living.folder, "listening": listening.folder, "started": started.folder, "older": older} {
		if !exists(folder) {
			t.Errorf("%s: it was removed", name)
		}
	}
	if exists(dead.folder) || exists(dead.lock.Name()) {
		t.Error("what is dead is still there")
	}
	err = errors.Join(living.lock.Close(), listener.Close(), input.Close())
	_ = server.Wait() // read fails
	if err != nil {
		t.Fatal(err)
	}
	r.sweepFenced(t.Context())
	if left, err := os.ReadDir(parent); err != nil || len(left) != 1 {
		t.Errorf("at the end: %v, %v", left, err)
	}
}

// When the fence is made the files have been written: nothing is refused any more.
func TestNoRoomForFence(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "gone"))
	r := &restoreRun{target: &target{}}
	if fence, err := r.fencedFolder(); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("got %v, %v", fence, err)
	}
}
