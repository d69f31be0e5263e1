package mysqlbackup

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/shardseed/shardseed/cas"
)

// A file that can't be read is no reason to refuse; one that is missing is.
func TestRefusal(t *testing.T) {
	for err, refused := range map[error]bool{
		errors.New("innodb_page_size: 12"):                           true,
		&fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}:    true,
		&fs.PathError{Op: "readdirent", Path: "x", Err: syscall.EIO}: false,
		fmt.Errorf("list x: %w", syscall.ESTALE):                     false,
	} {
		if got := refusal(err); errors.Is(got, ErrRefused) != refused || !errors.Is(got, err) {
			t.Errorf("%v: refused %t, want %t", got, !refused, refused)
		}
	}
	if err := refusal(nil); err != nil {
		t.Errorf("nothing: %v", err)
	}
}

// Chunks that are nowhere are damage; those that can't be found for want of a pack
// that can't be read may be there.
func TestDamaged(t *testing.T) {
	missing := fmt.Errorf("chunk 1234: %w", cas.ErrNotFound)
	if err := damaged(missing); !errors.Is(err, cas.ErrCorrupt) || !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	if err := damaged(errors.Join(missing, &fs.PathError{Op: "open", Path: "pack", Err: syscall.EIO})); errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("unreadable: %v", err)
	}
}
