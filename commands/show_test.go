package commands

import (
	"strings"
	"testing"
	"time"

	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// facts returns what show tells people of m, as one text.
func facts(m *manifest.Manifest) string {
	var text strings.Builder
	for _, row := range factRows(m) {
		text.WriteString(strings.Join(row, " ") + "\n")
	}
	return text.String()
}

func TestFactRows(t *testing.T) {
	alias := manifest.TabletAlias{Cell: "zone1", UID: 101}
	started := time.Date(2026, 8, 1, 13, 15, 2, 0, time.UTC)
	mariadb, err := replication.ParsePosition("mariadb:0-1-100,1-2-7")
	if err != nil {
		t.Fatal(err)
	}
	mariadb.SourceFile, mariadb.SourceOffset = "mysql-bin.000004", 815
	tests := []struct {
		name   string
		change func(*manifest.Manifest)
		want   []string
		not    []string
	}{
		{
			"a stopped server", func(m *manifest.Manifest) { m.Engine = manifest.EngineStopped },
			[]string{"engine: stopped", "position: not known", "clean stop: not proved", "marks: none"},
			[]string{"server uuid:", "source:", "binary log:"},
		},
		{
			"MariaDB with a source", func(m *manifest.Manifest) {
				m.Server.Flavor, m.Position, m.PositionKnown = replication.MariaDB, mariadb, true
				m.Source = manifest.Source{Host: "2001:db8::7", Port: 3306}
			},
			[]string{"server: mariadb", "position: 0-1-100,1-2-7", "source: [2001:db8::7]:3306, mysql-bin.000004 at byte 815"},
			[]string{"binary log:"},
		},
		{
			"a server without transactions", func(m *manifest.Manifest) {
				m.Position, m.PositionKnown = replication.Position{Flavor: replication.MySQL}, true
			},
			[]string{"position: no GTIDs"},
			[]string{"not known"},
		},
		{
			"many roots and marks", func(m *manifest.Manifest) {
				m.Roots = []manifest.Root{{Name: "datadir", Path: "/srv/data"}, {Name: "undo", Path: "/srv/undo"}}
				m.Marks = []manifest.Mark{{Kind: "bad-pages", Detail: "one"}, {Kind: "from-the-future"}}
			},
			[]string{"datadir: /srv/data", "undo: /srv/undo", "mark: bad-pages: one", "mark: from-the-future"},
			[]string{"marks: none"},
		},
		{
			"a proof", func(m *manifest.Manifest) {
				m.CleanStop = manifest.CleanStop{Proved: true, Signals: []string{"a", "b"}, LSN: 7}
			},
			[]string{"clean stop: proved at LSN 7: a, b"},
			nil,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := &manifest.Manifest{
				Keyspace: "commerce", Shard: "-80", Name: manifest.NewName(started, alias), TabletAlias: alias,
				Started: started, Finished: started.Add(time.Minute), Server: manifest.Server{Flavor: replication.MySQL},
			}
			test.change(m)
			got := facts(m)
			for _, line := range test.want {
				if !strings.Contains(got, line+"\n") {
					t.Errorf("got\n%s\nwant the line %q", got, line)
				}
			}
			for _, text := range test.not {
				if strings.Contains(got, text) {
					t.Errorf("got\n%s\nwant no %q", got, text)
				}
			}
		})
	}
}

func TestMarkKinds(t *testing.T) {
	tests := []struct {
		marks []manifest.Mark
		want  string
	}{
		{nil, "-"},
		{[]manifest.Mark{{Kind: "a", Detail: "x"}}, "a"},
		{[]manifest.Mark{{Kind: "a"}, {Kind: "b"}}, "a,b"},
	}
	for _, test := range tests {
		if got := markKinds(test.marks); got != test.want {
			t.Errorf("%v: got %q, want %q", test.marks, got, test.want)
		}
	}
}

func TestRate(t *testing.T) {
	tests := []struct {
		bytes   int64
		seconds float64
		want    string
	}{
		{1 << 30, 10, "102 MiB"},
		{1 << 30, 0, "0 B"},
		{0, 5, "0 B"},
	}
	for _, test := range tests {
		if got := rate(test.bytes, test.seconds); got != test.want {
			t.Errorf("%d in %v s: got %q, want %q", test.bytes, test.seconds, got, test.want)
		}
	}
}
