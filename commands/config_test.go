package commands

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
	"github.com/urfave/cli/v2/altsrc"
)

// configApp has a flag of every kind that a file can hold.
func configApp() *cli.App {
	return &cli.App{
		Flags: []cli.Flag{
			altsrc.NewStringFlag(&cli.StringFlag{Name: "root", Aliases: []string{"file-backup-storage-root"}}),
			&cli.StringFlag{Name: "config"},
		},
		Commands: []*cli.Command{{Name: "backup", Flags: []cli.Flag{
			textFlag("shard", ""),
			switchFlag("allow-primary", ""),
			countFlag("concurrency", "", ""),
			timeFlag("catch-up-lag", time.Second, ""),
			altsrc.NewStringSliceFlag(&cli.StringSliceFlag{Name: "map"}),
		}}},
	}
}

func TestDecodeConfig(t *testing.T) {
	tests := []struct {
		name, text string
		want       map[any]any
	}{
		{"empty", "", map[any]any{}},
		{"comment only", "# nothing yet\n", map[any]any{}},
		{"every kind", `
root: /backups
shard: -80          # a text, though it looks like a number
allow_primary: true
concurrency: 4
catch-up-lag: 90s
map: [/a=/b, "/c=/d"]
`, map[any]any{
			"root": "/backups", "shard": "-80", "allow-primary": true, "concurrency": 4, "catch-up-lag": 90 * time.Second,
			"map": []any{"/a=/b", "/c=/d"},
		}},
		{"alias", "file_backup_storage_root: /r", map[any]any{"root": "/r"}},
		{"shard as written", "shard: 0x10", map[any]any{"shard": "0x10"}},
		{"one of many", "map: /a=/b", map[any]any{"map": []any{"/a=/b"}}},
		{"quoted", `shard: "80-"`, map[any]any{"shard": "80-"}},
		{"no value", "root:", map[any]any{"root": ""}},
		{"JSON is YAML", `{"shard": "0", "concurrency": 2}`, map[any]any{"shard": "0", "concurrency": 2}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := decodeConfig(newFlagTable(configApp()), strings.NewReader(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("want - got +:\n%s", diff)
			}
		})
	}
}

func TestDecodeConfigRefuses(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"no mapping", "- a\n- b\n", "want a mapping from flag names to values"},
		{"text", "hello", "want a mapping from flag names to values"},
		{"not YAML", "root: [", "did not find"},
		{"two documents", "root: /a\n---\nroot: /b\n", "a second document follows the first"},
		{"unknown", "rood: /r", `line 1: no command has a flag "rood"`},
		{"twice", "root: /a\nfile-backup-storage-root: /b", `line 2: "root" is given twice`},
		{"command line only", "config: /x", `line 1: "config" may only stand on the command line`},
		{"list for one", "root: [a]", `line 1: "root": want a single value`},
		{"not a switch", "allow-primary: yes", `want true or false, not "yes"`},
		{"not a number", "concurrency: many", `want a whole number, not "many"`},
		{"not a duration", "catch-up-lag: 10", `want a duration such as 90s or 1h, not "10"`},
		{"list of lists", "map: [[a]]", "want a list of single values"},
		{"mapping for a list", "map: {a: b}", "want a list of single values"},
		{"everything at once", "x: 1\nconcurrency: y", `line 1: no command has a flag "x"; line 2: "concurrency": want a whole number`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := decodeConfig(newFlagTable(configApp()), strings.NewReader(test.text))
			if err == nil {
				t.Fatalf("got %v, want an error", got)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want %q in it", err, test.want)
			}
		})
	}
}

func TestReadConfigNamesTheFile(t *testing.T) {
	_, err := readConfig(newFlagTable(configApp()), t.TempDir()+"/none.yaml")
	var usage *usageError
	if !errors.As(err, &usage) || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("got %v, want a usage error that names the file", err)
	}
}

func FuzzDecodeConfig(f *testing.F) {
	f.Add("root: /backups\nmap: [a, b]\nconcurrency: 4\n")
	f.Add("{a: &x [*x]}")
	f.Add("map: {<<: {a: b}}")
	f.Fuzz(func(t *testing.T, text string) {
		values, err := decodeConfig(newFlagTable(configApp()), strings.NewReader(text))
		if err == nil && values == nil {
			t.Error("neither values nor an error")
		}
	})
}
