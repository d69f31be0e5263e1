package histories

import (
	"bytes"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/cas/mem"
	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// historyChecks is how many histories there are for each flavor, unless
// -rapid.checks says otherwise.
const historyChecks = 12

// deaf is a Progress that nobody watches.
type deaf struct{}

func (deaf) Step(string, string) {}
func (deaf) Warn(string)         {}
func (deaf) Begin(string, int64) {}
func (deaf) Advance(int64)       {}
func (deaf) End()                {}

// files are what a folder holds: contents by path, nil for a folder.
type files map[string][]byte

// history is a stopped server whose files are written to, backups of it on several
// hosts, and what should be in them.
type history struct {
	t    *testing.T
	rt   *rapid.T
	rng  *mathrand.Rand
	srv  *mysqltest.Server // stopped; what is below its folder "history" changes
	into *mysqltest.Server // a place for restores

	store *mem.Backend
	host  *castest.Faulty // the store as this host sees it
	repo  *cas.Repository // on host
	cache string
	saved []string // what the cache was at times
	clock time.Time

	level   cas.Level
	workers int
	files   files
	backups map[cas.Key]files
	counts  map[string]int
}

// TestFileHistories makes random histories of a stopped server's files: pages are
// written, files come, go and are renamed; backups are made of them, with parents,
// deltas and hints, that die or are given up at any operation; hosts lose their
// cache or get an old one; backups are forgotten, pruned, and restored, into empty
// folders and onto what an earlier restore has left. Every backup that is listed
// holds what the files were when it was made, byte by byte; every one that was
// published and not forgotten is listed; nothing is left when all are forgotten.
func TestFileHistories(t *testing.T) {
	if given := flag.Lookup("rapid.checks"); given.Value.String() == given.DefValue {
		if err := flag.Set("rapid.checks", fmt.Sprint(historyChecks)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = flag.Set("rapid.checks", given.DefValue) })
	}
	for _, flavor := range []replication.Flavor{replication.MySQL, replication.MariaDB} {
		t.Run(string(flavor), func(t *testing.T) {
			srv, into := smallServer(t, flavor), mysqltest.New(t, flavor, mysqltest.Options{})
			counts := map[string]int{}
			rapid.Check(t, func(rt *rapid.T) {
				h := newHistory(t, rt, srv, into)
				h.counts = counts
				for range rapid.IntRange(8, 24).Draw(rt, "events") {
					h.event()
				}
				h.end()
			})
			t.Logf("%v", counts)
		})
	}
}

