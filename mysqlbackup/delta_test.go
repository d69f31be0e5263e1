package mysqlbackup_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// churn is a server that is written to between backups of its files, and a
// copy of the files of each backup.
type churn struct {
	*bench
	srv    *mysqltest.Server
	made   []*manifest.Manifest
	copies []string
}

func newChurn(t *testing.T, flavor replication.Flavor) *churn {
	t.Helper()
	c := &churn{bench: newBench(t), srv: mysqltest.Start(t, flavor, mysqltest.Options{})}
	c.srv.LoadFixture(t)
	return c
}

func (c *churn) options(t testing.TB) mysqlbackup.BackupOptions {
	opts := c.backupOptions(t, c.srv)
	opts.Now = func() time.Time { return time.Unix(1790000000+int64(len(c.made))*86400, 0) }
	return opts
}

// day writes to the server, stops it, backs up its files and starts it again.
func (c *churn) day(t *testing.T, edit func(*mysqlbackup.BackupOptions)) *manifest.Manifest {
	t.Helper()
	c.srv.Write(t, 30)
	c.srv.Stop(t)
	opts := c.options(t)
	if edit != nil {
		edit(&opts)
	}
	result, err := mysqlbackup.BackupStopped(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	into := t.TempDir()
	if err := os.CopyFS(into, os.DirFS(c.srv.Datadir)); err != nil {
		t.Fatal(err)
	}
	c.made, c.copies = append(c.made, result.Manifest), append(c.copies, into)
	c.srv.Start(t)
	return result.Manifest
}

// depths counts the frames that a backup needs, by depth, as their packs'
// directories say.
func (c *churn) depths(t *testing.T, m *manifest.Manifest) map[uint8]int {
	t.Helper()
	counts := map[uint8]int{}
	for _, id := range m.Packs {
		pack, err := c.repo.Pack(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range pack.Frames {
			counts[f.Depth]++
		}
	}
	return counts
}

// deltas counts the deltas in the repository.
func (c *churn) deltas(t *testing.T) int {
	t.Helper()
	ids, err := c.repo.PackIDs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	counts := c.depths(t, &manifest.Manifest{Packs: ids})
	total := -counts[0]
	for _, n := range counts {
		total += n
	}
	return total
}

// restoreFiles restores the files of a backup with an empty cache.
func (c *churn) restoreFiles(t *testing.T, flavor replication.Flavor, m *manifest.Manifest) (string, error) {
	t.Helper()
	target := mysqltest.New(t, flavor, mysqltest.Options{})
	opts := c.restoreOptions(t, target)
	opts.Store.CacheDir, opts.Mode, opts.Backup = t.TempDir(), mysqlbackup.ModeFiles, &m.Name
	_, err := mysqlbackup.Restore(t.Context(), opts)
	return target.Datadir, err
}

// compare compares what was restored with the copy of the files; keys that are
// not backed up are not looked at.
func (c *churn) compare(t *testing.T, day int, datadir string) {
	t.Helper()
	compared := 0
	for _, f := range listFiles(t, c.bench, c.made[day]) {
		if f.Kind != manifest.KindFile || f.Root == "redo" {
			continue
		}
		want, err := os.ReadFile(filepath.Join(c.copies[day], string(f.Path)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(datadir, string(f.Path)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("day %d: %s differs: %v", day, f.Path, err)
		}
		compared++
	}
	if compared < 10 {
		t.Errorf("day %d: only %d files were compared", day, compared)
	}
}

// Daily backups are deltas of the day before, small, and each restores byte for
// byte from the packs that it names alone.
func TestDailyDeltas(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor replication.Flavor) {
		c := newChurn(t, flavor)
		const days = 4
		for day := range days {
			m := c.day(t, nil)
			depths := c.depths(t, m)
			if day == 0 && len(depths) != 1 || day > 0 && depths[uint8(day)] == 0 {
				t.Errorf("day %d: got frames of depth %v, want some of depth %d", day, depths, day)
			}
			t.Logf("day %d: stored %d of %d new bytes, depths %v", day, m.Totals.Stored, m.Totals.New, depths)
			if day > 0 && m.Totals.Stored > m.Totals.New/5 {
				t.Errorf("day %d: stored %d bytes for %d new ones", day, m.Totals.Stored, m.Totals.New)
			}
		}
		for day, m := range c.made {
			datadir, err := c.restoreFiles(t, flavor, m)
			if err != nil {
				t.Fatal(err)
			}
			c.compare(t, day, datadir)
		}
	})
}

// A base that is damaged or gone is named by the restore that needs it, with
// its pack; the next backup stores in full what stood on it.
func TestDamagedBase(t *testing.T) {
	c := newChurn(t, replication.MySQL)
	first := c.day(t, nil)
	second := c.day(t, nil)
	root := c.rootPack(t, first)
	name := filepath.Join(c.root, "packs", root.ID.String()[:2], root.ID.String())
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	spoiled := bytes.Clone(data)
	for _, f := range root.Frames {
		spoiled[f.Offset+90] ^= 0xff
	}
	replaceFile(t, name, spoiled)
	_, err = c.restoreFiles(t, replication.MySQL, second)
	if !errors.Is(err, cas.ErrCorrupt) || !strings.Contains(err.Error(), root.ID.Short()) || !strings.Contains(err.Error(), "chunk ") {
		t.Errorf("damaged base: got %v, want its pack and chunk named", err)
	}
	if !regexp.MustCompile(`^restore /.*: bytes [0-9]+ to [0-9]+: chunk [0-9a-f]{8} in pack `).MatchString(err.Error()) {
		t.Errorf("damaged base: got %v, want file and range named", err)
	}
	if advice := strings.Join(hint.Of(err), "\n"); !strings.Contains(advice, `"shardseed check --read-data"`) || !strings.Contains(advice, `"shardseed repair"`) || !strings.Contains(advice, "--backup") {
		t.Errorf("damaged base: got the hints %q", advice)
	}
	third := c.day(t, nil)
	if !slices.ContainsFunc(c.progress.warned, func(text string) bool {
		return strings.Contains(text, "stored in full") && strings.Contains(text, root.ID.Short())
	}) {
		t.Errorf("warned %q, want a word on pack %s", c.progress.warned, root.ID.Short())
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, err = c.restoreFiles(t, replication.MySQL, second); !errors.Is(err, cas.ErrNotFound) || !strings.Contains(err.Error(), root.ID.Short()) {
		t.Errorf("pack of the bases gone: got %v, want it named", err)
	}
	replaceFile(t, name, data)
	datadir, err := c.restoreFiles(t, replication.MySQL, third)
	if err != nil {
		t.Fatal(err)
	}
	c.compare(t, 2, datadir)
}

// rootPack returns the largest data pack of a backup.
func (c *churn) rootPack(t *testing.T, m *manifest.Manifest) *cas.Pack {
	t.Helper()
	var largest *cas.Pack
	for _, id := range m.Packs {
		pack, err := c.repo.Pack(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if pack.Kind == cas.KindData && (largest == nil || pack.Size > largest.Size) {
			largest = pack
		}
	}
	return largest
}

func replaceFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The parent is the newest backup of the same tablet, else of the shard: a
// replica seeded from another has the same bytes. An unreadable one is none.
func TestParent(t *testing.T) {
	c := newChurn(t, replication.MySQL)
	alias := func(uid uint32) func(*mysqlbackup.BackupOptions) {
		return func(opts *mysqlbackup.BackupOptions) { opts.Alias.UID = uid }
	}
	known := 0
	small := func(*manifest.Manifest) string {
		before := known
		known = c.deltas(t)
		if known > before {
			return "deltas"
		}
		return "in full"
	}
	steps := []struct {
		name string
		uid  uint32
		want string
	}{
		{"the first", 101, "in full"},
		{"another tablet of the shard", 102, "deltas"},
		{"the same tablet", 101, "deltas"},
	}
	for _, step := range steps {
		if got := small(c.day(t, alias(step.uid))); got != step.want {
			t.Errorf("%s: got %s, want %s", step.name, got, step.want)
		}
	}
	if got := small(c.day(t, func(opts *mysqlbackup.BackupOptions) { opts.Shard = "80-" })); got != "in full" {
		t.Errorf("another shard: got %s", got)
	}
	record := filepath.Join(c.root, "manifests", string(c.made[2].Key()))
	replaceFile(t, record, []byte("damaged"))
	c.progress.warned = nil
	if got := small(c.day(t, alias(101))); got != "in full" {
		t.Errorf("the parent is damaged: got %s", got)
	}
	if len(c.progress.warned) == 0 || !strings.Contains(c.progress.warned[0], "nothing is stored as a delta") {
		t.Errorf("the parent is damaged: warned %q", c.progress.warned)
	}
	if got := fmt.Sprint(c.made[4].Name.Alias); got != "zone1-0000000101" {
		t.Errorf("alias %s", got)
	}
}
