package replication

import (
	"fmt"
	"strings"
)

const (
	// maxText bounds what a parser takes, in bytes: several hundred thousand
	// intervals, far beyond what a server in good health holds.
	maxText = 16 << 20
	// clipLength bounds how much of a wrong input an error repeats, in bytes.
	clipLength = 60
	// shortItems is how many intervals or GTIDs a message shows.
	shortItems = 8
	spaces     = " \t\n\v\f\r"
)

// clip shortens text for an error message.
func clip(text string) string {
	if len(text) <= clipLength {
		return text
	}
	return text[:clipLength] + "..."
}

func trim(text string) string { return strings.Trim(text, spaces) }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// more is what stands for the items left out of a short text.
func more(n int, item string) string {
	if n > 1 {
		item += "s"
	}
	return fmt.Sprintf("... (%d more %s)", n, item)
}
