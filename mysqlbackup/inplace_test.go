package mysqlbackup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/throttle"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// content describes all below a folder: kinds and modes, what files hold and
// where links lead to.
func content(dir string) (map[string]string, error) {
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if filepath.Ext(path) == ".isl" {
				data = bytes.ReplaceAll(data, []byte(dir), []byte("$"))
			}
			text += fmt.Sprintf(" %d %s", len(data), cas.Sum(data).Short())
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += " -> " + strings.ReplaceAll(target, dir, "$")
		}
		all[strings.TrimPrefix(path, dir)] = text
		return nil
	})
	return all, err
}

// small makes a data directory with every kind of thing in it, none large.
func small(t testing.TB, f folders) {
	t.Helper()
	writePages(t, f.data+"/ibdata1", 0, 12)
	tree(t, f.data, "db/", "empty/", "ib_logfile0", "aria_log_control", "mysql/x.frm", "binlog.state", "db/t.isl", "link->"+f.dir+"/ext")
	tree(t, f.dir, "undo/undo001", "ext/sub/", "ext/in", "far/db/t.ibd")
	writeText(t, f.data+"/ib_logfile0", string(noise(t, 99, 3*testChunk)))
	writeText(t, f.data+"/db/t.isl", f.dir+"/far/db/t.ibd")
	writePages(t, f.dir+"/far/db/t.ibd", 7, 3)
	const leaf = testChunk * cas.NodeFanout
	for i, size := range []int{0, 1, testChunk - 1, testChunk, 3*testChunk + 1, leaf + 2*testChunk + 5} {
		writeText(t, fmt.Sprintf("%s/db/size%d.MYD", f.data, size), string(noise(t, byte(i), size)))
	}
	writeText(t, f.data+"/db/zeros", string(make([]byte, 3*testChunk)))
	writeHoles(t, f.data+"/db/hole", 1<<20, nil)
	writeHoles(t, f.data+"/db/holes", 1<<20+1, map[int64][]byte{0: noise(t, 50, 1), 64 << 10: noise(t, 51, testChunk*3), 1 << 20: noise(t, 52, 1)})
	for name, mode := range map[string]os.FileMode{"db/size1.MYD": 0o600, "db/zeros": 0o444, "db": 0o750, "empty": 0o500, "mysql": 0o711} {
		if err := os.Chmod(filepath.Join(f.data, name), mode); err != nil {
			t.Fatal(err)
		}
	}
}

// edit is a change of old files that a restore in place has to undo. It gets the
// folder of all, the path of a file or folder in it, bytes, and an offset.
type edit struct {
	name string
	do   func(dir, path string, data []byte, at int64) error
}

func writeInto(path string, data []byte, at int64) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(data, at)
	return errors.Join(err, file.Close())
}

func edits() []edit {
	return []edit{
		{"write", func(_, path string, data []byte, at int64) error { return writeInto(path, data, at) }},
		{"write zeros", func(_, path string, data []byte, at int64) error {
			return writeInto(path, make([]byte, 8*len(data)), at)
		}},
		{"truncate", func(_, path string, _ []byte, at int64) error { return os.Truncate(path, at) }},
		{"remove", func(_, path string, _ []byte, _ int64) error { return os.RemoveAll(path) }},
		{"chmod", func(_, path string, _ []byte, at int64) error {
			if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeSymlink != 0 {
				return err // it leads to the folder of a root, whose mode is the operator's
			}
			return os.Chmod(path, os.FileMode(at&0o777))
		}},
		{"add a file", func(_, path string, data []byte, _ int64) error { return os.WriteFile(path+".new", data, 0o600) }},
		{"add a folder", func(_, path string, _ []byte, _ int64) error { return os.MkdirAll(path+".new/x", 0o700) }},
		{"add a link", func(dir, path string, _ []byte, _ int64) error { return os.Symlink(dir+"/outside", path+".link") }},
		{"put a file in place", func(_, path string, data []byte, _ int64) error {
			return errors.Join(os.RemoveAll(path), os.WriteFile(path, data, 0o644))
		}},
		{"put a folder in place", func(_, path string, data []byte, _ int64) error {
			return errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o755), os.WriteFile(path+"/x", data, 0o644))
		}},
		{"put a link to a file in place", func(dir, path string, _ []byte, _ int64) error {
			return errors.Join(os.RemoveAll(path), os.Symlink(dir+"/outside/file", path))
		}},
		{"put a link to a folder in place", func(dir, path string, _ []byte, _ int64) error {
			return errors.Join(os.RemoveAll(path), os.Symlink(dir+"/outside", path))
		}},
		{"put another name of a file in place", func(dir, path string, _ []byte, _ int64) error {
			return errors.Join(os.RemoveAll(path), os.Link(dir+"/outside/file", path))
		}},
		{"give it another name", func(dir, path string, _ []byte, _ int64) error { return os.Link(path, dir+"/outside/name") }},
	}
}

