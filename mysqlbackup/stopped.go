package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup/innodb"
	"github.com/shardseed/shardseed/replication"
)

// BackupStopped backs up the files of a server that does not run, or a mounted
// snapshot of one. Nothing is stopped, started or changed. The server must have
// been shut down in order. Its position is not known: the first start of a
// restore tells it. Of opts the fields about replication, put-back and the
// service are not used.
func BackupStopped(ctx context.Context, opts BackupOptions) (_ *BackupResult, err error) {
	b := &backupRun{BackupOptions: opts}
	b.step(StepIdentify, opts.Alias.Short())
	if err := b.identifyFiles(); err != nil {
		return nil, err
	}
	b.step(StepLock, b.layout.systemFiles[0])
	if b.lock, err = lockSpace(ctx, b.layout.systemFiles[0]); err != nil {
		return nil, err
	}
	defer func() {
		if err := b.lock.close(); err != nil { // it goes with the process, and what is published is good
			b.Progress.Warn(err.Error())
		}
	}()
	if err := b.openStore(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.closeStore(ctx)) }()
	if err := b.copyAll(ctx); err != nil {
		return nil, err
	}
	if err := b.publish(ctx); err != nil {
		return nil, err
	}
	result := &BackupResult{Manifest: &b.record}
	if !b.record.Good() {
		return result, b.marked()
	}
	return result, nil
}

// identifyFiles learns from the files what a running server would tell.
func (b *backupRun) identifyFiles() error {
	datadir, err := b.Server.datadir()
	if err != nil {
		return err
	}
	flavor, err := flavorOf(datadir)
	if err != nil {
		return err
	}
	defaults := b.Server.Defaults
	if defaults == nil {
		defaults = &Defaults{}
	}
	opts := optionsOf(defaults.For(replication.Version{Flavor: flavor}), flavor)
	if b.layout, err = newLayout(flavor, opts, datadir); err != nil {
		return refusal(err)
	}
	if b.Server.Defaults == nil {
		if err := b.layout.findBinlog(); err != nil {
			return err
		}
	}
	pids, err := serversOf(datadir, "")
	if err != nil {
		return err
	}
	if len(pids) > 0 {
		return refuse("a server works in %s: %s", datadir, describeProcess(pids[0]))
	}
	var r refusals
	r.addErr(checkUnfinished(datadir))
	r.addErr(checkRedoFormat(b.layout))
	r.addErr(b.layout.checkSystemFiles())
	if err := r.err(); err != nil {
		return err
	}
	if b.spaces, err = b.layout.findTablespaces(); err != nil {
		return err
	}
	return b.describeFiles(opts)
}

// findBinlog finds MariaDB's binary logs by their state, which a shutdown
// writes: without a defaults file it is not known what they are called.
func (l *layout) findBinlog() error {
	if l.flavor != replication.MariaDB {
		return nil
	}
	states, err := list(l.datadir, func(path string) bool { return filepath.Ext(path) == ".state" })
	if err != nil {
		return fmt.Errorf("find the binary logs: %w", err)
	}
	var found []string
	for _, state := range states {
		base := strings.TrimSuffix(state, ".state")
		there, err := isThere(base + ".index")
		if err != nil {
			return fmt.Errorf("find the binary logs: %w", err)
		}
		if there {
			found = append(found, base)
		}
	}
	if len(found) == 1 {
		l.binlog, l.binlogIndex = found[0], found[0]+".index"
	}
	return nil
}

// checkSystemFiles refuses a system tablespace that has more files than
// innodb_data_file_path says, as far as it is known.
func (l *layout) checkSystemFiles() error {
	more, err := list(l.folders[rootHome], func(path string) bool {
		digits, ok := strings.CutPrefix(filepath.Base(path), "ibdata")
		return ok && digits != "" && strings.Trim(digits, "0123456789") == "" && !slices.Contains(l.systemFiles, path)
	})
	if err == nil && len(more) > 0 {
		err = hint.Wrap(fmt.Errorf("%s is not in innodb_data_file_path %q", more[0], l.dataFilePath), "give the server's own defaults file with --defaults-file")
	}
	return err
}

