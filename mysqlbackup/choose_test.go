package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/mem"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// shelf is a repository with manifests, and a restore that chooses from them.
type shelf struct {
	*restoreRun
	backend  mem.Backend
	progress quiet
}

func newShelf(t testing.TB) *shelf {
	t.Helper()
	s := &shelf{}
	repo, err := cas.Create(t.Context(), &s.backend, cas.Config{ChunkSize: testChunk}, rand.NewChaCha8([32]byte{}), clock)
	if err != nil {
		t.Fatal(err)
	}
	place := newTestTarget(t, newFolders(t), replication.MySQL)
	place.version = replication.Version{Flavor: replication.MySQL, Major: 9, Minor: 7, Patch: 4}
	s.restoreRun = &restoreRun{
		RestoreOptions: RestoreOptions{Store: Store{Repo: repo}, Keyspace: "k", Shard: "-80", Progress: &s.progress, Now: clock},
		target:         place,
	}
	return s
}

func nameAt(minute int) manifest.Name {
	return manifest.NewName(clock().Add(time.Duration(minute)*time.Minute), manifest.TabletAlias{Cell: "zone1", UID: 101})
}

// put publishes a record; nil is a manifest that does not decode.
func (s *shelf) put(t testing.TB, minute int, change func(*manifest.Manifest)) {
	t.Helper()
	name := nameAt(minute)
	m := &manifest.Manifest{
		Keyspace: "k", Shard: "-80", Name: name, TabletAlias: name.Alias, Engine: manifest.EngineStopped,
		Started: clock(), Finished: clock(), Roots: []manifest.Root{{Name: rootDatadir, Path: "/data"}},
		Files:  manifest.FileList{ChunkSize: testChunk},
		Server: manifest.Server{Flavor: replication.MySQL, Version: "9.7.4", PageSize: 16384, InnoDBDataFilePath: defaultDataFile},
	}
	data := []byte("no manifest")
	if change != nil {
		change(m)
		var err error
		if data, err = m.Encode(); err != nil {
			t.Fatal(err)
		}
	}
	session, err := s.Store.Repo.Begin(t.Context(), manifest.Key("k", "-80", name), nil)
	if err != nil {
		t.Fatal(err)
	}
	writer := session.NewWriter(cas.WriterOptions{})
	if err := errors.Join(session.Commit(t.Context(), writer, data), writer.Close()); err != nil {
		t.Fatal(err)
	}
	if m.ToolVersion == "failed" {
		if err := writeDrill(t.Context(), s.Store.Repo, &Drill{Keyspace: "k", Shard: "-80", Name: name, Outcome: DrillFailed, Time: clock()}); err != nil {
			t.Fatal(err)
		}
	}
}

func good(*manifest.Manifest)     {}
func misfit(m *manifest.Manifest) { m.Server.PageSize = 4096 }

// failed is a good backup whose last drill failed; put writes the drill.
func failed(m *manifest.Manifest) { m.ToolVersion = "failed" }

func marked(m *manifest.Manifest) {
	m.Marks = []manifest.Mark{manifest.NewMark(manifest.MarkBadPages, "one")}
}

