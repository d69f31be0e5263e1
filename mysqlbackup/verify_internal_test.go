package mysqlbackup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

func TestJudgeCheck(t *testing.T) {
	row := func(kind, text string) map[string]string {
		return map[string]string{"Msg_type": kind, "Msg_text": text}
	}
	for name, c := range map[string]struct {
		rows []map[string]string
		want tableState
		text string
	}{
		"OK":                     {[]map[string]string{row("status", "OK")}, tableOK, ""},
		"MyISAM, checked before": {[]map[string]string{row("status", "Table is already up to date")}, tableOK, ""},
		"OK with a warning":      {[]map[string]string{row("warning", "1 client is using or hasn't closed the table properly"), row("status", "OK")}, tableOK, "1 client is using or hasn't closed the table properly"},
		"MySQL":                  {[]map[string]string{row("Warning", "InnoDB: The B-tree of index PRIMARY is corrupted."), row("error", "Corrupt")}, tableBad, "InnoDB: The B-tree of index PRIMARY is corrupted.; Corrupt"},
		"corrupt":                {[]map[string]string{row("error", "Size of datafile is: 1"), row("status", "Corrupt")}, tableBad, "Size of datafile is: 1; Corrupt"},
		"operation failed":       {[]map[string]string{row("Error", "Table 'a.b' doesn't exist"), row("status", "Operation failed")}, tableBad, "Table 'a.b' doesn't exist; Operation failed"},
		"no such engine":         {[]map[string]string{row("Error", "Unknown storage engine 'ARCHIVE'"), row("status", "Operation failed")}, tableUnchecked, "Unknown storage engine 'ARCHIVE'"},
		"no check":               {[]map[string]string{row("note", "The storage engine for the table doesn't support check")}, tableUnchecked, "The storage engine for the table doesn't support check"},
		"one partition is bad":   {[]map[string]string{row("error", "Partition p1 returned error"), row("status", "Corrupt")}, tableBad, "Partition p1 returned error; Corrupt"},
		"nothing":                {nil, tableBad, "the server said nothing"},
	} {
		if state, text := judgeCheck(c.rows); state != c.want || text != c.text {
			t.Errorf("%s: got %d, %q, want %d, %q", name, state, text, c.want, c.text)
		}
	}
}

func TestFreeServerID(t *testing.T) {
	for _, c := range []struct {
		random uint32
		taken  []uint32
		want   uint32
	}{
		{5, nil, 1<<31 | 5},
		{1<<31 | 5, nil, 1<<31 | 5},
		{5, []uint32{1<<31 | 5, 1<<31 | 6}, 1<<31 | 7},
		{1<<32 - 1, nil, 1 << 31},
		{1<<32 - 2, []uint32{1<<32 - 2}, 1 << 31},
	} {
		if got := freeServerID(c.random, c.taken); got != c.want {
			t.Errorf("%d, taken %d: got %d, want %d", c.random, c.taken, got, c.want)
		}
	}
}

func TestCheckDrillOption(t *testing.T) {
	for _, option := range []string{"innodb_buffer_pool_size=1G", "skip-log-bin", "early-plugin-load=keyring_file.so", `plugin_load_add=a b"c\d#`, "x="} {
		if err := CheckDrillOption(option); err != nil {
			t.Error(err)
		}
	}
	for _, option := range []string{
		"", "=1", "a b", "-x=1", "a=1\nport=3306", "a=\x00", "port=1", "PORT=1", "bind-address=0.0.0.0", "skip_networking", "skip-networking=OFF", "loose-port=1",
		"disable-skip-grant-tables", "enable_event-scheduler", "mysqlx-port=1", "admin_address=::", "socket=/x", "init-file=/x", "user=x", "extra_port=4",
	} {
		if err := CheckDrillOption(option); err == nil {
			t.Errorf("%q: no error", option)
		}
	}
}

