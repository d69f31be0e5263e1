package commands

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/mem"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
)

func newRepository(t *testing.T) *cas.Repository {
	t.Helper()
	now := func() time.Time { return time.Unix(0, 0) }
	repo, err := cas.Create(t.Context(), new(mem.Backend), cas.Config{}, rand.Reader, now)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

// commit publishes record under key; store, if not nil, writes chunks first.
func commit(t *testing.T, repo *cas.Repository, key cas.Key, record string, store func(w *cas.Writer)) []cas.ID {
	t.Helper()
	session, err := repo.Begin(t.Context(), key, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := session.NewWriter(cas.WriterOptions{})
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	if store != nil {
		store(w)
	}
	if err := session.Commit(t.Context(), w, []byte(record)); err != nil {
		t.Fatal(err)
	}
	return w.Relied()
}

const testKey cas.Key = "commerce/-80/2026-08-01.131502.zone1-0000000101"

func TestReadBackupRefuses(t *testing.T) {
	var newer *manifest.VersionError
	tests := []struct {
		name   string
		record string // "": none
		is     func(error) bool
		code   int
	}{
		{"nothing", "", func(err error) bool { return errors.Is(err, cas.ErrNotFound) }, exitFailed},
		{"no manifest", "hello", func(err error) bool { return errors.Is(err, cas.ErrCorrupt) }, exitDamaged},
		{"a manifest that makes no sense", `{"version":1}`, func(err error) bool { return errors.Is(err, cas.ErrCorrupt) }, exitDamaged},
		{"a newer manifest", `{"version":99}`, func(err error) bool { return errors.As(err, &newer) }, exitFailed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			repo := newRepository(t)
			if test.record != "" {
				commit(t, repo, testKey, test.record, nil)
			}
			m, err := mysqlbackup.ReadManifest(t.Context(), repo, testKey)
			if err == nil || !test.is(err) {
				t.Fatalf("got %v, %v", m, err)
			}
			if got := exitCode(t.Context(), err); got != test.code {
				t.Errorf("exit code of %v: got %d, want %d", err, got, test.code)
			}
		})
	}
}

func TestManifestsGoOnAfterDamage(t *testing.T) {
	repo := newRepository(t)
	commit(t, repo, testKey, "hello", nil)
	commit(t, repo, testKey+"1", `{"version":99}`, nil)
	list, err := manifests(t.Context(), repo, shardName{"commerce", "-80"})
	if len(list) != 0 || err == nil {
		t.Fatalf("got %v, %v, want no backups and an error", list, err)
	}
	if got := len(messages(err)); got != 2 {
		t.Errorf("got %d messages, want 2: %v", got, err)
	}
	if got := exitCode(t.Context(), err); got != exitDamaged {
		t.Errorf("exit code: got %d, want %d", got, exitDamaged)
	}
}

func TestManifestsEndWithTheContext(t *testing.T) {
	repo := newRepository(t)
	commit(t, repo, testKey, "hello", nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if list, err := manifests(ctx, repo, shardName{"commerce", "-80"}); err == nil {
		t.Errorf("got %v, want an error", list)
	}
}

func TestNoBackup(t *testing.T) {
	shard := shardName{"commerce", "-80"}
	var many []string
	for i := range 12 {
		many = append(many, fmt.Sprintf("k/%d", i))
	}
	tests := []struct {
		name   string
		shards []string
		hints  string
	}{
		{"empty repository", nil, ""},
		{"one", []string{"commerce/80-"}, "there are backups of commerce/80-"},
		{"ten", many[:10], "there are backups of k/0, k/1, k/2, k/3, k/4, k/5, k/6, k/7, k/8, k/9"},
		{"more", many, "there are backups of k/0, k/1, k/2, k/3, k/4, k/5, k/6, k/7, k/8, k/9 and 2 more"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := noBackup("list", shard, test.shards)
			if !errors.Is(err, mysqlbackup.ErrNoBackup) {
				t.Errorf("got %v, want mysqlbackup.ErrNoBackup", err)
			}
			if got := strings.Join(hint.Of(err), "|"); got != test.hints {
				t.Errorf("hints: got %q, want %q", got, test.hints)
			}
		})
	}
}