// halting is a Progress that ends a run when some bytes are done.
type halting struct {
	quiet
	left atomic.Int64
	halt func()
}

func (h *halting) Advance(n int64) {
	if h.left.Add(-n) < 0 {
		h.halt()
	}
	h.quiet.Advance(n)
}

// onto is a place with old files and the backup that is restored onto them.
type onto struct {
	*restored
	want map[string]string // what a restore into empty folders makes
}

func (o *onto) run(ctx context.Context) error {
	if err := o.a.target.takeOver(marker{Stage: stageWriting}, o.files); err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	if err := o.a.writeFiles(ctx, o.files); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return errors.Join(o.a.finish(), o.a.target.checkRelease(), o.a.target.release(), unmark(o.data))
}

// A restore onto whatever lies in a data directory gives what a restore into an
// empty one does, also when it was ended somewhere and is run again; nothing
// outside is touched.
func TestInPlace(t *testing.T) {
	f := newFolders(t)
	small(t, f)
	l := f.layout(t, replication.MariaDB, mariaDBLines()...)
	selected := selectAll(t, l)
	v := newVault(t, testChunk)
	entries := copyAll(t, v.copier(l, 3), selected.files)
	lines := []string{"log-bin=binlog", "innodb-undo-directory=$/undo"}
	whole := newRestored(t, v, l, selected, entries, lines...)
	whole.write(t)
	want, err := content(whole.dir)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		o := &onto{newRestored(t, v, l, selected, entries, lines...), want}
		defer func() { rt.Log(os.RemoveAll(o.dir)) }()
		o.a.inPlace = true
		o.a.target.setWritten(o.files) // as the preflight does
		if rapid.Bool().Draw(rt, "restored before") {
			if err := o.run(t.Context()); err != nil {
				rt.Fatal(err)
			}
		}
		outside := o.spoil(t, rt)
		if rapid.Bool().Draw(rt, "ended") {
			o.end(t, rt, rapid.Int64Range(0, 8<<20).Draw(rt, "after"))
		}
		if err := o.run(t.Context()); err != nil {
			rt.Fatal(err)
		}
		got, err := content(o.dir)
		if err != nil {
			rt.Fatal(err)
		}
		for path := range got {
			if isBelow("/outside", path) || others.MatchString(path) {
				delete(got, path)
			}
		}
		if diff := cmp.Diff(o.want, got); diff != "" {
			rt.Fatalf("restored (-into an empty place +in place):\n%s", diff)
		}
		o.checkHoles(rt)
		now, err := content(o.dir + "/outside")
		if diff := cmp.Diff(outside, now); err != nil || diff != "" {
			rt.Fatalf("%v; outside (-before +after):\n%s", err, diff)
		}
	})
}

// others are files that an edit has put beside those of the backup, outside of
// the data directory: they are not the server's, and stay.
var others = regexp.MustCompile(`^/(external-[0-9]|undo)/[^/]*\.(new|link)(/|$)`)

