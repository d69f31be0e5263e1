// Package castest tests backends: a conformance suite that each passes, and
// Faulty, a wrapper whose operations fail on command.
package castest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/shardseed/shardseed/cas"
)

// TestBackend checks that the backends made by open, each empty, keep the
// promises of cas.Backend.
func TestBackend(t *testing.T, open func(testing.TB) cas.Backend) {
	tests := []struct {
		name string
		run  func(*testing.T, cas.Backend)
	}{
		{"put and read", testPut},
		{"stage and publish", testStage},
		{"discard", testDiscard},
		{"written once", testOnce},
		{"one of many creators wins", testRace},
		{"missing blobs", testMissing},
		{"listing", testList},
		{"names", testNames},
		{"remove", testRemove},
		{"canceled context", testCanceled},
		{"read at", testReadAt},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func mustPut(t *testing.T, b cas.Backend, name, data string) {
	t.Helper()
	if err := b.Put(t.Context(), name, []byte(data)); err != nil {
		t.Fatalf("put %s: %v", name, err)
	}
}

// content returns the bytes of a blob.
func content(t *testing.T, b cas.Backend, name string) string {
	t.Helper()
	blob, err := b.Open(t.Context(), name)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	data, err := io.ReadAll(io.NewSectionReader(blob, 0, blob.Size()))
	if err := errors.Join(err, blob.Close()); err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return string(data)
}

func checkContent(t *testing.T, b cas.Backend, name, want string) {
	t.Helper()
	if got := content(t, b, name); got != want {
		t.Errorf("%s: got %.40q (%d bytes), want %.40q (%d bytes)", name, got, len(got), want, len(want))
	}
}

func testPut(t *testing.T, b cas.Backend) {
	mustPut(t, b, "one", "1")
	mustPut(t, b, "deep/down/two", "22")
	mustPut(t, b, "empty", "")
	checkContent(t, b, "one", "1")
	checkContent(t, b, "deep/down/two", "22")
	checkContent(t, b, "empty", "")
}

func testStage(t *testing.T, b cas.Backend) {
	blob, err := b.Stage(t.Context())
	if err != nil {
		t.Fatalf("stage: %v", err)
	}
	var want bytes.Buffer
	for n := range 100 {
		part := bytes.Repeat([]byte{byte(n)}, 1000*n)
		want.Write(part)
		if got, err := blob.Write(part); err != nil || got != len(part) {
			t.Fatalf("write %d bytes: got %d, %v", len(part), got, err)
		}
	}
	if err := blob.Publish(t.Context(), "packs/ab/large"); err != nil {
		t.Fatalf("publish: %v", err)
	}
	if err := blob.Discard(); err != nil {
		t.Errorf("discard after publish: %v", err)
	}
	checkContent(t, b, "packs/ab/large", want.String())
}

func testDiscard(t *testing.T, b cas.Backend) {
	blob, err := b.Stage(t.Context())
	if err != nil {
		t.Fatalf("stage: %v", err)
	}
	if _, err := blob.Write([]byte("nobody sees this")); err != nil {
		t.Fatalf("write: %v", err)
	}
	for range 2 {
		if err := blob.Discard(); err != nil {
			t.Errorf("discard: %v", err)
		}
	}
	checkList(t, b, "packs")
}

func testOnce(t *testing.T, b cas.Backend) {
	mustPut(t, b, "name", "first")
	if err := b.Put(t.Context(), "name", []byte("second")); !errors.Is(err, cas.ErrExists) {
		t.Errorf("put again: got %v, want ErrExists", err)
	}
	blob, err := b.Stage(t.Context())
	if err != nil {
		t.Fatalf("stage: %v", err)
	}
	if _, err := blob.Write([]byte("third")); err != nil {
		t.Fatalf("write: %v", err)
	}
	if err := blob.Publish(t.Context(), "name"); !errors.Is(err, cas.ErrExists) {
		t.Errorf("publish again: got %v, want ErrExists", err)
	}
	if err := blob.Discard(); err != nil {
		t.Errorf("discard after a publish that lost: %v", err)
	}
	checkContent(t, b, "name", "first")
}

func testRace(t *testing.T, b cas.Backend) {
	for round := range 10 {
		var group sync.WaitGroup
		var won atomic.Int32
		name := fmt.Sprintf("race/%d", round)
		for writer := range 8 {
			group.Go(func() {
				err := b.Put(t.Context(), name, fmt.Appendf(nil, "writer %d", writer))
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, cas.ErrExists):
					t.Errorf("put: %v", err)
				}
			})
		}
		group.Wait()
		if won.Load() != 1 {
			t.Errorf("%d writers won, want 1", won.Load())
		}
	}
}

func testMissing(t *testing.T, b cas.Backend) {
	mustPut(t, b, "folder/blob", "x")
	for _, name := range []string{"nothing", "no/such/thing", "folder/other"} {
		if _, err := b.Open(t.Context(), name); !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("open %s: got %v, want ErrNotFound", name, err)
		}
	}
	checkList(t, b, "no/such/folder")
}

