package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// target is the place of a restore: a server's configuration, and what lies in
// its folders.
type target struct {
	layout   *layout
	defaults *Defaults
	version  replication.Version
	serverID uint32
	uid, gid int               // of the files
	external map[string]string // root → folder here
	sources  map[string]string // external root → folder on the source
	written  []string          // what the backup has in external folders: paths here, none below another
	freed    map[uint64]int64  // bytes that clearing gives back, by file system
	leftOut  []string          // what the list of files has and no backup: paths here
}

// newTarget reads the target's configuration.
func newTarget(ctx context.Context, opts *RestoreOptions) (*target, error) {
	version, err := programVersion(ctx, opts.Program)
	if err != nil {
		return nil, err
	}
	opts.Server.Defaults = opts.Server.Defaults.For(version)
	t := &target{defaults: opts.Server.Defaults, version: version, external: map[string]string{}, sources: map[string]string{}}
	datadir, err := opts.Server.datadir()
	if err != nil {
		return nil, err
	}
	option := optionsOf(t.defaults, t.version.Flavor)
	if t.layout, err = newLayout(t.version.Flavor, option, datadir); err != nil {
		return nil, refusal(err)
	}
	t.serverID = 1
	if text := option("server_id"); text != "" {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, refuse("server_id in %s: %v", t.defaults.Path, err)
		}
		t.serverID = uint32(id)
	}
	return t, t.setOwner(opts.Owner)
}

// setOwner finds who is to own the files: the named user, the owner of the data
// directory, or, where that is root or not there, the user as whom the defaults
// file lets the server run.
func (t *target) setOwner(name string) error {
	t.uid, t.gid = os.Geteuid(), os.Getegid()
	var stat syscall.Stat_t
	switch err := durable.Uninterrupted(func() error { return syscall.Stat(t.layout.datadir, &stat) }); {
	case err == nil:
		t.uid, t.gid = int(stat.Uid), int(stat.Gid)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("find the owner of %s: %w", t.layout.datadir, err)
	}
	what := "--owner"
	if name == "" && t.uid == 0 {
		name, _ = t.defaults.Option("user")
		what = "user in " + t.defaults.Path
	}
	if name != "" {
		var err error
		if t.uid, t.gid, err = lookupUser(name); err != nil {
			return refuse("%s: %v", what, err)
		}
	}
	return t.checkOwner()
}

// lookupUser returns a user's number and that of his group.
func lookupUser(name string) (uid, gid int, err error) {
	account, err := user.Lookup(name)
	if err != nil {
		account, err = user.LookupId(name)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("there is no user %q", name)
	}
	uid, err1 := strconv.Atoi(account.Uid)
	gid, err2 := strconv.Atoi(account.Gid)
	return uid, gid, errors.Join(err1, err2)
}

func (t *target) checkOwner() error {
	if os.Geteuid() != 0 && t.uid != os.Geteuid() {
		return hint.Wrap(refuse("the files are to belong to user %d, and this runs as user %d", t.uid, os.Geteuid()), "run this as root or as that user")
	}
	return nil
}

// checkIdle refuses a place on which a server works.
func (t *target) checkIdle(ctx context.Context, socket string) error {
	pids, err := serversOf(t.layout.datadir, t.defaults.Path)
	if err != nil {
		return err
	}
	stop := "stop it first; a restore never stops a server"
	if len(pids) > 0 {
		return hint.Wrap(refuse("the server of %s runs: %s", t.layout.datadir, describeProcess(pids[0])), stop)
	}
	if isListening(ctx, socket) {
		return hint.Wrap(refuse("a server listens at %s", socket), stop)
	}
	if there, err := isThere(t.layout.systemFiles[0]); !there {
		return err
	}
	lock, err := lockSpace(ctx, t.layout.systemFiles[0])
	if err != nil {
		return err
	}
	return lock.close()
}

