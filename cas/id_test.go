package cas_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/cas"
)

func TestSum(t *testing.T) {
	// The empty input's hash is in the BLAKE3 paper's test vectors.
	const want = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
	if got := cas.Sum(nil).String(); got != want {
		t.Errorf("Sum(nil): got %s, want %s", got, want)
	}
	if got := cas.Sum(nil).Short(); got != want[:8] {
		t.Errorf("Short: got %s, want %s", got, want[:8])
	}
}

func TestParseID(t *testing.T) {
	id := cas.Sum([]byte("x"))
	if got, err := cas.ParseID(id.String()); err != nil || got != id {
		t.Errorf("ParseID(%s): got %s, %v", id, got, err)
	}
	for _, bad := range []string{
		"", "ab", id.String()[1:], id.String() + "00", strings.ToUpper(id.String()),
		strings.Repeat("g", 64), strings.Repeat("é", 32),
	} {
		if got, err := cas.ParseID(bad); err == nil {
			t.Errorf("ParseID(%q): got %s, want an error", bad, got)
		}
	}
}

func TestIDText(t *testing.T) {
	want := []cas.ID{{}, cas.Sum([]byte("x"))}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	var got []cas.ID
	if err := json.Unmarshal(data, &got); err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("unmarshal %s: got %v, %v", data, got, err)
	}
	if err := json.Unmarshal([]byte(`["xyz"]`), &got); err == nil {
		t.Error("unmarshal of a bad ID: no error")
	}
	if !want[0].IsZero() || want[1].IsZero() {
		t.Error("IsZero is wrong")
	}
	if want[0].Compare(want[1]) != -1 || want[1].Compare(want[0]) != 1 || want[1].Compare(want[1]) != 0 {
		t.Error("Compare is wrong")
	}
}

func TestAllZero(t *testing.T) {
	for _, size := range []int{0, 1, 2, 3, 7, 8, 9, 4096, 65536} {
		data := make([]byte, size)
		if !cas.AllZero(data) {
			t.Errorf("%d zeros: got false", size)
		}
		for _, at := range []int{0, size / 2, size - 1} {
			if size == 0 {
				continue
			}
			other := bytes.Clone(data)
			other[at] = 1
			if cas.AllZero(other) {
				t.Errorf("%d bytes, one not zero at %d: got true", size, at)
			}
		}
	}
	if cas.AllZero([]byte{7, 7, 7}) {
		t.Error("equal bytes that are not zero: got true")
	}
}

func TestParseKey(t *testing.T) {
	for _, good := range []string{"k/0/2026-11-23.040857.zone1-101", "commerce/-80/x", "a/80-/x", "A_b.c/-/1", "k/s/" + strings.Repeat("x", 200)} {
		key, err := cas.ParseKey(good)
		if err != nil || key.String() != good {
			t.Errorf("ParseKey(%q): got %q, %v", good, key, err)
		}
	}
	for _, bad := range []string{
		"", "a", "a/b", "a/b/c/d", "/b/c", "a//c", "a/b/", "../b/c", "a/./c", "a/.b/c", "a/b/c d", "a/b/c\n", "a/b/ä", "a/b/c\x00",
		"a/b/c*", "a\\b/c/d", "k/s/" + strings.Repeat("x", 201),
	} {
		if key, err := cas.ParseKey(bad); err == nil || key != "" {
			t.Errorf("ParseKey(%q): got %q, %v, want an error", bad, key, err)
		}
	}
	key, err := cas.NewKey("ks", "-80", "name")
	if err != nil || key.Shard() != "ks/-80" || key.Name() != "name" {
		t.Errorf("NewKey: got %q of shard %q, name %q, %v", key, key.Shard(), key.Name(), err)
	}
	if _, err := cas.NewKey("ks/x", "-80", "name"); err == nil {
		t.Error("NewKey with a slash in the keyspace: no error")
	}
}
