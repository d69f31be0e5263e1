package ui

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line returns text fit for one line on a terminal: what moves the cursor, changes
// the terminal or the order of the text, or cannot be seen, is written as in a Go
// string. Names of files and what records say may hold anything.
func Line(text string) string { return escape(text, isShown) }

// lines is Line for text that may have several.
func lines(text string) string {
	return escape(text, func(r rune) bool { return r == '\n' || r == '\t' || isShown(r) })
}

// isShown tells what is given out as it is. Characters of formats, such as those
// that reverse the order of what follows, and separators of lines are none.
func isShown(r rune) bool { return unicode.IsGraphic(r) && !unicode.In(r, unicode.Zl, unicode.Zp) }

func escape(text string, shown func(rune) bool) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return !shown(r) || r == utf8.RuneError }) {
		return text
	}
	var out strings.Builder
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRuneInString(text[at:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x%02x`, text[at])
		case shown(r):
			out.WriteRune(r)
		default:
			quoted := fmt.Sprintf("%+q", string(r))
			out.WriteString(quoted[1 : len(quoted)-1])
		}
		at += size
	}
	return out.String()
}

// jsonSafe escapes in a line of JSON what terminals might obey and encoding/json
// leaves as it is. All of it stands in strings.
func jsonSafe(line string) string {
	if !strings.ContainsFunc(line, func(r rune) bool { return r != '\n' && !isShown(r) }) {
		return line
	}
	var out strings.Builder
	for _, r := range line {
		switch {
		case r == '\n' || isShown(r):
			out.WriteRune(r)
		case r > 0xffff:
			high, low := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}
