package ui

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
)

// hostile is text that changes a terminal, or what stands on it.
const hostile = "a\x1b]0;title\x07\x1b[2J\rb\bc\x7f\u009b31m\u202egnp.exe\u2028\u2066\ufeff\x00\xff\v\f\U000e0041d"

func TestLine(t *testing.T) {
	for text, want := range map[string]string{
		"":             "",
		"Größe, 大きさ":   "Größe, 大きさ",
		"a\tb\nc\r":    `a\tb\nc\r`,
		"\x1b[31m":     `\x1b[31m`,
		"\xff\xc3":     `\xff\xc3`,
		"\u202e\u009b": `\u202e\u009b`,
		"\ufffd":       "\ufffd",
		`\x1b`:         `\x1b`,
	} {
		if got := Line(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// TestHostileText: nothing that a Printer writes changes the terminal, whatever it
// was given, and JSON gives it back unchanged.
func TestHostileText(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var stdout, stderr bytes.Buffer
		p := New(Options{Stdout: &stdout, Stderr: &stderr, Now: func() time.Time { return time.Unix(0, 0) }, JSON: asJSON, LogJSON: asJSON, Width: func() int { return 80 }})
		p.Text("name: %s", hostile)
		p.Table([]string{"NAME", "NEXT"}, [][]string{{hostile + "\n\tx", "y"}})
		p.Step(hostile, hostile)
		p.Warn(hostile)
		p.Object(map[string]string{"type": "x", "name": strings.ToValidUTF8(hostile, "?")})
		p.Fail(Failure{Messages: []string{hostile + "\nerror: forged"}, Hints: []string{hostile}, ExitCode: 1})
		for name, text := range map[string]string{"stdout": stdout.String(), "stderr": stderr.String()} {
			if text == "" {
				t.Errorf("nothing on %s", name)
			}
			for _, r := range text {
				if r != '\n' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) || r == unicode.ReplacementChar && !asJSON) {
					t.Errorf("%s, JSON %v: %q is in %q", name, asJSON, r, text)
					break
				}
			}
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, "error") || !asJSON && name == "stderr" && !strings.HasPrefix(line, Program+": ") {
					t.Errorf("%s: a forged line: %q", name, line)
				}
			}
		}
		if !asJSON {
			continue
		}
		var object struct{ Name string }
		if err := json.NewDecoder(&stdout).Decode(&object); err != nil || object.Name != strings.ToValidUTF8(hostile, "?") {
			t.Errorf("got %q, %v", object.Name, err)
		}
	}
}
