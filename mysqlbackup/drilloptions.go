package mysqlbackup

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// optionFile is the text of a drill's my.cnf on the way. Whatever the files of
// a backup need to be read is taken from its manifest.
type optionFile struct {
	lines []string
	names map[string]bool // canonical
	err   error           // the first of a value that a file of options can't hold
}

// maxOption bounds a line of an option file, in bytes: servers read lines of 4,096,
// and take what is longer for the next line.
const maxOption = 4000

// set adds an option; a value of "" is an option without one.
func (f *optionFile) set(name, value string) {
	if f.names == nil {
		f.names = map[string]bool{}
	}
	f.names[canonical(name)] = true
	f.write(name, value)
}

func (f *optionFile) write(name, value string) {
	line := name
	if strings.ContainsFunc(value, unicode.IsControl) {
		f.fail("%s is %q in the backup: no option has such a value", name, value)
		return
	}
	if value != "" {
		escaped := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value)
		line += `="` + escaped + `"`
	}
	if len(line) > maxOption {
		f.fail("%s would have %d bytes, of which a server reads %d: %.100q…", name, len(line), maxOption, value)
		return
	}
	f.lines = append(f.lines, line)
}

func (f *optionFile) fail(format string, args ...any) {
	f.err = cmp.Or(f.err, refuse(format, args...))
}

