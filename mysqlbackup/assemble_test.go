package mysqlbackup

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
	"github.com/shardseed/shardseed/walk"
)

// restored is a backup and the folders that it goes to.
type restored struct {
	folders
	from   *layout
	files  []manifest.File
	source []sourceFile
	a      *assembler

	progress quiet
}

// newRestored prepares a restore into new folders with the options given;
// external roots go to folders with their names.
func newRestored(t testing.TB, v *vault, from *layout, s *selection, files []manifest.File, lines ...string) *restored {
	t.Helper()
	f := newFolders(t)
	r := &restored{folders: f, from: from, files: files, source: s.files}
	place := newTestTarget(t, f, from.flavor, lines...)
	for _, root := range s.roots {
		if _, ok := place.layout.folders[root.Name]; !ok {
			place.external[root.Name], place.sources[root.Name] = filepath.Join(f.dir, root.Name), string(root.Path)
		}
	}
	if err := errors.Join(place.makeFolders(), place.withhold()); err != nil {
		t.Fatal(err)
	}
	r.a = &assembler{target: place, reader: v.reader(t), workers: 3, progress: &r.progress, roots: s.roots}
	return r
}

func newTestTarget(t testing.TB, f folders, flavor replication.Flavor, lines ...string) *target {
	t.Helper()
	text := strings.ReplaceAll("[mysqld]\ndatadir=$/data\n"+strings.Join(lines, "\n")+"\n", "$", f.dir)
	d := readDefaults(t, text)
	l, err := newLayout(flavor, optionsOf(d, flavor), "")
	if err != nil {
		t.Fatal(err)
	}
	return &target{
		layout: l, defaults: d, version: replication.Version{Flavor: flavor, Major: 10, Minor: 11}, uid: os.Geteuid(), gid: os.Getegid(),
		external: map[string]string{}, sources: map[string]string{},
	}
}

func (r *restored) write(t testing.TB) {
	t.Helper()
	if err := r.a.writeFiles(t.Context(), r.files); err != nil {
		t.Fatal(err)
	}
	r.progress.check(t)
	if err := errors.Join(r.a.finish(), r.a.target.checkRelease(), r.a.target.release()); err != nil {
		t.Fatal(err)
	}
	if n := openFiles(t, r.dir); n != 0 {
		t.Errorf("%d files are open", n)
	}
}

// place is where a file of the source is now.
func (r *restored) place(s *sourceFile) string {
	if s.root == rootBinlog {
		return r.a.target.layout.binlogState()
	}
	folder, _ := r.a.target.folder(s.root)
	return filepath.Join(folder, s.rel)
}

// compare compares what was copied with what was restored.
func (r *restored) compare(t testing.TB) {
	t.Helper()
	for i := range r.source {
		s := &r.source[i]
		path := r.place(s)
		was, err1 := os.Lstat(s.path)
		is, err2 := os.Lstat(path)
		if err := errors.Join(err1, err2); err != nil {
			t.Error(err)
			continue
		}
		if was.Mode() != is.Mode() {
			t.Errorf("%s has mode %s, was %s", path, is.Mode(), was.Mode())
		}
		if s.kind != manifest.KindFile || filepath.Ext(path) == ".isl" {
			continue
		}
		sameContent(t, s.path, path)
		const slack = 4 << 10 // what a file system keeps about extents
		if wasBlocks, isBlocks := blocksOf(t, s.path), blocksOf(t, path); wasBlocks < s.stat.Size && isBlocks > wasBlocks+slack {
			t.Errorf("%s takes %d bytes, took %d", path, isBlocks, wasBlocks)
		}
	}
}

func TestRestoreFiles(t *testing.T) {
	f := newFolders(t)
	synthetic(t, f)
	l := f.layout(t, replication.MariaDB, mariaDBLines()...)
	selected := selectAll(t, l)
	v := newVault(t, testChunk)
	entries := copyAll(t, v.copier(l, 3), selected.files)
	for name, lines := range map[string][]string{
		"same options":    {"log-bin=binlog"},
		"folders outside": {"log-bin=$/logs/other", "innodb-data-home-dir=$/home", "innodb-log-group-home-dir=$/redo", "innodb-undo-directory=$/undo", "aria-log-dir-path=$/aria"},
		"folders inside":  {"log-bin=logs/other", "innodb-data-home-dir=$/data/db", "innodb-log-group-home-dir=redo", "innodb-undo-directory=mysql", "aria-log-dir-path=aria"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRestored(t, v, l, selected, entries, lines...)
			r.write(t)
			r.compare(t)
			for link, want := range map[string]string{"link": r.dir + "/external-2", "db/t.isl": r.dir + "/external-1/t.ibd"} {
				got, err := os.Readlink(r.data + "/" + link)
				if err != nil {
					var text []byte
					text, err = os.ReadFile(r.data + "/" + link)
					got = string(text)
				}
				if err != nil || got != want {
					t.Errorf("%s leads to %q, %v; want %q", link, got, err, want)
				}
			}
			if left := withheldIn(t, r.dir); len(left) > 0 {
				t.Errorf("withheld: %q", left)
			}
		})
	}
}

