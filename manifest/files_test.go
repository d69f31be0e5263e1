package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/shardseed/shardseed/internal/hint"
)

func writeFiles(t testing.TB, files []File) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := WriteFiles(&buf, files); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestFilesRoundTrip(t *testing.T) {
	t.Parallel()
	want := exampleFiles()
	shuffled := exampleFiles()
	slices.Reverse(shuffled)
	data := writeFiles(t, shuffled)
	if again := writeFiles(t, shuffled); !bytes.Equal(data, again) {
		t.Error("the same files gave other bytes")
	}
	for _, r := range []io.Reader{bytes.NewReader(data), iotest.OneByteReader(bytes.NewReader(data)), iotest.DataErrReader(bytes.NewReader(data))} {
		got, err := ReadFiles(r, int64(len(want)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	empty := writeFiles(t, nil)
	if got, err := ReadFiles(bytes.NewReader(empty), 0); err != nil || len(got) != 0 {
		t.Errorf("no files: got %v, %v", got, err)
	}
}

// A time that RFC 3339 cannot say is left out, a local one is put into UTC.
func TestWriteFilesTimes(t *testing.T) {
	t.Parallel()
	local := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	files := []File{
		{Root: "datadir", Path: "far", Kind: KindDir, ModTime: time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)},
		{Root: "datadir", Path: "local", Kind: KindDir, ModTime: local},
	}
	got, err := ReadFiles(bytes.NewReader(writeFiles(t, files)), 2)
	if err != nil || !got[0].ModTime.IsZero() || got[1].ModTime != local.UTC() {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestWriteFilesRefuses(t *testing.T) {
	t.Parallel()
	twice := append(exampleFiles(), exampleFiles()[2])
	if err := WriteFiles(io.Discard, twice); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("an entry that comes twice: got %v", err)
	}
	bad := exampleFiles()
	bad[3].Path = "../escape"
	if err := WriteFiles(io.Discard, bad); err == nil || !strings.Contains(err.Error(), "clean path") {
		t.Errorf("a path that leads out: got %v", err)
	}
	boom := errors.New("boom")
	if err := WriteFiles(failingWriter{boom}, exampleFiles()); !errors.Is(err, boom) {
		t.Errorf("a failing writer: got %v, want %v", err, boom)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestReadFilesRefuses(t *testing.T) {
	t.Parallel()
	const header = `{"format":"shardseed-files","version":1,"count":2}` + "\n"
	const a = `{"root":"datadir","path":"a","kind":"dir","size_bytes":0,"mode":488}` + "\n"
	const b = `{"root":"datadir","path":"b","kind":"dir","size_bytes":0,"mode":488,"later":{"x":[1]}}` + "\n"
	if got, err := ReadFiles(strings.NewReader(header+a+b), 2); err != nil || len(got) != 2 {
		t.Fatalf("a field of later: got %v, %v", got, err)
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty":         {"", "no header"},
		"no line end":   {strings.TrimSpace(header), "unexpected EOF"},
		"not json":      {"x\n", "header"},
		"other format":  {`{"format":"x","version":1,"count":2}` + "\n", `want "shardseed-files"`},
		"version 0":     {`{"format":"shardseed-files","version":0,"count":2}` + "\n", "versions start at 1"},
		"newer":         {`{"format":"shardseed-files","version":2,"count":2}` + "\n", "file list version 2 is newer than this program (reads up to 1)"},
		"other count":   {`{"format":"shardseed-files","version":1,"count":3}` + "\n", "announces 3 entries, the manifest 2"},
		"too few":       {header + a, "1 entries, want 2"},
		"too many":      {header + a + b + b, "more than the 2"},
		"twice":         {header + a + a, "twice"},
		"unsorted":      {header + b + a, "out of order"},
		"cut":           {header + a + strings.TrimSpace(b), "unexpected EOF"},
		"bad entry":     {header + a + `{"root":"datadir","path":"/b","kind":"dir"}` + "\n", "absolute"},
		"not an object": {header + a + "7\n", "entry 2"},
		"blank":         {header + a + "\n" + b, "entry 2"},
		"long":          {header + a + strings.Repeat(" ", 1<<20) + b, "too long"},
	} {
		if got, err := ReadFiles(strings.NewReader(c.text), 2); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, %v, want an error with %q", name, got, err, c.want)
		}
	}
	boom := errors.New("boom")
	r := io.MultiReader(strings.NewReader(header+a), iotest.ErrReader(boom))
	if _, err := ReadFiles(r, 2); !errors.Is(err, boom) {
		t.Errorf("a failing reader: got %v, want %v", err, boom)
	}
	if _, err := ReadFiles(strings.NewReader(header), -1); err == nil {
		t.Error("a negative count: want an error")
	}
}

func TestReadFilesNewer(t *testing.T) {
	t.Parallel()
	_, err := ReadFiles(strings.NewReader(`{"format":"shardseed-files","version":7,"count":0}`+"\n"), 0)
	var newer *VersionError
	if !errors.As(err, &newer) || newer.Got != 7 || newer.Max != 1 || len(hint.Of(err)) != 1 {
		t.Errorf("got %#v, hints %q", err, hint.Of(err))
	}
}

func TestReadFilesCut(t *testing.T) {
	t.Parallel()
	files := exampleFiles()
	data := writeFiles(t, files)
	for n := range data {
		if got, err := ReadFiles(bytes.NewReader(data[:n]), int64(len(files))); err == nil {
			t.Fatalf("cut at %d of %d: got %d files, want an error", n, len(data), len(got))
		}
	}
}

func TestReadFilesFlip(t *testing.T) {
	t.Parallel()
	files := exampleFiles()
	data := writeFiles(t, files)
	for i := range data {
		for _, bit := range []byte{1, 0x10, 0x80, 0xff} {
			flipped := bytes.Clone(data)
			flipped[i] ^= bit
			checkList(t, flipped, int64(len(files)))
		}
	}
}

// checkList reads a list that may be anything: what is accepted must be valid
// and come out again as it was read.
func checkList(t *testing.T, data []byte, count int64) {
	t.Helper()
	got, err := ReadFiles(bytes.NewReader(data), count)
	if err != nil {
		return
	}
	again, err := ReadFiles(bytes.NewReader(writeFiles(t, slices.Clone(got))), count)
	if err != nil {
		t.Fatalf("read again: %v", err)
	}
	if diff := cmp.Diff(got, again); diff != "" {
		t.Fatalf("read again (-first +second):\n%s", diff)
	}
}

func TestFilesModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		paths := rapid.SliceOfDistinct(rapid.StringMatching(`[a-c#@][a-c/ ]{0,6}[^/.\x00]`), rapid.ID[string]).Draw(rt, "paths")
		var files []File
		for _, p := range paths {
			f := File{
				Root: rapid.SampledFrom([]string{"datadir", "undo"}).Draw(rt, "root"), Path: Path(p),
				Kind: KindFile, Size: rapid.Int64Min(0).Draw(rt, "size"), ChunkSize: 4096, LSN: rapid.Uint64().Draw(rt, "lsn"),
			}
			if f.Validate() == nil {
				files = append(files, f)
			}
		}
		var buf bytes.Buffer
		if err := WriteFiles(&buf, files); err != nil {
			rt.Fatal(err)
		}
		got, err := ReadFiles(&buf, int64(len(files)))
		if err != nil || !slices.EqualFunc(got, files, func(a, b File) bool { return a == b }) {
			rt.Fatalf("got %+v, %v, want %+v", got, err, files)
		}
	})
}

func FuzzReadFiles(f *testing.F) {
	data := writeFiles(f, exampleFiles())
	f.Add(data, int64(len(exampleFiles())))
	f.Add(data[:len(data)/2], int64(3))
	f.Add(writeFiles(f, nil), int64(0))
	f.Add([]byte(fmt.Sprintf("{\"format\":%q,\"version\":1,\"count\":1}\n{}\n", filesFormat)), int64(1))
	f.Fuzz(func(t *testing.T, data []byte, count int64) { checkList(t, data, count) })
}