func testRemove(t *testing.T, b cas.Backend) {
	for _, name := range []string{"one", "folder/two", "folder/three"} {
		mustPut(t, b, name, name)
	}
	for range 2 { // that there is none is a success
		for _, name := range []string{"one", "folder/two", "never/was/there"} {
			if err := b.Remove(t.Context(), name); err != nil {
				t.Errorf("remove %s: %v", name, err)
			}
		}
	}
	for _, name := range []string{"one", "folder/two"} {
		if _, err := b.Open(t.Context(), name); !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("open %s after its removal: got %v, want ErrNotFound", name, err)
		}
	}
	checkList(t, b, "folder", cas.Entry{Name: "three"})
	if err := b.Remove(t.Context(), "folder"); err == nil {
		if _, err := b.Open(t.Context(), "folder/three"); err != nil {
			t.Errorf("a folder was removed with what is in it: %v", err)
		}
	}
	mustPut(t, b, "one", "again")
	checkContent(t, b, "one", "again")
}

func checkList(t *testing.T, b cas.Backend, dir string, want ...cas.Entry) {
	t.Helper()
	got, err := b.List(t.Context(), dir)
	if err != nil {
		t.Fatalf("list %s: %v", dir, err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("list %s: got %v, want %v", dir, got, want)
	}
}

func testList(t *testing.T, b cas.Backend) {
	for _, name := range []string{"m/k/s/b", "m/k/s/a", "m/k/s/c-1", "m/k/s/c", "m/k/-80/x", "m/file", "n"} {
		mustPut(t, b, name, name)
	}
	checkList(t, b, "m", cas.Entry{Name: "file"}, cas.Entry{Name: "k", Dir: true})
	checkList(t, b, "m/k", cas.Entry{Name: "-80", Dir: true}, cas.Entry{Name: "s", Dir: true})
	checkList(t, b, "m/k/s", cas.Entry{Name: "a"}, cas.Entry{Name: "b"}, cas.Entry{Name: "c"}, cas.Entry{Name: "c-1"})
	top, err := b.List(t.Context(), ".")
	if err != nil {
		t.Fatalf("list top folder: %v", err)
	}
	for _, want := range []cas.Entry{{Name: "m", Dir: true}, {Name: "n"}} {
		if !slices.Contains(top, want) {
			t.Errorf("top folder %v lacks %v", top, want)
		}
	}
}

func testNames(t *testing.T, b cas.Backend) {
	for _, name := range []string{"", ".", "..", "/etc/x", "a/../../x", "a//b", "a/", "./a", ".hidden", "a/.b"} {
		if err := b.Put(t.Context(), name, nil); err == nil {
			t.Errorf("put %q: no error", name)
		}
		if _, err := b.Open(t.Context(), name); err == nil {
			t.Errorf("open %q: no error", name)
		}
		if err := b.Remove(t.Context(), name); err == nil {
			t.Errorf("remove %q: no error", name)
		}
	}
	for _, dir := range []string{"", "..", "/", "a/../.."} {
		if _, err := b.List(t.Context(), dir); err == nil {
			t.Errorf("list %q: no error", dir)
		}
	}
}

func testCanceled(t *testing.T, b cas.Backend) {
	mustPut(t, b, "there", "x")
	staged, err := b.Stage(t.Context())
	if err != nil {
		t.Fatalf("stage: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, openErr := b.Open(ctx, "there")
	_, listErr := b.List(ctx, ".")
	_, stageErr := b.Stage(ctx)
	for call, err := range map[string]error{
		"put": b.Put(ctx, "new", nil), "publish": staged.Publish(ctx, "new"),
		"open": openErr, "list": listErr, "stage": stageErr, "remove": b.Remove(ctx, "there"),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want context.Canceled", call, err)
		}
	}
	checkContent(t, b, "there", "x")
	if _, err := b.Open(t.Context(), "new"); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("open after a canceled put: got %v, want ErrNotFound", err)
	}
}

func testReadAt(t *testing.T, b cas.Backend) {
	mustPut(t, b, "digits", "0123456789")
	blob, err := b.Open(t.Context(), "digits")
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer func() {
		if err := blob.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	if blob.Size() != 10 {
		t.Errorf("size: got %d, want 10", blob.Size())
	}
	var group sync.WaitGroup
	for offset := range 12 {
		group.Go(func() {
			buf := make([]byte, 4)
			n, err := blob.ReadAt(buf, int64(offset))
			want := "0123456789"[min(offset, 10):min(offset+4, 10)]
			if string(buf[:n]) != want || (n < 4) != errors.Is(err, io.EOF) {
				t.Errorf("read at %d: got %q, %v, want %q", offset, buf[:n], err, want)
			}
		})
	}
	group.Wait()
}