func withheldIn(t testing.TB, dir string) []string {
	t.Helper()
	var left []string
	for path := range modesOf(t, dir) {
		if filepath.Base(filepath.Dir(path)) == withheld {
			left = append(left, path)
		}
	}
	return left
}

// A binary log that the target does not have needs no state.
func TestRestoreWithoutBinlog(t *testing.T) {
	f := newFolders(t)
	synthetic(t, f)
	l := f.layout(t, replication.MariaDB, mariaDBLines()...)
	selected := selectAll(t, l)
	v := newVault(t, testChunk)
	r := newRestored(t, v, l, selected, copyAll(t, v.copier(l, 1), selected.files))
	if err := r.a.writeFiles(t.Context(), r.files); err != nil {
		t.Fatal(err)
	}
	for path := range modesOf(t, r.dir) {
		if strings.HasSuffix(path, ".state") {
			t.Errorf("%s was written", path)
		}
	}
}

// The redo log appears when all else is durable, not before.
func TestRestoreWithholdsRedo(t *testing.T) {
	for flavor, redo := range map[replication.Flavor]string{replication.MySQL: "#innodb_redo/#ib_redo7", replication.MariaDB: "ib_logfile0"} {
		f := newFolders(t)
		writePages(t, f.data+"/ibdata1", 0, 2)
		tree(t, f.data, redo)
		l := f.layout(t, flavor)
		selected := selectAll(t, l)
		v := newVault(t, testChunk)
		r := newRestored(t, v, l, selected, copyAll(t, v.copier(l, 1), selected.files))
		if err := r.a.writeFiles(t.Context(), r.files); err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(redo, "/")
		if left := withheldIn(t, r.data); exists(r.data+"/"+first) || len(left) != 1 {
			t.Errorf("%s: there before the end; withheld are %q", redo, left)
		}
		if err := errors.Join(r.a.finish(), r.a.target.release()); err != nil {
			t.Fatal(err)
		}
		sameContent(t, f.data+"/"+redo, r.data+"/"+redo)
		if exists(r.a.target.withheldFolder()) {
			t.Errorf("withheld at the end: %q", withheldIn(t, r.data))
		}
	}
}

// Every folder that has got an entry is synced, those inside first.
func TestRestoreSyncsFolders(t *testing.T) {
	f := newFolders(t)
	synthetic(t, f)
	l := f.layout(t, replication.MariaDB, mariaDBLines()...)
	selected := selectAll(t, l)
	v := newVault(t, testChunk)
	r := newRestored(t, v, l, selected, copyAll(t, v.copier(l, 1), selected.files), "log-bin=binlog", "innodb-undo-directory=$/undo")
	if err := r.a.writeFiles(t.Context(), r.files); err != nil {
		t.Fatal(err)
	}
	for i := range r.source {
		if folder := filepath.Dir(r.place(&r.source[i])); !slices.Contains(r.a.folders, folder) {
			t.Errorf("%s is not synced", folder)
		}
	}
}

