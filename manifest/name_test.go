package manifest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseKeyspace(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"commerce", "a", "_x", "A-b_9", strings.Repeat("k", 64)} {
		if got, err := ParseKeyspace(good); err != nil || string(got) != good {
			t.Errorf("ParseKeyspace(%q): got %q, %v", good, got, err)
		}
	}
	for _, bad := range []string{"", ".", "..", "a/b", "a.b", "-a", "a b", "ä", "a\x00", "a\n", strings.Repeat("k", 65)} {
		if got, err := ParseKeyspace(bad); err == nil {
			t.Errorf("ParseKeyspace(%q): got %q, want an error", bad, got)
		}
	}
}

func TestParseShard(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Shard{
		"0": "0", "-": "-", "-80": "-80", "80-": "80-", "40-80": "40-80", "4000-40ff": "4000-40ff",
		"-C0": "-c0", "c0-FF": "c0-ff", "main": "main", "A": "A", "x_1": "x_1", "40-4001": "40-4001",
	} {
		if got, err := ParseShard(in); err != nil || got != want {
			t.Errorf("ParseShard(%q): got %q, %v, want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{
		"", ".", "a/b", "-8", "8-", "80-40", "80-80", "xx-yy", "-80-", "--", "40-80-c0", "0x40-", " ", "-80\n",
		"-" + strings.Repeat("00", 40),
	} {
		if got, err := ParseShard(bad); err == nil {
			t.Errorf("ParseShard(%q): got %q, want an error", bad, got)
		}
	}
}

func TestParseKeyspaceShard(t *testing.T) {
	t.Parallel()
	keyspace, shard, err := ParseKeyspaceShard("commerce/-80")
	if err != nil || keyspace != "commerce" || shard != "-80" {
		t.Errorf("got %q, %q, %v", keyspace, shard, err)
	}
	for _, bad := range []string{"", "commerce", "commerce/", "/0", "commerce/0/1", "a.b/0", "commerce//0", "commerce/80-40"} {
		if k, s, err := ParseKeyspaceShard(bad); err == nil {
			t.Errorf("ParseKeyspaceShard(%q): got %q, %q, want an error", bad, k, s)
		}
	}
}

func TestTabletAlias(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"zone1-101":                    "zone1-0000000101",
		"zone1-0000000101":             "zone1-0000000101",
		"zone1-0":                      "zone1-0000000000",
		"us_east_1a-7":                 "us_east_1a-0000000007",
		"z-4294967295":                 "z-4294967295",
		"UPPER-1":                      "UPPER-0000000001",
		"0-1":                          "0-0000000001",
		"test-0000000000001":           "",
		"z-4294967296":                 "",
		"z-9999999999":                 "",
		"z":                            "",
		"z-":                           "",
		"-1":                           "",
		"":                             "",
		"z-x":                          "",
		"z-+1":                         "",
		"us-east-1a-7":                 "us-east-1a-0000000007",
		"eu.west.1-7":                  "eu.west.1-0000000007",
		"a-1-2":                        "a-1-0000000002",
		"z--1":                         "z--0000000001",
		"z.-1":                         "z.-0000000001",
		"zone1-101-":                   "",
		"zone1-101.":                   "",
		"-a-1":                         "",
		".a-1":                         "",
		"..-1":                         "",
		"--1":                          "",
		strings.Repeat("c", 65) + "-1": "",
		strings.Repeat("c", 64) + "-1": strings.Repeat("c", 64) + "-0000000001",
		"a/b-1":                        "",
		"zone1-1\n":                    "",
	} {
		got, err := ParseTabletAlias(in)
		if want == "" {
			if err == nil {
				t.Errorf("ParseTabletAlias(%q): got %v, want an error", in, got)
			}
			continue
		}
		if err != nil || got.String() != want {
			t.Errorf("ParseTabletAlias(%q): got %v, %v, want %s", in, got, err, want)
		}
	}
	a, _ := ParseTabletAlias("zone1-101")
	b, _ := ParseTabletAlias("zone1-0000000101")
	if a != b || a.Short() != "zone1-101" {
		t.Errorf("got %v and %v, short %q, want the same alias and zone1-101", a, b, a.Short())
	}
}

func TestAliasText(t *testing.T) {
	t.Parallel()
	var a TabletAlias
	if err := json.Unmarshal([]byte(`"zone1-101"`), &a); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(a)
	if err != nil || string(text) != `"zone1-0000000101"` {
		t.Errorf("got %s, %v", text, err)
	}
	if text, err := json.Marshal(TabletAlias{}); err == nil {
		t.Errorf("the zero alias: got %s, want an error", text)
	}
	if err := a.UnmarshalText([]byte("x")); err == nil || a.UID != 101 {
		t.Errorf("after a failure: got %v, %v, want the old value and an error", a, err)
	}
}

func TestName(t *testing.T) {
	t.Parallel()
	alias := TabletAlias{Cell: "zone1", UID: 101}
	moment := time.Date(2026, 8, 1, 15, 15, 2, 999, time.FixedZone("", 7200))
	name := NewName(moment, alias)
	const want = "2026-08-01.131502.zone1-0000000101"
	if got := name.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	const dotted = "2026-08-01.131502.eu.west-1-0000000101"
	if got, err := ParseName(dotted); err != nil || got != NewName(moment, TabletAlias{Cell: "eu.west-1", UID: 101}) || got.String() != dotted {
		t.Errorf("ParseName(%q): got %v, %v", dotted, got, err)
	}
	for _, in := range []string{want, "2026-08-01.131502.zone1-101"} {
		if got, err := ParseName(in); err != nil || got != name {
			t.Errorf("ParseName(%q): got %v, %v, want %v", in, got, err, name)
		}
	}
	if got, want := Key("commerce", "-80", name).String(), "commerce/-80/"+want; got != want {
		t.Errorf("Key: got %q, want %q", got, want)
	}
	for _, bad := range []string{
		"", "x", want[1:], want + "/", want + ".", "2026-13-01.131502.zone1-1", "2026-02-30.131502.zone1-1",
		"2026-08-01.246060.zone1-1", "2026-08-01.131502", "2026-08-01.131502.", "2026-08-01.131502-zone1-1",
		"2026-08-01.131502.zone1", "2026-08-01 131502.zone1-1", "+026-08-01.131502.zone1-1", "../26-08-01.131502.zone1-1",
	} {
		if got, err := ParseName(bad); err == nil {
			t.Errorf("ParseName(%q): got %v, want an error", bad, got)
		}
	}
}

func TestNameText(t *testing.T) {
	t.Parallel()
	var n Name
	if err := n.UnmarshalText([]byte("2026-08-01.131502.zone1-101")); err != nil {
		t.Fatal(err)
	}
	text, err := n.MarshalText()
	if err != nil || string(text) != "2026-08-01.131502.zone1-0000000101" {
		t.Errorf("got %s, %v", text, err)
	}
	if err := n.UnmarshalText([]byte("no")); err == nil {
		t.Error("want an error for a bad name")
	}
	n.Time = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)
	if text, err := n.MarshalText(); err == nil {
		t.Errorf("year 12026: got %s, want an error", text)
	}
}

