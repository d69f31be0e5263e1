package commands

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/internal/cpus"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/internal/ui"
	"github.com/shardseed/shardseed/mysqlbackup"
)

func TestFinish(t *testing.T) {
	marked := fmt.Errorf("the backup is marked: %w", mysqlbackup.ErrMarked)
	tests := []struct {
		name           string
		err            error
		code           int
		stdout, stderr string
	}{
		{"done", nil, 0, "", ""},
		{
			"failed", hint.Wrap(errors.New("no room"), "make some"), 1,
			`{"type":"error","message":"no room","hints":["make some"],"exit_code":1}` + "\n",
			"shardseed: error: no room\nshardseed: hint: make some\n",
		},
		{"marked is done", marked, 3, "", "shardseed: warning: the backup is marked: marked\n"},
		{
			"marked and not put back", &codedError{errors.Join(marked, errors.New("it lags")), 4}, 4,
			`{"type":"error","message":"the backup is marked: marked; it lags","hints":[],"exit_code":4}` + "\n",
			"shardseed: error: the backup is marked: marked\nshardseed: error: it lags\n",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			r := &run{out: ui.New(ui.Options{Stdout: &stdout, Stderr: &stderr, Now: time.Now, JSON: true})}
			if got := r.finish(t.Context(), test.err); got != test.code {
				t.Errorf("exit code: got %d, want %d", got, test.code)
			}
			if diff := cmp.Diff(test.stdout, stdout.String()); diff != "" {
				t.Errorf("stdout, want - got +:\n%s", diff)
			}
			if diff := cmp.Diff(test.stderr, stderr.String()); diff != "" {
				t.Errorf("stderr, want - got +:\n%s", diff)
			}
		})
	}
}

// settings are the values of one flag of every kind.
type settings struct {
	Root, Primary string
	Force         bool
	Workers       int
	Lag           time.Duration
	Map           []string
}

// A value comes from the command line, else from the environment, else from
// the configuration file, else it is the default, whatever the kind of flag.
func TestWhereValuesComeFrom(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	text := "root: /file\nprimary: file:1\nforce: true\nrestore_concurrency: 2\ncatch_up_lag: 2s\nmap: [/a=/b, '/c,d=/e']\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	fromFile := settings{"/file", "file:1", true, 2, 2 * time.Second, []string{"/a=/b", "/c,d=/e"}}
	tests := []struct {
		name string
		env  string
		args []string
		want settings
	}{
		{"default", "", nil, settings{"", "", false, cpus.Copying(), 10 * time.Second, nil}},
		{"environment", "/env", nil, settings{"/env", "", false, cpus.Copying(), 10 * time.Second, nil}},
		{"file", "", []string{"--config", file}, fromFile},
		{
			"environment before file", "/env",
			[]string{"--config", file},
			settings{"/env", "file:1", true, 2, 2 * time.Second, fromFile.Map},
		},
		{"command line", "/env", []string{
			"--config", file, "--root=/line", "--primary=line:1", "--force=false", "--restore-concurrency=3", "--catch-up-lag=3s", "--map=/x=/y",
		}, settings{"/line", "line:1", false, 3, 3 * time.Second, []string{"/x=/y"}}},
		{
			"by another name", "/env",
			[]string{"--config", file, "-file_backup_storage_root", "/line"},
			settings{"/line", "file:1", true, 2, 2 * time.Second, fromFile.Map},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("SHARDSEED_ROOT", test.env)
			if test.env == "" {
				if err := os.Unsetenv("SHARDSEED_ROOT"); err != nil {
					t.Fatal(err)
				}
			}
			var got settings
			err := with(t, func(_ *run, c *cli.Context) error {
				var k checks
				got = settings{
					checkGlobals(c, &k).root, c.String("primary"), c.Bool("force"),
					count(c, &k, "restore-concurrency", cpus.Copying()), positiveTime(c, &k, "catch-up-lag"), c.StringSlice("map"),
				}
				return k.err(c)
			}, append([]string{"restore", "commerce/-80"}, test.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("want - got +:\n%s", diff)
			}
		})
	}
}

func TestSeems(t *testing.T) {
	tests := []struct {
		args []string
		want bool
	}{
		{nil, false},
		{[]string{"list", "--json"}, true},
		{[]string{"-json"}, true},
		{[]string{"json"}, false},
		{[]string{"--json-lines"}, false},
	}
	for _, test := range tests {
		if got := seems(test.args, "--json"); got != test.want {
			t.Errorf("%q: got %t, want %t", test.args, got, test.want)
		}
	}
}
