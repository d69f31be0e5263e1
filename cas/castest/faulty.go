package castest

import (
	"context"
	"errors"
	"sync"

	"github.com/shardseed/shardseed/cas"
)

// ErrInjected is the error of an operation that a Faulty was told to fail.
var ErrInjected = errors.New("injected fault")

// When says at what moment an operation fails.
type When int

// The moments.
const (
	Before When = iota // the operation has no effect
	After              // it has its effect, but its caller is not told
)

// Faulty is a backend whose n-th operation fails, or all from the n-th on. Operations are the calls that
// reach the store: Put, Stage, Open, List, Remove, a staged blob's Write and
// Publish, and ReadAt. Safe for concurrent use.
type Faulty struct {
	backend cas.Backend

	mu     sync.Mutex // guards what follows
	ops    int
	failAt int // 0: never
	when   When
	dies   bool // all after it fail too, before their effect
}

var _ cas.Backend = (*Faulty)(nil)

// NewFaulty wraps the backend; as yet nothing fails.
func NewFaulty(backend cas.Backend) *Faulty { return &Faulty{backend: backend} }

// FailAt makes the n-th operation from now on fail, counted from 1, once. With
// n = 0 nothing fails. It sets the count of operations back to 0.
func (f *Faulty) FailAt(n int, when When) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops, f.failAt, f.when, f.dies = 0, n, when, false
}

// DieAt is FailAt but that no later operation reaches the store either, as if the
// host had died.
func (f *Faulty) DieAt(n int, when When) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops, f.failAt, f.when, f.dies = 0, n, when, true
}

// Ops returns the number of operations since FailAt.
func (f *Faulty) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// do runs one operation, or not, and fails if it is the one to.
func (f *Faulty) do(op func() error) error {
	f.mu.Lock()
	f.ops++
	fails, dead, when := f.ops == f.failAt, f.dies && f.ops > f.failAt, f.when
	f.mu.Unlock()
	if !fails && !dead {
		return op()
	}
	if fails && when == After {
		_ = op() // its own error, if any, is lost as well
	}
	return ErrInjected
}

// Put implements cas.Backend.
func (f *Faulty) Put(ctx context.Context, name string, data []byte) error {
	return f.do(func() error { return f.backend.Put(ctx, name, data) })
}

// Stage implements cas.Backend.
func (f *Faulty) Stage(ctx context.Context) (cas.Blob, error) {
	var staged cas.Blob
	err := f.do(func() (err error) {
		staged, err = f.backend.Stage(ctx)
		return err
	})
	if err != nil {
		if staged != nil {
			err = errors.Join(err, staged.Discard())
		}
		return nil, err
	}
	return &faultyBlob{staged, f}, nil
}

type faultyBlob struct {
	cas.Blob
	faulty *Faulty
}

func (b *faultyBlob) Write(data []byte) (n int, err error) {
	err = b.faulty.do(func() error {
		n, err = b.Blob.Write(data)
		return err
	})
	return n, err
}

func (b *faultyBlob) Publish(ctx context.Context, name string) error {
	err := b.faulty.do(func() error { return b.Blob.Publish(ctx, name) })
	if errors.Is(err, ErrInjected) {
		err = errors.Join(err, b.Discard())
	}
	return err
}

// Open implements cas.Backend.
func (f *Faulty) Open(ctx context.Context, name string) (cas.BlobReader, error) {
	var blob cas.BlobReader
	err := f.do(func() (err error) {
		blob, err = f.backend.Open(ctx, name)
		return err
	})
	if err != nil {
		if blob != nil {
			err = errors.Join(err, blob.Close())
		}
		return nil, err
	}
	return &faultyReader{blob, f}, nil
}

type faultyReader struct {
	cas.BlobReader
	faulty *Faulty
}

func (r *faultyReader) ReadAt(buf []byte, offset int64) (n int, err error) {
	err = r.faulty.do(func() error {
		n, err = r.BlobReader.ReadAt(buf, offset)
		return err
	})
	if errors.Is(err, ErrInjected) {
		n = 0
	}
	return n, err
}

// List implements cas.Backend.
func (f *Faulty) List(ctx context.Context, dir string) ([]cas.Entry, error) {
	var entries []cas.Entry
	err := f.do(func() (err error) {
		entries, err = f.backend.List(ctx, dir)
		return err
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// Remove implements cas.Backend.
func (f *Faulty) Remove(ctx context.Context, name string) error {
	return f.do(func() error { return f.backend.Remove(ctx, name) })
}
