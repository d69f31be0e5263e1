package cas

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// blobOf makes bytes a BlobReader.
type blobOf struct{ *bytes.Reader }

func (blobOf) Close() error        { return nil }
func (blobOf) Expect(int64, int64) {}

func blob(data []byte) BlobReader { return blobOf{bytes.NewReader(data)} }

// testPack returns a pack file that holds the frames, with payloads of zeros,
// and the frames with their offsets.
func testPack(t testing.TB, kind Kind, frames []Frame) ([]byte, []Frame) {
	t.Helper()
	data := packHeader{kind: kind, repo: UUID{1}, session: "ks/-80/name", salt: [32]byte{2}}.encode()
	placed := make([]Frame, len(frames))
	for i, f := range frames {
		f.Offset = int64(len(data))
		data = f.appendHeader(data)
		data = append(data, make([]byte, f.StoredSize)...)
		placed[i] = f
	}
	end, err := encodeFooter(kind, placed, int64(len(data)))
	if err != nil {
		t.Fatalf("encode footer: %v", err)
	}
	return append(data, end...), placed
}

// smallFrames are valid frames that do not take much space.
func smallFrames(n int) []Frame {
	frames := make([]Frame, n)
	for i := range frames {
		size := uint32(i%5 + 1)
		frames[i] = Frame{ID: Sum(binary.LittleEndian.AppendUint32(nil, uint32(i))), StoredSize: size, PlainSize: size}
		if i%3 == 1 {
			frames[i].PlainSize, frames[i].Codec = 100, CodecZstd
		}
		if i%3 == 2 {
			frames[i].PlainSize, frames[i].Codec, frames[i].Depth, frames[i].Base = 100, CodecDelta, uint8(i%MaxDepth+1), frames[i-1].ID
		}
	}
	return frames
}

func TestPackRoundTrip(t *testing.T) {
	for _, count := range []int{1, 2, 100, 1500} { // the footer of the last is longer than the first read
		data, frames := testPack(t, KindMeta, smallFrames(count))
		id := Sum(data)
		got, err := readPack(blob(data), id, newDecoders())
		if err != nil {
			t.Fatalf("%d frames: %v", count, err)
		}
		want := &Pack{ID: id, Kind: KindMeta, Size: int64(len(data)), Frames: frames}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d frames, want - got +:\n%s", count, diff)
		}
	}
}

// TestPackDamage cuts a pack at every byte and turns every bit behind its
// frames: a reader of the directory notices all of it.
func TestPackDamage(t *testing.T) {
	data, frames := testPack(t, KindData, smallFrames(7))
	id, decoders := Sum(data), newDecoders()
	for n := range data {
		if _, err := readPack(blob(data[:n]), id, decoders); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d bytes: got %v, want ErrCorrupt", n, err)
		}
	}
	for n := frames[6].end(); n < int64(len(data)); n++ {
		for bit := range 8 {
			data[n] ^= 1 << bit
			if _, err := readPack(blob(data), id, decoders); !errors.Is(err, ErrCorrupt) {
				t.Errorf("bit %d of byte %d of %d turned: got %v, want ErrCorrupt", bit, n, len(data), err)
			}
			data[n] ^= 1 << bit
		}
	}
	var corrupt *CorruptError
	_, err := readPack(blob(data[:100]), id, decoders)
	if !errors.As(err, &corrupt) || corrupt.Pack != id {
		t.Errorf("got %v, want an error that names pack %s", err, id.Short())
	}
}

// sealTable returns the end of a pack whose footer holds the table, with a
// trailer that is edited before its checksum is made.
func sealTable(t *testing.T, table []byte, start int64, edit func(*packTrailer)) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatalf("make zstd encoder: %v", err)
	}
	footer := z.EncodeAll(table, nil)
	trailer := packTrailer{
		kind: KindData, footerStart: start, footerSize: uint32(len(footer)),
		plainSize: uint32(len(table)), frames: uint32(len(table) / entrySize), footerHash: Sum(footer),
	}
	edit(&trailer)
	return append(footer, trailer.encode()...)
}

