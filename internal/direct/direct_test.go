package direct

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// open makes a file of so many bytes that the page cache does not hold.
func open(t testing.TB, size int) (*File, []byte) {
	t.Helper()
	content := make([]byte, size)
	random := rand.New(rand.NewPCG(1, uint64(size)))
	for i := range content {
		content[i] = byte(random.Uint32())
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	f := New(file)
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f, content
}

// isDirect tells whether the file is read past the page cache: not in memory
// file systems, whose files are nothing but page cache.
func isDirect(t testing.TB, f *File, size int) bool {
	t.Helper()
	if f.past == nil || f.cached(0, size) {
		t.Logf("%s is always in the page cache", f.Name())
		return false
	}
	return true
}

func TestReadPastTheCache(t *testing.T) {
	f, content := open(t, 3<<20+100)
	past := isDirect(t, f, len(content))
	buf := Buffers(1, 1<<20)[0]
	for at := 0; at < len(content); at += len(buf) {
		data := buf[:min(len(buf), len(content)-at)]
		if n, err := f.ReadAt(data, int64(at)); err != nil || !bytes.Equal(data[:n], content[at:at+len(data)]) {
			t.Fatalf("read at %d: %d bytes, %v, or other bytes", at, n, err)
		}
	}
	if f.off.Load() {
		t.Error("direct I/O was refused")
	}
	if past && f.cached(0, len(content)) {
		t.Error("what was read is in the page cache")
	}
}

// TestReadCached reads what is in the page cache and nowhere else: the disk is
// made to refuse.
func TestReadCached(t *testing.T) {
	f, content := open(t, 1<<20)
	buf := Buffers(1, 1<<20)[0]
	if _, err := f.File.ReadAt(buf, 0); err != nil {
		t.Fatal(err)
	}
	if !f.cached(0, len(buf)) {
		t.Fatal("what was read just now is not in the page cache")
	}
	clear(buf)
	past := f.past
	f.past = os.NewFile(^uintptr(0), "closed")
	_, err := f.ReadAt(buf, 0)
	f.past = past
	if err != nil || !bytes.Equal(buf, content) {
		t.Errorf("read: %v, or other bytes", err)
	}
}

func TestReadEnd(t *testing.T) {
	for _, size := range []int{0, 1, Align - 1, Align, Align + 1, 5*Align + 7} {
		f, content := open(t, size)
		buf := buffer(8 * Align)
		n, err := f.ReadAt(buf, 0)
		if !errors.Is(err, io.EOF) || !bytes.Equal(buf[:n], content) {
			t.Errorf("%d bytes: read %d, %v", size, n, err)
		}
		exact := buf[:size]
		if n, err := f.ReadAt(exact, 0); n != size || err != nil || !bytes.Equal(exact, content) {
			t.Errorf("%d bytes: read %d of exactly that, %v", size, n, err)
		}
		if n, err := f.ReadAt(buf, 8*Align); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("%d bytes: read %d behind the end, %v", size, n, err)
		}
	}
}

// TestLikeAFile compares reads of all kinds with those of a slice.
func TestLikeAFile(t *testing.T) {
	const size = 20*Align + 33
	f, want := open(t, size)
	rapid.Check(t, func(rt *rapid.T) {
		at := rapid.OneOf(rapid.Custom(func(rt *rapid.T) int { return Align * rapid.IntRange(0, size/Align).Draw(rt, "block") }),
			rapid.IntRange(0, size)).Draw(rt, "at")
		length := rapid.OneOf(rapid.Just(size-at), rapid.IntRange(0, size-at)).Draw(rt, "length")
		skip := rapid.SampledFrom([]int{0, 0, 1, 512}).Draw(rt, "skip")
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			rt.Fatal(err)
		}
		buf := buffer(skip + length)[skip:]
		if n, err := f.ReadAt(buf, int64(at)); n != length || err != nil || !bytes.Equal(buf, want[at:at+length]) {
			rt.Fatalf("read %d at %d: %d, %v, or other bytes", length, at, n, err)
		}
	})
}

// TestRefused falls back to the page cache where transfers are refused.
func TestRefused(t *testing.T) {
	f, content := open(t, 2*Align)
	past := f.past
	defer func() { f.past = past }()
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	f.past = os.NewFile(uintptr(pipe[0]), "pipe") // pread fails with ESPIPE
	defer func() { _ = errors.Join(f.past.Close(), unix.Close(pipe[1])) }()
	buf := buffer(2 * Align)
	if n, err := f.ReadAt(buf, 0); n != len(buf) || err != nil || !bytes.Equal(buf, content) {
		t.Errorf("read: %d, %v", n, err)
	}
}

func TestBuffers(t *testing.T) {
	for _, size := range []int{0, 1, Align, Align + 1, 1 << 20, hugePage, hugePage + 1} {
		for _, count := range []int{0, 1, 3} {
			buffers := Buffers(count, size)
			if len(buffers) != count {
				t.Fatalf("%d buffers, want %d", len(buffers), count)
			}
			for i, buf := range buffers {
				if len(buf) != size || cap(buf) != roundUp(size) || !aligned(buf[:cap(buf)], 0) && size > 0 {
					t.Errorf("%d of %d bytes: length %d, capacity %d", count, size, len(buf), cap(buf))
				}
				for n := range buf[:cap(buf)] {
					buf[:cap(buf)][n] = byte(i + 1)
				}
			}
			for i, buf := range buffers { // they do not overlap
				if n := bytes.Count(buf, []byte{byte(i + 1)}); n != size {
					t.Errorf("%d of %d bytes: %d bytes of buffer %d are its own", count, size, n, i)
				}
			}
		}
	}
}

func buffer(size int) []byte { return Buffers(1, size)[0] }