// A list of files that was made to do harm writes nothing outside the folders.
func TestRestoreHostileFiles(t *testing.T) {
	file := func(root, path string) manifest.File {
		return manifest.File{Root: root, Path: manifest.Path(path), Kind: manifest.KindFile, ChunkSize: testChunk, Mode: 0o644}
	}
	dir := func(root, path string) manifest.File {
		return manifest.File{Root: root, Path: manifest.Path(path), Kind: manifest.KindDir, Mode: 0o755}
	}
	link := func(root, path, target string) manifest.File {
		return manifest.File{Root: root, Path: manifest.Path(path), Kind: manifest.KindSymlink, Target: manifest.Path(target)}
	}
	big := func(size int64) manifest.File {
		f := file(rootDatadir, "big")
		f.Size, f.Sparse = size, true
		return f
	}
	for name, files := range map[string][]manifest.File{
		"path that leads out":              {file(rootDatadir, "../outside/x")},
		"path that leads far out":          {file(rootDatadir, "a/../../outside/x")},
		"folder that leads out":            {dir(rootDatadir, "../outside/x")},
		"unknown root":                     {file("etc", "x")},
		"link that leads out":              {link(rootDatadir, "x", "/ext/../outside/x")},
		"link to the system":               {link(rootDatadir, "x", "/etc/passwd")},
		"relative link":                    {link(rootDatadir, "x", "../../outside")},
		"link in a path that leads out":    {link(rootDatadir, "../outside/x", "/ext/x")},
		"file in a file":                   {file(rootDatadir, "a"), file(rootDatadir, "a/x")},
		"file in a link that comes first":  {link(rootDatadir, "a", "/ext"), file(rootDatadir, "a/x")},
		"file through a link that is here": {file(rootDatadir, "there/x")},
		"folder through a link":            {dir(rootDatadir, "there/x")},
		"file in place of a link":          {file(rootDatadir, "there")},
		"folder in place of a link":        {dir(rootDatadir, "there")},
		"redo through a link":              {file(rootRedo, "../outside/x")},
		"file without a folder":            {file(rootDatadir, "no/x")},
		"folder without a folder":          {dir(rootDatadir, "no/x")},
		"file larger than any":             {big(math.MaxInt64)},
		"many large files":                 {big(math.MaxInt64 - 1), file(rootDatadir, "c")},
		"folder in place of the binlog":    {dir(rootBinlog, "../outside/x"), file(rootDatadir, "../x")},
		"link in place of the binlog":      {link(rootBinlog, "x", "/etc/passwd"), file(rootDatadir, "../x")},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFolders(t)
			v := newVault(t, testChunk)
			place := newTestTarget(t, f, replication.MariaDB, "log-bin=binlog")
			place.external["external-1"] = f.dir + "/ext"
			tree(t, f.dir, "outside/", "ext/", "data/there->../outside")
			before := modesOf(t, f.dir)
			a := &assembler{
				target: place, reader: v.reader(t), workers: 2, progress: &quiet{},
				roots: []manifest.Root{{Name: rootDatadir, Path: "/src"}, {Name: "external-1", Path: "/ext"}},
			}
			if err := a.writeFiles(t.Context(), files); err == nil {
				t.Error("no error")
			}
			after := modesOf(t, f.dir)
			for path := range after {
				if _, was := before[path]; !was && !isBelow("/data", path) {
					t.Errorf("%s was written", path)
				}
			}
			if n := openFiles(t, f.dir); n != 0 {
				t.Errorf("%d files are open", n)
			}
		})
	}
}

func TestMoved(t *testing.T) {
	f := newFolders(t)
	place := newTestTarget(t, f, replication.MariaDB)
	place.external["external-1"], place.external["external-2"] = "/new/one", "/new/two"
	a := &assembler{target: place, roots: []manifest.Root{
		{Name: rootDatadir, Path: "/src"}, {Name: "external-1", Path: "/ext"}, {Name: "external-2", Path: "/ext/two"}, {Name: rootUndo, Path: "/undo"}, {Name: "gone", Path: "/gone"},
	}}
	for path, want := range map[string]string{
		"/src": f.data, "/src/db": f.data + "/db", "/ext": "/new/one", "/ext/x/": "/new/one/x", "/ext/two/x": "/new/two/x", "/ext/../src/x": f.data + "/x",
		"/ext/two/../x": "/new/one/x", "/external": "", "/ext/../etc/passwd": "", "/undo/x": "", "/gone/x": "", "ext": "", "": "", "/": "",
	} {
		got, ok := a.moved(path)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %v; want %q", path, got, ok, want)
		}
	}
}

func TestWriteHoles(t *testing.T) {
	const size = 10 * holeSize
	for name, pieces := range map[string]map[int64][]byte{
		"nothing":              nil,
		"first block":          {0: {1}},
		"last byte":            {size - 1: {1}},
		"middle":               {4*holeSize + 5: {1}},
		"two runs":             {holeSize: noise(t, 1, holeSize), 5 * holeSize: noise(t, 2, 2*holeSize)},
		"all":                  {0: noise(t, 3, size)},
		"a block, and a byte":  {0: noise(t, 4, holeSize), 2 * holeSize: {1}},
		"zeros inside a block": {3 * holeSize: {1, 0, 0, 1}},
	} {
		plain := make([]byte, size-7) // the last block is not whole
		for at, piece := range pieces {
			copy(plain[min(at, int64(len(plain)-1)):], piece)
		}
		for _, sparse := range []bool{false, true} {
			file, err := os.Create(filepath.Join(t.TempDir(), "f"))
			if err != nil {
				t.Fatal(err)
			}
			w := &fileWrite{entry: &manifest.File{Sparse: sparse}, file: file}
			if err := errors.Join(file.Truncate(int64(len(plain)+3)), w.writeAt(plain, 3), file.Close()); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(file.Name())
			if err != nil || !bytes.Equal(got[3:], plain) {
				t.Errorf("%s, sparse %v: written otherwise, %v", name, sparse, err)
			}
		}
	}
}

