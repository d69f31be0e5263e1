package cas

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
)

func idOf(s string) ID { return Sum([]byte(s)) }

// testFrames are valid frames, the edges of each field among them.
func testFrames() []Frame {
	return []Frame{
		{ID: idOf("a"), StoredSize: 1, PlainSize: 1},
		{ID: idOf("b"), StoredSize: MaxPlainSize, PlainSize: MaxPlainSize},
		{ID: idOf("c"), StoredSize: 1, PlainSize: MaxPlainSize, Codec: CodecZstd},
		{ID: idOf("d"), StoredSize: 4095, PlainSize: 4096, Codec: CodecZstd},
		{ID: idOf("e"), StoredSize: 100, PlainSize: 65536, Codec: CodecDelta, Depth: 1, Base: idOf("a")},
		{ID: idOf("f"), StoredSize: 100, PlainSize: 65536, Codec: CodecDelta, Depth: MaxDepth, Base: idOf("e")},
	}
}

func TestFrameHeader(t *testing.T) {
	for _, want := range testFrames() {
		buf := want.appendHeader(nil)
		if len(buf) != frameHeaderSize {
			t.Fatalf("header has %d bytes, want %d", len(buf), frameHeaderSize)
		}
		got, err := parseFrameHeader(append(buf, "payload"...))
		if err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
}

func TestFrameHeaderDamage(t *testing.T) {
	for _, f := range testFrames() {
		buf := f.appendHeader(nil)
		for n := range buf {
			if _, err := parseFrameHeader(buf[:n]); err == nil {
				t.Errorf("cut to %d bytes: no error", n)
			}
			for bit := range 8 {
				buf[n] ^= 1 << bit
				if got, err := parseFrameHeader(buf); err == nil {
					t.Errorf("bit %d of byte %d turned: got %+v", bit, n, got)
				}
				buf[n] ^= 1 << bit
			}
		}
	}
}

// TestFrameHeaderRefused checks headers whose checksum is right but that no
// writer writes.
func TestFrameHeaderRefused(t *testing.T) {
	good := testFrames()[4]
	tests := []struct {
		name string
		edit func(*Frame)
		want string
	}{
		{"zero ID", func(f *Frame) { f.ID = ID{} }, "zero ID"},
		{"no plain bytes", func(f *Frame) { f.PlainSize = 0 }, "plain size 0"},
		{"too many plain bytes", func(f *Frame) { f.PlainSize = MaxPlainSize + 1 }, "plain size"},
		{"most plain bytes", func(f *Frame) { f.PlainSize = math.MaxUint32 }, "plain size"},
		{"nothing stored", func(f *Frame) { f.StoredSize = 0 }, "stored size"},
		{"stored as much as plain", func(f *Frame) { f.StoredSize = f.PlainSize }, "stores"},
		{"unknown codec", func(f *Frame) { f.Codec = 3 }, "unknown codec 3"},
		{"raw and shorter", func(f *Frame) { f.Codec, f.Depth, f.Base = CodecRaw, 0, ID{} }, "stores"},
		{"zstd with depth", func(f *Frame) { f.Codec, f.Base = CodecZstd, ID{} }, "depth 1"},
		{"zstd with base", func(f *Frame) { f.Codec, f.Depth = CodecZstd, 0 }, "base"},
		{"delta without depth", func(f *Frame) { f.Depth = 0 }, "depth 0"},
		{"delta too deep", func(f *Frame) { f.Depth = MaxDepth + 1 }, "depth 9"},
		{"delta without base", func(f *Frame) { f.Base = ID{} }, "base"},
		{"delta of itself", func(f *Frame) { f.Base = f.ID }, "base"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := good
			test.edit(&f)
			_, err := parseFrameHeader(f.appendHeader(nil))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	flags := good.appendHeader(nil)
	flags[6] = 1
	binary.LittleEndian.PutUint32(flags[80:], checksum(flags[:80]))
	if _, err := parseFrameHeader(flags); err == nil || !strings.Contains(err.Error(), "flags") {
		t.Errorf("unknown flags: got %v", err)
	}
}

func TestCodecString(t *testing.T) {
	for codec, want := range map[Codec]string{CodecRaw: "raw", CodecZstd: "zstd", CodecDelta: "delta", 7: "codec(7)"} {
		if got := codec.String(); got != want {
			t.Errorf("codec %d: got %q, want %q", codec, got, want)
		}
	}
}

func FuzzFrameHeader(f *testing.F) {
	for _, frame := range testFrames() {
		f.Add(frame.appendHeader(nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := parseFrameHeader(data)
		if err != nil {
			return
		}
		if again := frame.appendHeader(nil); string(again) != string(data[:frameHeaderSize]) {
			t.Errorf("%x was read as %+v, which is written %x", data, frame, again)
		}
	})
}