// smallServer returns a stopped server with few files: those that a backup needs to
// know what it is.
func smallServer(t *testing.T, flavor replication.Flavor) *mysqltest.Server {
	t.Helper()
	srv := mysqltest.Start(t, flavor, mysqltest.Options{})
	srv.Stop(t)
	entries, err := os.ReadDir(srv.Datadir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		switch entry.Name() {
		case "ibdata1", "ib_logfile0", "#innodb_redo", "#innodb_temp", "aria_log_control":
		case "mysql.ibd":
			if err := os.Truncate(filepath.Join(srv.Datadir, entry.Name()), 0); err != nil {
				t.Fatal(err)
			}
		default:
			if err := os.RemoveAll(filepath.Join(srv.Datadir, entry.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	return srv
}

func newHistory(t *testing.T, rt *rapid.T, srv, into *mysqltest.Server) *history {
	t.Helper()
	cache, err := os.MkdirTemp(t.TempDir(), "cache")
	if err != nil {
		t.Fatal(err)
	}
	store := new(mem.Backend)
	h := &history{
		t: t, rt: rt, srv: srv, into: into, store: store, host: castest.NewFaulty(store), cache: cache, clock: time.Now().Add(time.Hour),
		rng:     mathrand.New(mathrand.NewPCG(rapid.Uint64().Draw(rt, "content"), 1)),
		level:   rapid.SampledFrom([]cas.Level{cas.LevelFastest, cas.LevelDefault, cas.LevelBetter}).Draw(rt, "compression"),
		workers: rapid.SampledFrom([]int{1, 4}).Draw(rt, "workers"),
		files:   files{"": nil}, backups: map[cas.Key]files{},
	}
	config := cas.Config{ChunkSize: rapid.SampledFrom([]int{4 << 10, 16 << 10, 64 << 10}).Draw(rt, "chunk size")}
	if h.repo, err = cas.Create(t.Context(), h.host, config, rand.Reader, time.Now); err != nil {
		t.Fatal(err)
	}
	h.do("remove old files", os.RemoveAll(h.path("")), os.RemoveAll(into.Datadir), os.Mkdir(h.path(""), 0o750))
	for range 1 + h.rng.IntN(6) {
		h.create()
	}
	return h
}

// do fails the history at the first error.
func (h *history) do(what string, errs ...error) {
	h.t.Helper()
	if err := errors.Join(errs...); err != nil {
		h.rt.Fatalf("%s: %v", what, err)
	}
}

// path is where a file of the history lies.
func (h *history) path(name string) string { return filepath.Join(h.srv.Datadir, "history", name) }

func (h *history) event() {
	switch h.rng.IntN(11) {
	case 0, 1, 2, 3:
		for range h.rng.IntN(6) {
			h.change()
		}
		h.backUp()
	case 4, 5:
		for range 1 + h.rng.IntN(3) {
			h.forget()
		}
	case 6, 7, 8:
		h.prune()
	case 9:
		h.loseCache()
	default:
		if keys := h.keys(); len(keys) > 0 {
			h.restore(pick(h.rng, keys))
		}
	}
}

// pick returns one of several.
func pick[T any](rng *mathrand.Rand, all []T) T { return all[rng.IntN(len(all))] }

// keys returns the backups that must be listed.
func (h *history) keys() []cas.Key { return slices.Sorted(maps.Keys(h.backups)) }

const pageSize = 16 << 10

// page returns a page as a server writes it: a number, a change count, rows, and
// nothing behind them.
func (h *history) page(no int) []byte {
	page := make([]byte, pageSize)
	copy(page, fmt.Sprintf("%08d lsn %012d ", no, h.rng.IntN(1<<30)))
	for i := range h.rng.IntN(pageSize - 32) {
		page[32+i] = byte(h.rng.Uint32() & 0x3f)
	}
	return page
}

// create makes a file of some pages, at times with a tail that is none.
func (h *history) create() {
	name := fmt.Sprintf("t%d.MYD", h.rng.IntN(20))
	if h.rng.IntN(8) == 0 {
		name = fmt.Sprintf("folder%d/%s", h.rng.IntN(3), name)
	}
	var data []byte
	for no := range h.rng.IntN(24) {
		data = append(data, h.page(no)...)
	}
	if h.rng.IntN(3) == 0 {
		data = append(data, h.page(0)[:h.rng.IntN(pageSize)]...)
	}
	h.put(name, data)
}

// put writes a file, in place if it is there, else as a new one.
func (h *history) put(name string, data []byte) {
	if dir := filepath.Dir(name); dir != "." {
		h.do("make a folder", os.MkdirAll(h.path(dir), 0o750))
		h.files[dir] = nil
	}
	file, err := os.OpenFile(h.path(name), os.O_RDWR|os.O_CREATE, 0o640)
	h.do("open", err)
	_, err = file.WriteAt(data, 0)
	h.do("write "+name, err, file.Truncate(int64(len(data))), file.Close())
	h.files[name] = append([]byte{}, data...) // never nil
}

// contents returns the names of files with bytes, sorted.
func (h *history) contents() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(h.files)), func(name string) bool { return h.files[name] == nil })
}

// change does one of the things that servers do to their files.
func (h *history) change() {
	names := h.contents()
	what := pick(h.rng, []string{"rows", "rows", "rows", "page", "zeros", "append", "cut", "create", "remove", "rename", "copy"})
	if len(names) == 0 || what == "create" {
		h.create()
		return
	}
	name := pick(h.rng, names)
	data := slices.Clone(h.files[name])
	other := fmt.Sprintf("t%d.MYD", h.rng.IntN(20))
	at := 0
	if pages := len(data) / pageSize; pages > 0 {
		at = h.rng.IntN(pages) * pageSize
	}
	switch what {
	case "rows":
		for range min(len(data), 1+h.rng.IntN(40)) {
			data[min(len(data)-1, at+h.rng.IntN(pageSize))] = byte(h.rng.Uint32())
		}
	case "page":
		copy(data[at:], h.page(at/pageSize))
	case "zeros":
		clear(data[at:min(len(data), at+h.rng.IntN(9)*pageSize)])
	case "append":
		data = append(data, h.page(len(data)/pageSize)...)
	case "cut":
		data = data[:h.rng.IntN(len(data)+1)]
	case "remove":
		h.do("remove", os.Remove(h.path(name)))
		delete(h.files, name)
		return
	case "rename":
		h.do("rename", os.Rename(h.path(name), h.path(other)))
		delete(h.files, name)
		h.files[other] = data
		return
	case "copy":
		name = other
	}
	h.put(name, data)
}

// backUp makes a backup. Its host may die at some operation, or one may fail, after
// which the run gives up by itself.
func (h *history) backUp() {
	h.clock = h.clock.Add(time.Hour)
	h.counts["backups"]++
	fault := pick(h.rng, []string{"", "", "", "dies", "fails"})
	h.arm(fault, 40)
	_, err := mysqlbackup.BackupStopped(h.t.Context(), mysqlbackup.BackupOptions{
		Store: h.hostStore(), Keyspace: "commerce", Shard: "-80", Host: "test", ToolVersion: "test",
		Alias:  manifest.TabletAlias{Cell: "zone1", UID: pick(h.rng, []uint32{101, 101, 101, 102})},
		Server: mysqlbackup.Instance{Datadir: h.srv.Datadir}, Concurrency: h.workers, Compression: h.level,
		Rehash: h.rng.IntN(6) == 0, Progress: deaf{}, Now: func() time.Time { return h.clock },
	})
	h.disarm()
	if err != nil && (fault == "" || !errors.Is(err, castest.ErrInjected)) {
		h.rt.Fatalf("backup: %v", err)
	}
	listed, listErr := h.repo.Keys(h.t.Context(), "commerce", "-80")
	h.do("list", listErr)
	published := 0
	for _, key := range listed {
		if h.backups[key] == nil {
			h.backups[key] = maps.Clone(h.files)
			published++
		}
	}
	switch {
	case err == nil && published != 1, published > 1:
		h.rt.Fatalf("backup ended with %v, and %d backups were published", err, published)
	case err != nil:
		h.counts["backups that "+fault]++
	}
}

func (h *history) hostStore() mysqlbackup.Store {
	return mysqlbackup.Store{Repo: h.repo, CacheDir: h.cache}
}

// arm lets an operation of the next run fail, or the host die at it.
func (h *history) arm(fault string, most int) {
	when := castest.When(h.rng.IntN(2))
	n := 1 + h.rng.IntN(most)
	switch fault {
	case "dies":
		h.host.DieAt(n, when)
	case "fails":
		h.host.FailAt(n, when)
	}
}

func (h *history) disarm() { h.host.FailAt(0, castest.Before) }

func (h *history) forget() {
	keys := h.keys()
	if len(keys) == 0 {
		return
	}
	key := pick(h.rng, keys)
	h.do("forget", h.repo.Forget(h.t.Context(), key, nil))
	delete(h.backups, key)
	h.counts["forgotten"]++
}

func (h *history) prune() {
	fault := pick(h.rng, []string{"", "", "dies", "fails"})
	h.arm(fault, 40)
	_, err := h.tryPrune(pick(h.rng, []float64{-1, 0, 0.1, 0.5}))
	h.disarm()
	if err != nil && (fault == "" || !errors.Is(err, castest.ErrInjected)) {
		h.rt.Fatalf("prune: %v", err)
	}
}

func (h *history) tryPrune(maxUnused float64) (*cas.PruneResult, error) {
	h.counts["prunes"]++
	result, err := mysqlbackup.Prune(h.t.Context(), h.repo, cas.PruneOptions{
		MaxUnused: maxUnused, StaleAfter: time.Millisecond, Workers: h.workers, Progress: deaf{}, Now: time.Now,
	})
	if err == nil {
		h.counts["packs deleted"] += result.Packs
		h.counts["bytes repacked"] += int(result.Repacked)
	}
	return result, err
}

// pruneWell leaves nothing that no backup needs.
func (h *history) pruneWell() {
	result, err := h.tryPrune(0)
	if h.do("prune", err); result.Unused != 0 || result.Backups != len(h.backups) {
		h.rt.Fatalf("prune: %+v, want nothing unused and %d backups", result, len(h.backups))
	}
}

// loseCache makes the host's cache what it was before, or damages a file in it, or
// empties it.
func (h *history) loseCache() {
	switch what := pick(h.rng, []string{"save", "old", "cut", "empty"}); what {
	case "save":
		into := filepath.Join(h.t.TempDir(), fmt.Sprintf("saved%d", len(h.saved)))
		h.do("save the cache", os.RemoveAll(into), os.CopyFS(into, os.DirFS(h.cache)))
		h.saved = append(h.saved, into)
	case "old":
		if len(h.saved) > 0 {
			h.do("empty the cache", os.RemoveAll(h.cache))
			h.do("bring back the cache", os.CopyFS(h.cache, os.DirFS(h.saved[len(h.saved)-1])))
		}
	case "cut":
		for name, data := range h.read(h.cache) {
			if data != nil && h.rng.IntN(2) == 0 {
				h.do("cut "+name, os.Truncate(filepath.Join(h.cache, name), int64(h.rng.IntN(len(data)+1))))
			}
		}
	default:
		h.do("empty the cache", os.RemoveAll(h.cache), os.Mkdir(h.cache, 0o700))
	}
}

// read returns what a folder holds.
func (h *history) read(dir string) files {
	all := files{}
	h.do("read "+dir, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")
		if entry.IsDir() {
			all[name] = nil
			return nil
		}
		data, err := os.ReadFile(path)
		all[name] = append([]byte{}, data...)
		return err
	}))
	return all
}

