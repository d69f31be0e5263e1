package mysqlbackup

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shardseed/shardseed/internal/direct"
	"github.com/shardseed/shardseed/internal/throttle"
)

// TestBlocks reads ranges of a file of ten and a half blocks, in small blocks.
func TestBlocks(t *testing.T) {
	const size = direct.Align
	content := bytes.Repeat([]byte("0123456789abcdef"), 10*size/16+size/32)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	opened, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	file := direct.New(opened)
	defer func() {
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}()
	blocks := (&copier{gentle: true, chunkSize: size}).newBlockReader()
	defer blocks.close()
	blocks.buffers = direct.Buffers(readers, size)
	length := int64(len(content))
	stop := errors.New("enough")

	// One reader for all, as a worker has: whatever ended one range, the next
	// one is read in full.
	for range 3 {
		for _, span := range [][2]int64{{0, length}, {0, 0}, {2 * size, 7 * size}, {9 * size, length}} {
			var got []byte
			err := blocks.each(t.Context(), file, span[0], span[1], func(at int64, data []byte) error {
				if at != span[0]+int64(len(got)) {
					t.Errorf("block at %d after %d bytes of %v", at, len(got), span)
				}
				got = append(got, data...)
				return nil
			})
			if err != nil || !bytes.Equal(got, content[span[0]:span[1]]) {
				t.Errorf("range %v: %v, or other bytes", span, err)
			}
		}
		if err := blocks.each(t.Context(), file, 0, length, func(at int64, _ []byte) error {
			if at == 3*size {
				return stop
			}
			return nil
		}); !errors.Is(err, stop) {
			t.Errorf("got %v, want the error of use", err)
		}
		var unread *readError
		last := int64(0)
		if err := blocks.each(t.Context(), file, 0, length+1, func(at int64, _ []byte) error {
			last = at
			return nil
		}); !errors.As(err, &unread) || last != 9*size {
			t.Errorf("behind the end: %v after the block at %d, want a read error after %d", err, last, 9*size)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if err := blocks.each(ctx, file, 0, length, func(int64, []byte) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's error", err)
		}
	}
	blocks.limit = throttle.New(1, time.Now)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := blocks.each(ctx, file, 0, length, func(int64, []byte) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for the limit: got %v, want the context's error", err)
	}
}