// TestPackRefused checks directories whose checksums are right.
func TestPackRefused(t *testing.T) {
	const start = 1000
	a := Frame{ID: idOf("a"), Offset: 100, StoredSize: 10, PlainSize: 10}
	b := Frame{ID: idOf("b"), Offset: 100 + frameHeaderSize + 10, StoredSize: 10, PlainSize: 10}
	with := func(f Frame, edit func(*Frame)) Frame {
		edit(&f)
		return f
	}
	tests := []struct {
		name   string
		frames []Frame
		edit   func(*packTrailer)
		want   string
	}{
		{"good", []Frame{a, b}, nil, ""},
		{"gap", []Frame{a, with(b, func(f *Frame) { f.Offset += 5 })}, nil, ""},
		{"in the header", []Frame{with(a, func(f *Frame) { f.Offset = 63 }), b}, nil, "frame 0: bytes"},
		{"negative offset", []Frame{with(a, func(f *Frame) { f.Offset = -1 })}, nil, "frame 0: bytes"},
		{"overlap", []Frame{a, with(b, func(f *Frame) { f.Offset-- })}, nil, "frame 1: bytes"},
		{"out of order", []Frame{b, a}, nil, "frame 1: bytes"},
		{"in the footer", []Frame{with(a, func(f *Frame) { f.Offset = start - frameHeaderSize - 9 })}, nil, "frame 0: bytes"},
		{"behind the file", []Frame{with(a, func(f *Frame) { f.Offset = 1<<63 - 1 })}, nil, "frame 0: bytes"},
		{"bad frame", []Frame{with(a, func(f *Frame) { f.PlainSize = 11 })}, nil, "frame 0: raw"},
		{"no frames", nil, nil, "0 frames"},
		{"one frame too few", []Frame{a, b}, func(t *packTrailer) { t.frames-- }, "plain bytes for 1 frames"},
		{"too many frames", []Frame{a}, func(t *packTrailer) { t.frames, t.plainSize = maxFrames+1, (maxFrames+1)*entrySize }, "65537 frames"},
		{"more frames than fit", []Frame{a}, func(t *packTrailer) { t.frames, t.plainSize = 100, 100*entrySize }, "cannot hold 100 frames"},
		{"table longer than stated", []Frame{a, b}, func(t *packTrailer) { t.frames, t.plainSize = 1, entrySize }, "decode zstd"},
		{"table shorter than stated", []Frame{a}, func(t *packTrailer) { t.frames, t.plainSize = 2, 2*entrySize }, "decode zstd"},
		{"other footer", []Frame{a}, func(t *packTrailer) { t.footerHash = idOf("x") }, "footer hashes to"},
		{"unknown kind", []Frame{a}, func(t *packTrailer) { t.kind = 3 }, "unknown kind"},
		{"footer elsewhere", []Frame{a}, func(t *packTrailer) { t.footerStart-- }, "bytes, its trailer says"},
		{"footer in the header", []Frame{a}, func(t *packTrailer) {
			t.footerSize += uint32(t.footerStart) - 10
			t.footerStart = 10
		}, "does not end at the trailer"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var table []byte
			for _, f := range test.frames {
				table = f.appendEntry(table)
			}
			if test.edit == nil {
				test.edit = func(*packTrailer) {}
			}
			data := append(make([]byte, start), sealTable(t, table, start, test.edit)...)
			_, err := readPack(blob(data), ID{}, newDecoders())
			if (test.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestPackFromTheFuture(t *testing.T) {
	data, _ := testPack(t, KindData, smallFrames(1))
	trailer := data[len(data)-trailerSize:]
	for version, want := range map[uint16]error{0: ErrCorrupt, 2: &VersionError{}} {
		binary.LittleEndian.PutUint16(trailer[20:], version)
		binary.LittleEndian.PutUint32(trailer[64:], checksum(trailer[:64]))
		_, err := readPack(blob(data), Sum(data), newDecoders())
		var tooNew *VersionError
		if version == 0 && !errors.Is(err, want) {
			t.Errorf("version 0: got %v", err)
		}
		if version == 2 && (!errors.As(err, &tooNew) || tooNew.Found != 2 || tooNew.Known != 1) {
			t.Errorf("version 2: got %v", err)
		}
	}
}

// TestFooterOfRandomIDs is why a reader may refuse a footer of less than 32
// bytes per frame: even with everything else equal none gets below.
func TestFooterOfRandomIDs(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	frames := make([]Frame, 5000)
	for i := range frames {
		frames[i] = Frame{StoredSize: 1, PlainSize: 1, Offset: packHeaderSize + int64(i)*(frameHeaderSize+1)}
		for n := range frames[i].ID {
			frames[i].ID[n] = byte(random.Uint32())
		}
	}
	end, err := encodeFooter(KindData, frames, frames[4999].end())
	if err != nil {
		t.Fatalf("encode footer: %v", err)
	}
	if got, least := len(end)-trailerSize, minEntryStored*len(frames); got < least {
		t.Errorf("footer of %d frames has %d bytes, fewer than %d", len(frames), got, least)
	}
}

func FuzzPack(f *testing.F) {
	for _, count := range []int{1, 3, 20} {
		data, _ := testPack(f, KindData, smallFrames(count))
		f.Add(data)
	}
	decoders := newDecoders()
	f.Fuzz(func(t *testing.T, data []byte) {
		pack, err := readPack(blob(data), ID{}, decoders)
		if err != nil {
			return
		}
		next := int64(packHeaderSize)
		for _, frame := range pack.Frames {
			if frame.Offset < next || frame.end() > pack.Size || frame.validate() != nil {
				t.Errorf("accepted frame %+v", frame)
			}
			next = frame.end()
		}
	})
}

// FuzzFooter gets past the hashes, which a fuzzer cannot.
func FuzzFooter(f *testing.F) {
	for _, count := range []int{1, 3, 20} {
		_, frames := testPack(f, KindData, smallFrames(count))
		var table []byte
		for _, frame := range frames {
			table = frame.appendEntry(table)
		}
		f.Add(table, int64(1<<20))
	}
	f.Fuzz(func(t *testing.T, table []byte, end int64) {
		frames, err := parseTable(nil, table[:len(table)/entrySize*entrySize], end)
		if err != nil {
			return
		}
		for n, frame := range frames {
			if frame.end() > end || n > 0 && frame.Offset < frames[n-1].end() {
				t.Errorf("accepted frame %+v before byte %d", frame, end)
			}
		}
	})
}

// FuzzTrailer gets past the checksum.
func FuzzTrailer(f *testing.F) {
	data, _ := testPack(f, KindData, smallFrames(3))
	f.Add(data[len(data)-trailerSize:], int64(len(data)))
	f.Fuzz(func(t *testing.T, buf []byte, size int64) {
		if len(buf) != trailerSize || size < 0 {
			return
		}
		binary.LittleEndian.PutUint32(buf[64:], checksum(buf[:64]))
		trailer, err := parseTrailer(buf, size)
		if err == nil && (trailer.footerStart < 0 || trailer.footerStart+int64(trailer.footerSize) > size) {
			t.Errorf("accepted trailer %+v of a file of %d bytes", trailer, size)
		}
	})
}
