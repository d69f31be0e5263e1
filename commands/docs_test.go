package commands

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

func readContract(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// section returns the text below a heading, up to the next one.
func section(t *testing.T, text, heading string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, "\n"+heading+"\n")
	if !found {
		t.Fatalf("docs/cli.md has no heading %q", heading)
	}
	body, _, _ := strings.Cut(rest, "\n##")
	return body
}

func theApp() *cli.App { return (&run{}).app() }

func TestDocumentedExitCodes(t *testing.T) {
	rows := regexp.MustCompile(`(?m)^\| (\d+ \| .*) \|$`).FindAllStringSubmatch(section(t, readContract(t), "## Exit codes"), -1)
	var got, want []string
	for _, row := range rows {
		got = append(got, row[1])
	}
	for _, row := range exitTable() {
		want = append(want, fmt.Sprintf("%d | %s", row.code, row.meaning))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/cli.md, code - docs +:\n%s", diff)
	}
}

// documentedFlags returns the first names in the flag tables of a section.
func documentedFlags(text string) map[string]bool {
	names := map[string]bool{}
	for _, match := range regexp.MustCompile("(?m)^\\| `--([a-z-]+)").FindAllStringSubmatch(text, -1) {
		names[match[1]] = true
	}
	return names
}

func flagNames(flags []cli.Flag) map[string]bool {
	names := map[string]bool{}
	for _, f := range flags {
		names[f.Names()[0]] = true
	}
	return names
}

func TestDocumentedFlags(t *testing.T) {
	app, text := theApp(), readContract(t)
	globals := flagNames(app.Flags)
	globals[helpWord] = true
	if diff := cmp.Diff(globals, documentedFlags(section(t, text, "## Global flags"))); diff != "" {
		t.Errorf("global flags, code - docs +:\n%s", diff)
	}
	headings := map[string]bool{}
	walkCommands(app.Commands, "", func(path string, c *cli.Command) {
		headings[path] = true
		body := section(t, text, "### "+path)
		if diff := cmp.Diff(flagNames(c.Flags), documentedFlags(body)); diff != "" {
			t.Errorf("%s: flags, code - docs +:\n%s", path, diff)
		}
		for _, part := range []string{"\n    shardseed " + path, "\nExample: `shardseed " + path, "\nJSON: "} {
			if !strings.Contains("\n"+body, part) {
				t.Errorf("%s: docs/cli.md lacks %q", path, part)
			}
		}
	})
	for _, match := range regexp.MustCompile(`(?m)^### (.*)$`).FindAllStringSubmatch(text, -1) {
		if !headings[match[1]] {
			t.Errorf("docs/cli.md documents %q, which does not exist", match[1])
		}
	}
}

// Every flag that is named anywhere in the contract exists, and so does every
// variable of the environment.
func TestDocumentedNamesExist(t *testing.T) {
	table, text := newFlagTable(theApp()), readContract(t)
	for _, match := range regexp.MustCompile("`-{1,2}([a-z][a-z_-]+)[`= ]").FindAllStringSubmatch(text, -1) {
		if name := match[1]; name != "switch" && name != "flag" && table.lookup(name) == nil {
			t.Errorf("docs/cli.md names the flag %q, which does not exist", name)
		}
	}
	for _, known := range table {
		if visible, ok := known.flag.(cli.DocGenerationFlag); ok {
			for _, name := range visible.GetEnvVars() {
				if !strings.Contains(text, "`"+name+"`") {
					t.Errorf("docs/cli.md lacks the variable %s", name)
				}
			}
		}
	}
}

// exampleLines returns the command lines after "Example:" in a help text.
func exampleLines(text string) []string {
	_, text, _ = strings.Cut(text, "Example:\n")
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", "")) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

// Every command has an example that is a command line of that command.
func TestExamples(t *testing.T) {
	app := theApp()
	check := func(path, line string) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "shardseed" || !strings.HasPrefix(line, "shardseed "+path) {
			t.Errorf("%s: the example is %q", path, line)
			return
		}
		if _, err := arrange(app, words[1:]); err != nil {
			t.Errorf("%s: example %q: %v", path, line, err)
		}
	}
	walkCommands(app.Commands, "", func(path string, c *cli.Command) {
		lines := exampleLines(c.Description)
		if len(lines) == 0 {
			t.Errorf("%s has no example", path)
		}
		for _, line := range lines {
			check(path, line)
		}
		if c.Usage == "" {
			t.Errorf("%s says nothing of itself", path)
		}
	})
	for _, match := range regexp.MustCompile("(?m)^Example: `(.*)`$").FindAllStringSubmatch(readContract(t), -1) {
		check("", match[1])
	}
}

// The units and the crontab of docs/operations.md call the program as it can be
// called.
func TestDocumentedUnits(t *testing.T) {
	text, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^(?:ExecStart=/usr/local/bin/|[-@*0-9].* root  )(shardseed .*)$`).FindAllStringSubmatch(string(text), -1)
	if len(lines) != 5 {
		t.Fatalf("got %d calls, want 5", len(lines))
	}
	app := theApp()
	for _, line := range lines {
		if _, err := arrange(app, strings.Fields(line[1])[1:]); err != nil {
			t.Errorf("%s: %v", line[1], err)
		}
	}
}

var (
	unitPattern       = regexp.MustCompile("(?s)```ini\n# /etc/systemd/system/(\\S+)\n(.*?)```")
	executablePattern = regexp.MustCompile(`(?m)^(Exec\w+=\+?)/\S+`)
)

// systemd takes every unit of the documentation, with programs that are there
// in place of a host's, and has nothing to say about it.
func TestDocumentedUnitsVerify(t *testing.T) {
	dir := t.TempDir()
	units := map[string]string{"mysql.service": "[Service]\nExecStartPre=/bin/false\nExecStart=/bin/true\n"} // which the drop-in is for
	for _, document := range []string{"operations.md", "startup.md"} {
		text, err := os.ReadFile("../docs/" + document)
		if err != nil {
			t.Fatal(err)
		}
		found := unitPattern.FindAllStringSubmatch(string(text), -1)
		if len(found) == 0 || len(found) != strings.Count(string(text), "```ini") {
			t.Errorf("%s: %d of its units say where they belong", document, len(found))
		}
		for _, unit := range found {
			units[unit[1]] = executablePattern.ReplaceAllString(unit[2], "$1/bin/true")
		}
	}
	args := []string{"verify", "--man=no", "--recursive-errors=no"}
	for name, text := range units {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		if filepath.Dir(name) == "." { // the others are read with them
			args = append(args, path)
		}
	}
	if len(args) != 8 {
		t.Errorf("got %d units, want 5", len(args)-3)
	}
	cmd := exec.CommandContext(t.Context(), "systemd-analyze", args...)
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":") // and where the system has its own
	if output, err := cmd.CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, output)
	}
}

// Every value flag names what it takes, and no flag is without a word on it.
func TestFlagUsages(t *testing.T) {
	for name, known := range newFlagTable(theApp()) {
		f, ok := known.flag.(cli.DocGenerationFlag)
		if !ok || name == helpWord || name == "h" {
			continue
		}
		if f.GetUsage() == "" {
			t.Errorf("--%s has no usage text", name)
		}
		if f.TakesValue() && strings.Count(f.GetUsage(), "`") != 2 {
			t.Errorf("--%s: its usage %q does not name its value in backquotes", name, f.GetUsage())
		}
	}
}
