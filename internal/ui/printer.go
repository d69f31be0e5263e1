// Package ui is the only writer to the process's standard output and standard
// error. The answer of a command goes to standard output, as text or, when
// asked for, as lines of JSON with a "type"; steps, progress, warnings and
// errors go to standard error.
package ui

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"
)

// Program is the name that begins every line of text on standard error.
const Program = "shardseed"

// Options say where a Printer writes and in which form. Stdout, Stderr and Now
// must be set; the zero value of the rest means text for people.
type Options struct {
	Stdout, Stderr io.Writer
	Now            func() time.Time
	JSON           bool              // standard output is lines of JSON
	LogJSON        bool              // standard error is lines of JSON
	Quiet          bool              // no steps and no progress; warnings and errors stay
	Width          func() int        // columns of the terminal behind Stderr; nil: it is none
	OnStep         func(step string) // called at the start of every Step; nil: nobody listens
}

// Printer writes the answer of one run and tells what happens meanwhile. It is
// safe for concurrent use. What cannot be written to standard error is
// dropped: a closed terminal must not end a backup half-way.
type Printer struct {
	opts Options

	mu       sync.Mutex // guards what follows, and both streams
	answered error      // the first failure to write standard output
	bar      *bar       // what Begin began and End has not ended; nil: nothing
	drawn    int        // columns of the progress line now on the terminal
}

// New returns a Printer that writes as opts say.
func New(opts Options) *Printer {
	if opts.Width == nil {
		opts.Width = terminalWidth(opts.Stderr)
	}
	return &Printer{opts: opts}
}

// Object writes v as one line of JSON to standard output if JSON was asked
// for, else nothing. v should marshal to an object with a field "type".
func (p *Printer) Object(v any) {
	if !p.opts.JSON {
		return
	}
	p.answer(encode(v))
}

// Text writes a line to standard output, unless JSON was asked for. What may hold
// line feeds and must not make lines of its own goes through [Line] first.
func (p *Printer) Text(format string, args ...any) {
	if p.opts.JSON {
		return
	}
	p.answer(lines(fmt.Sprintf(format, args...)) + "\n")
}

// Table writes rows below head to standard output, in aligned columns, unless
// JSON was asked for. Every row should be as long as head; a nil head is left
// out.
func (p *Printer) Table(head []string, rows [][]string) {
	if p.opts.JSON {
		return
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	if head != nil {
		rows = append([][]string{head}, rows...)
	}
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = Line(cell)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	if err := w.Flush(); err != nil {
		panic("ui: internal error: a strings.Builder failed: " + err.Error())
	}
	var lines strings.Builder
	for line := range strings.Lines(text.String()) {
		lines.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	p.answer(lines.String())
}

// Err returns the first failure to write standard output, or nil. A reader
// that went away early, as head does, is no failure.
func (p *Printer) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answered == nil || errors.Is(p.answered, syscall.EPIPE) {
		return nil
	}
	return fmt.Errorf("write output: %w", p.answered)
}

// answer writes text to standard output, after the progress line was wiped.
func (p *Printer) answer(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	if p.answered == nil {
		_, p.answered = io.WriteString(p.opts.Stdout, text)
	}
}

// event is one line of JSON on standard error. Warnings and errors have a
// message, steps a name and a detail.
type event struct {
	Type     string   `json:"type"`
	Time     string   `json:"time"` // RFC 3339, UTC
	Name     string   `json:"name,omitempty"`
	Detail   string   `json:"detail,omitempty"`
	Message  string   `json:"message,omitempty"`
	Hints    []string `json:"hints,omitempty"`
	ExitCode int      `json:"exit_code,omitempty"`
	*Rate
}

// Step says that the step with that name begins, with a detail for people,
// which may be empty.
func (p *Printer) Step(name, detail string) {
	if p.opts.OnStep != nil {
		p.opts.OnStep(name)
	}
	if p.opts.Quiet {
		return
	}
	text := name
	if detail != "" {
		text += ": " + detail
	}
	p.log(event{Type: "step", Name: name, Detail: detail}, text)
}

// Warn says that something is not as it should be, though the run goes on.
func (p *Printer) Warn(text string) {
	p.log(event{Type: "warning", Message: text}, "warning: "+text)
}

// Failure is how a run that failed ends.
type Failure struct {
	Messages []string // what is wrong, one fact each; at least one
	Hints    []string // what to do next; may be empty
	ExitCode int
}

// Fail says why the run failed: on standard error, and as the last object of
// standard output if JSON was asked for.
func (p *Printer) Fail(f Failure) {
	message := strings.Join(f.Messages, "; ")
	lines := make([]string, 0, len(f.Messages)+len(f.Hints))
	for _, m := range f.Messages {
		lines = append(lines, "error: "+m)
	}
	for _, h := range f.Hints {
		lines = append(lines, "hint: "+h)
	}
	p.log(event{Type: "error", Message: message, Hints: f.Hints, ExitCode: f.ExitCode}, lines...)
	hints := f.Hints
	if hints == nil {
		hints = []string{}
	}
	p.Object(struct {
		Type     string   `json:"type"`
		Message  string   `json:"message"`
		Hints    []string `json:"hints"`
		ExitCode int      `json:"exit_code"`
	}{"error", message, hints, f.ExitCode})
}

// log writes e or, for people, texts to standard error.
func (p *Printer) log(e event, texts ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	p.logLocked(e, texts...)
}

func (p *Printer) logLocked(e event, texts ...string) {
	if p.opts.LogJSON {
		e.Time = p.opts.Now().UTC().Format(time.RFC3339)
		fmt.Fprint(p.opts.Stderr, encode(e))
		return
	}
	for _, line := range texts {
		// A message of several lines, such as the end of a server's log,
		// stays recognizable as one.
		line = strings.ReplaceAll(strings.TrimRight(lines(line), "\n"), "\n", "\n"+Program+":   ")
		fmt.Fprintf(p.opts.Stderr, "%s: %s\n", Program, line)
	}
}

// encode returns v as a line of JSON.
func encode(v any) string {
	var line strings.Builder
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("ui: internal error: an answer has no JSON form: " + err.Error())
	}
	return jsonSafe(line.String())
}
