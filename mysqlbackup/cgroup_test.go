package mysqlbackup

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestUnitOfService reads what a process of a unit of systemd 252 was told on
// a machine with both versions of cgroups.
func TestUnitOfService(t *testing.T) {
	t.Parallel()
	text := "9:name=systemd:/system.slice/job.service\n8:pids:/system.slice/job.service\n7:blkio:/\n6:freezer:/\n" +
		"5:devices:/system.slice/job.service\n4:memory:/system.slice/job.service\n3:cpuset:/\n2:cpuacct:/\n1:cpu:/\n0::/system.slice/job.service\n"
	if got := unitOf(text); got != "job.service" {
		t.Errorf("got unit %q, want job.service", got)
	}
	outside := "9:name=systemd:/\n8:pids:/\n4:memory:/process_api/06f679d05080e8fac1dd06d78cfe2351\n1:cpu:/\n0::/\n"
	if got := unitOf(outside); got != "" {
		t.Errorf("got unit %q of a process that is in none", got)
	}
}

// TestIsMain asks a systemctl that does not know, and one that fails.
func TestIsMain(t *testing.T) {
	for _, program := range []string{"/bin/echo", "/bin/false", "/nowhere"} {
		dir := t.TempDir()
		if err := os.Symlink(program, filepath.Join(dir, "systemctl")); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir)
		if isMain(t.Context(), "db.service", os.Getpid()) {
			t.Errorf("by %s: this process is the main one of db.service", program)
		}
	}
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\necho %d\n", os.Getpid())
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if !isMain(t.Context(), "db.service", os.Getpid()) {
		t.Error("this process is not the main one of db.service")
	}
}
