package faults

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/local"
)

// scenario is a command that is disturbed.
type scenario struct {
	name string
	make func(s *stage, t *testing.T, w *world) // brings a world that has nothing to where the command begins
	args func(s *stage, w *world) []string
	// done returns what is missing if the command says that it has succeeded.
	done func(s *stage, w *world) string
	// already is what the command says if there is nothing left to be done; "":
	// it always succeeds.
	already string
	writes  bool // into the target: a run that fails leaves it as it was, or marked
	forgets bool // the first backup
	adds    bool // a backup
	cleans  bool // what is left is collected at the end
	lists   bool // all backups, on standard output
	spoiled bool // a backup can't be restored before the command has succeeded
	keeps   bool // the target as it was, whatever happens
	waits   bool // for what a killed run has left, a quarter of an hour
}

// stage is a scenario's world as it is before the command, and what is known of it.
type stage struct {
	scenario
	fixture *fixture
	world   *world
	before  []listed
	target  tree // before the command
	cache   tree // likewise
	objects map[string]fs.FileInfo
	days    map[string]int // of backups
	golden  [2]tree        // what restores of the days' files give
	dir     string
	made    int
}

// When the commands run, seen from now. A new backup is of the second day.
const (
	monthAgo  = -30 * 24 * time.Hour
	weekAgo   = -7 * 24 * time.Hour
	afterward = time.Hour // when a command is run again
	newDay    = 1
)

// scenarios are the commands of the matrix.
func scenarios() []scenario {
	return []scenario{
		{name: "init", make: (*stage).noRoot, args: plain("init"), done: (*stage).isSound, already: "already"},
		{name: "backup", make: (*stage).noBackups, args: (*stage).backupArgs, done: (*stage).hasMore, adds: true, cleans: true},
		{name: "backup of a changed server", make: (*stage).oneBackup, args: (*stage).backupArgs, done: (*stage).hasMore, adds: true, cleans: true},
		{name: "restore", make: (*stage).twoBackups, args: restore(), done: (*stage).isRestored, already: "is not empty", writes: true},
		{name: "restore --force", make: (*stage).oldTarget, args: restore("--force"), done: (*stage).isRestored, writes: true},
		{name: "restore --force --keep-old", make: (*stage).oldTarget, args: restore("--force", "--keep-old"), done: (*stage).isRestored, writes: true},
		{name: "restore --delta", make: (*stage).oldTarget, args: restore("--delta"), done: (*stage).isRestored, writes: true},
		{name: "rm", make: (*stage).twoBackups, args: (*stage).removeArgs, done: (*stage).isGone, already: "no such backup", forgets: true, cleans: true},
		{name: "forget", make: (*stage).twoBackups, args: plain("forget", shard, "--keep-last", "1"), done: (*stage).isGone, forgets: true, cleans: true},
		{name: "prune", make: (*stage).removed, args: plain("prune", "--max-unused", "0%", "--wait", "0s"), done: (*stage).isSound, waits: true},
		{name: "reindex", make: (*stage).twoBackups, args: plain("reindex"), done: (*stage).isSound},
		{name: "check --read-data", make: (*stage).twoBackups, args: plain("check", "--read-data"), done: (*stage).isSound},
		{name: "check", make: (*stage).twoBackups, args: plain("check"), done: (*stage).isSound},
		{name: "repair", make: (*stage).spoil, args: plain("repair"), done: (*stage).isSound, spoiled: true, cleans: true},
		{name: "pin", make: (*stage).twoBackups, args: named("pin", "--reason", "matrix"), done: (*stage).isPinned},
		{name: "unpin", make: (*stage).pinned, args: named("unpin"), done: (*stage).isNotPinned},
		{name: "startup with data", make: (*stage).oldTarget, args: (*stage).startupArgs, done: (*stage).isSound, keeps: true},
		{name: "startup without a backup", make: (*stage).noBackups, args: (*stage).startupArgs, done: (*stage).isSound, keeps: true},
		{name: "list", make: (*stage).twoBackups, args: plain("list", shard), done: (*stage).isSound, lists: true},
	}
}

