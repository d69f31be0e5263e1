package cas

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestNode(t *testing.T) {
	for _, count := range []int{1, 2, NodeFanout} {
		ids := make([]ID, count)
		for n := range ids {
			ids[n] = Sum([]byte{byte(n)})
		}
		data := encodeNode(3, ids)
		if len(data) != NodeSize(count) {
			t.Errorf("node of %d has %d bytes, want %d", count, len(data), NodeSize(count))
		}
		got, err := parseNode(data, 3, count)
		if err != nil || len(got) != count || got[count-1] != ids[count-1] {
			t.Errorf("node of %d: got %v, %v", count, got, err)
		}
	}
}

func TestNodeDamage(t *testing.T) {
	data := encodeNode(1, []ID{idOf("a"), {}, idOf("c")})
	for n := range data {
		if _, err := parseNode(data[:n], 1, 3); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d bytes: got %v, want ErrCorrupt", n, err)
		}
	}
	var tooNew *VersionError
	for n := range nodeHeaderSize { // the IDs are covered by the chunk's own ID
		for bit := range 8 {
			data[n] ^= 1 << bit
			if _, err := parseNode(data, 1, 3); !errors.Is(err, ErrCorrupt) && (n != 4 || !errors.As(err, &tooNew)) {
				t.Errorf("bit %d of byte %d turned: got %v, want ErrCorrupt", bit, n, err)
			}
			data[n] ^= 1 << bit
		}
	}
	for want, err := range map[string]error{
		"level 1, want 2":   second(parseNode(data, 2, 3)),
		"3 entries, want 4": second(parseNode(data, 1, 4)),
		"bytes, want":       second(parseNode(append(data, 0), 1, 3)),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func second(_ []ID, err error) error { return err }

func FuzzNode(f *testing.F) {
	f.Add(encodeNode(0, []ID{idOf("a"), idOf("b")}), uint8(0), uint16(2))
	f.Add(encodeNode(2, make([]ID, NodeFanout)), uint8(2), uint16(NodeFanout))
	f.Fuzz(func(t *testing.T, data []byte, level uint8, count uint16) {
		ids, err := parseNode(data, level, int(count))
		if err == nil && !bytes.Equal(encodeNode(level, ids), data) {
			t.Errorf("%x was read as %v", data, ids)
		}
	})
}

func TestLeaves(t *testing.T) {
	const chunk = 4096
	for _, test := range []struct {
		size   int64
		leaves int
		last   int // chunks in the last leaf
	}{
		{0, 0, 0},
		{1, 1, 1},
		{chunk, 1, 1},
		{chunk + 1, 1, 2},
		{chunk * NodeFanout, 1, NodeFanout},
		{chunk*NodeFanout + 1, 2, 1},
		{chunk * NodeFanout * NodeFanout, NodeFanout, NodeFanout},
		{chunk*NodeFanout*NodeFanout + 1, NodeFanout + 1, 1},
	} {
		leaves := Leaves(test.size, chunk)
		if leaves != test.leaves {
			t.Errorf("file of %d bytes: got %d leaves, want %d", test.size, leaves, test.leaves)
		}
		if leaves == 0 {
			continue
		}
		if got := LeafChunks(test.size, chunk, leaves-1); got != test.last {
			t.Errorf("file of %d bytes: got %d chunks in the last leaf, want %d", test.size, got, test.last)
		}
		if got := LeafChunks(test.size, chunk, 0); leaves > 1 && got != NodeFanout {
			t.Errorf("file of %d bytes: got %d chunks in the first leaf, want %d", test.size, got, NodeFanout)
		}
	}
}
