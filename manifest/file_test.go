package manifest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/cas"
)

// exampleFiles returns entries of every kind, sorted.
func exampleFiles() []File {
	modified := time.Date(2026, 7, 31, 22, 1, 2, 345678901, time.UTC)
	return []File{
		{Root: "datadir", Path: "#innodb_temp", Kind: KindDir, Mode: 0o750},
		{
			Root: "datadir", Path: "commerce/orders@0023p0.ibd", Kind: KindFile, Size: 114688, ChunkSize: 65536, Mode: 0o640,
			ModTime: modified, Sparse: true, LSN: 19223451, Recipe: cas.Sum([]byte("orders")),
			Pages: &FilePages{
				Pages:    Pages{Checked: 4, Unchecked: 1, Zero: 1, Bad: 1},
				BadPages: []BadPage{{Number: 3, Why: "checksum 0x5a01c3f2 stored, 0x5a01c3f0 computed"}},
			},
		},
		{Root: "datadir", Path: "empty", Kind: KindFile, ChunkSize: 65536, Mode: 0o600},
		{Root: "datadir", Path: "latin\xe9.txt", Kind: KindFile, Size: 3, ChunkSize: 65536, Mode: 0o4755, Recipe: cas.Sum([]byte("abc"))},
		{Root: "datadir", Path: "link", Kind: KindSymlink, Mode: 0o777, Target: "../else\xffwhere"},
		{Root: "datadir", Path: "zeros <&>", Kind: KindFile, Size: 1 << 40, ChunkSize: 16 << 20, Mode: 0},
		{Root: "undo", Path: "undo_001", Kind: KindFile, Size: 16 << 20, ChunkSize: 4096, Mode: 0o640, LSN: 1<<64 - 1, Recipe: cas.Sum(nil)},
	}
}

func TestFileValidate(t *testing.T) {
	t.Parallel()
	files := exampleFiles()
	for i := range files {
		if err := files[i].Validate(); err != nil {
			t.Errorf("%q: %v", files[i].Path, err)
		}
	}
	for name, change := range map[string]func(f *File){
		"kind \"\"":        func(f *File) { f.Kind = "" },
		"kind \"socket\"":  func(f *File) { f.Kind = "socket" },
		"-1 is negative":   func(f *File) { f.Size = -1 },
		"empty file":       func(f *File) { f.Size = 0 },
		"power of two":     func(f *File) { f.ChunkSize = 65535 },
		"size 0":           func(f *File) { f.ChunkSize = 0 },
		"size -65536":      func(f *File) { f.ChunkSize = -65536 },
		"size 2048":        func(f *File) { f.ChunkSize = 2048 },
		"size 33554432":    func(f *File) { f.ChunkSize = 32 << 20 },
		"permission":       func(f *File) { f.Mode = 0o10000 },
		"no target":        func(f *File) { f.Target = "x" },
		"root \"\"":        func(f *File) { f.Root = "" },
		"root \"../x\"":    func(f *File) { f.Root = "../x" },
		"a page count":     func(f *File) { f.Pages.Zero = -1 },
		"listed of 0":      func(f *File) { f.Pages.Bad = 0 },
		"out of order":     func(f *File) { f.Pages.Bad = 2; f.Pages.BadPages = []BadPage{{Number: 3}, {Number: 3}} },
		"is longer":        func(f *File) { f.Pages.BadPages[0].Why = strings.Repeat("w", 257) },
		"no content":       func(f *File) { f.Kind = KindDir },
		"a symlink has no": func(f *File) { f.Kind = KindSymlink },
	} {
		f := exampleFiles()[1]
		change(&f)
		if err := f.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want an error with %q, got %v", name, err)
		}
	}
}

func TestSymlinkValidate(t *testing.T) {
	t.Parallel()
	for _, target := range []Path{"", "a\x00b", Path(strings.Repeat("t", 4097))} {
		f := File{Root: "datadir", Path: "link", Kind: KindSymlink, Target: target}
		if err := f.Validate(); err == nil {
			t.Errorf("target of %d bytes: want an error", len(target))
		}
	}
	dir := File{Root: "datadir", Path: "d", Kind: KindDir, Target: "x"}
	if err := dir.Validate(); err == nil {
		t.Error("a folder with a target: want an error")
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	for _, good := range []Path{"a", "a/b", "..a", "a..", "a/..b", "...", ".hidden", " ", "a\\b", "@0023", "\xff", Path(strings.Repeat("p", 4096))} {
		if err := checkRelative(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []Path{
		"", ".", "..", "/", "/a", "a/", "../a", "a/..", "a/../b", "a//b", "./a", "a/./b", "a\x00", Path(strings.Repeat("p", 4097)),
	} {
		if err := checkRelative(bad); err == nil {
			t.Errorf("relative %q: want an error", bad)
		}
	}
	for _, bad := range []Path{"", "a", "/a/", "/a/../b", "//a", "/a\x00", "/" + Path(strings.Repeat("p", 4096))} {
		if err := checkAbsolute(bad); err == nil {
			t.Errorf("absolute %q: want an error", bad)
		}
	}
}

func TestPathJSON(t *testing.T) {
	t.Parallel()
	for path, want := range map[Path]string{
		"":        `""`,
		"a/é":     `"a/é"`,
		"a\xff/b": `{"base64":"Yf8vYg=="}`,
		"{":       `"{"`,
	} {
		text, err := json.Marshal(path)
		if err != nil || string(text) != want {
			t.Errorf("%q: got %s, %v, want %s", path, text, err, want)
		}
		var back Path
		if err := json.Unmarshal(text, &back); err != nil || back != path {
			t.Errorf("%s: got %q, %v, want %q", text, back, err, path)
		}
	}
	for _, bad := range []string{`1`, `[]`, `{"base64":"%"}`, `{"base64":1}`} {
		var p Path
		if err := json.Unmarshal([]byte(bad), &p); err == nil {
			t.Errorf("%s: got %q, want an error", bad, p)
		}
	}
}

func TestNewFilePages(t *testing.T) {
	t.Parallel()
	bad := []BadPage{{9, "nine"}, {2, "two"}, {9, "again"}, {4, strings.Repeat("é", 200)}}
	got := NewFilePages(Pages{Checked: 5, Bad: 4}, bad)
	want := &FilePages{
		Pages:    Pages{Checked: 5, Bad: 4},
		BadPages: []BadPage{{2, "two"}, {4, strings.Repeat("é", 128)}, {9, "nine"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if bad[0].Number != 9 {
		t.Error("the caller's list was changed")
	}
	var many []BadPage
	for i := range 300 {
		many = append(many, BadPage{Number: uint32(300 - i), Why: fmt.Sprint(i) + strings.Repeat("é", 128)})
	}
	got = NewFilePages(Pages{Bad: 5000}, many)
	if err := got.check(); err != nil || len(got.BadPages) != 100 || got.BadPages[0].Number != 1 {
		t.Errorf("got %d pages from %d, %v", len(got.BadPages), got.BadPages[0].Number, err)
	}
	if got := NewFilePages(Pages{}, nil); got.check() != nil || len(got.BadPages) != 0 {
		t.Errorf("nothing: got %+v", got)
	}
}

func TestPagesAdd(t *testing.T) {
	t.Parallel()
	got := Pages{1, 2, 3, 4, 5}.Add(Pages{10, 20, 30, 40, 50})
	if want := (Pages{11, 22, 33, 44, 55}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
