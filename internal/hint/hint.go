// Package hint carries advice for the operator inside an error: what to do
// next, kept apart from what went wrong, so that only the command line decides
// how both are shown.
package hint

import "errors"

// hinted is an error with one piece of advice.
type hinted struct {
	err  error
	text string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }

// Wrap returns err with text as advice; its message is err's own. A nil err
// stays nil. text is a sentence without a full stop: usually the next command.
func Wrap(err error, text string) error {
	if err == nil {
		return nil
	}
	return &hinted{err: err, text: text}
}

// Of returns the advice of err and of all that it wraps, outermost first,
// each text once.
func Of(err error) []string {
	var texts []string
	seen := map[string]bool{}
	walk(err, func(h *hinted) {
		if !seen[h.text] {
			seen[h.text] = true
			texts = append(texts, h.text)
		}
	})
	return texts
}

func walk(err error, visit func(*hinted)) {
	for err != nil {
		if h, ok := err.(*hinted); ok { //nolint:errorlint // the chain is walked here, link by link
			visit(h)
		}
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range joined.Unwrap() {
				walk(e, visit)
			}
			return
		}
		err = errors.Unwrap(err)
	}
}
