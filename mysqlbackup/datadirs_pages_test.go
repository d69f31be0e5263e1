package mysqlbackup_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// pageCase is a server of whose tables a page each gets damaged.
type pageCase struct {
	name   string
	flavor replication.Flavor
	cnf    []string
	kinds  map[string]string
	blind  []string // tables in which damage can't be found by us
	unseen []string // tables in which the servers' own program does not find it
}

// TestPageChecks compares what a backup says of every InnoDB file with what
// the servers' own innochecksum says, before and after damage.
func TestPageChecks(t *testing.T) {
	t.Parallel()
	maria := map[string]string{
		"aria": "ENGINE=Aria", "packed": "ENGINE=InnoDB PAGE_COMPRESSED=1", "crypt": "ENGINE=InnoDB ENCRYPTED=YES",
		"crypt_packed": "ENGINE=InnoDB ENCRYPTED=YES PAGE_COMPRESSED=1", "crypt_zip": "ENGINE=InnoDB ENCRYPTED=YES ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4",
	}
	keys := newPlace(t, []string{"keys"})
	for _, c := range []pageCase{
		{name: "crc32", flavor: replication.MySQL, kinds: with(rowFormats(1, 4, 16), mysqlKinds())},
		{
			name: "none", flavor: replication.MySQL, cnf: []string{"innodb_checksum_algorithm=none"}, kinds: rowFormats(8),
			blind: []string{"row_redundant", "row_compact", "row_dynamic", "zip_8", "seed"}, unseen: []string{"row_redundant", "row_compact", "row_dynamic", "zip_8", "seed"},
		},
		{name: "full_crc32", flavor: replication.MariaDB, cnf: mariaDBKeys(t, keys), kinds: with(rowFormats(1, 4, 16), maria)},
		{
			name: "crc32", flavor: replication.MariaDB, cnf: mariaDBKeys(t, newPlace(t, []string{"keys"}), "innodb_checksum_algorithm=crc32"),
			kinds: with(rowFormats(1, 4, 16), maria), blind: []string{"crypt_packed"}, unseen: []string{"packed", "crypt_packed"},
		},
	} {
		t.Run(string(c.flavor)+" "+c.name, func(t *testing.T) { c.run(t) })
	}
}

func (c pageCase) run(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := mysqltest.Start(t, c.flavor, mysqltest.Options{Cnf: c.cnf})
	s.Exec(t, append(createDatabase(), tableKinds(c.kinds)...)...)
	s.Stop(t)
	opts := b.backupOptions(t, s)
	clean, err := mysqlbackup.BackupStopped(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	c.compare(t, s, listFiles(t, b, clean.Manifest))
	damaged := c.damage(t, s)
	marked, err := mysqlbackup.BackupStopped(t.Context(), opts)
	if !errors.Is(err, mysqlbackup.ErrMarked) || marked == nil || marked.Manifest.Good() || marked.Manifest.Marks[0].Kind != manifest.MarkBadPages {
		if len(c.blind) < len(c.kinds) {
			t.Fatalf("damaged: got %+v, %v", marked, err)
		}
	}
	files := listFiles(t, b, marked.Manifest)
	c.compare(t, s, files)
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(string(f.Path)), ".ibd")
		page, ok := damaged[string(f.Path)]
		if f.Pages == nil || !ok {
			continue
		}
		found := f.Pages.Bad == 1 && len(f.Pages.BadPages) == 1 && f.Pages.BadPages[0].Number == page
		if found == slices.Contains(c.blind, name) {
			t.Errorf("%s, page %d damaged: got %+v", f.Path, page, f.Pages)
		}
	}
	c.wantNotChosen(t, b)
}

// wantNotChosen wants a restore to take the backup before the damage.
func (c pageCase) wantNotChosen(t *testing.T, b *bench) {
	t.Helper()
	keys, err := b.repo.Keys(t.Context(), "commerce", "-80")
	if err != nil || len(keys) != 2 {
		t.Fatalf("got %v, %v", keys, err)
	}
	if len(c.blind) > 0 && c.flavor == replication.MySQL {
		return
	}
	target := mysqltest.New(t, c.flavor, mysqltest.Options{Cnf: c.cnf})
	opts := b.restoreOptions(t, target)
	opts.Mode = mysqlbackup.ModeFiles
	result := mustRestore(t, opts)
	if result.Manifest.Key() != keys[0] {
		t.Errorf("restored %s, want %s", result.Manifest.Key(), keys[0])
	}
}

// compare wants the same verdict on each file of both programs.
func (c pageCase) compare(t *testing.T, s *mysqltest.Server, files []manifest.File) {
	t.Helper()
	checked := 0
	for _, f := range files {
		if f.Pages == nil || strings.HasSuffix(string(f.Path), "ibdata2") {
			continue
		}
		name := strings.TrimSuffix(filepath.Base(string(f.Path)), ".ibd")
		good, said := innochecksum(t, c.flavor, filepath.Join(s.Datadir, string(f.Path)))
		checked++
		if name == "ibdata1" && strings.Contains(said, "page::64 invalid") { // of the doublewrite area, which MariaDB's program does not know
			good = true
		}
		ours := f.Pages.Bad == 0
		if slices.Contains(c.blind, name) != slices.Contains(c.unseen, name) || ours == good {
			continue
		}
		t.Errorf("%s: our verdict %+v, innochecksum says good: %t %s", f.Path, f.Pages, good, said)
	}
	if checked < len(c.kinds) {
		t.Errorf("compared %d files", checked)
	}
}

func innochecksum(t *testing.T, flavor replication.Flavor, path string) (good bool, said string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), mysqltest.Program(t, "innochecksum-"+string(flavor)), path).CombinedOutput()
	return err == nil, fmt.Sprintf("%v: %s", err, out)
}

// damage changes a few bytes of the root of the first index of each InnoDB
// table, and returns the pages' numbers by the files' paths in the backup.
func (c pageCase) damage(t *testing.T, s *mysqltest.Server) map[string]uint32 {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.Datadir, "dd", "*.ibd"))
	if err != nil || len(paths) < len(c.kinds)-2 {
		t.Fatalf("%d files: %v", len(paths), err)
	}
	no := uint32(3)
	if c.flavor == replication.MySQL {
		no = 4 // after the dictionary of the table itself
	}
	damaged := map[string]uint32{}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".ibd")
		size := int64(16 << 10)
		if _, err := fmt.Sscanf(name, "zip_%d", &size); err == nil {
			size <<= 10
		} else if name == "crypt_zip" {
			size = 4 << 10
		}
		flip(t, path, int64(no)*size+60)
		damaged[filepath.Join("dd", filepath.Base(path))] = no
	}
	return damaged
}

// flip inverts four bytes of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	bytes := make([]byte, 4)
	if _, err := f.ReadAt(bytes, at); err != nil {
		t.Fatal(err)
	}
	for i := range bytes {
		bytes[i] ^= 0xff
	}
	_, err = f.WriteAt(bytes, at)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
