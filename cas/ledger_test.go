package cas

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
)

// encodeVerified is encodeLedger of what is not encoded yet.
func encodeVerified(covers uint64, verified []Verified) []byte {
	var entries []ledgerEntry
	for _, v := range verified {
		entries = append(entries, newLedgerEntry(v))
	}
	return encodeLedger(covers, entries)
}

// decodeVerified is the reverse.
func decodeVerified(gen uint64, data []byte) (covers uint64, verified []Verified, err error) {
	covers, entries, err := decodeLedger(nil, gen, data)
	for _, e := range entries {
		verified = append(verified, e.verified())
	}
	return covers, verified, err
}

func TestLedgerDecode(t *testing.T) {
	entries := []Verified{
		{Pack: ID{1}, Good: true, Time: time.Unix(1790000000, 0).UTC()},
		{Pack: ID{2}, Good: false, Time: time.Unix(0, 0).UTC()},
		{Pack: ID{3}, Good: true, Time: time.Unix(253402300799, 0).UTC()},
	}
	data := encodeVerified(0, entries)
	covers, got, err := decodeVerified(7, data)
	if err != nil || covers != 0 || len(got) != 3 {
		t.Fatalf("got %d, %+v, %v", covers, got, err)
	}
	for n := range got {
		entries[n].Order = 7
		if got[n] != entries[n] {
			t.Errorf("entry %d: got %+v, want %+v", n, got[n], entries[n])
		}
	}
	for n := range data {
		if _, _, err := decodeVerified(7, data[:n]); err == nil {
			t.Errorf("cut to %d bytes: no error", n)
		}
	}
	if _, _, err := decodeVerified(7, append(bytes.Clone(data), 0)); err == nil {
		t.Error("a byte too many: no error")
	}
	refused := map[string]func([]byte){
		"sums up itself":       func(b []byte) { b[0] = 7 },
		"reserved":             func(b []byte) { b[12] = 1 },
		"count":                func(b []byte) { b[8]++ },
		"outcome":              func(b []byte) { b[16+48] = 2 },
		"flags":                func(b []byte) { b[16+55] = 1 },
		"order without a sum":  func(b []byte) { b[16+32] = 1 },
		"time":                 func(b []byte) { binary.LittleEndian.PutUint64(b[16+40:], 253402300800) },
		"a sum without orders": func(b []byte) { b[0] = 3 },
	}
	for name, edit := range refused {
		bad := bytes.Clone(data)
		edit(bad)
		if _, _, err := decodeVerified(7, bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for n := range entries {
		entries[n].Order = 5
	}
	if covers, got, err := decodeVerified(7, encodeVerified(6, entries)); err != nil || covers != 6 || got[0].Order != 5 {
		t.Errorf("a summary: got %d, %+v, %v", covers, got, err)
	}
	entries[1].Order = 7
	if _, _, err := decodeVerified(8, encodeVerified(6, entries)); err == nil {
		t.Error("a summary with what came later: no error")
	}
}

func FuzzLedger(f *testing.F) {
	f.Add(uint64(1), encodeLedger(0, nil))
	f.Add(uint64(9), encodeVerified(0, []Verified{{Pack: ID{1}, Good: true, Time: time.Unix(1, 0)}}))
	f.Add(uint64(9), encodeVerified(8, []Verified{{Pack: ID{1}, Order: 3}, {Pack: ID{2}, Order: 8, Good: true}}))
	f.Fuzz(func(t *testing.T, gen uint64, data []byte) {
		covers, entries, err := decodeVerified(gen, data)
		if err != nil {
			return
		}
		if len(entries) > len(data)/ledgerEntrySize {
			t.Fatalf("%d entries of %d bytes", len(entries), len(data))
		}
		if covers == 0 {
			for n := range entries {
				entries[n].Order = 0
			}
		}
		if again := encodeVerified(covers, entries); !bytes.Equal(again, data) {
			t.Errorf("encoded again: %x, want %x", again, data)
		}
	})
}

// A pack as bytes: a frame in full, one raw, and garbage between them.
func scanPack(t testing.TB) (data []byte, frames []Frame) {
	t.Helper()
	decoders := newDecoders()
	e := newEncoders(LevelFastest, decoders).acquire()
	data = packHeader{kind: KindMeta, session: "k/s/n"}.encode()
	add := func(plain, base []byte) {
		f := Frame{ID: Sum(plain), Offset: int64(len(data))}
		if base != nil {
			f.Base, f.Depth = Sum(base), 1
		}
		payload, err := e.encode(&f, plain, base)
		if err != nil {
			t.Fatal(err)
		}
		data = append(f.appendHeader(data), payload...)
		frames = append(frames, f)
	}
	text := bytes.Repeat([]byte("some text "), 200)
	add(text, nil)
	data = append(data, "SSFRSSFR garbage"...)
	random := make([]byte, 700)
	for i := range random {
		random[i] = byte(i*i + i>>3)
	}
	add(random, nil)
	other := bytes.Clone(text)
	other[5]++
	add(other, text)
	return data, frames
}

func scanBytes(t testing.TB, data []byte) []Frame {
	t.Helper()
	s := scanner{in: bytes.NewReader(data), size: int64(len(data)), decoders: newDecoders()}
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s.frames
}

// A scan finds all that is whole, wherever the file begins and ends, and nothing
// that a bit was turned in.
func TestScan(t *testing.T) {
	data, frames := scanPack(t)
	for start := range data {
		want := 0
		for _, f := range frames {
			if f.Offset >= int64(start) {
				want++
			}
		}
		if got := scanBytes(t, data[start:]); len(got) != want {
			t.Fatalf("from byte %d: %d frames, want %d", start, len(got), want)
		}
	}
	for end := range data {
		want := 0
		for _, f := range frames {
			if f.end() <= int64(end) {
				want++
			}
		}
		if got := scanBytes(t, data[:end]); len(got) != want {
			t.Fatalf("to byte %d: %d frames, want %d", end, len(got), want)
		}
	}
	for n := range data {
		bad := bytes.Clone(data)
		bad[n] ^= 4
		for _, f := range scanBytes(t, bad) {
			header := int64(n) >= f.Offset && int64(n) < f.Offset+frameHeaderSize
			if raw := f.Codec == CodecRaw && int64(n) >= f.Offset && int64(n) < f.end(); header || raw {
				t.Fatalf("byte %d turned: frame at %d is found", n, f.Offset)
			}
		}
	}
}

// Headers that promise payloads which are not theirs do not make a scan read
// without end.
func TestScanOfLies(t *testing.T) {
	var data []byte
	for n := range 2000 {
		f := Frame{ID: ID{byte(n), byte(n >> 8), 1}, Codec: CodecRaw, StoredSize: 50_000, PlainSize: 50_000}
		data = f.appendHeader(data)
	}
	data = append(data, make([]byte, 50_000)...)
	in := &countedReads{in: bytes.NewReader(data)}
	s := scanner{in: in, size: int64(len(data)), decoders: newDecoders()}
	if err := s.run(t.Context()); err != nil || len(s.frames) != 0 {
		t.Errorf("%d frames, %v", len(s.frames), err)
	}
	if most := int64(len(data)) * (scanWaste + 3); in.bytes > most {
		t.Errorf("%d bytes were read of %d", in.bytes, len(data))
	}
}

type countedReads struct {
	in    *bytes.Reader
	bytes int64
}

func (r *countedReads) ReadAt(buf []byte, at int64) (int, error) {
	n, err := r.in.ReadAt(buf, at)
	r.bytes += int64(n)
	return n, err
}

func FuzzScan(f *testing.F) {
	data, _ := scanPack(f)
	f.Add(data)
	f.Add(data[100:])
	f.Add([]byte(frameMagic))
	decoders := newDecoders()
	f.Fuzz(func(t *testing.T, data []byte) {
		s := scanner{in: bytes.NewReader(data), size: int64(len(data)), decoders: decoders}
		if err := s.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		next := int64(0)
		for _, found := range s.frames {
			if found.Offset < next || found.end() > int64(len(data)) || found.validate() != nil {
				t.Fatalf("frame %+v behind byte %d of %d", found, next, len(data))
			}
			next = found.end()
			if found.Codec == CodecDelta {
				continue
			}
			content, err := unpack(decoders, nil, Location{Frame: found}, data[found.Offset:])
			if err != nil || Sum(content) != found.ID {
				t.Fatalf("frame %+v: %v", found, err)
			}
		}
	})
}

func FuzzPackHeader(f *testing.F) {
	f.Add(packHeader{kind: KindData, session: "k/s/n"}.encode())
	f.Add([]byte(packMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := parsePackHeader(data)
		if err != nil {
			return
		}
		if again := h.encode(); !bytes.HasPrefix(data, again) {
			t.Errorf("encoded again: %x, want %x", again, data)
		}
	})
}
