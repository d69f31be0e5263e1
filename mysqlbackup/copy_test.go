package mysqlbackup

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/cas/mem"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
	"github.com/shardseed/shardseed/walk"
)

// quiet is a Progress that keeps warnings and counts bytes.
type quiet struct {
	total    int64
	advanced atomic.Int64
	warned   []string
}

func (q *quiet) Step(string, string)         {}
func (q *quiet) Warn(text string)            { q.warned = append(q.warned, text) }
func (q *quiet) Begin(_ string, total int64) { q.total += total }
func (q *quiet) Advance(n int64)             { q.advanced.Add(n) }
func (q *quiet) End()                        {}
func (q *quiet) check(t testing.TB) {
	t.Helper()
	if n := q.advanced.Load(); n != q.total {
		t.Errorf("progress went to %d of %d bytes", n, q.total)
	}
}

// vault is a repository in memory with an open session.
type vault struct {
	repo    *cas.Repository
	session *cas.Session
	writer  *cas.Writer
}

func newVault(t testing.TB, chunkSize int) *vault {
	t.Helper()
	var backend mem.Backend
	clock := func() time.Time { return time.Unix(1, 0) }
	repo, err := cas.Create(t.Context(), &backend, cas.Config{ChunkSize: chunkSize}, rand.NewChaCha8([32]byte{1}), clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { castest.Check(t, repo, &backend) })
	session, err := repo.Begin(t.Context(), "k/-80/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &vault{repo, session, session.NewWriter(cas.WriterOptions{})}
	t.Cleanup(func() {
		if err := v.writer.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

func (v *vault) copier(l *layout, workers int) *copier {
	return &copier{writer: v.writer, chunkSize: v.repo.ChunkSize(), workers: workers, layout: l, progress: &quiet{}}
}

// reader returns a reader of all that was written.
func (v *vault) reader(t testing.TB) *cas.Reader {
	t.Helper()
	if err := v.writer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	reader := v.repo.NewReader(castest.NewIndex(t, v.repo))
	t.Cleanup(func() {
		if err := reader.Close(); err != nil {
			t.Error(err)
		}
	})
	return reader
}

// writePages writes InnoDB pages without checksums: the first says that it is
// the start of a tablespace.
func writePages(t testing.TB, path string, id uint32, pages int) {
	t.Helper()
	const pageSize = 16384
	data := make([]byte, pages*pageSize)
	for no := range pages {
		page := data[no*pageSize:][:pageSize]
		binary.BigEndian.PutUint32(page, 0xDEADBEEF)
		binary.BigEndian.PutUint32(page[4:], uint32(no))
		binary.BigEndian.PutUint64(page[16:], uint64(1000+no)) // LSN
		binary.BigEndian.PutUint16(page[24:], 6)
		binary.BigEndian.PutUint32(page[34:], id)
		binary.BigEndian.PutUint32(page[pageSize-8:], 0xDEADBEEF)
		binary.BigEndian.PutUint32(page[pageSize-4:], uint32(1000+no))
	}
	binary.BigEndian.PutUint16(data[24:], 8) // the header of a tablespace
	binary.BigEndian.PutUint32(data[38:], id)
	binary.BigEndian.PutUint32(data[38+8:], uint32(pages))
	writeText(t, path, string(data))
}

func noise(t testing.TB, seed byte, size int) []byte {
	t.Helper()
	data := make([]byte, size)
	if _, err := rand.NewChaCha8([32]byte{seed}).Read(data); err != nil {
		t.Fatal(err)
	}
	return data
}

// writeHoles writes pieces at offsets into a file of a size.
func writeHoles(t testing.TB, path string, size int64, pieces map[int64][]byte) {
	t.Helper()
	writeText(t, path, "")
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFile(t, file)
	for at, piece := range pieces {
		if _, err := file.WriteAt(piece, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(file.Truncate(size), file.Sync()); err != nil {
		t.Fatal(err)
	}
}

const testChunk = 4 << 10 // a leaf is 4 MiB

// synthetic makes a data directory with every kind of thing in it.
func synthetic(t testing.TB, f folders) {
	t.Helper()
	writePages(t, f.data+"/ibdata1", 0, 12)
	tree(t, f.data, "db/", "empty/", "ib_logfile0", "aria_log_control", "mysql/x.frm", "binlog.state", "binlog.index", "binlog.000001", "db/t.isl", "link->"+f.dir+"/ext")
	tree(t, f.dir, "undo/undo001", "ext/sub/", "ext/in", "far/db/t.ibd")
	writeText(t, f.data+"/db/t.isl", f.dir+"/far/db/t.ibd")
	writePages(t, f.dir+"/far/db/t.ibd", 7, 3)
	const leaf = testChunk * cas.NodeFanout
	for i, size := range []int{0, 1, testChunk - 1, testChunk, testChunk + 1, readSize - 1, readSize, readSize + 1, leaf - 1, leaf, leaf + 1, 3*leaf + 5} {
		writeText(t, fmt.Sprintf("%s/db/size%d.MYD", f.data, size), string(noise(t, byte(i), size)))
	}
	writeText(t, f.data+"/db/zeros", string(make([]byte, 3*testChunk)))
	writeText(t, f.data+"/db/\xff\xfe name\n.MYD", "not UTF-8")
	writeHoles(t, f.data+"/db/hole", 1<<20, nil)
	writeHoles(t, f.data+"/db/holes", 5<<20+1, map[int64][]byte{0: noise(t, 50, 1), 1 << 20: noise(t, 51, testChunk*3), 5 << 20: noise(t, 52, 1)})
	for name, mode := range map[string]os.FileMode{"db/size1.MYD": 0o600, "db/zeros": 0o444, "db": 0o750, "empty": 0o500, "mysql": 0o711, "mysql/x.frm": 0o640} {
		if err := os.Chmod(filepath.Join(f.data, name), mode); err != nil {
			t.Fatal(err)
		}
	}
}

func selectAll(t testing.TB, l *layout) *selection {
	t.Helper()
	s, err := selectFiles(l, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func copyAll(t testing.TB, c *copier, files []sourceFile) []manifest.File {
	t.Helper()
	entries, err := c.copyFiles(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func mariaDBLines() []string {
	return []string{"log-bin=binlog", "innodb-undo-directory=$/undo"}
}

func TestCopyFiles(t *testing.T) {
	f := newFolders(t)
	synthetic(t, f)
	l := f.layout(t, replication.MariaDB, mariaDBLines()...)
	selected := selectAll(t, l)
	v := newVault(t, testChunk)
	c, progress := v.copier(l, 3), &quiet{}
	c.progress = progress
	entries := copyAll(t, c, selected.files)
	progress.check(t)
	var plain int64
	for i := range entries {
		if err := entries[i].Validate(); err != nil {
			t.Error(err)
		}
		plain += entries[i].Size
	}
	if !slices.IsSortedFunc(entries, func(a, b manifest.File) int { return a.Compare(&b) }) || len(entries) != len(selected.files) {
		t.Errorf("%d entries of %d files, want all, sorted", len(entries), len(selected.files))
	}
	if c.plain.Load() != plain || c.zero.Load() < 1<<20 || c.zero.Load()+c.fresh.Load() > plain || c.freshChunks.Load() >= c.chunks.Load() {
		t.Errorf("%d plain, %d zero, %d fresh bytes, %d of %d chunks; want %d plain", c.plain.Load(), c.zero.Load(), c.fresh.Load(), c.freshChunks.Load(), c.chunks.Load(), plain)
	}
	for path, want := range map[string]manifest.File{
		"db/hole":      {Sparse: true},
		"db/holes":     {Sparse: true},
		"db/size1.MYD": {Mode: 0o600},
		"db/zeros":     {Mode: 0o444},
	} {
		got := entryOf(t, entries, rootDatadir, path)
		if got.Sparse != want.Sparse || want.Mode != 0 && got.Mode != want.Mode || got.Kind != manifest.KindFile {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if got := entryOf(t, entries, rootHome, "ibdata1"); got.Pages == nil || got.LSN != 1011 {
		t.Errorf("ibdata1: %+v, pages %+v; want LSN 1011", got, got.Pages)
	}
	if got := entryOf(t, entries, rootDatadir, "ib_logfile0.none"); got.Size != 0 {
		t.Errorf("an entry that is not there: %+v", got)
	}
	before := c.fresh.Load()
	again := v.copier(l, 1)
	if diff := cmp.Diff(entries, copyAll(t, again, selected.files)); diff != "" {
		t.Errorf("copied again (-first +second):\n%s", diff)
	}
	if before == 0 || again.fresh.Load() != 0 {
		t.Errorf("%d bytes new at first, %d when copied again", before, again.fresh.Load())
	}
}

func entryOf(t testing.TB, entries []manifest.File, root, path string) manifest.File {
	t.Helper()
	i := slices.IndexFunc(entries, func(e manifest.File) bool { return e.Root == root && string(e.Path) == path })
	if i < 0 {
		return manifest.File{}
	}
	return entries[i]
}

// One leaf in chunks of 64 KiB is 64 MiB of file.
func TestCopyLeafEdges(t *testing.T) {
	if testing.Short() {
		return
	}
	f := newFolders(t)
	writePages(t, f.data+"/ibdata1", 0, 1)
	const leaf = 64 << 20
	for i, size := range []int{leaf - 1, leaf, leaf + 1} {
		writeHoles(t, fmt.Sprintf("%s/f%d", f.data, i), int64(size), map[int64][]byte{0: noise(t, byte(i), 5), int64(size - 9): noise(t, byte(i), 9)})
	}
	l := f.layout(t, replication.MariaDB)
	v := newVault(t, cas.DefaultChunkSize)
	entries := copyAll(t, v.copier(l, 4), selectAll(t, l).files)
	r := newRestored(t, v, l, selectAll(t, l), entries)
	r.write(t)
	r.compare(t)
}

func TestCopyBadTablespaces(t *testing.T) {
	f := newFolders(t)
	writePages(t, f.data+"/ibdata1", 0, 3)
	writePages(t, f.data+"/db/short.ibd", 5, 300)
	if err := os.Truncate(f.data+"/db/short.ibd", 3<<14); err != nil {
		t.Fatal(err)
	}
	tree(t, f.data, "ib_logfile0", "db/text.ibd", "db/none.ibd")
	writeText(t, f.data+"/db/none.ibd", "")
	l := f.layout(t, replication.MariaDB)
	entries := copyAll(t, newVault(t, testChunk).copier(l, 2), selectAll(t, l).files)
	for path, page := range map[string]uint32{"db/text.ibd": 0, "db/short.ibd": 3} {
		e := entryOf(t, entries, rootDatadir, path)
		if e.Pages == nil || e.Pages.Bad != 1 || len(e.Pages.BadPages) != 1 || e.Pages.BadPages[0].Number != page {
			t.Errorf("%s: %+v, want bad page %d", path, e.Pages, page)
		}
		if err := e.Validate(); err != nil {
			t.Error(err)
		}
	}
	if e := entryOf(t, entries, rootDatadir, "db/none.ibd"); e.Pages != nil {
		t.Errorf("empty file: %+v", e.Pages)
	}
}

func TestCopySystemTablespace(t *testing.T) {
	f := newFolders(t)
	tree(t, f.data, "ib_logfile0")
	writePages(t, f.data+"/ibdata1", 0, 2)
	writePages(t, f.data+"/more", 0, 2)
	l := f.layout(t, replication.MariaDB, "innodb_data_file_path=ibdata1:32K;more:12M:autoextend:max:5G")
	entries := copyAll(t, newVault(t, testChunk).copier(l, 2), selectAll(t, l).files)
	e := entryOf(t, entries, rootHome, "more")
	if e.Pages == nil || e.Pages.Bad == 0 || e.Pages.BadPages[0].Number != 2 {
		t.Errorf("second file: %+v, want its pages, whose numbers begin at 0, to be bad from 2 on", e.Pages)
	}
	for name, change := range map[string]func() error{
		"is no system tablespace": func() error { return os.WriteFile(f.data+"/ibdata1", []byte("text"), 0o644) },
		"is missing":              func() error { return os.Remove(f.data + "/more") },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		_, err := newVault(t, testChunk).copier(l, 2).copyFiles(t.Context(), selectAll(t, l).files)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want a refusal: %s", err, name)
		}
		writePages(t, f.data+"/ibdata1", 0, 2)
	}
}

// A file that changes while it is copied is a failure, whatever the change, and
// nothing stays open.
func TestCopyChangingFile(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"shorter":  func(path string) error { return os.Truncate(path, 10) },
		"longer":   func(path string) error { return os.Truncate(path, 10<<20) },
		"touched":  func(path string) error { return os.Chtimes(path, time.Unix(1, 0), time.Unix(2, 0)) },
		"gone":     os.Remove,
		"replaced": func(path string) error { return errors.Join(os.Remove(path), os.Symlink("ib_logfile0", path)) },
	} {
		f := newFolders(t)
		tree(t, f.data, "ib_logfile0")
		writePages(t, f.data+"/ibdata1", 0, 2)
		path := writeText(t, f.data+"/big", string(noise(t, 1, 9<<20)))
		l := f.layout(t, replication.MariaDB)
		selected := selectAll(t, l)
		if err := change(path); err != nil {
			t.Fatal(err)
		}
		before := openFiles(t, f.dir)
		if _, err := newVault(t, testChunk).copier(l, 3).copyFiles(t.Context(), selected.files); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v, want one that names the file", name, err)
		}
		if after := openFiles(t, f.dir); after != before {
			t.Errorf("%s: %d files are open, %d were", name, after, before)
		}
	}
}

// openFiles counts this process's open files below a folder.
func openFiles(t testing.TB, dir string) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, entry := range entries {
		if path, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil && isBelow(dir, path) {
			n++
		}
	}
	return n
}

func TestCopyCanceled(t *testing.T) {
	f := newFolders(t)
	synthetic(t, f)
	l := f.layout(t, replication.MariaDB, mariaDBLines()...)
	selected := selectAll(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newVault(t, testChunk).copier(l, 3).copyFiles(ctx, selected.files); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want canceled", err)
	}
	if n := openFiles(t, f.dir); n != 0 {
		t.Errorf("%d files are open", n)
	}
}

func TestSameFiles(t *testing.T) {
	f := newFolders(t)
	tree(t, f.data, "a", "b", "d/", "l->a")
	l := f.layout(t, replication.MySQL)
	before := selectAll(t, l).files
	if err := sameFiles(before, selectAll(t, l).files); err != nil {
		t.Errorf("nothing has changed: %v", err)
	}
	steps := []struct {
		want   string
		change func() error
	}{
		{"/c has appeared", func() error { return os.WriteFile(f.data+"/c", nil, 0o644) }},
		{"/b has gone", func() error { return errors.Join(os.Remove(f.data+"/c"), os.Rename(f.data+"/b", f.dir+"/b")) }},
		{"/a has changed", func() error {
			return errors.Join(os.Rename(f.dir+"/b", f.data+"/b"), os.WriteFile(f.data+"/a", []byte("x"), 0o644))
		}},
		{"/l has changed", func() error {
			before = selectAll(t, l).files
			return errors.Join(os.Remove(f.data+"/l"), os.Symlink("b", f.data+"/l"))
		}},
		{"/d has changed", func() error {
			before = selectAll(t, l).files
			return errors.Join(os.Remove(f.data+"/d"), os.WriteFile(f.data+"/d", nil, 0o644))
		}},
	}
	for _, step := range steps {
		if err := step.change(); err != nil {
			t.Fatal(err)
		}
		if err := sameFiles(before, selectAll(t, l).files); err == nil || !strings.Contains(err.Error(), step.want) {
			t.Errorf("error %v, want %s", err, step.want)
		}
	}
}

func TestStoreBytes(t *testing.T) {
	v := newVault(t, testChunk)
	const leaf = testChunk * cas.NodeFanout
	type stored struct {
		data []byte
		root cas.ID
	}
	var all []stored
	for i, size := range []int{0, 1, testChunk - 1, testChunk, testChunk + 1, leaf - 1, leaf, leaf + 1, 2*leaf + testChunk} {
		data := noise(t, byte(i), size)
		root, err := storeBytes(t.Context(), v.writer, data, testChunk)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, stored{data, root})
	}
	reader := v.reader(t)
	for _, s := range all {
		list := manifest.FileList{Size: int64(len(s.data)), ChunkSize: testChunk, Root: s.root}
		content, err := walk.Open(t.Context(), reader, list)
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(content, s.data); err != nil {
			t.Errorf("%d bytes: %v", len(s.data), err)
		}
	}
}

// modesOf describes all below a folder: kinds, modes, sizes and links.
func modesOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		all[strings.TrimPrefix(path, dir)] = info.Mode().String()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// blocksOf returns how much room a file takes, in bytes.
func blocksOf(t testing.TB, path string) int64 {
	t.Helper()
	var stat syscall.Stat_t
	if err := syscall.Stat(path, &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Blocks * 512
}

func sameContent(t testing.TB, a, b string) {
	t.Helper()
	dataA, errA := os.ReadFile(a)
	dataB, errB := os.ReadFile(b)
	if err := errors.Join(errA, errB); err != nil {
		t.Error(err)
		return
	}
	if !bytes.Equal(dataA, dataB) {
		t.Errorf("%s and %s differ: %d and %d bytes", a, b, len(dataA), len(dataB))
	}
}
