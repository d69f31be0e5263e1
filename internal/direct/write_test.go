package direct

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// create makes a file to be written, and returns a buffer full of bytes.
func create(t *testing.T, size int) (*Writer, []byte) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	buf := Buffer(size)
	for i := range buf {
		buf[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return NewWriter(file), buf
}

// wantContent closes the file and compares what is in it.
func wantContent(t *testing.T, w *Writer, want []byte) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(w.Name())
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: %d bytes, want %d, or others", err, len(got), len(want))
	}
}

// TestWrite writes pieces of all kinds, one after the other.
func TestWrite(t *testing.T) {
	w, buf := create(t, 8<<20)
	var want []byte
	for _, piece := range [][]byte{
		buf[:1<<20], buf[1<<20 : 3<<20], buf[5<<20 : 5<<20+100], buf[:1], buf[64<<10 : 1<<20],
		make([]byte, 4096-101), buf[2<<20 : 2<<20+leastPast], buf[Align : 3<<20+777], nil,
	} {
		n, err := w.WriteAt(piece, int64(len(want)))
		if err != nil || n != len(piece) {
			t.Fatalf("write %d bytes at %d: %d, %v", len(piece), len(want), n, err)
		}
		want = append(want, piece...)
	}
	wantContent(t, w, want)
}

func TestWritePastTheCache(t *testing.T) {
	w, buf := create(t, 4<<20)
	if _, err := w.WriteAt(buf, 0); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(w.Name())
	if err != nil {
		t.Fatal(err)
	}
	f := New(file)
	if isDirect(t, f, len(buf)) && w.off.Load() {
		t.Error("direct I/O was refused")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	wantContent(t, w, buf)
}

// TestWriteRefused: a file system that takes O_DIRECT and refuses the writes. That
// other errors are told, and not tried again through the page cache, which might
// hide them.
func TestWriteRefused(t *testing.T) {
	w, buf := create(t, 1<<20)
	past := w.past
	score, err := os.OpenFile("/proc/self/oom_score_adj", os.O_WRONLY, 0) // EINVAL for what is no number
	if err != nil {
		t.Fatal(err)
	}
	w.past = score
	if n, err := w.WriteAt(buf, 0); err != nil || n != len(buf) || !w.off.Load() {
		t.Errorf("refused: %d bytes, %v", n, err)
	}
	if err := score.Close(); err != nil {
		t.Fatal(err)
	}
	w.off.Store(false)
	w.past, err = os.Open(w.Name()) // not for writing
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt(buf, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("other error: got %v", err)
	}
	if past != nil {
		if err := past.Close(); err != nil {
			t.Fatal(err)
		}
	}
	wantContent(t, w, buf)
}

// TestWriteWithout: there is nothing past the page cache.
func TestWriteWithout(t *testing.T) {
	w, buf := create(t, 1<<20)
	if w.past != nil {
		if err := w.past.Close(); err != nil {
			t.Fatal(err)
		}
		w.past = nil
	}
	if _, err := w.WriteAt(buf, 0); err != nil {
		t.Fatal(err)
	}
	wantContent(t, w, buf)
}