// spoil changes the old files and returns what is outside then.
func (o *onto) spoil(t *testing.T, rt *rapid.T) map[string]string {
	tree(t, o.dir, "outside/dir/")
	writeText(t, o.dir+"/outside/file", strings.Repeat("x", 2*testChunk))
	kinds := edits()
	for range rapid.IntRange(0, 12).Draw(rt, "edits") {
		paths := o.paths(t)
		path := rapid.SampledFrom(paths).Draw(rt, "path")
		e := kinds[rapid.IntRange(0, len(kinds)-1).Draw(rt, "edit")]
		rt.Log(e.name, path)
		data := rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(rt, "data")
		_ = e.do(o.dir, path, data, rapid.Int64Range(0, 1<<20).Draw(rt, "at")) // not everything can be done to everything
	}
	outside, err := content(o.dir + "/outside")
	if err != nil {
		rt.Fatal(err)
	}
	return outside
}

// paths lists what may be spoiled: all in the data directory and, as far as the
// backup has it, outside.
func (o *onto) paths(t *testing.T) []string {
	var paths []string
	for _, path := range listed(t, o.dir) {
		top, _, below := strings.Cut(path, "/")
		ours := top == "undo" && path == "undo/undo001" || top != "undo" && top != "outside"
		if below && ours && filepath.Base(path) != markerName {
			paths = append(paths, filepath.Join(o.dir, path))
		}
	}
	return append(paths, o.data+"/more")
}

// end runs the restore until some bytes are done. What it leaves has no redo log
// and is marked.
func (o *onto) end(t *testing.T, rt *rapid.T, after int64) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h := &halting{halt: cancel}
	h.left.Store(after)
	o.a.progress = h
	defer func() { o.a.progress = &o.progress }()
	if err := o.a.target.takeOver(marker{Stage: stageWriting}, o.files); err != nil {
		rt.Fatal(err)
	}
	_ = o.a.writeFiles(ctx, o.files) // it may be done before it is ended
	if exists(o.data+"/ib_logfile0") || checkUnfinished(o.data) == nil {
		rt.Fatal("ended, and a server could start on it")
	}
}

// checkHoles wants files that are nothing but holes to be so.
func (o *onto) checkHoles(rt *rapid.T) {
	for path, most := range map[string]int64{"db/hole": 0, "db/holes": 6 * testChunk} {
		info, err := os.Stat(filepath.Join(o.data, path))
		if err != nil {
			rt.Fatal(err)
		}
		if blocks := blocksIn(info); blocks > most+4<<10 {
			rt.Fatalf("%s takes %d bytes", path, blocks)
		}
	}
}