// TestParentOfAWrongClock: what is dated in the future is compared with only for want
// of others, or it would stay the newest for a year.
func TestParentOfAWrongClock(t *testing.T) {
	const year = 365 * 24 * 60
	s := newShelf(t)
	b := &backupRun{BackupOptions: BackupOptions{Store: s.Store, Keyspace: "k", Shard: "-80", Alias: nameAt(0).Alias, Now: clock}}
	for _, step := range []struct {
		uid    uint32
		minute int
	}{{102, year}, {102, -9}, {101, year}, {101, -10}, {101, -5}} { // each is preferred to those before it
		name := nameAt(step.minute)
		name.Alias.UID = step.uid
		key := manifest.Key("k", "-80", name)
		session, err := s.Store.Repo.Begin(t.Context(), key, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := session.Commit(t.Context(), session.NewWriter(cas.WriterOptions{}), nil); err != nil {
			t.Fatal(err)
		}
		if got, err := b.parentKey(t.Context()); err != nil || got != key {
			t.Errorf("parent %s, %v, want %s", got, err, key)
		}
	}
}

// at gives a backup the transactions up to a number.
func at(last int) func(*manifest.Manifest) {
	return func(m *manifest.Manifest) {
		m.PositionKnown = true
		set, err := replication.ParseGTIDSet(fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-%d", last))
		if err != nil {
			panic(err)
		}
		m.Position = replication.Position{Flavor: replication.MySQL, Executed: set}
	}
}

// The newest backup is the one that has all transactions of the others, also if
// clocks were wrong.
func TestChooseByPosition(t *testing.T) {
	const year = 365 * 24 * 60
	for name, c := range map[string]struct {
		backups map[int]func(*manifest.Manifest) // by the minutes after now
		want    int
		warns   int
	}{
		"a clock was ahead":               {map[int]func(*manifest.Manifest){-20: at(10), -10: at(20), year: at(5)}, -10, 1},
		"only that one is left":           {map[int]func(*manifest.Manifest){year: at(5)}, year, 1},
		"it is the newest all the same":   {map[int]func(*manifest.Manifest){-20: at(10), year: at(25)}, year, 1},
		"a clock was behind":              {map[int]func(*manifest.Manifest){-year: at(30), -20: at(10), -10: at(20)}, -year, 0},
		"without positions":               {map[int]func(*manifest.Manifest){-20: good, -10: good, year: good}, -10, 1},
		"the newest is marked":            {map[int]func(*manifest.Manifest){-20: at(10), -10: at(20), -5: marked}, -10, 0},
		"one without a position is later": {map[int]func(*manifest.Manifest){-20: at(10), -10: good}, -10, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			for minute, change := range c.backups {
				s.put(t, minute, change)
			}
			m, err := s.choose(t.Context())
			if err != nil || m.Name != nameAt(c.want) {
				t.Errorf("chose %v, %v; want %s", m, err, nameAt(c.want))
			}
			if got := len(s.progress.warned); got != c.warns {
				t.Errorf("%d warnings, want %d: %q", got, c.warns, s.progress.warned)
			}
		})
	}
}

func TestChoose(t *testing.T) {
	for name, c := range map[string]struct {
		backups []func(*manifest.Manifest) // oldest first
		want    int                        // the chosen one; -1: none
		err     error
		text    string
		hint    int // the one that the hint names; -1: none is
	}{
		"none at all":               {nil, -1, ErrNoBackup, "k/-80 has no backup", -1},
		"newest":                    {[]func(*manifest.Manifest){good, good}, 1, nil, "", -1},
		"newest without marks":      {[]func(*manifest.Manifest){good, marked, marked}, 0, nil, "", -1},
		"all are marked":            {[]func(*manifest.Manifest){marked, marked}, -1, ErrNoUsableBackup, "are marked", -1},
		"newest failed its drill":   {[]func(*manifest.Manifest){good, good, failed, marked}, 1, nil, "", -1},
		"all failed":                {[]func(*manifest.Manifest){failed, marked}, -1, ErrNoUsableBackup, "failed their last drill", -1},
		"newest does not fit":       {[]func(*manifest.Manifest){good, good, marked, misfit}, -1, ErrRefused, "innodb_page_size", 1},
		"none fits":                 {[]func(*manifest.Manifest){misfit, misfit}, -1, ErrRefused, nameAt(1).String(), -1},
		"newest is no manifest":     {[]func(*manifest.Manifest){good, nil}, -1, cas.ErrCorrupt, "decode manifest", 0},
		"none fits, one is damaged": {[]func(*manifest.Manifest){nil, misfit}, -1, ErrRefused, "innodb_page_size", -1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			for minute, change := range c.backups {
				s.put(t, minute, change)
			}
			m, err := s.choose(t.Context())
			if c.want >= 0 {
				if err != nil || m.Name != nameAt(c.want) {
					t.Fatalf("chose %v, %v; want %s", m, err, nameAt(c.want))
				}
				return
			}
			if err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v, want %v: %s", err, c.err, c.text)
			}
			if hints := fmt.Sprint(hint.Of(err)); c.hint >= 0 && !strings.Contains(hints, nameAt(c.hint).String()) || c.hint < 0 && strings.Contains(hints, "zone1") {
				t.Errorf("hints %s, want one that names backup %d", hints, c.hint)
			}
		})
	}
}

// vanishing is a backend in which a blob can be read once.
type vanishing struct {
	cas.Backend
	name   string
	opened int
}

func (v *vanishing) Open(ctx context.Context, name string) (cas.BlobReader, error) {
	if strings.HasSuffix(name, v.name) {
		if v.opened++; v.opened > 1 {
			return nil, fmt.Errorf("%s: %w", name, cas.ErrNotFound)
		}
	}
	return v.Backend.Open(ctx, name)
}

func TestChooseVanished(t *testing.T) {
	s := newShelf(t)
	s.put(t, 0, good)
	s.put(t, 1, good)
	backend := &vanishing{Backend: &s.backend, name: nameAt(1).String()}
	repo, err := cas.Open(t.Context(), backend)
	if err != nil {
		t.Fatal(err)
	}
	s.Store.Repo = repo
	if m, err := s.choose(t.Context()); err != nil || m.Name != nameAt(0) {
		t.Errorf("chose %v, %v; want the one that is left", m, err)
	}
	if backend.opened != 2 {
		t.Errorf("the backup that is gone was opened %d times, want once for the list and once to be read", backend.opened)
	}
}

func TestChooseNamed(t *testing.T) {
	s := newShelf(t)
	s.put(t, 0, good)
	s.put(t, 1, marked)
	s.put(t, 2, misfit)
	for minute, want := range map[int]error{0: nil, 1: nil, 2: ErrRefused, 3: ErrNoUsableBackup} {
		name := nameAt(minute)
		s.Backup = &name
		m, err := s.choose(t.Context())
		if want == nil && (err != nil || m.Name != name) || want != nil && !errors.Is(err, want) {
			t.Errorf("backup %d: %v, %v; want %v", minute, m, err, want)
		}
	}
	if len(s.progress.warned) != 1 || !strings.Contains(s.progress.warned[0], "the backup is marked") {
		t.Errorf("warnings %q, want one of the mark", s.progress.warned)
	}
	name := nameAt(0)
	s.Backup = &name
	if err := s.Store.Repo.Forget(t.Context(), manifest.Key("k", "-80", name), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.choose(t.Context()); !errors.Is(err, ErrNoUsableBackup) || len(hint.Of(err)) != 1 {
		t.Errorf("forgotten: %v with hints %v", err, hint.Of(err))
	}
}

// A record that was put under another key is not taken for that key's.
func TestReadManifestOfAnotherKey(t *testing.T) {
	s := newShelf(t)
	s.put(t, 0, func(m *manifest.Manifest) { m.Shard = "80-" })
	if _, err := s.choose(t.Context()); err == nil || !strings.Contains(err.Error(), "it is the record of k/80-/") {
		t.Errorf("error %v, want that it is another's", err)
	}
}
