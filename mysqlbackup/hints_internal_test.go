package mysqlbackup

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func someHints() hints {
	return hints{
		Version: hintsVersion, Datadir: "/srv/data", Backup: "commerce/-80/2026-08-01.131502.zone1-0000000101", Reuses: 3,
		Files: []fileHint{{Path: "/srv/data/a \"b\".ibd", Size: 1 << 40, Zero: 65536, Mtime: 1, Ctime: 2, Inode: 3, Dev: 4}},
	}
}

// Hints are read back as they were written, and not at all if a byte of them is
// missing or another.
func TestDecodeHints(t *testing.T) {
	data, err := someHints().encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeHints(data)
	if diff := cmp.Diff(someHints(), got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for n := range data {
		if _, err := decodeHints(data[:n]); err == nil {
			t.Errorf("cut to %d bytes: no error", n)
		}
		flipped := bytes.Clone(data)
		flipped[n] ^= 0x20
		if _, err := decodeHints(flipped); err == nil {
			t.Errorf("byte %d changed: no error", n)
		}
	}
	newer := someHints()
	newer.Version++
	if data, err = newer.encode(); err != nil {
		t.Fatal(err)
	}
	if _, err := decodeHints(data); err == nil {
		t.Error("a newer version: no error")
	}
}

func FuzzDecodeHints(f *testing.F) {
	data, err := someHints().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, err := decodeHints(data); err == nil && h.Version != hintsVersion {
			t.Errorf("got %+v", h)
		}
	})
}
