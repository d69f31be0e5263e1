package cas

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func testObjects() []object {
	return []object{
		{kind: objectCommit, nonce: [16]byte{1, 2, 3}, payload: []byte("a record")},
		{kind: objectRevoked, nonce: [16]byte{15: 255}, payload: []byte{}},
		{kind: objectValue, payload: bytes.Repeat([]byte("x"), 1000)},
	}
}

func TestObjectRoundTrip(t *testing.T) {
	for _, want := range testObjects() {
		got, err := decodeObject("name", want.encode())
		if err != nil || got.kind != want.kind || got.nonce != want.nonce || !bytes.Equal(got.payload, want.payload) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
}

func TestObjectDamage(t *testing.T) {
	for _, o := range testObjects() {
		data := o.encode()
		for n := range data {
			if _, err := decodeObject("name", data[:n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("cut to %d bytes: got %v, want ErrCorrupt", n, err)
			}
			for bit := range 8 {
				data[n] ^= 1 << bit
				_, err := decodeObject("name", data)
				var tooNew *VersionError
				isVersion := (n == 8 || n == 9) && errors.As(err, &tooNew)
				if !errors.Is(err, ErrCorrupt) && !isVersion {
					t.Errorf("bit %d of byte %d turned: got %v, want ErrCorrupt", bit, n, err)
				}
				data[n] ^= 1 << bit
			}
		}
		if _, err := decodeObject("name", append(data, 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("one byte more: got %v, want ErrCorrupt", err)
		}
	}
}

func FuzzObject(f *testing.F) {
	for _, o := range testObjects() {
		f.Add(o.encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := decodeObject("name", data)
		if err == nil && !bytes.Equal(o.encode(), data) {
			t.Errorf("%x was read as %v, which is written otherwise", data, o)
		}
	})
}

// FuzzObjectHeader gets past the hash at the end.
func FuzzObjectHeader(f *testing.F) {
	for _, o := range testObjects() {
		f.Add(o.encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < objectHashSize {
			return
		}
		body := data[:len(data)-objectHashSize]
		sum := Sum(body)
		o, err := decodeObject("name", append(bytes.Clone(body), sum[:]...))
		if err == nil && len(o.payload) != len(body)-objectHeaderSize {
			t.Errorf("payload of %d bytes in a body of %d", len(o.payload), len(body))
		}
	})
}

func TestFormat(t *testing.T) {
	uuid := UUID{0x12, 0x34, 15: 0xff}
	data := encodeFormat(uuid, time.Date(2026, 11, 23, 5, 0, 0, 0, time.FixedZone("", 3600)))
	const want = "shardseed repository\nversion 1\nuuid 12340000-0000-0000-0000-0000000000ff\ncreated 2026-11-23T04:00:00Z\n"
	if string(data) != want {
		t.Errorf("got %q, want %q", data, want)
	}
	if got, err := parseFormat(data); err != nil || got != uuid {
		t.Errorf("got %s, %v, want %s", got, err, uuid)
	}
	if _, err := parseFormat([]byte(want[:strings.Index(want, "created")] + "anything\n")); err != nil {
		t.Errorf("another last line: %v", err)
	}
}

func TestFormatDamage(t *testing.T) {
	data := encodeFormat(UUID{1, 2, 3}, time.Unix(0, 0))
	end := bytes.Index(data, []byte("created")) // what follows is for people
	for n := range end {
		if _, err := parseFormat(data[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d bytes: got %v, want ErrCorrupt", n, err)
		}
		for bit := range 8 {
			data[n] ^= 1 << bit
			uuid, err := parseFormat(data)
			if err == nil && uuid == (UUID{1, 2, 3}) {
				t.Errorf("bit %d of byte %d turned: nobody noticed", bit, n)
			}
			data[n] ^= 1 << bit
		}
	}
}

func TestFormatRefused(t *testing.T) {
	const uuid = "uuid 00000000-0000-0000-0000-000000000001\n"
	for name, test := range map[string]struct{ text, want string }{
		"empty":         {"", "first line"},
		"other file":    {"Hello\nversion 1\n" + uuid + "\n", "first line"},
		"version 0":     {formatMagic + "\nversion 0\n" + uuid + "\n", "version is 0"},
		"version -1":    {formatMagic + "\nversion -1\n" + uuid + "\n", "second line"},
		"version x":     {formatMagic + "\nversion x\n" + uuid + "\n", "second line"},
		"no version":    {formatMagic + "\n" + uuid + "\n\n", "second line"},
		"capital digit": {formatMagic + "\nversion 1\nuuid A0000000-0000-0000-0000-000000000001\n\n", "third line"},
		"short uuid":    {formatMagic + "\nversion 1\nuuid 00\n\n", "third line"},
		"uuid dashes":   {formatMagic + "\nversion 1\nuuid 00000000000000000000000000000001\n\n", "third line"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseFormat([]byte(test.text))
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	_, err := parseFormat([]byte(formatMagic + "\nversion 3\nwhatever is new\n\n"))
	const want = "format version 3 is newer than this program (reads up to 1)"
	if err == nil || err.Error() != want {
		t.Errorf("version 3: got %v, want %q", err, want)
	}
}

func FuzzFormat(f *testing.F) {
	f.Add(encodeFormat(UUID{1}, time.Unix(0, 0)))
	f.Add([]byte(formatMagic + "\nversion 2\n\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		uuid, err := parseFormat(data)
		if err == nil && !bytes.Contains(data, []byte(uuid.String())) {
			t.Errorf("%q: read uuid %s", data, uuid)
		}
	})
}

func FuzzConfig(f *testing.F) {
	uuid := UUID{1}
	f.Add(encodeConfig(uuid, Config{ChunkSize: DefaultChunkSize}))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := &Repository{uuid: uuid}
		got, err := r.parseConfig("config/x", body)
		if err == nil && got == uuid && r.config.validate() != nil {
			t.Errorf("accepted %+v", r.config)
		}
	})
}

func FuzzPackList(f *testing.F) {
	f.Add(EncodeIDs(nil))
	f.Add(EncodeIDs([]ID{idOf("a"), idOf("b")}))
	f.Add(packList{packs: []ID{idOf("a")}, keys: []Key{"ks/-80/1", "ks/-80/2"}}.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := decodePackList(data)
		if err == nil && !bytes.Equal(list.encode(), data) && !bytes.Equal(EncodeIDs(list.packs), data) {
			t.Errorf("%x was read as %v", data, list)
		}
	})
}

func TestPackListDamage(t *testing.T) {
	data := EncodeIDs([]ID{idOf("a"), idOf("b")})
	for n := range data {
		if _, err := decodePackList(data[:n]); err == nil {
			t.Errorf("cut to %d bytes: no error", n)
		}
	}
	data = packList{packs: []ID{idOf("a")}, keys: []Key{"ks/-80/1", "ks/-80/2"}}.encode()
	for n := range data {
		list, err := decodePackList(data[:n])
		if err == nil && (n != 4+32 || list.keys != nil) { // without keys, it is a list as final ones are
			t.Errorf("with keys, cut to %d bytes: no error", n)
		}
	}
	if list, err := decodePackList(data); err != nil || len(list.packs) != 1 || len(list.keys) != 2 {
		t.Errorf("got %v, %v", list, err)
	}
	huge := binary.LittleEndian.AppendUint32(nil, 1<<32-1)
	if _, err := decodePackList(huge); err == nil {
		t.Error("a count without IDs: no error")
	}
}

func TestErrorTexts(t *testing.T) {
	pack, want, got := ID{0x51}, ID{0x9e}, ID{3}
	for _, test := range []struct {
		err  error
		want string
	}{
		{&CorruptError{Pack: pack, Offset: 4194304, Want: want, Got: got}, "chunk 9e000000 in pack 51000000 at byte 4194304: content hashes to 03000000"},
		{&CorruptError{Pack: pack, Offset: 1, Want: want, Reason: "torn"}, "chunk 9e000000 in pack 51000000 at byte 1: torn"},
		{&CorruptError{Pack: pack, Reason: "torn"}, "pack 51000000: torn"},
		{&CorruptError{Name: "config/1", Reason: "torn"}, "config/1: torn"},
		{&CorruptError{Name: "config/1", Want: want, Got: got}, "config/1: content hashes to 03000000"},
		{&VersionError{What: "pack 51000000", Found: 3, Known: 1}, "pack 51000000 version 3 is newer than this program (reads up to 1)"},
		{&VersionError{What: "repository", Features: 6}, "repository needs features 0x6, which this program does not know"},
	} {
		if test.err.Error() != test.want {
			t.Errorf("got %q, want %q", test.err, test.want)
		}
	}
	if !errors.Is(fmt.Errorf("x: %w", &CorruptError{}), ErrCorrupt) {
		t.Error("a CorruptError is not ErrCorrupt")
	}
}