// TestDrillOptions: what the file says is read back as it was meant, and puts
// all folders of the source below the scratch folder.
func TestDrillOptions(t *testing.T) {
	s, err := newScratch(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d := &drillRun{
		scratch: s, serverID: 7,
		opts: VerifyOptions{Options: []string{"plugin_load_add=first", `plugin_load_add=a b"c\d#e`, "innodb-buffer-pool-size=1G"}},
		restoreRun: restoreRun{chosen: &manifest.Manifest{
			Server: manifest.Server{
				Flavor: replication.MariaDB, DataDir: "/var/lib/my#sql", PageSize: 4096, LowerCaseTableNames: 1,
				InnoDBDataFilePath: "/ssd/ibdata1:12M;/ssd/ibdata2:10M:autoextend", LogBin: "/logs/bin",
			},
			Roots: []manifest.Root{
				{Name: rootBinlog, Path: "/logs"},
				{Name: rootDatadir, Path: "/var/lib/my#sql"},
				{Name: "external-1", Path: "/ssd/extra"},
				{Name: rootHome, Path: "/ssd"},
				{Name: rootUndo, Path: "/var/lib/my#sql/undo"},
			},
		}},
	}
	d.owner.uid, d.owner.gid = os.Geteuid(), os.Getegid()
	files := []manifest.File{{Root: rootUndo, Path: "undo001"}, {Root: rootUndo, Path: "undo002"}, {Root: rootDatadir, Path: "undo003"}}
	if err := d.writeOptions(files); err != nil {
		t.Fatal(err)
	}
	defaults, err := ReadDefaults(d.cnf())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"datadir": s.path("data"), "innodb_data_home_dir": s.path("roots", rootHome), "innodb_undo_directory": s.path("data", "undo"),
		"innodb_data_file_path": "ibdata1:12M;ibdata2:10M:autoextend", "innodb_page_size": "4096", "lower_case_table_names": "1",
		"innodb_undo_tablespaces": "2", "log_bin": s.path("binlog", "bin"), "server_id": "7",
		"plugin_load_add": `a b"c\d#e`, "innodb_buffer_pool_size": "1G", "innodb_use_native_aio": "OFF",
	} {
		if got, _ := defaults.Option(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := d.external["/ssd/extra"]; got != s.path("roots", "external-1", "extra") {
		t.Errorf("external folders go to %v", d.external)
	}
	for _, option := range []string{"datadir=/x", "loose-innodb-page-size=8192", "log-bin=/x", "skip-log-bin"} {
		var f optionFile
		f.set("datadir", "/d")
		f.set("innodb_page_size", "4096")
		f.set("log_bin", "b")
		if err := f.add([]string{option}); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", option, err)
		}
	}
}

// TestScratch: what is locked is somebody's, what is not is a remnant.
func TestScratch(t *testing.T) {
	parent := t.TempDir()
	d := new(drillRun)
	d.owner.uid = os.Geteuid()
	var all []*scratch
	for range 3 {
		s, err := newScratch(parent)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(s.path("data", "db"), 0o700); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if swept, err := d.sweepScratch(t.Context(), parent); err != nil || len(swept) > 0 {
		t.Errorf("of living drills, swept %q, %v", swept, err)
	}
	if err := all[0].lock.Close(); err != nil { // as when it is killed
		t.Fatal(err)
	}
	if err := all[1].unlock(); err != nil { // as when it is kept
		t.Fatal(err)
	}
	swept, err := d.sweepScratch(t.Context(), parent)
	if err != nil || fmt.Sprint(swept) != fmt.Sprint([]string{all[0].folder}) || exists(all[0].folder) || !exists(all[1].path("data", "db")) || !exists(all[2].path("data", "db")) {
		t.Errorf("swept %q, %v", swept, err)
	}
	if err := all[2].remove(); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(parent, "*")); err != nil || len(left) != 1 || left[0] != all[1].folder {
		t.Errorf("left are %q, %v", left, err)
	}
	if _, err := newScratch("/" + strings.Repeat("x", maxScratch)); !errors.Is(err, ErrRefused) {
		t.Errorf("long path: %v", err)
	}
}

// Who may write where scratch folders are cannot have a drill touch other folders.
func TestScratchOfOthers(t *testing.T) {
	d := new(drillRun)
	d.owner.uid = os.Geteuid()
	parent, precious := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(precious, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(parent, scratchPrefix+"1")
	target := filepath.Join(precious, "lock")
	if err := errors.Join(
		os.Symlink(precious, folder), os.WriteFile(folder+lockSuffix, nil, 0o600), // a folder elsewhere
		os.WriteFile(target, nil, 0o600), os.Symlink(target, filepath.Join(parent, scratchPrefix+"2"+lockSuffix)), // a lock elsewhere
		unix.Mkfifo(filepath.Join(parent, scratchPrefix+"3"+lockSuffix), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	swept, err := d.sweepScratch(t.Context(), parent)
	if err != nil || len(swept) > 0 || !exists(folder) || !exists(filepath.Join(precious, "data")) {
		t.Errorf("swept %q, %v", swept, err)
	}
	foreign, err := newScratch(parent)
	if err != nil {
		t.Fatal(err)
	}
	if err := foreign.lock.Close(); err != nil {
		t.Fatal(err)
	}
	d.owner.uid++
	if os.Geteuid() == 0 { // a lock of ours, and somebody else's folder in the place of the one it had
		if err := os.Chown(foreign.folder, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if swept, err := d.sweepScratch(t.Context(), parent); err != nil || len(swept) > 0 || !exists(foreign.folder) {
			t.Errorf("swept %q, %v", swept, err)
		}
	}
}

func TestFitsVersion(t *testing.T) {
	m := &manifest.Manifest{Server: manifest.Server{Flavor: replication.MySQL, Version: "8.4.3"}}
	for program, ok := range map[replication.Version]bool{
		{Flavor: replication.MySQL, Major: 8, Minor: 4, Patch: 3}:      true,
		{Flavor: replication.MySQL, Major: 9, Minor: 7, Patch: 4}:      true,
		{Flavor: replication.MySQL, Major: 8, Minor: 0, Patch: 36}:     false,
		{Flavor: replication.MariaDB, Major: 10, Minor: 11, Patch: 10}: false,
	} {
		if err := fitsVersion(m, program); ok != (err == nil) || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", program, err)
		}
	}
}
