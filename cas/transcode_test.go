package cas

import (
	"bytes"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// digits returns what matches hardly help with, and entropy coding does.
func digits(seed uint64, size int) []byte {
	data := randomBytes(seed, size)
	for i := range data {
		data[i] = '0' + data[i]%10
	}
	return data
}

// The fastest level finds matches in another way than the others, where there
// are few; what it makes is zstd all the same, of nearly the same size.
func TestTranscode(t *testing.T) {
	rows := digits(1, 3*snappyBlock+1)
	for at := 0; at+200 < len(rows); at += 400 {
		copy(rows[at:], "INSERT INTO the_same_table VALUES") // a match, now and then
	}
	for _, size := range []int{1, 2, 3, 4, 5, 15, 16, 63, 64, 65, 16384, snappyBlock - 1, snappyBlock, snappyBlock + 1, len(rows)} {
		for _, plain := range [][]byte{rows[:size], randomBytes(2, size), make([]byte, size)} {
			var tr transcoder
			data := tr.encode(plain)
			if data == nil {
				continue
			}
			got, err := newDecoders().unzip(nil, data, size)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes decode to others: %v", size, err)
			}
		}
	}
	for _, size := range []int{16384, snappyBlock, len(rows)} {
		var tr transcoder
		data := tr.encode(rows[:size])
		if data == nil {
			t.Fatalf("%d bytes: not transcoded", size)
		}
		_, other := encodeOne(t, LevelDefault, ID{}, rows[:size], nil)
		if len(data) > len(other)*11/10 {
			t.Errorf("%d bytes transcoded to %d, by zstd to %d", size, len(data), len(other))
		}
		if f, payload := encodeOne(t, LevelFastest, ID{}, rows[:size], nil); f.Codec != CodecZstd || !bytes.Equal(payload, data) {
			t.Errorf("the fastest level makes %s of %d bytes, want the %d transcoded ones", f.Codec, len(payload), len(data))
		}
	}
}

// Where matches are many, zstd finds better ones in no more time.
func TestTranscodeCompressible(t *testing.T) {
	var tr transcoder
	for name, plain := range map[string][]byte{
		"zeros": make([]byte, snappyBlock),
		"text":  bytes.Repeat([]byte("all work and no play "), 3000),
	} {
		if data := tr.encode(plain); data != nil {
			t.Errorf("%s: got %d bytes, want none", name, len(data))
		}
	}
}

// One transcoder serves chunk after chunk, whatever the one before was.
func TestTranscodeAgain(t *testing.T) {
	var tr transcoder
	decoders := newDecoders()
	rapid.Check(t, func(t *rapid.T) {
		plain := digits(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1, 3*snappyBlock).Draw(t, "size"))
		for range rapid.IntRange(0, 50).Draw(t, "words") {
			at := rapid.IntRange(0, len(plain)-1).Draw(t, "at")
			copy(plain[at:], strconv.Itoa(rapid.Int().Draw(t, "word")))
		}
		data := tr.encode(plain)
		if data == nil {
			return
		}
		got, err := decoders.unzip(nil, data, len(plain))
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("decodes to other bytes: %v", err)
		}
	})
}

// TestTranscodeLost: what the converter makes wrong is never stored, nor is it the end
// of a backup. It was seen to lose a block of an encrypted table.
func TestTranscodeLost(t *testing.T) {
	text := bytes.Repeat([]byte("all work and no play "), 3000)
	empty := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x30, 0x01, 0x00, 0x00} // zstd of nothing
	for name, wrong := range map[string][]byte{"nothing": empty, "no zstd": []byte("x"), "no bytes": {}} {
		for _, plain := range [][]byte{text, randomBytes(1, snappyBlock)} {
			e := newEncoders(LevelFastest, newDecoders()).acquire()
			e.transcode = func([]byte) []byte { return wrong }
			f := Frame{ID: Sum(plain)}
			payload, err := e.encode(&f, plain, nil)
			if err == nil {
				err = f.validate()
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if got, err := decodeOne(newDecoders(), f, payload, nil); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s: decodes to other bytes: %v", name, err)
			}
		}
	}
}
