package mysqlbackup

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

func TestChannelChanges(t *testing.T) {
	for now := range 4 {
		for was := range 4 {
			saved := channelState{SQLRunning: was&1 != 0, IORunning: was&2 != 0}
			current := channelState{SQLRunning: now&1 != 0, IORunning: now&2 != 0}
			start, stop := saved.changes(current)
			if slices.Contains(start, replication.SQLThread) != (was&1 > now&1) || slices.Contains(start, replication.IOThread) != (was&2 > now&2) ||
				slices.Contains(stop, replication.SQLThread) != (was&1 < now&1) || slices.Contains(stop, replication.IOThread) != (was&2 < now&2) {
				t.Errorf("%+v, is %+v: start %v, stop %v", saved, current, start, stop)
			}
		}
	}
}

func TestServerStateIsOn(t *testing.T) {
	for value, want := range map[string]bool{
		"ON": true, "on": true, "1": true, "YES": true, "NO_LOCK": true, "NO_LOCK_NO_ADMIN": true, "OFF": false, "0": false, "": false, "NO": false, "DISABLED": false,
	} {
		s := serverState{Variables: map[string]string{"x": value}}
		if s.isOn("x") != want || s.anyOn([]string{"y", "x"}) != want || s.anyOn(nil) || s.isOn("y") {
			t.Errorf("%q: %v, want %v", value, s.isOn("x"), want)
		}
	}
}

func TestServerStateManifest(t *testing.T) {
	d, err := replication.DialectFor(replication.Version{Flavor: replication.MySQL, Major: 9, Minor: 7})
	if err != nil {
		t.Fatal(err)
	}
	s := serverState{
		Variables: map[string]string{varReadOnly: "ON", varSuperReadOnly: "OFF", d.SemiSyncReplica[0]: "ON"},
		Channels:  []channelState{{Name: "a", SQLRunning: true}, {Name: "b"}},
	}
	want := manifest.State{ReadOnly: true, SemiSyncReplica: true, ReplicaConfigured: true, ReplicaSQLRunning: true}
	if diff := cmp.Diff(want, s.manifest(d)); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(manifest.State{}, serverState{}.manifest(d)); diff != "" {
		t.Errorf("empty state (-want +got):\n%s", diff)
	}
	if c, ok := s.channel("b"); !ok || c.Name != "b" {
		t.Errorf("channel b: %+v, %v", c, ok)
	}
	if c, ok := s.channel("c"); ok {
		t.Errorf("channel c: %+v, want none", c)
	}
	// What keeps writes out is put back last: it may open the server.
	names := watched(d)
	if last := names[len(names)-2:]; !slices.Equal(last, []string{varSuperReadOnly, varReadOnly}) {
		t.Errorf("put back last are %q", last)
	}
}

func TestHostPort(t *testing.T) {
	for text, want := range map[string]HostPort{
		"db1:3306": {"db1", 3306}, "10.0.0.1:1": {"10.0.0.1", 1}, "[::1]:65535": {"::1", 65535}, "[fe80::1%eth0]:1": {"fe80::1%eth0", 1},
	} {
		got, err := ParseHostPort(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%q: %+v (%s), %v; want %+v", text, got, got, err, want)
		}
	}
	for _, text := range []string{
		"", ":", "db1", "db1:", ":3306", "db1:0", "db1:65536", "db1:-1", "db1:+1", "db1:x", "db1:3306:1", "::1:3306", "db1 :1", "db\n1:1", "\x1b[2J:1", "db\x001:1", "db1:1\n",
	} {
		if got, err := ParseHostPort(text); err == nil || !got.IsZero() {
			t.Errorf("%q: %+v, want an error", text, got)
		}
	}
}

func FuzzParseHostPort(f *testing.F) {
	f.Add("db1:3306")
	f.Add("[::1]:1")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := ParseHostPort(text)
		if err != nil {
			return
		}
		if again, err := ParseHostPort(h.String()); err != nil || again != h {
			t.Errorf("%q: %+v, again %+v, %v", text, h, again, err)
		}
	})
}

func TestTopologies(t *testing.T) {
	s := newShelf(t)
	record := ShardRecord{Repo: s.Store.Repo, Keyspace: "k", Shard: "-80"}
	if got, err := record.Primary(t.Context()); err != nil || !got.IsZero() {
		t.Errorf("nothing is set: %v, %v", got, err)
	}
	for _, want := range []HostPort{{"db1", 3306}, {"::1", 3307}} {
		if err := record.SetPrimary(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		if got, err := record.Primary(t.Context()); err != nil || got != want {
			t.Errorf("primary %v, %v; want %v", got, err, want)
		}
		if got, err := Fixed(want).Primary(t.Context()); err != nil || got != want {
			t.Errorf("fixed primary %v, %v; want %v", got, err, want)
		}
	}
	if got, err := (ShardRecord{Repo: s.Store.Repo, Keyspace: "k", Shard: "80-"}).Primary(t.Context()); err != nil || !got.IsZero() {
		t.Errorf("the other shard: %v, %v", got, err)
	}
	if _, err := s.Store.Repo.SetValue(t.Context(), record.name(), []byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	if got, err := record.Primary(t.Context()); err == nil {
		t.Errorf("nonsense: %v", got)
	}
}

func TestErrorKinds(t *testing.T) {
	if as(ErrRefused, nil) != nil {
		t.Error("no error has a kind")
	}
	err := fmt.Errorf("more: %w", refuse("x is %d: %w", 1, cas.ErrNotFound))
	if !errors.Is(err, ErrRefused) || !errors.Is(err, cas.ErrNotFound) || errors.Is(err, ErrBusy) || err.Error() != "more: x is 1: not found" {
		t.Errorf("error %q: refused %v, not found %v", err, errors.Is(err, ErrRefused), errors.Is(err, cas.ErrNotFound))
	}
	var r refusals
	if r.err() != nil {
		t.Error("no reasons are a refusal")
	}
	r.addErr(nil)
	r.add("one is %d", 1)
	r.addHint("mend it", "two")
	r.addErr(hint.Wrap(as(ErrBusy, errors.New("three")), "wait"))
	err = r.err()
	if !errors.Is(err, ErrRefused) || !errors.Is(err, ErrBusy) || err.Error() != "one is 1; two; three" {
		t.Errorf("error %q", err)
	}
	if got := strings.Join(hint.Of(err), ", "); got != "mend it, wait" {
		t.Errorf("hints %q", got)
	}
}
