package cas

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

// Backend keeps blobs under names: slash-separated paths that CheckName accepts.
// A blob is written once, as a whole, and never changes. All methods are
// safe for concurrent use, also by several processes on one store.
type Backend interface {
	// Put creates the blob durably: when it returns nil, the blob survives a
	// power cut. It returns ErrExists if the name is taken; of several
	// creators one wins. After any other error the blob may be there or not.
	Put(ctx context.Context, name string, data []byte) error

	// Stage starts a blob that has no name yet and is too large for memory.
	// The context covers this call only.
	Stage(ctx context.Context) (Blob, error)

	// Open opens a blob for reading. It returns ErrNotFound if there is none.
	Open(ctx context.Context, name string) (BlobReader, error)

	// List returns what lies directly in the folder, sorted by name, without
	// names that begin with a dot. A folder that does not exist is empty; "."
	// is the top folder. An error in the middle is an error: a listing is
	// complete or refused.
	List(ctx context.Context, dir string) ([]Entry, error)

	// Remove removes the blob durably; that there is none is a success. After
	// an error it may be there or not. Only [Repository.Prune] calls it.
	Remove(ctx context.Context, name string) error
}

// Blob is a staged blob: written in sequence, then published or discarded. One
// goroutine at a time.
type Blob interface {
	io.Writer

	// Publish gives the blob its name, durably, with Put's errors. The blob is
	// finished then, whatever the outcome.
	Publish(ctx context.Context, name string) error

	// Discard drops the blob. After Publish it does nothing.
	Discard() error
}

// BlobReader reads a blob. All methods but Close are safe for concurrent use.
type BlobReader interface {
	io.ReaderAt
	io.Closer
	Size() int64 // bytes

	// Expect says that these bytes will be read soon, so that the store can
	// begin to fetch them. It does not wait, and may do nothing.
	Expect(offset, size int64)
}

// Sweeper is a Backend in which writers leave something behind if they end before
// they give it a name.
type Sweeper interface {
	// Sweep removes what nobody has written to for that long, by the store's
	// own clock. It returns how many files and bytes that were. A writer that
	// comes back after all cannot publish any more, and is told.
	Sweep(ctx context.Context, unused time.Duration) (files int, size int64, err error)
}

// Entry is one name in a folder.
type Entry struct {
	Name string // last part only
	Dir  bool
}

// maxObject bounds every blob that is read as a whole, in bytes.
const maxObject = 64<<20 + 1<<10

// readBlob returns a whole blob of at most limit bytes.
func readBlob(ctx context.Context, b Backend, name string, limit int64) (data []byte, err error) {
	blob, err := b.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	if blob.Size() > limit {
		return nil, &CorruptError{Name: name, Reason: fmt.Sprintf("%d bytes long, at most %d are allowed", blob.Size(), limit)}
	}
	data = make([]byte, blob.Size())
	if err := readFull(blob, data, 0); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// readFull fills buf from offset; it turns a short read into an error.
func readFull(r io.ReaderAt, buf []byte, offset int64) error {
	n, err := r.ReadAt(buf, offset)
	if n == len(buf) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// put creates a blob. A backend that lost the reply to its own success may say
// ErrExists: data holds random bytes, so if they are what is stored, this very
// call stored them.
func put(ctx context.Context, b Backend, name string, data []byte) error {
	err := b.Put(ctx, name, data)
	if !errors.Is(err, ErrExists) {
		return err
	}
	stored, readErr := readBlob(ctx, b, name, maxObject)
	if readErr == nil && string(stored) == string(data) {
		return nil
	}
	return err
}

// exists tells whether a blob has that name.
func exists(ctx context.Context, b Backend, name string) (bool, error) {
	blob, err := b.Open(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, blob.Close()
}

// CheckName refuses a name that no blob can have: one that fs.ValidPath refuses,
// or with a part that begins with a dot. Backends call it.
func CheckName(name string) error {
	if !fs.ValidPath(name) || name[0] == '.' || strings.Contains(name, "/.") {
		return fmt.Errorf("blob name %q is not valid", name)
	}
	return nil
}