// eachStage calls fn with the stage of each scenario, side by side.
func eachStage(t *testing.T, fn func(t *testing.T, s *stage)) {
	f := newFixture(t, scratch(t))
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			fn(t, newStage(t, f, sc))
		})
	}
}

func plain(args ...string) func(*stage, *world) []string {
	return func(_ *stage, w *world) []string { return w.everywhere(args...) }
}

func restore(flags ...string) func(*stage, *world) []string {
	return func(_ *stage, w *world) []string { return w.restoreArgs(w.in("my.cnf"), flags...) }
}

func (s *stage) backupArgs(w *world) []string { return w.backupArgs() }
func (s *stage) removeArgs(w *world) []string { return w.everywhere("rm", shard, s.before[0].Name) }

func named(verb string, flags ...string) func(*stage, *world) []string {
	return func(s *stage, w *world) []string {
		return w.everywhere(append([]string{verb, shard, s.before[0].Name}, flags...)...)
	}
}

func (s *stage) startupArgs(w *world) []string {
	return w.everywhere("startup", shard, "--defaults-file", w.in("my.cnf"), "--mysqld", w.fixture.mysqld, "--state-dir", w.in("state"))
}

func (s *stage) noRoot(t *testing.T, w *world) {
	if err := os.RemoveAll(w.in("root")); err != nil {
		t.Fatal(err)
	}
}

func (s *stage) noBackups(t *testing.T, w *world) { w.source(t, newDay) }

func (s *stage) oneBackup(t *testing.T, w *world) {
	s.backup(t, w, 0, monthAgo)
	w.source(t, newDay)
}

func (s *stage) twoBackups(t *testing.T, w *world) {
	s.backup(t, w, 0, monthAgo)
	s.backup(t, w, 1, weekAgo)
}

// removed has removed the first backup.
func (s *stage) removed(t *testing.T, w *world) {
	s.twoBackups(t, w)
	all, _ := w.list()
	w.must(t, 0, w.everywhere("rm", shard, all[0].Name)...)
}

// pinned has pinned the first backup.
func (s *stage) pinned(t *testing.T, w *world) {
	s.twoBackups(t, w)
	all, _ := w.list()
	w.must(t, 0, w.everywhere("pin", shard, all[0].Name)...)
}

