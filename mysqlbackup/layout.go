package mysqlbackup

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shardseed/shardseed/replication"
)

// The roots of a backup: the folders that a server's options name. A file
// belongs to a root by what it is, not by where it lies, so that a restore
// finds its place on a server whose options differ.
const (
	rootDatadir = "datadir"
	rootHome    = "innodb_home" // files of the system tablespace
	rootRedo    = "redo"
	rootUndo    = "undo"
	rootAria    = "aria_log"
	rootBinlog  = "binlog" // MariaDB: the .state file beside the binary logs
)

// layout is where a server keeps its files, from its options alone.
type layout struct {
	flavor              replication.Flavor
	datadir             string
	folders             map[string]string // root → folder; all of the roots above
	systemFiles         []string          // absolute, in the order of innodb_data_file_path
	dataFilePath        string
	pageSize            int // of InnoDB, bytes
	lowerCaseTableNames int
	binlog              string          // absolute base name; "": off or not known
	relayLog            string          // absolute base name
	binlogIndex         string          // absolute
	relayIndex          string          // absolute
	tempFiles           []string        // absolute: InnoDB's temporary tablespace
	tempFolder          string          // absolute: InnoDB's temporary tablespaces of sessions
	doublewriteFolder   string          // absolute: of MySQL's doublewrite files
	keys                map[string]bool // absolute: files that hold keys
	directories         []string        // absolute: innodb_directories, where MySQL looks for tablespaces
	own                 map[string]bool // absolute: files that belong to the process, such as its log
}

// options gives the value of a server option or variable, "" if it is not set.
type options func(name string) string

// The servers' own values of options that are not set.
const (
	defaultDataFile   = "ibdata1:12M:autoextend"
	defaultTempFolder = "#innodb_temp"
	defaultTempFile   = "ibtmp1:12M:autoextend"
	defaultPageSize   = 16384
)

// optionsOf reads options from a defaults file under the names that variables
// have.
func optionsOf(d *Defaults, flavor replication.Flavor) options {
	return func(name string) string {
		switch name {
		case "log_bin_basename":
			return binlogBase(d, flavor)
		case "relay_log_basename":
			value, _ := d.Option("relay_log")
			return stripExtension(value)
		case "pid_file":
			if value, ok := d.Option("log_basename"); ok && flavor == replication.MariaDB {
				return value + ".pid"
			}
		}
		value, _ := d.Option(name)
		return value
	}
}

// binlogBase: a binary log is on by default on MySQL, off on MariaDB. Without a
// name it is called after the host, on MariaDB after the file of the process ID.
// Source: tried on MySQL 9.7 and MariaDB 10.11.
func binlogBase(d *Defaults, flavor replication.Flavor) string {
	value, isSet, isOff := d.lookup("log_bin")
	switch {
	case isOff:
		return ""
	case value != "":
		return stripExtension(value)
	case isSet:
		return defaultLog(optionsOf(d, flavor), flavor, "-bin")
	case flavor == replication.MySQL:
		return "binlog"
	}
	return ""
}

// stripExtension drops what a server drops from the names of logs: all from
// the first dot on.
func stripExtension(path string) string {
	folder, name := filepath.Split(path)
	name, _, _ = strings.Cut(name, ".")
	return folder + name
}

// defaultLog is the name of a log that has none.
func defaultLog(opts options, flavor replication.Flavor, suffix string) string {
	if pidFile := opts("pid_file"); pidFile != "" && flavor == replication.MariaDB {
		return stripExtension(filepath.Base(pidFile)) + suffix
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return host + suffix
}

// newLayout resolves the options; datadir overrides theirs unless it is "".
func newLayout(flavor replication.Flavor, opts options, datadir string) (*layout, error) {
	if datadir == "" {
		datadir = opts("datadir")
	}
	if datadir == "" {
		return nil, fmt.Errorf("no data directory: the defaults file does not set datadir")
	}
	l := &layout{flavor: flavor, datadir: filepath.Clean(datadir), own: map[string]bool{}}
	if err := l.setNumbers(opts); err != nil {
		return nil, err
	}
	home := l.folder(opts("innodb_data_home_dir"))
	l.folders = map[string]string{
		rootDatadir: l.datadir,
		rootHome:    home,
		rootRedo:    l.folder(opts("innodb_log_group_home_dir")),
		rootUndo:    l.folder(opts("innodb_undo_directory")),
		rootAria:    l.folder(opts("aria_log_dir_path")),
	}
	l.setLogs(opts)
	if err := l.setKeys(opts); err != nil {
		return nil, err
	}
	return l, l.setSystemFiles(opts, home)
}

// covers reports whether a tablespace lies where all is copied but for what is
// temporary.
func (l *layout) covers(path string) bool {
	return isBelow(l.datadir, path) || isBelow(l.tempFolder, path)
}

func (l *layout) folder(path string) string { return within(l.datadir, path) }

func (l *layout) setNumbers(opts options) error {
	l.pageSize = defaultPageSize
	if text := opts("innodb_page_size"); text != "" {
		size, err := parseSize(text)
		if err != nil {
			return fmt.Errorf("innodb_page_size: %w", err)
		}
		l.pageSize = int(size)
	}
	if text := opts("lower_case_table_names"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("lower_case_table_names: %w", err)
		}
		l.lowerCaseTableNames = n
	}
	return nil
}