// restore restores a backup and compares: into an empty folder, or onto what there
// is. It may be ended in the middle, and is run again then.
func (h *history) restore(key cas.Key) {
	name, err := manifest.ParseName(key.Name())
	h.do("parse", err)
	defaults, err := mysqlbackup.ReadDefaults(h.into.DefaultsFile)
	h.do("read the defaults file", err)
	opts := mysqlbackup.RestoreOptions{
		Store: h.hostStore(), Keyspace: "commerce", Shard: "-80", Backup: &name, Server: mysqlbackup.Instance{Defaults: defaults}, Mode: mysqlbackup.ModeFiles,
		Program: h.into.Program, Concurrency: h.workers, StateDir: h.t.TempDir(), Progress: deaf{}, Now: time.Now, InPlace: h.rng.IntN(2) == 0,
	}
	if !opts.InPlace {
		h.do("empty the target", os.RemoveAll(h.into.Datadir))
	}
	h.counts["restores"]++
	if fault := pick(h.rng, []string{"", "", "dies"}); fault != "" {
		h.arm(fault, 60)
		_, err := mysqlbackup.Restore(h.t.Context(), opts)
		h.disarm()
		if err != nil && !errors.Is(err, castest.ErrInjected) {
			h.rt.Fatalf("restore of %s, when its host died: %v", key, err)
		}
		if err == nil { // it had come to its end before
			opts.InPlace = true
		}
	}
	if _, err := mysqlbackup.Restore(h.t.Context(), opts); err != nil {
		h.rt.Fatalf("restore of %s: %v", key, err)
	}
	h.compare(key)
}

