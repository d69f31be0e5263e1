package local

import (
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestVisibilityDelay(t *testing.T) {
	for magic, want := range map[uint32]time.Duration{
		unix.EXT4_SUPER_MAGIC: 0, unix.XFS_SUPER_MAGIC: 0, unix.TMPFS_MAGIC: 0, 0x2fc12fc1: 0,
		unix.NFS_SUPER_MAGIC: networkDelay, unix.SMB2_SUPER_MAGIC: networkDelay, unix.CIFS_SUPER_MAGIC: networkDelay,
		unix.CEPH_SUPER_MAGIC: networkDelay, unix.FUSE_SUPER_MAGIC: networkDelay, 0x12345678: networkDelay,
	} {
		if got := delayOf(magic); got != want {
			t.Errorf("%#x: got %s, want %s", magic, got, want)
		}
	}
	if _, err := VisibilityDelay(t.TempDir()); err != nil {
		t.Errorf("temporary folder: %v", err)
	}
	if _, err := VisibilityDelay(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("missing folder: no error")
	}
}
