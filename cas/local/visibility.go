package local

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/internal/durable"
)

// networkDelay is after how long a host at the latest sees what another has
// created through a network file system: Linux' NFS client keeps what it knows of
// a folder for 60 seconds at the most (acdirmax), the others for less.
const networkDelay = 60 * time.Second

// VisibilityDelay returns after how long every host sees what one has created
// below root: at once on file systems that are known to be this host's own, else
// a minute.
func VisibilityDelay(root string) (time.Duration, error) {
	var stat unix.Statfs_t
	call := func() error { return unix.Statfs(root, &stat) }
	if err := durable.Current(func() error { return durable.Uninterrupted(call) }); err != nil {
		return 0, fmt.Errorf("find out the file system of %s: %w", root, err)
	}
	return delayOf(uint32(stat.Type)), nil
}

// delayOf knows file systems by their magic numbers. Those it does not know may
// be shared: NFS, SMB, Ceph, FUSE, GFS2 and so on.
func delayOf(magic uint32) time.Duration {
	const zfs, bcachefs, jfs = 0x2fc12fc1, 0xca451a4e, 0x3153464a
	own := []uint32{
		unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.RAMFS_MAGIC,
		unix.OVERLAYFS_SUPER_MAGIC, unix.REISERFS_SUPER_MAGIC, unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC, zfs, bcachefs, jfs,
	}
	if slices.Contains(own, magic) {
		return 0
	}
	return networkDelay
}