// compare compares what was restored with what was backed up, and the server's own
// files with themselves.
func (h *history) compare(key cas.Key) {
	got, want := h.read(filepath.Join(h.into.Datadir, "history")), h.backups[key]
	for name, data := range want {
		if there, found := got[name]; !found || (there == nil) != (data == nil) || !bytes.Equal(there, data) {
			h.rt.Fatalf("restored %s: %q has %d bytes, want %d; equal up to byte %d", key, name, len(there), len(data), common(there, data))
		}
	}
	for name := range got {
		if _, found := want[name]; !found {
			h.rt.Fatalf("restored %s: %q was not backed up", key, name)
		}
	}
	for _, name := range []string{"ibdata1"} {
		a, err1 := os.ReadFile(filepath.Join(h.srv.Datadir, name))
		b, err2 := os.ReadFile(filepath.Join(h.into.Datadir, name))
		if h.do("read "+name, err1, err2); !bytes.Equal(a, b) {
			h.rt.Fatalf("restored %s: %s is another", key, name)
		}
	}
}

// common returns how many bytes are equal from the start.
func common(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// end restores all, checks the repository, forgets all and prunes.
func (h *history) end() {
	listed, err := h.repo.Keys(h.t.Context(), "commerce", "-80")
	h.do("list", err)
	if !slices.Equal(listed, h.keys()) {
		h.rt.Fatalf("listed are %v, want %v", listed, h.keys())
	}
	for range len(listed) / 2 {
		h.forget()
	}
	h.pruneWell()
	for _, key := range h.keys() {
		h.restore(key)
	}
	castest.Check(h.t, h.repo, h.store)
	for range h.keys() {
		h.forget()
	}
	h.pruneWell()
	packs, err := h.repo.PackIDs(h.t.Context())
	h.do("list packs", err)
	if len(packs) > 0 {
		h.rt.Fatalf("everything is forgotten, and %d packs are left", len(packs))
	}
}
