package ui

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/term"
)

// How often progress is told: on a terminal in place, else as a line, which
// ends up in a mail or a journal.
const (
	terminalEvery = 200 * time.Millisecond
	lineEvery     = 15 * time.Second
)

// bar is the progress of one piece of work.
type bar struct {
	what  string
	total int64 // bytes; 0: not known
	done  int64 // bytes
	begun time.Time
	told  time.Time
}

// Rate is how far a piece of work has come, as it stands in JSON.
type Rate struct {
	What           string  `json:"what"`
	DoneBytes      int64   `json:"done_bytes"`
	TotalBytes     int64   `json:"total_bytes"` // 0: not known
	ElapsedSeconds float64 `json:"elapsed_seconds"`
	BytesPerSecond int64   `json:"bytes_per_second"`
}

// Begin says that work on total bytes begins; 0 if their number is not known.
// One piece of work runs at a time: Begin ends the one before.
func (p *Printer) Begin(what string, total int64) {
	p.End()
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.opts.Now()
	p.bar = &bar{what: what, total: total, begun: now, told: now}
}

// Advance says that n more bytes are done. It is cheap enough to be called for
// every chunk, from many goroutines.
func (p *Printer) Advance(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil {
		return
	}
	p.bar.done += n
	every := lineEvery
	if p.inPlace() {
		every = terminalEvery
	}
	now := p.opts.Now()
	if p.opts.Quiet || now.Sub(p.bar.told) < every {
		return
	}
	p.bar.told = now
	p.tell(now)
}

// End says that the work is over, and how fast it was. Without a Begin it does
// nothing.
func (p *Printer) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.bar
	p.bar = nil
	p.wipe()
	if b == nil || p.opts.Quiet {
		return
	}
	rate := b.rate(p.opts.Now())
	p.logLocked(event{Type: "progress", Rate: &rate}, rate.summary())
}

// inPlace tells whether progress is one line that is written again and again.
func (p *Printer) inPlace() bool { return p.opts.Width != nil && !p.opts.LogJSON }

// tell writes the progress line; p.mu is held.
func (p *Printer) tell(now time.Time) {
	rate := p.bar.rate(now)
	if !p.inPlace() {
		p.logLocked(event{Type: "progress", Rate: &rate}, rate.text())
		return
	}
	line := Program + ": " + rate.text()
	if width := p.opts.Width() - 1; len(line) > width {
		line = line[:max(width, 0)]
	}
	blank := strings.Repeat(" ", max(p.drawn-len(line), 0))
	fmt.Fprint(p.opts.Stderr, "\r"+line+blank)
	p.drawn = len(line)
}

// wipe takes the progress line off the terminal; p.mu is held.
func (p *Printer) wipe() {
	if p.drawn == 0 {
		return
	}
	fmt.Fprint(p.opts.Stderr, "\r"+strings.Repeat(" ", p.drawn)+"\r")
	p.drawn = 0
}

func (b *bar) rate(now time.Time) Rate {
	elapsed := now.Sub(b.begun).Seconds()
	r := Rate{What: b.what, DoneBytes: b.done, TotalBytes: b.total, ElapsedSeconds: elapsed}
	if elapsed > 0 {
		r.BytesPerSecond = int64(float64(b.done) / elapsed)
	}
	return r
}

// text is how far the work is, for people.
func (r Rate) text() string {
	text := r.What + ": " + Bytes(r.DoneBytes)
	if r.TotalBytes > 0 {
		percent := math.Floor(100 * min(float64(r.DoneBytes)/float64(r.TotalBytes), 1))
		text += fmt.Sprintf(" of %s, %.0f%%", Bytes(r.TotalBytes), percent)
	}
	text += ", " + Bytes(r.BytesPerSecond) + "/s"
	if left := r.TotalBytes - r.DoneBytes; left > 0 && r.BytesPerSecond > 0 {
		text += ", " + Seconds(float64(left)/float64(r.BytesPerSecond)) + " left"
	}
	return text
}

// summary is how the work went, for people.
func (r Rate) summary() string {
	return fmt.Sprintf("%s: %s in %s, %s/s", r.What, Bytes(r.DoneBytes), Seconds(r.ElapsedSeconds), Bytes(r.BytesPerSecond))
}

// Bytes is a size for people, such as "4.2 GiB"; a negative one is nonsense
// and shown as such.
func Bytes(n int64) string {
	if n < 0 {
		return fmt.Sprintf("%d B", n)
	}
	return humanize.IBytes(uint64(n))
}

// Seconds is a duration for people, such as "0.3s", "42s" or "1h2m".
func Seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return d.Round(time.Second).String()
	default:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
}

// terminalWidth returns what asks the terminal behind w for its columns, or
// nil if w is no terminal.
func terminalWidth(w io.Writer) func() int {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return func() int {
		width, _, err := term.GetSize(int(file.Fd()))
		if err != nil || width <= 0 {
			return 80
		}
		return width
	}
}