// setSystemFiles finds the files of the system tablespace. They may be named by
// absolute paths; all of them must lie in one folder.
func (l *layout) setSystemFiles(opts options, home string) error {
	l.dataFilePath = opts("innodb_data_file_path")
	if l.dataFilePath == "" {
		l.dataFilePath = defaultDataFile
	}
	l.systemFiles = dataFiles(home, l.dataFilePath)
	if len(l.systemFiles) == 0 {
		return refuse("innodb_data_file_path %q names no file", l.dataFilePath)
	}
	temp := opts("innodb_temp_data_file_path")
	if temp == "" {
		temp = defaultTempFile
	}
	l.tempFiles = dataFiles(home, temp)
	l.tempFolder = within(l.datadir, defaultTempFolder)
	if folder := opts("innodb_temp_tablespaces_dir"); folder != "" {
		l.tempFolder = l.folder(folder)
	}
	l.doublewriteFolder = home
	if folder := opts("innodb_doublewrite_dir"); folder != "" {
		l.doublewriteFolder = l.folder(folder)
	}
	l.folders[rootHome] = filepath.Dir(l.systemFiles[0])
	for _, path := range l.systemFiles {
		if filepath.Dir(path) != l.folders[rootHome] {
			return refuse("innodb_data_file_path %q has files in several folders", l.dataFilePath)
		}
	}
	return nil
}

// dataFiles returns the paths in "ibdata1:12M;ibdata2:12M:autoextend".
func dataFiles(home, list string) []string {
	var paths []string
	for part := range strings.SplitSeq(list, ";") {
		name, _, _ := strings.Cut(strings.TrimSpace(part), ":")
		if name != "" {
			paths = append(paths, within(home, name))
		}
	}
	return paths
}

// bareDataFiles returns innodb_data_file_path without the files' folders: these
// may differ, the files' order and sizes may not.
func bareDataFiles(list string) string {
	parts := strings.Split(list, ";")
	for i, part := range parts {
		name, size, _ := strings.Cut(strings.TrimSpace(part), ":")
		parts[i] = filepath.Base(name) + ":" + size
	}
	return strings.Join(parts, ";")
}

func (l *layout) setLogs(opts options) {
	relayLog := opts("relay_log_basename")
	if relayLog == "" {
		relayLog = defaultLog(opts, l.flavor, "-relay-bin")
	}
	l.relayLog = l.folder(relayLog)
	l.relayIndex = l.index(opts("relay_log_index"), l.relayLog)
	l.folders[rootBinlog] = l.datadir
	if binlog := opts("log_bin_basename"); binlog != "" {
		l.binlog = l.folder(binlog)
		l.binlogIndex = l.index(opts("log_bin_index"), l.binlog)
		l.folders[rootBinlog] = filepath.Dir(l.binlog)
	}
	for _, name := range []string{
		"pid_file", "socket", "log_error", "slow_query_log_file", "general_log_file", "mysqlx_socket", "master_info_file", "relay_log_info_file",
	} {
		if value := opts(name); value != "" {
			path := l.folder(value)
			l.own[path], l.own[path+".lock"] = true, true
		}
	}
	for folder := range strings.SplitSeq(strings.Trim(opts("innodb_directories"), `"'`), ";") {
		if folder != "" {
			l.directories = append(l.directories, l.folder(folder))
		}
	}
}

// index returns the index of logs: as named, or beside them.
func (l *layout) index(name, base string) string {
	switch {
	case name == "":
		return base + ".index"
	case filepath.Ext(name) == "":
		return l.folder(name + ".index")
	}
	return l.folder(name)
}

// parseSize reads a number with K, M or G behind it, as options have.
func parseSize(text string) (int64, error) {
	shift, digits := 0, text
	for suffix, bits := range map[string]int{"k": 10, "m": 20, "g": 30} {
		if number, ok := strings.CutSuffix(strings.ToLower(text), suffix); ok {
			shift, digits = bits, number
		}
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no size", text)
	}
	return int64(n) << shift, nil
}
