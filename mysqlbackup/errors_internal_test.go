package mysqlbackup

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"
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
