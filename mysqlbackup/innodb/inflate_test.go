package innodb

import (
	"bytes"
	"errors"
	"testing"
)

func TestInflateLZ4(t *testing.T) {
	for _, tc := range []struct {
		name, src, want string
	}{
		{"empty", "\x00", ""},
		{"literals", "\x30abc", "abc"},
		{"match", "\x31abc\x03\x00", "abcabcab"},
		{"overlap", "\x1fa\x01\x00\x03\x10b", "a" + string(bytes.Repeat([]byte("a"), 4+15+3)) + "b"},
		{"long literals", "\xf0\x01" + "0123456789abcdef", "0123456789abcdef"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := make([]byte, len(tc.want))
			if err := inflateLZ4(got, []byte(tc.src)); err != nil || string(got) != tc.want {
				t.Fatalf("got %q, %v, want %q", got, err, tc.want)
			}
			for n := range len(tc.src) {
				if err := inflateLZ4(got, []byte(tc.src[:n])); err == nil && len(got) > 0 {
					t.Errorf("cut at %d: no error", n)
				}
			}
			for _, size := range []int{len(got) - 1, len(got) + 1} {
				if size < 0 {
					continue
				}
				if err := inflateLZ4(make([]byte, size), []byte(tc.src)); err == nil {
					t.Errorf("into %d bytes: no error", size)
				}
			}
		})
	}
}

func TestInflateLZ4RefusesDistances(t *testing.T) {
	for _, src := range []string{"\x10a\x00\x00\x00", "\x10a\x02\x00\x00"} {
		if err := inflateLZ4(make([]byte, 5), []byte(src)); !errors.Is(err, errLZ4) {
			t.Errorf("%q: got %v", src, err)
		}
	}
}

func TestInflateZlib(t *testing.T) {
	plain := newPage(4096, 1, typeIndex)
	packed := deflate(t, plain)
	in := &inflater{}
	got := make([]byte, len(plain))
	for range 2 { // the second time with the reader of the first
		if err := in.inflate(got, packed, algorithmZlib); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("got %v", err)
		}
	}
	for _, size := range []int{len(plain) - 1, len(plain) + 1} {
		if err := in.inflate(make([]byte, size), packed, algorithmZlib); err == nil {
			t.Errorf("into %d bytes: no error", size)
		}
	}
	for n := range packed {
		if err := in.inflate(got, packed[:n], algorithmZlib); err == nil {
			t.Fatalf("cut at %d: no error", n)
		}
	}
	for i := range packed {
		bad := bytes.Clone(packed)
		bad[i] ^= 0xff
		if err := in.inflate(got, bad, algorithmZlib); err == nil && !bytes.Equal(got, plain) {
			t.Fatalf("byte %d changed: no error", i)
		}
	}
	if err := in.inflate(got, packed, 6); !errors.Is(err, errAlgorithm) {
		t.Errorf("algorithm 6: got %v", err)
	}
}

func FuzzInflateLZ4(f *testing.F) {
	f.Add([]byte("\x1fa\x01\x00\x03\x10b"), uint16(24))
	f.Add(lz4Literals(newPage(1024, 1, typeIndex)), uint16(1024))
	f.Fuzz(func(_ *testing.T, src []byte, size uint16) {
		_ = inflateLZ4(make([]byte, size), src)
	})
}
