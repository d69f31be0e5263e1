package cas

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// randomBytes returns bytes that do not compress.
func randomBytes(seed uint64, size int) []byte {
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	data := make([]byte, size)
	_, _ = random.Read(data) // never fails
	return data
}

func encodeOne(t testing.TB, level Level, base ID, plain, basePlain []byte) (Frame, []byte) {
	t.Helper()
	encoders := newEncoders(level, newDecoders())
	e := encoders.acquire()
	defer encoders.release(e)
	f := Frame{ID: Sum(plain), Base: base}
	if !base.IsZero() {
		f.Depth = 1
	}
	payload, err := e.encode(&f, plain, basePlain)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	if err := f.validate(); err != nil {
		t.Fatalf("encoded frame %+v: %v", f, err)
	}
	return f, bytes.Clone(payload)
}

// decodeOne returns the plain bytes of a frame.
func decodeOne(d *decoders, f Frame, payload, base []byte) ([]byte, error) {
	content, err := d.content(nil, f, payload)
	if err != nil || f.Codec != CodecDelta {
		return content, err
	}
	if len(base) != int(f.PlainSize) {
		return nil, errors.New("base of another length")
	}
	plain := bytes.Clone(base)
	return plain, applyDifference(plain, content)
}

func TestCodecs(t *testing.T) {
	text := bytes.Repeat([]byte("all work and no play "), 3000)
	noise := randomBytes(1, 65536)
	changed := bytes.Clone(noise)
	changed[1000] ^= 1
	tests := []struct {
		name        string
		plain, base []byte
		want        Codec
		atMost      uint32
	}{
		{"text", text, nil, CodecZstd, 1000},
		{"noise", noise, nil, CodecRaw, 65536},
		{"one byte", []byte{7}, nil, CodecRaw, 1},
		{"zeros", make([]byte, 65536), nil, CodecZstd, 100},
		{"one bit changed", changed, noise, CodecDelta, 100},
		{"unchanged", noise, noise, CodecDelta, 100},
		{"unlike its base", randomBytes(2, 65536), noise, CodecRaw, 65536},
		{"text unlike its base", text, noise[:len(text)], CodecZstd, 1000},
		{"half of it changed", slices.Concat(noise[:32768], randomBytes(2, 32768)), noise, CodecDelta, 33000},
	}
	for _, test := range tests {
		for level := LevelFastest; level <= LevelBest; level++ {
			var base ID
			if test.base != nil {
				base = idOf("base")
			}
			f, payload := encodeOne(t, level, base, test.plain, test.base)
			if f.Codec != test.want || f.StoredSize > test.atMost || int(f.StoredSize) != len(payload) {
				t.Errorf("%s: got %s of %d bytes, want %s of at most %d", test.name, f.Codec, f.StoredSize, test.want, test.atMost)
			}
			got, err := decodeOne(newDecoders(), f, payload, test.base)
			if err != nil || !bytes.Equal(got, test.plain) {
				t.Errorf("%s: decode: %v", test.name, err)
			}
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	plain := bytes.Repeat([]byte("abc"), 1000)
	f, payload := encodeOne(t, LevelFastest, ID{}, plain, nil)
	edited := func(edit func(*Frame)) Frame {
		other := f
		edit(&other)
		return other
	}
	delta := edited(func(f *Frame) { f.Codec, f.Base, f.Depth = CodecDelta, idOf("base"), 1 })
	tests := []struct {
		name          string
		frame         Frame
		payload, base []byte
		want          string
	}{
		{"shorter than stated", edited(func(f *Frame) { f.PlainSize++ }), payload, nil, "3000 plain bytes, want 3001"},
		{"longer than stated", edited(func(f *Frame) { f.PlainSize-- }), payload, nil, "decode zstd"},
		{"raw of another size", edited(func(f *Frame) { f.Codec = CodecRaw }), payload, nil, "raw payload"},
		{"no payload", f, nil, nil, "plain bytes, want"},
		{"not zstd", f, []byte("not zstd at all"), nil, "decode zstd"},
		{"delta that is none", delta, payload, plain, "has a block at"},
		{"delta longer than can be", edited(func(f *Frame) { f.Codec, f.PlainSize = CodecDelta, 2000 }), payload, plain[:2000], "decode zstd"},
		{"unknown codec", edited(func(f *Frame) { f.Codec = 9 }), payload, nil, "unknown codec 9"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := decodeOne(newDecoders(), test.frame, test.payload, test.base)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	for n := range payload {
		if _, err := newDecoders().content(nil, f, payload[:n]); err == nil {
			t.Errorf("payload cut to %d of %d bytes: no error", n, len(payload))
		}
	}
}

// TestDecodeIsBounded gives a decoder a small payload that holds far more than
// the frame says.
func TestDecodeIsBounded(t *testing.T) {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatalf("make zstd encoder: %v", err)
	}
	bomb := z.EncodeAll(make([]byte, 32<<20), nil)
	decoders := newDecoders()
	f := Frame{Codec: CodecZstd, PlainSize: 4096, StoredSize: uint32(len(bomb))}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 10 {
		if _, err := decoders.content(nil, f, bomb); err == nil {
			t.Error("no error")
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 10<<20 {
		t.Errorf("%d bytes allocated to refuse %d ten times", got, len(bomb))
	}
}

// TestEncodeVerifies makes a decoder see other bytes than were encoded.
func TestEncodeVerifies(t *testing.T) {
	plain := bytes.Repeat([]byte("abc"), 1000)
	f, payload := encodeOne(t, LevelFastest, ID{}, plain, nil)
	e := &encoder{decoders: newDecoders(), out: payload}
	other := bytes.Clone(plain)
	other[7] ^= 1
	if _, err := e.verify(&f, other); err == nil || !strings.Contains(err.Error(), "other bytes") {
		t.Errorf("other bytes: got %v", err)
	}
	f.PlainSize--
	if _, err := e.verify(&f, plain); err == nil {
		t.Error("other length: no error")
	}
	base := bytes.Clone(plain)
	base[2000] ^= 1
	f, e.delta = encodeOne(t, LevelFastest, idOf("base"), plain, base)
	if _, err := e.verifyDelta(&f, other, base); err == nil || !strings.Contains(err.Error(), "other bytes") {
		t.Errorf("delta to other bytes: got %v", err)
	}
	e.delta = payload
	if _, err := e.verifyDelta(&f, plain, base); err == nil || !strings.Contains(err.Error(), "has a block at") {
		t.Errorf("delta that is none: got %v", err)
	}
	e.delta = e.delta[:10]
	if _, err := e.verifyDelta(&f, plain, base); err == nil {
		t.Error("delta that does not decode: no error")
	}
	forgetful := &decoders{pool: sync.Pool{New: func() any {
		d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(1<<10))
		if err != nil {
			t.Errorf("make zstd decoder: %v", err)
		}
		return d
	}}}
	if _, err := newEncoders(LevelFastest, forgetful).acquire().encode(&Frame{ID: idOf("a")}, plain, nil); err == nil {
		t.Error("payload that does not decode: no error")
	}
}

func TestEncodeDeltaOfOtherLength(t *testing.T) {
	encoders := newEncoders(LevelFastest, newDecoders())
	f := Frame{ID: idOf("a"), Base: idOf("b"), Depth: 1}
	if _, err := encoders.acquire().encode(&f, make([]byte, 10), make([]byte, 11)); err == nil {
		t.Error("no error")
	}
}

func FuzzDecode(f *testing.F) {
	plain, base := bytes.Repeat([]byte("abc"), 100), bytes.Repeat([]byte("abd"), 100)
	for codec := range CodecDelta + 1 {
		f.Add(uint8(codec), uint16(300), plain, base)
	}
	_, delta := encodeOne(f, LevelFastest, idOf("base"), plain, base)
	f.Add(uint8(CodecDelta), uint16(300), delta, base)
	decoders := newDecoders()
	f.Fuzz(func(t *testing.T, codec uint8, size uint16, payload, base []byte) {
		frame := Frame{Codec: Codec(codec), PlainSize: uint32(size)}
		got, err := decodeOne(decoders, frame, payload, base)
		if err == nil && len(got) != int(size) {
			t.Errorf("%d plain bytes, want %d", len(got), size)
		}
	})
}

func FuzzEncode(f *testing.F) {
	f.Add([]byte("plain"), []byte("other"))
	decoders := newDecoders()
	encoders := newEncoders(LevelFastest, decoders)
	f.Fuzz(func(t *testing.T, plain, base []byte) {
		frame := Frame{ID: Sum(plain)}
		if len(plain) == 0 {
			return
		}
		if len(base) == len(plain) && Sum(base) != frame.ID {
			frame.Base, frame.Depth = Sum(base), 1
		}
		e := encoders.acquire()
		defer encoders.release(e)
		payload, err := e.encode(&frame, plain, base)
		if err != nil {
			t.Fatalf("encode: %v", err)
		}
		got, err := decodeOne(decoders, frame, payload, base)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("decode %s: %v", frame.Codec, err)
		}
	})
}
