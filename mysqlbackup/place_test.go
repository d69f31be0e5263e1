package mysqlbackup

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// listed returns a folder's tree as relative paths, sorted.
func listed(t testing.TB, dir string) []string {
	t.Helper()
	var paths []string
	for path := range modesOf(t, dir) {
		if path != "" {
			paths = append(paths, path[1:])
		}
	}
	slices.Sort(paths)
	return paths
}

// relative names paths from the folder of all.
func (f folders) relative(paths []string) []string {
	var short []string
	for _, path := range paths {
		short = append(short, strings.TrimPrefix(path, f.dir+"/"))
	}
	return short
}

// old makes what an earlier server has left in all of its folders, beside files
// that are not its own.
func old(t testing.TB, f folders) []string {
	t.Helper()
	tree(t, f.dir, "data/ibdata9", "data/db/t.ibd", "data/#innodb_redo/#ib_redo1", "data/lost+found/x", "data/.hidden",
		"home/ibdata1", "home/ibtmp1", "home/mine", "redo/#innodb_redo/#ib_redo1", "redo/ib_logfile0", "redo/"+withheld+"/ib_logfile0", "redo/#innodb_redo"+leaving+"/#ib_redo2", "redo/mine",
		"undo/undo_001", "undo/u.ibu", "undo/mine",
		"logs/bin.000001", "logs/bin.index", "logs/bin.log", "logs/bin-slow.log", "logs/mysql.err", "logs/rel.000001", "logs/rel-ch1.000001", "logs/rel.index", "idx/b.idx", "idx/mine",
		"ext/db/t.ibd", "ext/mine.ibd")
	return []string{
		"innodb-data-home-dir=$/home", "innodb-log-group-home-dir=$/redo", "innodb-undo-directory=$/undo", "log-bin=$/logs/bin", "relay-log=$/logs/rel", "log-bin-index=$/idx/b.idx",
	}
}

// cleared is what old leaves when a restore has cleared the place.
func cleared(t testing.TB, f folders) []string {
	t.Helper()
	return []string{
		"data", "data/lost+found", "data/lost+found/x", "ext", "ext/mine.ibd", "home", "home/mine", "idx", "idx/mine",
		"logs", "logs/bin-slow.log", "logs/bin.log", "logs/mysql.err", "redo", "redo/mine", "undo", "undo/mine",
	}
}

func externalFile() manifest.File {
	return manifest.File{Root: "external-1", Path: "db/t.ibd", Kind: manifest.KindFile, Size: 1, ChunkSize: testChunk}
}

func occupiedTarget(t testing.TB) (folders, *target) {
	t.Helper()
	f := newFolders(t)
	place := newTestTarget(t, f, replication.MySQL, old(t, f)...)
	place.external["external-1"], place.sources["external-1"] = f.dir+"/ext", f.dir+"/ext"
	place.setWritten([]manifest.File{externalFile()})
	return f, place
}

func clock() time.Time { return time.Date(2026, 8, 1, 2, 3, 4, 0, time.UTC) }

func TestOccupied(t *testing.T) {
	f, place := occupiedTarget(t)
	got, err := place.occupied()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"redo/#innodb_redo", "redo/ib_logfile0", // first
		"data/#innodb_redo", "data/.hidden", "data/db", "data/ibdata9", "ext/db", "home/ibdata1", "home/ibtmp1", "idx/b.idx", "logs/bin.000001", "logs/bin.index",
		"logs/rel-ch1.000001", "logs/rel.000001", "logs/rel.index", "redo/#innodb_redo" + leaving, "redo/" + withheld, "undo/u.ibu", "undo/undo_001",
	}
	if diff := cmp.Diff(want, f.relative(got)); diff != "" {
		t.Errorf("occupied (-want +got):\n%s", diff)
	}
}

func TestOccupiedInside(t *testing.T) {
	f := newFolders(t)
	tree(t, f.data, "undo/undo_001", "redo/ib_logfile0", "logs/bin.000001")
	place := newTestTarget(t, f, replication.MariaDB, "innodb-undo-directory=undo", "innodb-log-group-home-dir=redo", "log-bin=logs/bin")
	got, err := place.occupied()
	if diff := cmp.Diff([]string{"data/redo", "data/logs", "data/undo"}, f.relative(got)); err != nil || diff != "" {
		t.Errorf("%v; occupied (-want +got):\n%s", err, diff)
	}
	if _, err := place.clear(&RestoreOptions{Now: clock}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"data", "data/logs", "data/redo", "data/undo"}, listed(t, f.dir)); diff != "" {
		t.Errorf("cleared (-want +got):\n%s", diff)
	}
}