// spoil has damaged the end of a pack of data: what it holds can be salvaged.
func (s *stage) spoil(t *testing.T, w *world) {
	s.twoBackups(t, w)
	backend, err := local.New(w.in("root"))
	if err != nil {
		t.Fatal(err)
	}
	repo, err := cas.Open(t.Context(), backend)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := repo.PackIDs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		pack, err := repo.Pack(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if pack.Kind != cas.KindData {
			continue
		}
		path := filepath.Join(w.in("root"), "packs", id.String()[:2], id.String())
		data, err := os.ReadFile(path)
		if err == nil {
			data[len(data)-3] ^= 0x10
			err = errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, data, 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("no pack of data")
}

// oldTarget has files of the first day where a restore goes.
func (s *stage) oldTarget(t *testing.T, w *world) {
	s.twoBackups(t, w)
	w.must(t, 0, w.restoreArgs(w.in("my.cnf"), "--backup", s.nameOf(0))...)
}

func (s *stage) nameOf(day int) string {
	for name, of := range s.days {
		if of == day {
			return name
		}
	}
	return ""
}

// backup makes a backup of a day's files, undisturbed.
func (s *stage) backup(t *testing.T, w *world, day int, when time.Duration) {
	w.source(t, day)
	w.must(t, when, w.backupArgs()...)
	all, _ := w.list()
	s.days[all[len(all)-1].Name] = day
}

func (s *stage) hasMore(w *world) string {
	if now, o := w.list(); len(now) <= len(s.before) {
		return fmt.Sprintf("%d backups, then %d: %+v", len(s.before), len(now), o)
	}
	return ""
}

func (s *stage) isRestored(w *world) string { return s.compare(w.in("target"), 1) }

func (s *stage) isGone(w *world) string {
	if now, o := w.list(); o.code != 0 || len(now) != 1 {
		return fmt.Sprintf("%d backups, want 1: %+v", len(now), o)
	}
	return ""
}

func (s *stage) isPinned(w *world) string {
	if now, o := w.list(); len(now) == 0 || now[0].Pin == nil || now[0].Pin.Reason != "matrix" {
		return fmt.Sprintf("it is not pinned: %+v, %+v", now, o)
	}
	return ""
}

func (s *stage) isNotPinned(w *world) string {
	if now, o := w.list(); len(now) == 0 || now[0].Pin != nil {
		return fmt.Sprintf("it is pinned: %+v, %+v", now, o)
	}
	return ""
}

func (s *stage) isSound(w *world) string {
	if o := shardseed(0, w.everywhere("check", "--read-data")...); o.code != 0 {
		return fmt.Sprintf("check: %+v", o)
	}
	return ""
}

// compare compares a folder with what the restore of a day gives.
func (s *stage) compare(dir string, day int) string {
	got, err := readTree(dir)
	if err != nil {
		return err.Error()
	}
	return difference(s.golden[day], got)
}

// newStage makes the world of a scenario.
func newStage(t *testing.T, f *fixture, sc scenario) *stage {
	s := &stage{scenario: sc, fixture: f, days: map[string]int{}, dir: scratch(t)}
	s.world = newWorld(t, filepath.Join(s.dir, "stage"), f)
	s.gild(t)
	s.days = map[string]int{}
	s.make(s, t, s.world)
	s.before, _ = s.world.list()
	s.target = targetOf(t, s.world)
	var err error
	if s.cache, err = readTree(s.world.in("cache")); err != nil {
		t.Fatal(err)
	}
	s.objects = objects(t, s.world.in("root"))
	return s
}

// gild finds out what a restore of each day gives, and compares that with the
// server's files.
func (s *stage) gild(t *testing.T) {
	w := newWorld(t, filepath.Join(s.dir, "gild"), s.fixture)
	s.twoBackups(t, w)
	for day, dir := range s.fixture.days {
		if err := os.RemoveAll(w.in("target")); err != nil {
			t.Fatal(err)
		}
		w.must(t, 0, w.restoreArgs(w.in("my.cnf"), "--backup", s.nameOf(day))...)
		want, err := readTree(dir)
		if err != nil {
			t.Fatal(err)
		}
		if s.golden[day], err = readTree(w.in("target")); err != nil {
			t.Fatal(err)
		}
		for path := range want {
			if want[path] != s.golden[day][path] && path != "/binlog.index" && !strings.HasSuffix(path, "_tmp") {
				t.Fatalf("a restore gives another %s: %s, want %s", path, s.golden[day][path], want[path])
			}
		}
	}
	if err := os.RemoveAll(w.dir); err != nil {
		t.Fatal(err)
	}
}

func targetOf(t *testing.T, w *world) tree {
	found, err := readTree(w.in("target"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}

// fresh makes a copy of the stage's world.
func (s *stage) fresh(t *testing.T) *world {
	s.made++
	return s.world.copy(t, filepath.Join(s.dir, fmt.Sprint("world", s.made)))
}

// verify holds what is left against what the command said. It returns what is
// wrong.
func (s *stage) verify(t *testing.T, w *world, o outcome) []string {
	var wrong []string
	if o.code == 0 {
		if missing := s.done(s, w); missing != "" {
			wrong = append(wrong, "it said success: "+missing)
		}
		for _, one := range s.before {
			if s.lists && !strings.Contains(o.stdout, one.Name) {
				wrong = append(wrong, "it said success and does not list "+one.Name)
			}
		}
	}
	if s.keeps {
		if now, err := readTree(w.in("target")); err != nil && !errors.Is(err, fs.ErrNotExist) || difference(s.target, now) != "" {
			wrong = append(wrong, fmt.Sprintf("the target has changed: %s, %v", difference(s.target, now), err))
		}
	}
	if o.code > 0 && s.adds && strings.HasPrefix(o.stdout, "backup ") {
		wrong = append(wrong, "it published the backup and says that it failed")
	} else if o.code != 0 && s.writes {
		wrong = append(wrong, s.verifyTarget(w)...)
	}
	checked := map[string]bool{}
	if !s.isAsBefore(t, w) && (!s.spoiled || o.code == 0) {
		wrong = append(wrong, s.verifyBackups(w, checked)...)
	}
	again := calmly(t, afterward, s.args(s, w)...)
	if again.code != 0 && (s.already == "" || !strings.Contains(again.stderr, s.already)) {
		return append(wrong, fmt.Sprintf("again: %+v", again))
	}
	if missing := s.done(s, w); missing != "" {
		wrong = append(wrong, "again: "+missing)
	}
	if s.isAsBefore(t, w) {
		return wrong
	}
	if s.cleans {
		if o := calmly(t, afterward, w.everywhere("prune", "--max-unused", "0%")...); o.code != 0 {
			wrong = append(wrong, fmt.Sprintf("prune: %+v", o))
		}
		clear(checked)
	}
	return append(wrong, s.verifyBackups(w, checked)...)
}

// isAsBefore tells that a restore finds what it found before the command: in the
// repository the same objects, not written to, and no other but signs of life, and
// the same index.
func (s *stage) isAsBefore(t *testing.T, w *world) bool {
	now := objects(t, w.in("root"))
	for name, was := range s.objects {
		is := now[name]
		if is == nil || !os.SameFile(was, is) || is.Size() != was.Size() || !is.ModTime().Equal(was.ModTime()) || is.Mode() != was.Mode() {
			return false
		}
	}
	for name := range now {
		if s.objects[name] == nil && !strings.HasPrefix(name, "/readers/") {
			return false
		}
	}
	cache, err := readTree(w.in("cache"))
	if err != nil {
		t.Fatal(err)
	}
	return difference(s.cache, cache) == ""
}

// objects are the files of a repository.
func objects(t *testing.T, root string) map[string]fs.FileInfo {
	found := map[string]fs.FileInfo{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		found[strings.TrimPrefix(path, root)], err = entry.Info()
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}

// verifyTarget wants a target that is as it was, or whole, or on which no server
// starts: it has no redo log.
func (s *stage) verifyTarget(w *world) []string {
	now, err := readTree(w.in("target"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return []string{err.Error()}
	}
	_, redo := now["/ib_logfile0"]
	for path := range now {
		redo = redo || strings.HasPrefix(path, "/#innodb_redo/#ib_redo")
	}
	maps.DeleteFunc(now, func(path, _ string) bool {
		return strings.HasPrefix(path, "/.shardseed-redo") || strings.HasPrefix(path, "/.shardseed-restore") || strings.HasPrefix(path, "/.tmp-")
	})
	if !redo || difference(s.target, now) == "" || difference(s.golden[1], now) == "" {
		return nil
	}
	return []string{"a server would start on what is neither as it was nor whole: " + difference(s.golden[1], now)}
}

// verifyBackups restores each listed backup that has not been.
func (s *stage) verifyBackups(w *world, checked map[string]bool) []string {
	all, o := w.list()
	if _, err := os.Stat(filepath.Join(w.in("root"), "FORMAT")); err != nil && s.make != nil && len(s.before) == 0 {
		return nil // init had not come to that
	}
	if o.code != 0 && (o.code != 8 || len(s.before) > 0) {
		return []string{fmt.Sprintf("list: %+v", o)}
	}
	var wrong []string
	there := map[string]bool{}
	for _, one := range all {
		there[one.Name] = true
		day, old := s.days[one.Name]
		switch {
		case len(one.Marks) > 0:
			wrong = append(wrong, one.Name+" is marked")
		case !old && !s.adds:
			wrong = append(wrong, one.Name+" has come up")
		case !old:
			day = newDay
		}
		if checked[one.Name] {
			continue
		}
		checked[one.Name] = true
		if err := os.RemoveAll(w.in("scratch")); err != nil {
			return []string{err.Error()}
		}
		got := shardseed(0, w.restoreArgs(w.in("scratch.cnf"), "--backup", one.Name)...)
		if got.code != 0 {
			wrong = append(wrong, fmt.Sprintf("restore %s: %+v", one.Name, got))
		} else if missing := s.compare(w.in("scratch"), day); missing != "" {
			wrong = append(wrong, fmt.Sprintf("restore %s: %s", one.Name, missing))
		}
	}
	for i, one := range s.before {
		if !there[one.Name] && (!s.forgets || i > 0) {
			wrong = append(wrong, one.Name+" is gone")
		}
	}
	return wrong
}
