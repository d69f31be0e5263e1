package commands

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

func TestDefaultFolders(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/home/x/cache")
	t.Setenv("SHARDSEED_CACHE_DIR", "")
	tests := []struct {
		name         string
		uid          int
		state, home  string // XDG_STATE_HOME, HOME
		cache, notes string
	}{
		{"root", 0, "/elsewhere", "/root", "/var/cache/shardseed", "/var/lib/shardseed"},
		{"user", 1000, "", "/home/x", "/home/x/cache/shardseed", "/home/x/.local/state/shardseed"},
		{"user with a state folder", 1000, "/home/x/state", "/home/x", "/home/x/cache/shardseed", "/home/x/state/shardseed"},
		{"state folder that is not absolute", 1000, "state", "/home/x", "/home/x/cache/shardseed", "/home/x/.local/state/shardseed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("XDG_STATE_HOME", test.state)
			t.Setenv("HOME", test.home)
			var k checks
			if got := defaultCache(&k, test.uid); got != test.cache {
				t.Errorf("cache: got %q, want %q", got, test.cache)
			}
			if got := defaultState(&k, test.uid); got != test.notes {
				t.Errorf("state: got %q, want %q", got, test.notes)
			}
			if len(k.problems) > 0 {
				t.Errorf("problems: %q", k.problems)
			}
		})
	}
}

func TestDefaultFoldersWithoutHome(t *testing.T) {
	for _, name := range []string{"XDG_CACHE_HOME", "XDG_STATE_HOME", "HOME"} {
		t.Setenv(name, "")
	}
	var k checks
	defaultCache(&k, 1000)
	defaultState(&k, 1000)
	wantProblems(t, &usageError{k.problems}, []string{"flag --cache-dir is missing, and there is no default: ", "flag --state-dir is missing, and there is no default: "})
}

func TestGivenFoldersAreMadeAbsolute(t *testing.T) {
	t.Setenv("SHARDSEED_ROOT", "repo")
	t.Setenv("SHARDSEED_CACHE_DIR", "cache")
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	err = with(t, func(_ *run, c *cli.Context) error {
		var k checks
		got := checkGlobals(c, &k)
		want := globals{root: here + "/repo", cacheDir: here + "/cache"}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(globals{})); diff != "" {
			t.Errorf("want - got +:\n%s", diff)
		}
		if got.cache(&k) != want.cacheDir {
			t.Errorf("cache: got %q, want %q", got.cache(&k), want.cacheDir)
		}
		return k.err(c)
	}, "version")
	if err != nil {
		t.Fatal(err)
	}
}

func TestParseChunkSize(t *testing.T) {
	good := map[string]int{"64KiB": 64 << 10, "65536": 64 << 10, "1MiB": 1 << 20, "16 MiB": 16 << 20, "64kib": 64 << 10}
	for text, want := range good {
		var k checks
		if got := parseChunkSize(&k, text); got != want || len(k.problems) > 0 {
			t.Errorf("%q: got %d, %q, want %d", text, got, k.problems, want)
		}
	}
	for _, text := range []string{"", "0", "-64KiB", "32KiB", "65535", "65537", "64KB", "96KiB", "32MiB", "17MiB", "1e30", "16EiB", "x"} {
		var k checks
		if got := parseChunkSize(&k, text); got != 0 || len(k.problems) != 1 {
			t.Errorf("%q: got %d and %d problems, want one problem", text, got, len(k.problems))
		}
	}
}

func TestParseAddress(t *testing.T) {
	good := []string{"db1:1", "db1.example.com:3306", "10.0.0.7:65535", "[2001:db8::7]:3306", "db_1:3306", "[fe80::1%eth0]:3306"}
	for _, text := range good {
		var k checks
		if got := parseAddress(&k, text); got.String() != text || len(k.problems) > 0 {
			t.Errorf("%q: got %q, %q", text, got, k.problems)
		}
	}
	bad := []string{
		"db1", ":3306", "db1:", "db1:0", "db1:65536", "db1:-1", "db1:mysql", "a b:1", "db1/x:1", "2001:db8::7:3306",
		"-db:1", "db-:1", "'db':1", "db;x:1", strings.Repeat("a", 254) + ":1", "[x:1",
	}
	for _, text := range bad {
		var k checks
		if got := parseAddress(&k, text); len(k.problems) != 1 {
			t.Errorf("%q: got %q and %d problems, want one problem", text, got, len(k.problems))
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("db1:3306")
	f.Add("[::1]:1")
	f.Fuzz(func(t *testing.T, text string) {
		var k checks
		addr := parseAddress(&k, text)
		if text == "" || len(k.problems) > 0 {
			return
		}
		var again checks
		if back := parseAddress(&again, addr.String()); back != addr || len(again.problems) > 0 {
			t.Errorf("%q is read as %q, and that as %q, %q", text, addr, back, again.problems)
		}
	})
}

func TestPositionals(t *testing.T) {
	tests := []struct {
		args, names string
		want        string // the problem
	}{
		{"", "", ""},
		{"a/0", "SHARD", ""},
		{"", "SHARD NAME", "SHARD NAME is missing"},
		{"a/0", "SHARD NAME", `NAME is missing after ["a/0"]`},
		{"a/0 b", "SHARD", `only SHARD is wanted, got ["a/0" "b"]`},
		{"a", "", `no argument is wanted, got ["a"]`},
	}
	for _, test := range tests {
		err := with(t, func(_ *run, c *cli.Context) error {
			var k checks
			names := strings.Fields(test.names)
			if got := k.positionals(c, names...); len(got) != len(names) {
				t.Errorf("%q: got %q, want %d words", test.args, got, len(names))
			}
			if got := strings.Join(k.problems, "|"); got != test.want {
				t.Errorf("%q: got %q, want %q", test.args, got, test.want)
			}
			return nil
		}, append([]string{"version"}, strings.Fields(test.args)...)...)
		if err != nil {
			t.Fatal(err)
		}
	}
}
