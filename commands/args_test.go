package commands

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/internal/hint"
)

// testApp has every kind of flag and command.
func testApp() *cli.App {
	return &cli.App{
		Name: "shardseed",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "root", Aliases: []string{"file-backup-storage-root"}},
			&cli.BoolFlag{Name: "json"},
			&cli.BoolFlag{Name: "version"},
		},
		Commands: []*cli.Command{
			{Name: "backup", Flags: []cli.Flag{
				&cli.StringFlag{Name: "shard"},
				&cli.StringFlag{Name: "password-file"},
				&cli.BoolFlag{Name: "allow-primary"},
			}},
			{Name: "list"},
			{Name: "primary", Subcommands: []*cli.Command{
				{Name: "set", Flags: []cli.Flag{&cli.BoolFlag{Name: "force"}}},
				{Name: "get"},
			}},
		},
	}
}

func TestArrange(t *testing.T) {
	tests := []struct {
		name string
		args string // separated by blanks
		want string
	}{
		{"nothing to do", "list", "list --"},
		{"global first", "--root /r list a/0", "--root=/r list -- a/0"},
		{"global last", "list a/0 --root /r", "--root=/r list -- a/0"},
		{"global by alias", "list a/0 --file-backup-storage-root=/r", "--root=/r list -- a/0"},
		{"alias in the documented spelling", "list a/0 -file_backup_storage_root /r", "--root=/r list -- a/0"},
		{"one dash", "-json list -root=/r a/0", "--json --root=/r list -- a/0"},
		{"flag before the command", "--shard -80 backup z-1", "backup --shard=-80 -- z-1"},
		{"shard after its flag", "backup z-1 --shard -80", "backup --shard=-80 -- z-1"},
		{"shard after =", "backup --shard=-80 z-1", "backup --shard=-80 -- z-1"},
		{"one dash and shard", "backup -shard -80 z-1", "backup --shard=-80 -- z-1"},
		{"empty value", "backup --shard= z-1", "backup --shard= -- z-1"},
		{"value with =", "backup --shard a=b z-1", "backup --shard=a=b -- z-1"},
		{"switch between", "backup --allow_primary z-1", "backup --allow-primary -- z-1"},
		{"switch off", "backup --allow-primary=false z-1", "backup --allow-primary=false -- z-1"},
		{"password file on standard input", "backup z-1 --password-file -", "backup --password-file=- -- z-1"},
		{"subcommand", "primary --force set a/0 h:1", "primary set --force -- a/0 h:1"},
		{"flag between the words of a command", "primary --root /r set a/0 h:1", "--root=/r primary set -- a/0 h:1"},
		{"end of flags", "list -- --root", "list -- --root"},
		{"end of flags before the command", "-- list --json", "list -- --json"},
		{"one dash alone", "list -", "list -- -"},
		{"last of two", "list --root a --root b", "--root=a --root=b list --"},
		{"value that only looks like a flag", "backup z-1 --shard -x", "backup --shard=-x -- z-1"},
		{"help", "--help", "--help"},
		{"help by its letter", "-h", "--help"},
		{"help as a word", "help", "--help"},
		{"help of a command", "backup --help", "backup --help"},
		{"help before a command", "--help backup z-1", "backup --help"},
		{"help word and command", "help backup", "backup --help"},
		{"help of a group", "help primary", "primary --help"},
		{"help of a subcommand", "primary set -h", "primary set --help"},
		{"help word and subcommand", "help primary set", "primary set --help"},
		{"help wins over missing things", "backup --help --shard 0", "backup --help"},
		{"version", "--version", "version"},
		{"version with JSON", "list --version --json", "--json version"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := arrange(testApp(), strings.Fields(test.args))
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Fields("shardseed " + test.want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("arrange(%s), want - got +:\n%s", test.args, diff)
			}
		})
	}
}

func TestArrangeRefuses(t *testing.T) {
	tests := []struct {
		name, args string
		want       string // of the message
		hint       string
	}{
		{"nothing", "", "no command given; shardseed has: backup, list, primary", `run "shardseed --help"`},
		{"flags only", "--root /r", "no command given", `run "shardseed --help"`},
		{"unknown command", "lst a/0", `unknown command "lst"`, `did you mean "list"`},
		{"unknown command like none", "xyzzy", `unknown command "xyzzy"`, `run "shardseed --help"`},
		{"help of an unknown command", "help lisst", `unknown command "lisst"`, `did you mean "list"`},
		{"unknown flag", "backup --shrad -80", `unknown flag "--shrad"`, "did you mean --shard"},
		{"unknown flag in another spelling", "backup --alow_primary", `unknown flag "--alow_primary"`, "did you mean --allow-primary"},
		{"unknown flag like none", "backup --xyzzy=1", `unknown flag "--xyzzy=1"`, `run "shardseed --help"`},
		{"three dashes", "list ---json", `unknown flag "---json"`, "did you mean --json"},
		{"no name", "list --=x", `unknown flag "--=x"`, `run "shardseed --help"`},
		{"shard as an argument", "list -80", `unknown flag "-80"`, "a shard is given as KEYSPACE/-80 or --shard=-80"},
		{"no value", "list --root", "flag --root needs a value", ""},
		{"flag as value", "backup --shard --root /r", `flag --shard needs a value, but "--root" follows`, "write --shard=--root if that is the value"},
		{"flag with value as value", "backup --shard --root=/r", `but "--root=/r" follows`, "write --shard=--root=/r if that is the value"},
		{"flag of another command", "list a/0 --shard 0", "list has no flag --shard; it belongs to: backup", `run "shardseed list --help"`},
		{"flag of another subcommand", "primary get --force a/0", "primary get has no flag --force; it belongs to: primary set", `run "shardseed primary get --help"`},
		{"no subcommand", "primary", "no command given; shardseed primary has: set, get", `run "shardseed primary --help"`},
		{"unknown subcommand", "primary gett", `unknown command "gett"; shardseed primary has: set, get`, `did you mean "primary get"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := arrange(testApp(), strings.Fields(test.args))
			var usage *usageError
			if !errors.As(err, &usage) {
				t.Fatalf("got %v, %q, want a usage error", err, got)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("message: got %q, want %q in it", err, test.want)
			}
			if hints := strings.Join(hint.Of(err), "|"); hints != test.hint {
				t.Errorf("hints: got %q, want %q", hints, test.hint)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	names := []string{"restore", "recover", "reindex", "rm"}
	tests := map[string]string{"restor": "restore", "recvoer": "recover", "index": "", "": "", "rmm": "rm"}
	for word, want := range tests {
		if got := nearest(word, names); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

// Whatever is typed, the words that reach cli are in its order: flags as one
// word each, and nothing is lost or invented.
func FuzzArrange(f *testing.F) {
	f.Add("--root\n/r\nbackup\n--shard\n-80\nz-1")
	f.Add("primary\nset\n--\n--force")
	f.Add("--help\n-h\n--version=false")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := arrange(testApp(), strings.Split(text, "\n"))
		if err != nil {
			var usage *usageError
			if !errors.As(err, &usage) {
				t.Fatalf("got %v, want a usage error", err)
			}
			return
		}
		if len(got) < 2 || got[0] != "shardseed" {
			t.Fatalf("got %q", got)
		}
		flags := true
		for _, word := range got[1:] {
			flags = flags && word != "--"
			if !flags && word != "--" && !strings.Contains(text, word) {
				t.Errorf("%q was invented", word)
			}
		}
	})
}