// Every name comes back from its text, and text sorts as time does.
func TestNameOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) Name {
			sec := rapid.Int64Range(0, 250_000_000_000).Draw(t, label)
			uid := rapid.Uint32().Draw(t, label+" uid")
			return NewName(time.Unix(sec, 0), TabletAlias{Cell: rapid.StringMatching(`[A-Za-z0-9_][A-Za-z0-9_.-]{0,7}`).Draw(t, label+" cell"), UID: uid})
		}
		a, b := draw("a"), draw("b")
		back, err := ParseName(a.String())
		if err != nil || back != a {
			t.Fatalf("ParseName(%q): got %v, %v", a, back, err)
		}
		if c := a.Time.Compare(b.Time); c != 0 && c != a.Compare(b) {
			t.Fatalf("%s and %s: got %d, want %d", a, b, a.Compare(b), c)
		}
		texts := []string{a.String(), b.String()}
		slices.Sort(texts)
		if first := texts[0]; (a.Compare(b) <= 0) != (first == a.String()) {
			t.Fatalf("%s and %s compare otherwise than their texts", a, b)
		}
	})
}

func FuzzParseNames(f *testing.F) {
	for _, seed := range []string{"commerce/-80", "zone1-101", "2026-08-01.131502.zone1-0000000101", "2026-08-01.131502.a-1.b-0-2", "80-", "\xff/\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseName(s); err == nil {
			if back, err := ParseName(n.String()); err != nil || back != n {
				t.Errorf("%q reads as %v, which reads as %v, %v", s, n, back, err)
			}
		}
		if k, sh, err := ParseKeyspaceShard(s); err == nil {
			k2, sh2, err := ParseKeyspaceShard(string(k) + "/" + string(sh))
			if err != nil || k2 != k || sh2 != sh {
				t.Errorf("%q reads as %q/%q, which reads as %q/%q, %v", s, k, sh, k2, sh2, err)
			}
		}
		if a, err := ParseTabletAlias(s); err == nil {
			if back, err := ParseTabletAlias(a.Short()); err != nil || back != a {
				t.Errorf("%q reads as %v, which reads as %v, %v", s, a, back, err)
			}
		}
	})
}