func TestOccupiedErrors(t *testing.T) {
	f := newFolders(t)
	place := newTestTarget(t, f, replication.MySQL)
	place.layout.datadir = f.dir + "/none"
	place.layout.folders[rootUndo] = f.dir + "/none/undo"
	if got, err := place.occupied(); err != nil || len(got) != 0 {
		t.Errorf("no data directory: %q, %v", got, err)
	}
	place.layout.datadir = writeText(t, f.dir+"/file", "x")
	if got, err := place.occupied(); err == nil {
		t.Errorf("a file: %q, want an error", got)
	}
}

func TestClear(t *testing.T) {
	f, place := occupiedTarget(t)
	moved, err := place.clear(&RestoreOptions{Force: true, Now: clock})
	if err != nil || len(moved) > 0 {
		t.Fatalf("moved %q, %v", moved, err)
	}
	if diff := cmp.Diff(cleared(t, f), listed(t, f.dir)); diff != "" {
		t.Errorf("cleared (-want +got):\n%s", diff)
	}
	if _, err := place.clear(&RestoreOptions{Force: true, Now: clock}); err != nil {
		t.Errorf("clear what is clear: %v", err)
	}
}

func TestClearKeepsOld(t *testing.T) {
	f, place := occupiedTarget(t)
	moved, err := place.clear(&RestoreOptions{Force: true, KeepOld: true, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	const stamp = ".before-restore.20260801020304"
	want := []string{"redo" + stamp, "data" + stamp, "ext" + stamp, "home" + stamp, "idx" + stamp, "logs" + stamp, "undo" + stamp}
	if diff := cmp.Diff(want, f.relative(moved)); diff != "" {
		t.Errorf("moved to (-want +got):\n%s", diff)
	}
	all := cleared(t, f)
	for _, path := range []string{
		"data", "data/.hidden", "data/#innodb_redo", "data/#innodb_redo/#ib_redo1", "data/db", "data/db/t.ibd", "data/ibdata9", "ext", "ext/db", "ext/db/t.ibd",
		"home", "home/ibdata1", "home/ibtmp1", "idx", "idx/b.idx", "logs", "logs/bin.000001", "logs/bin.index", "logs/rel-ch1.000001", "logs/rel.000001", "logs/rel.index",
		"redo", "redo/#innodb_redo", "redo/#innodb_redo/#ib_redo1", "redo/#innodb_redo" + leaving, "redo/#innodb_redo" + leaving + "/#ib_redo2",
		"redo/ib_logfile0", "redo/" + withheld, "redo/" + withheld + "/ib_logfile0", "undo", "undo/u.ibu", "undo/undo_001",
	} {
		folder, rest, _ := strings.Cut(path, "/")
		all = append(all, filepath.Join(folder+stamp, rest))
	}
	slices.Sort(all)
	if diff := cmp.Diff(all, listed(t, f.dir)); diff != "" {
		t.Errorf("cleared (-want +got):\n%s", diff)
	}
}

// What an interrupted restore has left is no old server: it is removed, but for
// the mark, which stays until the next one takes its place.
func TestClearUnfinished(t *testing.T) {
	f, place := occupiedTarget(t)
	if err := place.mark(marker{Stage: stageWriting, Backup: "k/-80/a"}); err != nil {
		t.Fatal(err)
	}
	opts := &RestoreOptions{KeepOld: true, Now: clock}
	if err := place.checkPlace(opts, []manifest.File{externalFile()}); err != nil {
		t.Errorf("without force: %v", err)
	}
	if moved, err := place.clear(opts); err != nil || len(moved) > 0 {
		t.Errorf("moved %q, %v; want nothing moved", moved, err)
	}
	want := append(cleared(t, f), "data/"+markerName)
	slices.Sort(want)
	if diff := cmp.Diff(want, listed(t, f.dir)); diff != "" {
		t.Errorf("cleared (-want +got):\n%s", diff)
	}
	if err := errors.Join(place.mark(marker{Stage: stageReleasing, Backup: "k/-80/b"}), checkUnfinished(f.data)); err == nil {
		t.Error("marked, and not unfinished")
	}
	if err := errors.Join(unmark(f.data), checkUnfinished(f.data)); err != nil {
		t.Errorf("unmark: %v", err)
	}
}

// A data directory may be a link, and then stays one.
func TestClearLinkedDatadir(t *testing.T) {
	for _, keep := range []bool{false, true} {
		f := newFolders(t)
		tree(t, f.dir, "disk/mysql/db/t.ibd", "disk/mysql/ext->../elsewhere", "disk/elsewhere/t.ibd", "var->disk/mysql")
		place := newTestTarget(t, f, replication.MariaDB, "datadir=$/var")
		if err := place.checkPlace(&RestoreOptions{Force: true, KeepOld: keep, Now: clock}, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := place.clear(&RestoreOptions{Force: true, KeepOld: keep, Now: clock}); err != nil {
			t.Fatal(err)
		}
		want := []string{"data", "disk", "disk/elsewhere", "disk/elsewhere/t.ibd", "disk/mysql", "var"}
		if keep {
			const stamp = "disk/mysql.before-restore.20260801020304"
			want = append(want, stamp, stamp+"/db", stamp+"/db/t.ibd", stamp+"/ext")
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, listed(t, f.dir)); diff != "" {
			t.Errorf("keep %v: cleared (-want +got):\n%s", keep, diff)
		}
	}
}

func TestMountedDatadir(t *testing.T) {
	dir := mountTmpfs(t, "1m")
	f := folders{filepath.Dir(dir), dir}
	tree(t, dir, "old", "lost+found/")
	place := newTestTarget(t, f, replication.MariaDB, "datadir="+dir)
	opts := &RestoreOptions{Force: true, KeepOld: true, Now: clock}
	if err := place.checkPlace(opts, nil); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "mount point") || len(hint.Of(err)) != 1 {
		t.Errorf("to keep the old files of a mount point: %v, want a refusal", err)
	}
	opts.KeepOld = false
	if err := place.checkPlace(opts, nil); err != nil {
		t.Errorf("to delete them: %v", err)
	}
	if _, err := place.clear(opts); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"lost+found"}, listed(t, dir)); diff != "" {
		t.Errorf("cleared (-want +got):\n%s", diff)
	}
	if err := place.checkPlace(&RestoreOptions{Now: clock}, nil); err != nil {
		t.Errorf("an empty mount point: %v", err)
	}
}