// findTablespaces lists the tablespaces outside the data directory. Without the
// server only the folders that innodb_directories names can be searched, as the
// server itself does when it starts.
func (l *layout) findTablespaces() ([]string, error) {
	var paths []string
	for _, folder := range l.directories {
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			ext := filepath.Ext(path)
			if err == nil && entry.Type().IsRegular() && (ext == ".ibd" || ext == ".ibu") && !l.covers(path) {
				paths = append(paths, path)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("search innodb_directories: %w", err)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}

// datadir returns the instance's data directory.
func (i Instance) datadir() (string, error) {
	if i.Datadir != "" {
		return filepath.Abs(i.Datadir)
	}
	if i.Defaults != nil {
		datadir, _ := i.Defaults.Option("datadir")
		switch {
		case filepath.IsAbs(datadir):
			return filepath.Clean(datadir), nil
		case datadir != "":
			return "", refuse("datadir in %s is %q, which is not an absolute path", i.Defaults.Path, datadir)
		}
		return "", refuse("the defaults file %s does not say where the data directory is", i.Defaults.Path)
	}
	return "", refuse("no data directory is given")
}

// flavorOf tells by its files which server a data directory belongs to.
func flavorOf(datadir string) (replication.Flavor, error) {
	for _, sign := range []struct {
		file   string
		flavor replication.Flavor
	}{{"mysql.ibd", replication.MySQL}, {"aria_log_control", replication.MariaDB}, {"mysql/global_priv.MAD", replication.MariaDB}} {
		there, err := isThere(filepath.Join(datadir, sign.file))
		if err != nil {
			return "", fmt.Errorf("find out whose data directory %s is: %w", datadir, err)
		}
		if there {
			return sign.flavor, nil
		}
	}
	return "", refuse("%s is no data directory of MySQL 8 or later, or MariaDB: neither mysql.ibd nor mysql/global_priv.MAD is there", datadir)
}

// describeFiles fills in what the manifest says of the server. The redo log
// names the version that made it.
func (b *backupRun) describeFiles(opts options) error {
	redo, err := innodb.ReadRedo(b.layout.folders[rootRedo], b.layout.flavor == replication.MariaDB)
	if err != nil {
		return refusal(err)
	}
	version, err := versionOfCreator(b.layout.flavor, redo.Creator)
	if err != nil {
		return refusal(err)
	}
	if err := b.layout.readPageSize(); err != nil {
		return refusal(err)
	}
	id, _ := strconv.ParseUint(opts("server_id"), 10, 32) // 0 = not known
	b.record = manifest.Manifest{
		Keyspace: b.Keyspace, Shard: b.Shard, TabletAlias: b.Alias, Host: b.Host, ToolVersion: b.ToolVersion,
		Engine: manifest.EngineStopped, Started: b.Now().UTC(),
		Server: manifest.Server{
			Flavor: b.layout.flavor, Version: version.Text,
			VersionComment: string(b.layout.flavor), // the creator's number alone would be taken for MySQL's
			ID:             uint32(id), GTIDMode: strings.ToUpper(opts("gtid_mode")), DataDir: manifest.Path(b.layout.datadir),
			PageSize: b.layout.pageSize, InnoDBDataFilePath: b.layout.dataFilePath, LowerCaseTableNames: b.layout.lowerCaseTableNames,
			LogBin: manifest.Path(b.layout.binlog), RelayLog: manifest.Path(b.layout.relayLog),
		},
	}
	if b.Server.Defaults != nil {
		b.record.MyCnf = manifest.RedactConfig(b.Server.Defaults.Text)
	}
	return nil
}

// versionOfCreator reads "MySQL 9.7.4" or "MariaDB 10.11.11".
func versionOfCreator(flavor replication.Flavor, creator string) (replication.Version, error) {
	fields := strings.Fields(creator)
	if len(fields) == 0 {
		return replication.Version{}, fmt.Errorf("the redo log does not say which server made it")
	}
	version, err := replication.ParseVersion(fields[len(fields)-1], string(flavor))
	if err != nil {
		return version, err
	}
	return version, version.Supported()
}

// readPageSize takes InnoDB's page size from the system tablespace itself.
func (l *layout) readPageSize() error {
	file, err := os.Open(l.systemFiles[0])
	if err != nil {
		return err
	}
	checker, err := innodb.NewChecker(file, l.flavor == replication.MariaDB)
	if err == nil {
		l.pageSize = checker.Space().PageSize
	}
	return errors.Join(err, file.Close())
}
