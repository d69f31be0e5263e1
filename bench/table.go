package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// table is a table for people, in Markdown that is aligned as plain text. The
// first column is text, the others are numbers.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) {
	t.rows = append(t.rows, cells)
}

// writeTo writes the table. The first left columns are aligned to the left.
func (t *table) writeTo(w io.Writer, left int) {
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, text := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(text), 3)
		}
	}
	writeRow(w, t.head, widths, left)
	rule := make([]string, len(t.head))
	for i, width := range widths {
		rule[i] = strings.Repeat("-", width)
		if i >= left {
			rule[i] = rule[i][1:] + ":"
		}
	}
	writeRow(w, rule, widths, left)
	for _, row := range t.rows {
		writeRow(w, row, widths, left)
	}
}

func writeRow(w io.Writer, cells []string, widths []int, left int) {
	var line strings.Builder
	for i, text := range cells {
		padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text))
		if i < left {
			text += padding
		} else {
			text = padding + text
		}
		line.WriteString("| " + text + " ")
	}
	fmt.Fprintf(w, "%s|\n", line.String())
}

// number shows three digits or more, never an exponent.
func number(v float64) string {
	switch {
	case v < 0.995:
		return fmt.Sprintf("%.2f", v)
	case v < 99.5:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// mebibytes shows bytes as MiB.
func mebibytes(bytes int64) string { return number(float64(bytes) / mib) }

// added shows the MiB that were added; of a restore there are none.
func added(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return mebibytes(bytes)
}

// times shows how many times as much as base a value is; it is empty where one
// of them is nothing.
func times(value, base float64) string {
	if value <= 0 || base <= 0 {
		return ""
	}
	return number(value / base)
}
