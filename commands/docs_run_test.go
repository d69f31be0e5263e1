package commands_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

var blockPattern = regexp.MustCompile("(?ms)^```(sh|yaml)\n(.*?)^```$")

// blocksOf returns the blocks of one language in a document.
func blocksOf(ts *testscript.TestScript, document, language string) []string {
	text, err := os.ReadFile(filepath.Join(ts.Getenv("DOCS"), document))
	ts.Check(err)
	var blocks []string
	for _, match := range blockPattern.FindAllStringSubmatch(string(text), -1) {
		if match[1] == language {
			blocks = append(blocks, match[2])
		}
	}
	if len(blocks) == 0 {
		ts.Fatalf("%s has no block of %s", document, language)
	}
	return blocks
}

// configure is "configure DOCUMENT KEY=VALUE...": it writes the document's
// configuration to shardseed.yaml, with the values of this story. A key that
// begins with + is added.
func configure(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: configure DOCUMENT KEY=VALUE...")
	}
	text := blocksOf(ts, args[0], "yaml")[0]
	for _, arg := range args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(key) + `: .*$`)
		switch added, ok := strings.CutPrefix(key, "+"); {
		case ok:
			text += fmt.Sprintf("%s: %s\n", added, value)
		case !line.MatchString(text):
			ts.Fatalf("%s does not configure %q", args[0], key)
		default:
			text = line.ReplaceAllLiteralString(text, key+": "+value)
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs("shardseed.yaml"), []byte(text), 0o600))
}

// runBlocks is "blocks DOCUMENT": it runs the commands of the document's shell
// blocks, one block after the other. Each must succeed.
func runBlocks(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: blocks DOCUMENT")
	}
	for _, block := range blocksOf(ts, args[0], "sh") {
		ts.Logf("%s", block)
		if err := ts.Exec("sh", "-e", "-c", block); err != nil {
			ts.Fatalf("%s: %v", block, err)
		}
	}
}