var (
	optionPattern = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9_-]*)(=[^\x00\r\n]*)?$`)
	// fixedOptions are those of the fence, which the drill gives as arguments.
	fixedOptions = regexp.MustCompile(`^(user|socket|port|bind_address|pid_file|log_error|skip_networking|skip_grant_tables|skip_replica_start|` +
		`skip_slave_start|event_scheduler|mysqlx.*|admin_.*|init_file|extra_port|report_.*|plugin_load_add_.*)$`)
)

// CheckDrillOption refuses what is no option, NAME or NAME=VALUE, or one that
// would open the drill's fence.
func CheckDrillOption(text string) error {
	parts := optionPattern.FindStringSubmatch(text)
	if parts == nil {
		return fmt.Errorf("%q is no option NAME=VALUE", text)
	}
	if fixedOptions.MatchString(bareOption(parts[1])) {
		return fmt.Errorf("option %s is part of the fence of a drill", parts[1])
	}
	return nil
}

// bareOption is an option's name without what may stand before it.
func bareOption(name string) string {
	name = strings.TrimPrefix(canonical(name), "loose_")
	if rest, ok := strings.CutPrefix(name, "disable_"); ok {
		return rest
	}
	return strings.TrimPrefix(name, "enable_")
}

// add adds what the operator wants besides.
func (f *optionFile) add(options []string) error {
	for _, option := range options {
		if err := CheckDrillOption(option); err != nil {
			return as(ErrRefused, err)
		}
		name, value, _ := strings.Cut(option, "=")
		if bare := bareOption(name); f.names[bare] || f.names[strings.TrimPrefix(bare, "skip_")] || f.names["skip_"+bare] {
			if !isTuning(bare) {
				return refuse("option %s is set by what the backup needs", name)
			}
		}
		f.write(name, value) // plugin_load_add, say, may come again
	}
	return nil
}

// isTuning tells the options that have a value which the operator may change.
func isTuning(name string) bool {
	return slices.Contains([]string{"innodb_buffer_pool_size", "key_buffer_size", "performance_schema", "max_connections", "innodb_parallel_read_threads", "aria_pagecache_buffer_size"}, name)
}

var (
	recordedDataFile = regexp.MustCompile(`^[^:;/]+:[0-9]+[KMGkmg]?(:(?i:autoextend)(:max:[0-9]+[KMGkmg]?)?)?$`)
	recordedGTIDMode = regexp.MustCompile(`^([0-3]|(ON|OFF)(_PERMISSIVE)?)?$`)
	recordedLog      = regexp.MustCompile(`^[^./][^/]*$`)
)

// checkRecorded refuses what a record says of a server and no server says of
// itself. All of it that comes into an option file is among it, but for numbers
// and the names of folders.
func checkRecorded(s *manifest.Server) error {
	for part := range strings.SplitSeq(bareDataFiles(s.InnoDBDataFilePath), ";") {
		if !recordedDataFile.MatchString(strings.TrimSpace(part)) {
			return refuse("the backup says of innodb_data_file_path that it was %q", s.InnoDBDataFilePath)
		}
	}
	if !recordedGTIDMode.MatchString(s.GTIDMode) {
		return refuse("the backup says of gtid_mode that it was %q", s.GTIDMode)
	}
	if s.LogBin != "" && !recordedLog.MatchString(filepath.Base(string(s.LogBin))) {
		return refuse("the backup says of log_bin that it was %q", s.LogBin)
	}
	if datadir := string(s.DataDir); !filepath.IsAbs(datadir) || filepath.Clean(datadir) != datadir {
		return refuse("the backup says of datadir that it was %q", s.DataDir)
	}
	return nil
}

// writeOptions writes the option file of a drill and makes the folders that
// the server does not.
func (d *drillRun) writeOptions(files []manifest.File) error {
	m := d.chosen
	if err := checkRecorded(&m.Server); err != nil {
		return err
	}
	var f optionFile
	f.set("datadir", d.scratch.datadir())
	f.set("tmpdir", d.scratch.path("tmp"))
	f.set("lc_messages", "en_US") // what CHECK TABLE says is read
	f.set("innodb_page_size", fmt.Sprint(m.Server.PageSize))
	f.set("innodb_data_file_path", bareDataFiles(m.Server.InnoDBDataFilePath))
	f.set("lower_case_table_names", fmt.Sprint(m.Server.LowerCaseTableNames))
	d.setFolders(&f)
	f.set("server_id", fmt.Sprint(d.serverID))
	f.set("report_host", "shardseed-drill")
	for _, option := range [][2]string{
		{"innodb_doublewrite", "OFF"},
		{"innodb_flush_log_at_trx_commit", "0"},
		{"sync_binlog", "0"}, // nothing of it is kept
		{"innodb_buffer_pool_size", "256M"},
		{"key_buffer_size", "16M"},
		{"performance_schema", "OFF"},
		{"max_connections", "100"},
		{"skip_name_resolve", ""},
		{"loose_innodb_use_native_aio", "OFF"}, // the host's fs.aio-max-nr is for its own servers: one that finds none left does not start
	} {
		f.set(option[0], option[1])
	}
	if m.Server.Flavor == replication.MySQL {
		d.setMySQL(&f, files)
	} else {
		d.setMariaDB(&f, files)
	}
	if os.Geteuid() == 0 && d.owner.uid == 0 {
		f.set("user", "root")
	}
	if err := f.add(d.opts.Options); err != nil {
		return err
	}
	if f.err != nil {
		return f.err
	}
	text := "[mysqld]\n" + strings.Join(f.lines, "\n") + "\n"
	return d.makeScratch(text)
}

func (d *drillRun) setMySQL(f *optionFile, files []manifest.File) {
	f.set("innodb_parallel_read_threads", "1") // several tables are checked at once instead
	f.set("secure_file_priv", "NULL")
	f.set("skip_log_bin", "")
	if mode := d.chosen.Server.GTIDMode; mode != "" {
		f.set("gtid_mode", mode)
		f.set("enforce_gtid_consistency", "ON")
	}
	if folders := d.searched(files); len(folders) > 0 {
		if slices.ContainsFunc(folders, func(folder string) bool { return strings.Contains(folder, ";") }) {
			f.fail("the backup has tablespaces in %q, of which innodb_directories can't tell one", folders)
		}
		f.set("innodb_directories", strings.Join(folders, ";"))
	}
}

// searched returns the external folders in which MySQL must look for
// tablespaces: not those that symbolic links lead to, or it finds these twice.
func (d *drillRun) searched(files []manifest.File) []string {
	sources, linked := map[string]string{}, map[string]bool{}
	for _, root := range d.chosen.Roots {
		sources[root.Name] = string(root.Path)
	}
	for i := range files {
		linked[string(files[i].Target)] = true
	}
	var folders []string
	for i := range files {
		source := sources[files[i].Root]
		folder, external := d.external[source]
		path := string(files[i].Path)
		if ext := filepath.Ext(path); external && (ext == ".ibd" || ext == ".ibu") && !linked[source] && !linked[filepath.Join(source, path)] {
			folders = append(folders, folder)
		}
	}
	slices.Sort(folders)
	return slices.Compact(folders)
}

var undoSpace = regexp.MustCompile(`^undo[0-9]{3}$`)

func (d *drillRun) setMariaDB(f *optionFile, files []manifest.File) {
	undos := 0
	for i := range files {
		if files[i].Root == rootUndo && undoSpace.MatchString(string(files[i].Path)) {
			undos++
		}
	}
	f.set("innodb_undo_tablespaces", fmt.Sprint(undos))
	f.set("aria_pagecache_buffer_size", "32M")
	f.set("log_slave_updates", "")
	if base := filepath.Base(string(d.chosen.Server.LogBin)); d.chosen.Server.LogBin != "" { // its state is part of the position
		f.set("log_bin", d.scratch.path("binlog", base))
	}
}

// setFolders says where InnoDB's and Aria's files go: each root that lies in the
// source's data directory to the same place in the drill's, others to folders
// beside it. External folders keep their last name: MySQL opens a tablespace only
// in a folder that is called as its database.
func (d *drillRun) setFolders(f *optionFile) {
	source := string(d.chosen.Server.DataDir)
	d.external = map[string]string{}
	options := map[string]string{
		rootHome: "innodb_data_home_dir", rootRedo: "innodb_log_group_home_dir", rootUndo: "innodb_undo_directory", rootAria: "aria_log_dir_path",
	}
	for _, root := range d.chosen.Roots {
		folder := d.scratch.path("roots", root.Name)
		if isBelow(source, string(root.Path)) {
			folder = filepath.Join(d.scratch.datadir(), mustRel(source, string(root.Path)))
		}
		switch option, ok := options[root.Name]; {
		case root.Name == rootDatadir || root.Name == rootBinlog:
		case ok:
			f.set(option, folder)
			d.folders = append(d.folders, folder)
		default:
			if !isBelow(source, string(root.Path)) {
				folder = filepath.Join(folder, filepath.Base(string(root.Path)))
			}
			d.external[string(root.Path)] = folder
		}
	}
}

// makeScratch makes the folders and the option file, for the server's user.
func (d *drillRun) makeScratch(options string) error {
	for _, name := range []string{"", "run", "tmp", "binlog", "roots"} {
		path := d.scratch.path(name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			return fmt.Errorf("make the scratch folder: %w", err)
		}
		if err := os.Chown(path, d.owner.uid, d.owner.gid); err != nil {
			return fmt.Errorf("make the scratch folder: %w", err)
		}
	}
	file, err := os.OpenFile(d.cnf(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the drill's option file: %w", err)
	}
	_, err = file.WriteString(options)
	if err == nil {
		err = file.Chown(d.owner.uid, d.owner.gid)
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write the drill's option file: %w", err)
	}
	return nil
}

func (d *drillRun) cnf() string { return d.scratch.path("my.cnf") }

// freeServerID draws a server_id that neither the primary nor a replica of it
// has: two replicas of one server_id throw each other out.
func freeServerID(random uint32, taken []uint32) uint32 {
	const above = 1 << 31 // where people rarely number servers
	id := above | random
	for slices.Contains(taken, id) || id == math.MaxUint32 {
		id = above | (id+1)%above
	}
	return id
}