// What is there already is not written, and of what differs only the chunks that
// do.
func TestInPlaceCounts(t *testing.T) {
	f := newFolders(t)
	small(t, f)
	l := f.layout(t, replication.MariaDB, mariaDBLines()...)
	selected := selectAll(t, l)
	v := newVault(t, testChunk)
	entries := copyAll(t, v.copier(l, 3), selected.files)
	var total int64
	for i := range entries {
		total += entries[i].Size
	}
	r := newRestored(t, v, l, selected, entries, mariaDBLines()...)
	o := &onto{r, nil}
	o.a.inPlace = true
	count := func(want [2]int64) {
		t.Helper()
		o.a.written.Store(0)
		o.a.kept.Store(0)
		o.progress = quiet{}
		if err := o.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		o.progress.check(t)
		if got := [2]int64{o.a.written.Load(), o.a.kept.Load()}; got != want {
			t.Errorf("%v bytes were written and kept, want %v", got, want)
		}
	}
	if err := o.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	isl := int64(len(f.dir + "/far/db/t.ibd")) // leads elsewhere now, and is written again
	count([2]int64{isl, total - isl})
	big := o.data + "/db/size4202501.MYD"
	before, err := os.Stat(big)
	if err != nil {
		t.Fatal(err)
	}
	for at, data := range map[int64][]byte{0: {1}, 5 * testChunk: make([]byte, testChunk), 4202500: {3}} {
		if err := writeInto(big, data, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(big, before.ModTime(), before.ModTime()); err != nil { // nothing is believed of times
		t.Fatal(err)
	}
	if err := writeInto(o.data+"/db/hole", []byte{1}, 9*testChunk); err != nil {
		t.Fatal(err)
	}
	if err := writeInto(o.data+"/db/zeros", []byte{1}, testChunk); err != nil {
		t.Fatal(err)
	}
	changed := isl + 2*testChunk + 5 + 2*testChunk // two chunks and the last one, and two of zeros
	count([2]int64{changed, total - changed})
}

// What is read of the repository and of old files, and what is written, passes
// at the rates given.
func TestRestoreLimits(t *testing.T) {
	f := newFolders(t)
	writePages(t, f.data+"/ibdata1", 0, 2)
	tree(t, f.data, "ib_logfile0")
	const size = 256 * testChunk // 1 MiB
	writeText(t, f.data+"/db/noise", string(noise(t, 1, size)))
	writeText(t, f.data+"/db/more", string(noise(t, 2, size))) // what passes last is not waited for, and there are several workers
	l := f.layout(t, replication.MariaDB)
	selected := selectAll(t, l)
	v := newVault(t, testChunk)
	entries := copyAll(t, v.copier(l, 2), selected.files)
	for name, c := range map[string]struct {
		read, write int64
		old         bool          // is all there
		least       time.Duration // it may always take longer
	}{
		"reading":                {4 << 20, 0, false, 200 * time.Millisecond},
		"writing":                {0, 4 << 20, false, 200 * time.Millisecond},
		"reading old files":      {2 << 20, 0, true, 400 * time.Millisecond},
		"nothing to write there": {0, 1, true, 0}, // it would take days
	} {
		t.Run(name, func(t *testing.T) {
			o := &onto{newRestored(t, v, l, selected, entries), nil}
			o.a.inPlace, o.a.workers = c.old, 1 // the largest file first
			if c.old {
				if err := o.run(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			start := time.Now()
			o.a.reads, o.a.writes = throttle.New(c.read, time.Now), throttle.New(c.write, time.Now)
			o.a.reader.Limit(o.a.reads.Wait)
			if err := o.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took < c.least {
				t.Errorf("took %v, want %v at least", took, c.least)
			}
		})
	}
}

func TestWithholdRedo(t *testing.T) {
	for name, c := range map[string]struct {
		flavor replication.Flavor
		tree   []string
		want   []string // in the folder
		left   []string // beside it
	}{
		"none":           {replication.MySQL, []string{"db/"}, nil, []string{"db"}},
		"MySQL":          {replication.MySQL, []string{"#innodb_redo/#ib_redo1"}, []string{"#innodb_redo", "#innodb_redo/#ib_redo1"}, nil},
		"MariaDB":        {replication.MariaDB, []string{"ib_logfile0"}, []string{"ib_logfile0"}, nil},
		"withheld":       {replication.MariaDB, []string{withheld + "/ib_logfile0"}, []string{"ib_logfile0"}, nil},
		"twice":          {replication.MySQL, []string{"#innodb_redo/new", withheld + "/#innodb_redo/old"}, []string{"#innodb_redo", "#innodb_redo/new"}, nil},
		"MySQL < 8.0.30": {replication.MySQL, []string{"ib_logfile0", "ib_logfile1"}, []string{"ib_logfile0", "ib_logfile1"}, nil},
		"a link":         {replication.MariaDB, []string{"x", "ib_logfile0->x"}, []string{"ib_logfile0"}, []string{"x"}},
		"into a link":    {replication.MariaDB, []string{"x/", "ib_logfile0", withheld + "->x"}, []string{"ib_logfile0"}, []string{"x"}},
		"into a file":    {replication.MariaDB, []string{"ib_logfile0", withheld}, []string{"ib_logfile0"}, nil},
	} {
		f := newFolders(t)
		tree(t, f.data, c.tree...)
		if err := newTestTarget(t, f, c.flavor).withholdRedo(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		want := append([]string{withheld}, c.left...)
		for _, path := range c.want {
			want = append(want, withheld+"/"+path)
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, listed(t, f.data)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Outside of the data directory goes what a server takes for its own, as when it
// is cleared.
func TestTakeOver(t *testing.T) {
	f, place := occupiedTarget(t)
	keep := externalFile()
	undo := manifest.File{Root: rootUndo, Path: "undo_001", Kind: manifest.KindFile, ChunkSize: testChunk}
	table := manifest.File{Root: rootDatadir, Path: "db/t.ibd", Kind: manifest.KindFile, ChunkSize: testChunk}
	redo := manifest.File{Root: rootRedo, Path: "#innodb_redo/#ib_redo1", Kind: manifest.KindFile, ChunkSize: testChunk}
	if err := place.takeOver(marker{Stage: stageWriting}, []manifest.File{table, keep, redo, undo}); err != nil {
		t.Fatal(err)
	}
	want := append(cleared(t, f), "data/"+markerName, "data/db", "data/db/t.ibd", "ext/db", "ext/db/t.ibd",
		"redo/"+withheld, "redo/"+withheld+"/#innodb_redo", "redo/"+withheld+"/#innodb_redo/#ib_redo1", "undo/undo_001")
	slices.Sort(want)
	if diff := cmp.Diff(want, listed(t, f.dir)); diff != "" {
		t.Errorf("taken over (-want +got):\n%s", diff)
	}
	if err := checkUnfinished(f.data); err == nil {
		t.Error("it is not marked")
	}
}

// The place must have room for what a restore in place adds, not for all of it.
func TestInPlaceRoom(t *testing.T) {
	dir := mountTmpfs(t, "4m")
	f := folders{filepath.Dir(dir), dir}
	place := newTestTarget(t, f, replication.MariaDB, "datadir="+dir)
	writeText(t, dir+"/a", string(noise(t, 1, 3<<20)))
	file := func(size int64) []manifest.File {
		return []manifest.File{{Root: rootDatadir, Path: "a", Kind: manifest.KindFile, Size: size, ChunkSize: testChunk}}
	}
	opts := &RestoreOptions{InPlace: true, Now: clock}
	if err := place.checkPlace(opts, file(3<<20+512<<10)); err != nil {
		t.Errorf("half a MiB more, where there is one: %v", err)
	}
	if err := place.checkPlace(opts, file(5<<20)); !errors.Is(err, ErrRefused) {
		t.Errorf("two MiB more: %v, want a refusal", err)
	}
	if err := os.Link(dir+"/a", dir+"/b"); err != nil {
		t.Fatal(err)
	}
	if err := place.checkPlace(opts, file(3<<20+512<<10)); err != nil {
		t.Errorf("with two names, both of which go: %v", err)
	}
	place.layout.keys = map[string]bool{dir + "/b": true}
	if err := place.checkPlace(opts, file(3<<20+512<<10)); !errors.Is(err, ErrRefused) {
		t.Errorf("with a name that stays: %v, want a refusal", err)
	}
}

// clear makes zeros where the file system can only write them, too.
func TestClearRange(t *testing.T) {
	for name, dir := range map[string]string{"disk": t.TempDir(), "memory": mountTmpfs(t, "16m")} {
		for _, sparse := range []bool{false, true} {
			data := noise(t, 7, 5<<20)
			path := writeText(t, fmt.Sprintf("%s/f%t", dir, sparse), string(data))
			file, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			w := &fileWrite{entry: &manifest.File{Sparse: sparse}, file: file}
			const start, length = 8 << 10, 4<<20 + 100
			if err := errors.Join(w.clear(start, length), file.Close()); err != nil {
				t.Fatal(err)
			}
			clear(data[start : start+length])
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s, sparse %t: other bytes, %v", name, sparse, err)
			}
			if blocks := blocksOf(t, path); sparse && blocks > 2<<20 || !sparse && blocks < 5<<20 {
				t.Errorf("%s, sparse %t: takes %d bytes", name, sparse, blocks)
			}
		}
	}
}

func blocksIn(info fs.FileInfo) int64 {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1
	}
	return stat.Blocks * 512
}