func TestPieceQueue(t *testing.T) {
	const leaf = testChunk * cas.NodeFanout
	write := func(size int64) *fileWrite {
		return &fileWrite{entry: &manifest.File{Size: size, ChunkSize: testChunk}}
	}
	writes := []*fileWrite{write(2*leaf + 1), write(leaf), write(1), write(0)}
	queue := &pieceQueue{writes: writes}
	var got [][2]int
	for {
		w, n, ok := queue.next()
		if !ok {
			break
		}
		got = append(got, [2]int{slices.Index(writes, w), n})
	}
	if diff := cmp.Diff([][2]int{{0, 0}, {0, 1}, {0, 2}, {1, 0}, {2, 0}, {3, 0}}, got); diff != "" {
		t.Errorf("pieces (-want +got):\n%s", diff)
	}
}

// A damaged chunk is named as such, whichever worker fails first.
func TestRestoreMissingChunk(t *testing.T) {
	f := newFolders(t)
	v := newVault(t, testChunk)
	reader := v.reader(t)
	place := newTestTarget(t, f, replication.MariaDB)
	files := []manifest.File{{
		Root: rootDatadir, Path: "f", Kind: manifest.KindFile, Size: 100 * testChunk * cas.NodeFanout, ChunkSize: testChunk, Recipe: cas.Sum([]byte("x")), Sparse: true,
	}}
	a := &assembler{target: place, reader: reader, workers: 8, progress: &quiet{}}
	err := a.writeFiles(t.Context(), files)
	if !errors.Is(err, cas.ErrNotFound) || !errors.Is(err, cas.ErrCorrupt) || len(hint.Of(err)) != 2 {
		t.Errorf("error %v with hints %v, want damage, what is missing and two hints", err, hint.Of(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	files[0].Recipe, files[0].Path = cas.ID{}, "g"
	files[0].Size = 0
	if err := a.writeFiles(ctx, files); err != nil {
		t.Errorf("an empty file needs no reader: %v", err)
	}
}

// walk.Files takes what seal stores, and refuses what is not that.
func TestReadFiles(t *testing.T) {
	v := newVault(t, testChunk)
	files := make([]manifest.File, 0, 100)
	for i := range 100 {
		name := "f" + strings.Repeat("x", i)
		files = append(files, manifest.File{Root: rootDatadir, Path: manifest.Path(name), Kind: manifest.KindFile, ChunkSize: testChunk, Mode: 0o644})
	}
	var text bytes.Buffer
	if err := manifest.WriteFiles(&text, files); err != nil {
		t.Fatal(err)
	}
	root, err := storeBytes(t.Context(), v.writer, text.Bytes(), testChunk)
	if err != nil {
		t.Fatal(err)
	}
	reader := v.reader(t)
	list := manifest.FileList{Count: 100, Size: int64(text.Len()), ChunkSize: testChunk, Root: root}
	got, err := walk.Files(t.Context(), reader, list)
	if diff := cmp.Diff(files, got); err != nil || diff != "" {
		t.Errorf("%v; files (-want +got):\n%s", err, diff)
	}
	for name, change := range map[string]func(*manifest.FileList){
		"count":         func(l *manifest.FileList) { l.Count++ },
		"shorter":       func(l *manifest.FileList) { l.Size-- },
		"longer":        func(l *manifest.FileList) { l.Size++ },
		"too long":      func(l *manifest.FileList) { l.Size = 4<<30 + 1 },
		"zeros":         func(l *manifest.FileList) { l.Root, l.Size = cas.ID{}, 4<<30 },
		"another chunk": func(l *manifest.FileList) { l.Root = cas.Sum([]byte("x")) },
		"chunk size":    func(l *manifest.FileList) { l.ChunkSize *= 2 },
	} {
		bad := list
		change(&bad)
		if _, err := walk.Files(t.Context(), reader, bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
