package check_test

import (
	"context"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/check"
)

// flaky is a backend of which one call on a blob fails: the opening or a read.
type flaky struct {
	cas.Backend
	name  string
	calls int // until it fails
}

func (f *flaky) fails(name string) bool {
	if name != f.name {
		return false
	}
	f.calls--
	return f.calls == 0
}

// Open implements cas.Backend.
func (f *flaky) Open(ctx context.Context, name string) (cas.BlobReader, error) {
	if f.fails(name) {
		return nil, unix.EIO
	}
	blob, err := f.Backend.Open(ctx, name)
	return &flakyBlob{blob, f, name}, err
}

type flakyBlob struct {
	cas.BlobReader
	backend *flaky
	name    string
}

// ReadAt implements io.ReaderAt.
func (b *flakyBlob) ReadAt(buf []byte, offset int64) (int, error) {
	if b.backend.fails(b.name) {
		return 0, unix.EIO
	}
	return b.BlobReader.ReadAt(buf, offset)
}

// TestRepairTransient has one call fail on a good pack while a repair runs: the pack
// is read again, and not marked.
func TestRepairTransient(t *testing.T) {
	for calls := 1; ; calls++ {
		s, before := history(t), new(found)
		backend := &flaky{Backend: s.backend, name: name(s.own(t, 0, cas.KindData).ID), calls: calls}
		var err error
		if s.repo, err = cas.Open(t.Context(), backend); err != nil {
			t.Fatal(err)
		}
		result, err := check.Repair(t.Context(), check.RepairOptions{Options: s.options(before), Random: s.noise(8), After: new(found)})
		if err != nil || len(result.Marked) > 0 || !result.After.Whole() {
			t.Errorf("call %d: %+v, %v", calls, result, err)
		}
		if backend.calls > 0 { // none has failed
			if calls < 3 {
				t.Errorf("only %d calls", calls)
			}
			return
		}
		if warned := strings.Join(before.warned, "\n"); !strings.Contains(warned, "could not be read, and then it could") {
			t.Errorf("call %d: %q", calls, warned)
		}
	}
}
