// Package mem keeps a repository in memory, for tests.
package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/shardseed/shardseed/cas"
)

// Backend is a map of blobs. The zero value is empty and ready.
type Backend struct {
	mu    sync.Mutex        // guards blobs
	blobs map[string][]byte // by name
}

var _ cas.Backend = (*Backend)(nil)

// Put implements cas.Backend.
func (b *Backend) Put(ctx context.Context, name string, data []byte) error {
	if err := errors.Join(ctx.Err(), cas.CheckName(name)); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, taken := b.blobs[name]; taken {
		return fmt.Errorf("%s %w", name, cas.ErrExists)
	}
	b.set(name, data)
	return nil
}

// set stores a copy of data. The caller holds mu.
func (b *Backend) set(name string, data []byte) {
	if b.blobs == nil {
		b.blobs = map[string][]byte{}
	}
	b.blobs[name] = slices.Clone(data)
}

// Stage implements cas.Backend.
func (b *Backend) Stage(ctx context.Context) (cas.Blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &blob{backend: b}, nil
}

type blob struct {
	bytes.Buffer
	backend *Backend
}

// Publish implements cas.Blob.
func (f *blob) Publish(ctx context.Context, name string) error {
	return f.backend.Put(ctx, name, f.Bytes())
}

// Discard implements cas.Blob.
func (f *blob) Discard() error {
	f.Reset()
	return nil
}

// Open implements cas.Backend.
func (b *Backend) Open(ctx context.Context, name string) (cas.BlobReader, error) {
	if err := errors.Join(ctx.Err(), cas.CheckName(name)); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	data, found := b.blobs[name]
	if !found {
		return nil, fmt.Errorf("%s: %w", name, cas.ErrNotFound)
	}
	return reader{bytes.NewReader(data)}, nil
}

type reader struct{ *bytes.Reader }

// Close implements cas.BlobReader.
func (reader) Close() error { return nil }

// Expect implements cas.BlobReader.
func (reader) Expect(int64, int64) {}

// List implements cas.Backend.
func (b *Backend) List(ctx context.Context, dir string) ([]cas.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !fs.ValidPath(dir) {
		return nil, fmt.Errorf("folder name %q is not valid", dir)
	}
	prefix := dir + "/"
	if dir == "." {
		prefix = ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	found := map[cas.Entry]bool{}
	for name := range b.blobs {
		if rest, inside := strings.CutPrefix(name, prefix); inside {
			first, _, deeper := strings.Cut(rest, "/")
			found[cas.Entry{Name: first, Dir: deeper}] = true
		}
	}
	return slices.SortedFunc(maps.Keys(found), func(a, b cas.Entry) int { return strings.Compare(a.Name, b.Name) }), nil
}

// Names returns the names of all blobs, sorted.
func (b *Backend) Names() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.blobs))
}

// Bytes returns a copy of a blob, nil if there is none.
func (b *Backend) Bytes(name string) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.blobs[name])
}

// Overwrite sets a blob whatever is there: what damage does to a store.
func (b *Backend) Overwrite(name string, data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set(name, data)
}

// Remove implements cas.Backend.
func (b *Backend) Remove(ctx context.Context, name string) error {
	if err := errors.Join(ctx.Err(), cas.CheckName(name)); err != nil {
		return err
	}
	b.Drop(name)
	return nil
}

// Drop removes a blob: what an accident does.
func (b *Backend) Drop(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.blobs, name)
}