func TestCheckPlaceNotEmpty(t *testing.T) {
	f, place := occupiedTarget(t)
	err := place.checkPlace(&RestoreOptions{Now: clock}, []manifest.File{externalFile()})
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "is not empty") || len(hint.Of(err)) != 1 {
		t.Errorf("error %v with hints %v, want a refusal with a hint", err, hint.Of(err))
	}
	if err := place.checkPlace(&RestoreOptions{Force: true, Now: clock}, []manifest.File{externalFile()}); err != nil {
		t.Errorf("with force: %v", err)
	}
	// Only what the restore would overwrite outside is in the way.
	place = newTestTarget(t, newFolders(t), replication.MySQL)
	place.external["external-1"], place.sources["external-1"] = f.dir+"/ext", f.dir+"/ext"
	if err := place.checkPlace(&RestoreOptions{Now: clock}, []manifest.File{externalFile()}); !errors.Is(err, ErrRefused) {
		t.Errorf("an external file is there: %v, want a refusal", err)
	}
	other := externalFile()
	other.Path = "other/t.ibd"
	if err := place.checkPlace(&RestoreOptions{Now: clock}, []manifest.File{other}); err != nil {
		t.Errorf("another file is there: %v", err)
	}
}

// Room is counted on each file system by itself.
func TestCheckRoom(t *testing.T) {
	small := mountTmpfs(t, "1m")
	f := newFolders(t)
	place := newTestTarget(t, f, replication.MySQL, "innodb-undo-directory="+small+"/a/b")
	file := func(root string, size int64, sparse bool) manifest.File {
		return manifest.File{Root: root, Path: "f", Kind: manifest.KindFile, Size: size, Sparse: sparse}
	}
	freed := map[uint64]int64{}
	for name, c := range map[string]struct {
		files []manifest.File
		want  string
	}{
		"nothing":         {nil, ""},
		"fits":            {[]manifest.File{file(rootDatadir, 5<<20, false), file(rootUndo, 1<<19, false)}, ""},
		"small disk full": {[]manifest.File{file(rootUndo, 2<<20, false)}, small},
		"added up":        {[]manifest.File{file(rootUndo, 1<<19, false), file(rootUndo, 1<<19, false), file(rootUndo, 1, false)}, small},
		"holes":           {[]manifest.File{file(rootUndo, 2<<20, true)}, ""},
		"hostile":         {[]manifest.File{file(rootDatadir, math.MaxInt64, false), file(rootDatadir, math.MaxInt64, false)}, "the backup needs"},
		"unknown root":    {[]manifest.File{file("x", math.MaxInt64, false)}, ""},
	} {
		err := place.checkRoom(c.files, freed)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	path := writeText(t, small+"/old", string(noise(t, 1, 900<<10)))
	full := []manifest.File{file(rootUndo, 1<<19, false)}
	if err := place.checkRoom(full, freed); !errors.Is(err, ErrRefused) {
		t.Errorf("a disk that is full: %v, want a refusal", err)
	}
	addSizes(freed, []string{path, f.dir})
	if err := place.checkRoom(full, freed); err != nil {
		t.Errorf("when the old file goes: %v", err)
	}
}

func TestCheckFindable(t *testing.T) {
	f := newFolders(t)
	table := []manifest.File{externalFile()}
	link := append(slices.Clone(table), manifest.File{Root: rootDatadir, Path: "db", Kind: manifest.KindSymlink, Target: "/src/ext"})
	for name, c := range map[string]struct {
		flavor  replication.Flavor
		files   []manifest.File
		to      string
		lines   []string
		refused bool
	}{
		"same place":              {replication.MySQL, table, "/src/ext", nil, false},
		"elsewhere":               {replication.MySQL, table, "/new/ext", nil, true},
		"elsewhere, searched":     {replication.MySQL, table, "/new/ext", []string{"innodb_directories=/x;/new"}, false},
		"in the data directory":   {replication.MySQL, table, f.data + "/ext", nil, false},
		"elsewhere, through link": {replication.MySQL, link, "/new/ext", nil, false},
		"MariaDB has its own way": {replication.MariaDB, table, "/new/ext", nil, false},
		"no tablespace":           {replication.MySQL, []manifest.File{{Root: "external-1", Path: "x.MYD"}}, "/new/ext", nil, false},
	} {
		place := newTestTarget(t, f, c.flavor, c.lines...)
		place.external["external-1"], place.sources["external-1"] = c.to, "/src/ext"
		err := place.checkFindable(c.files)
		if errors.Is(err, ErrRefused) != c.refused || !c.refused && err != nil || c.refused && !strings.Contains(fmt.Sprint(hint.Of(err)), "innodb_directories") {
			t.Errorf("%s: %v with hints %v, want refused %v", name, err, hint.Of(err), c.refused)
		}
	}
}

func TestSome(t *testing.T) {
	for want, paths := range map[string][]string{
		"": nil, "a": {"/x/a"}, "a, b, c": {"/a", "/b", "/c"}, "a, b, c and 2 more": {"/a", "/b", "/c", "/d", "/e"},
	} {
		if got := some(paths); got != want {
			t.Errorf("some of %q: %q, want %q", paths, got, want)
		}
	}
}

func TestMakeFolders(t *testing.T) {
	f := newFolders(t)
	place := newTestTarget(t, f, replication.MySQL, "datadir=$/a/b/data", "innodb-undo-directory=$/u/v", "log-bin=$/l/bin", "relay-log=$/r/rel")
	place.external["external-1"] = f.dir + "/e"
	place.uid, place.gid = 65534, 65534
	if err := place.makeFolders(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "a/b", "a/b/data", "data", "e", "l", "r", "u", "u/v"}, listed(t, f.dir)); diff != "" {
		t.Errorf("folders (-want +got):\n%s", diff)
	}
	for _, name := range []string{"a", "a/b/data", "u/v", "e"} {
		var stat unix.Stat_t
		if err := unix.Stat(filepath.Join(f.dir, name), &stat); err != nil || stat.Uid != 65534 || stat.Mode&0o777 != 0o750 {
			t.Errorf("%s: %v, owner %d, mode %o", name, err, stat.Uid, stat.Mode)
		}
	}
	if err := os.WriteFile(f.dir+"/file", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	place.external["external-1"] = f.dir + "/file/x"
	if err := place.makeFolders(); err == nil {
		t.Error("a folder below a file was made")
	}
}