// skipsLTS reports whether an upgrade leaves out MySQL 8.4, without which no
// server goes from 8.0 to 9.
// Source: MySQL 9.7 Reference Manual, "Upgrade Paths".
func skipsLTS(from, to replication.Version) bool {
	return from.Flavor == replication.MySQL && from.Major == 8 && from.Minor < 4 && to.Major > 8
}

// checkVersions refuses a backup on whose files a server of this version can't
// start; false: not even the flavor is the same.
func checkVersions(r *refusals, m *manifest.Manifest, here replication.Version) bool {
	if m.Server.Flavor != here.Flavor {
		r.add("the backup is of a %s server, %s is here", m.Server.Flavor, here)
		return false
	}
	was, err := replication.ParseVersion(m.Server.Version, m.Server.VersionComment)
	r.addErr(err)
	if err == nil && was.Compare(here) > 0 {
		r.add("the backup is of %s, newer than the %s here: servers can't go back", was, here)
	}
	if err == nil && skipsLTS(was, here) {
		r.addHint("restore with MySQL 8.4 first, and upgrade from there", "the backup is of %s: %s can't start on its files", was, here)
	}
	return true
}

// checkServer compares the backup with the configuration of this server.
func (t *target) checkServer(r *refusals, m *manifest.Manifest) {
	if !checkVersions(r, m, t.version) {
		return
	}
	cnf := "set it in " + t.defaults.Path
	if m.Server.PageSize != t.layout.pageSize {
		r.addHint(cnf, "innodb_page_size is %d in the backup, %d here", m.Server.PageSize, t.layout.pageSize)
	}
	if bareDataFiles(m.Server.InnoDBDataFilePath) != bareDataFiles(t.layout.dataFilePath) {
		r.addHint(cnf, "innodb_data_file_path is %q in the backup, %q here", m.Server.InnoDBDataFilePath, t.layout.dataFilePath)
	}
	if m.Server.LowerCaseTableNames != t.layout.lowerCaseTableNames {
		r.addHint(cnf, "lower_case_table_names is %d in the backup, %d here", m.Server.LowerCaseTableNames, t.layout.lowerCaseTableNames)
	}
	if mode, _ := t.defaults.Option("gtid_mode"); t.version.Flavor == replication.MySQL && m.Server.GTIDMode == "ON" && !same(mode, "ON") {
		r.addHint(cnf, "gtid_mode is ON in the backup, not here")
	}
}

// checkRoots finds the place of every root of the backup.
func (t *target) checkRoots(r *refusals, m *manifest.Manifest, mapped map[string]string) {
	for _, root := range m.Roots {
		if _, ok := t.layout.folders[root.Name]; ok {
			continue
		}
		folder, ok := mapFolder(string(root.Path), mapped)
		if !ok {
			r.addHint(fmt.Sprintf("say where they go with --map %s=NEW", root.Path), "the backup has files outside the data directory, in %s", root.Path)
			continue
		}
		if !filepath.IsAbs(folder) {
			r.add("--map leads %s to %q, which is not an absolute path", root.Path, folder)
		}
		t.external[root.Name], t.sources[root.Name] = folder, string(root.Path)
	}
}

// mapFolder applies the longest OLD=NEW that a folder is or lies below.
func mapFolder(folder string, mapped map[string]string) (string, bool) {
	best, place := "", ""
	for old, here := range mapped {
		if old = filepath.Clean(old); isBelow(old, folder) && len(old) > len(best) {
			best, place = old, here
		}
	}
	if best == "" {
		return "", false
	}
	return filepath.Join(place, strings.TrimPrefix(folder, best)), true
}

// folder returns where a root's files go.
func (t *target) folder(root string) (string, bool) {
	if folder, ok := t.layout.folders[root]; ok {
		return folder, true
	}
	folder, ok := t.external[root]
	return folder, ok
}

// startsReadOnly reports whether the options keep writes out.
func (t *target) startsReadOnly() bool {
	for _, name := range []string{varReadOnly, varSuperReadOnly} {
		if value, ok := t.defaults.Option(name); ok && !same(value, "OFF") {
			return true
		}
	}
	return false
}
