package mysqlbackup

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
)

// The kinds of failure on which a caller acts; match them with errors.Is. An
// error of none of them means: failed, and nothing was changed or everything
// was put back.
var (
	// ErrRefused: the preflight found something; nothing was changed.
	ErrRefused = errors.New("refused")
	// ErrNoBackup: the shard has no backup at all.
	ErrNoBackup = errors.New("no backup")
	// ErrNoUsableBackup: there are backups, and none can be used.
	ErrNoUsableBackup = errors.New("no usable backup")
	// ErrBusy: another run works on this server.
	ErrBusy = errors.New("busy")
	// ErrMarked: done, but the backup is marked.
	ErrMarked = errors.New("marked")
	// ErrDrill: a restore drill has shown that something is wrong with the backup.
	ErrDrill = errors.New("drill failed")
	// ErrPutBack: the server is not as it was, or has not caught up. If the run
	// has a result too, its backup is good.
	ErrPutBack = errors.New("not put back")
)

// errUnreachable: somebody does not answer who may do so later.
var errUnreachable = errors.New("unreachable")

// kindError is an error of one of the kinds above; its message is its cause's.
type kindError struct {
	kind  error
	cause error
}

func (e *kindError) Error() string   { return e.cause.Error() }
func (e *kindError) Unwrap() []error { return []error{e.cause, e.kind} }

// as gives err a kind; nil stays nil.
func as(kind, err error) error {
	if err == nil {
		return nil
	}
	return &kindError{kind: kind, cause: err}
}

// refusal gives err the kind [ErrRefused], unless it is the system's: what it kept
// from being seen may be in order.
func refusal(err error) error {
	if isOfSystem(err) {
		return err
	}
	return as(ErrRefused, err)
}

// isOfSystem tells errors of the system, but for files that are missing: they say
// nothing of what the files hold.
func isOfSystem(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && !errors.Is(err, fs.ErrNotExist)
}

// damaged makes damage of an error of chunks that are in no pack: the repository
// lacks what a backup needs, unless a pack could not be read.
func damaged(err error) error {
	if errors.Is(err, cas.ErrNotFound) && !isOfSystem(err) {
		return as(cas.ErrCorrupt, err)
	}
	return err
}

// damagedStore is damaged, with the next command for who does not restore.
func damagedStore(err error) error {
	if err = damaged(err); errors.Is(err, cas.ErrCorrupt) {
		return hint.Wrap(err, "run \"shardseed check\" to see all that is damaged")
	}
	return err
}

func refuse(format string, args ...any) error {
	return as(ErrRefused, fmt.Errorf(format, args...))
}

// unrefused is err without the kind [ErrRefused]: what was refused in the
// middle of a run is a failure.
func unrefused(err error) error {
	if !errors.Is(err, ErrRefused) {
		return err
	}
	plain := errors.New(err.Error())
	for _, text := range hint.Of(err) {
		plain = hint.Wrap(plain, text)
	}
	return plain
}

// refusals collects reasons to refuse, one fact each.
type refusals struct {
	reasons []error
	system  bool // one of them is the system's
}

func (r *refusals) add(format string, args ...any) {
	r.reasons = append(r.reasons, fmt.Errorf(format, args...))
}

// addHint adds a reason with advice.
func (r *refusals) addHint(advice, format string, args ...any) {
	r.reasons = append(r.reasons, hint.Wrap(fmt.Errorf(format, args...), advice))
}

func (r *refusals) addErr(err error) {
	if err != nil {
		r.reasons = append(r.reasons, err)
		r.system = r.system || isOfSystem(err)
	}
}

// err returns all reasons as one refusal, nil if there is none; see [refusal].
func (r *refusals) err() error {
	switch {
	case len(r.reasons) == 0:
		return nil
	case r.system:
		return &listError{r.reasons}
	}
	return as(ErrRefused, &listError{r.reasons})
}

// listError prints several facts on one line.
type listError struct{ errs []error }

func (e *listError) Unwrap() []error { return e.errs }

func (e *listError) Error() string {
	texts := make([]string, len(e.errs))
	for i, err := range e.errs {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}
