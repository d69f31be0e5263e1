package cas

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/zeebo/blake3"
)

// An object is the envelope of every small blob but FORMAT: registers,
// sessions, forgotten marks, values, configurations, lists of packs. See
// docs/format.md, "Object".
type object struct {
	kind    objectKind
	nonce   [16]byte // random, so that no two writers make equal blobs
	payload []byte
}

type objectKind uint8

const (
	objectCommit    objectKind = 1
	objectRevoked   objectKind = 2
	objectSession   objectKind = 3
	objectForgotten objectKind = 4
	objectConfig    objectKind = 5
	objectValue     objectKind = 6
	objectPackList  objectKind = 7  // gc/…: sorted pack IDs
	objectDamaged   objectKind = 8  // damaged/<pack>
	objectLedger    objectKind = 9  // verified/…
	objectKeyList   objectKind = 10 // gc/…: sorted keys
	objectBeat      objectKind = 11 // beats/…, readers/…
)

// version is that of the format and, as yet, of every kind of object in it.
const version = 1

const (
	objectMagic      = "SSOBJ\r\n\x1a"
	objectHeaderSize = 32
	objectHashSize   = 32
	maxPayload       = maxObject - objectHeaderSize - objectHashSize
)

func (o object) encode() []byte {
	buf := make([]byte, 0, objectHeaderSize+len(o.payload)+objectHashSize)
	buf = append(buf, objectMagic...)
	buf = binary.LittleEndian.AppendUint16(buf, version)
	buf = append(buf, byte(o.kind), 0)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(o.payload)))
	buf = append(buf, o.nonce[:]...)
	buf = append(buf, o.payload...)
	sum := blake3.Sum256(buf)
	return append(buf, sum[:]...)
}

// decodeObject checks the envelope in data, which it keeps. The name is for
// errors: *CorruptError and *VersionError.
func decodeObject(name string, data []byte) (object, error) {
	o, size, err := decodeObjectHeader(name, data)
	if err != nil {
		return object{}, err
	}
	if want := objectHeaderSize + size + objectHashSize; int64(len(data)) != want {
		return object{}, &CorruptError{Name: name, Reason: fmt.Sprintf("%d bytes long, want %d", len(data), want)}
	}
	body := data[:len(data)-objectHashSize]
	if got, want := Sum(body), ID(data[len(body):]); got != want {
		return object{}, &CorruptError{Name: name, Want: want, Got: got}
	}
	o.payload = body[objectHeaderSize:]
	return o, nil
}

// decodeObjectHeader reads the header and returns the payload's length as
// stated there; nothing vouches for either but the hash at the end.
func decodeObjectHeader(name string, data []byte) (object, int64, error) {
	if len(data) < objectHeaderSize {
		return object{}, 0, &CorruptError{Name: name, Reason: fmt.Sprintf("%d bytes long, want at least %d", len(data), objectHeaderSize+objectHashSize)}
	}
	if string(data[:8]) != objectMagic {
		return object{}, 0, &CorruptError{Name: name, Reason: fmt.Sprintf("magic is %q", data[:8])}
	}
	if v := binary.LittleEndian.Uint16(data[8:]); v != version {
		return object{}, 0, versionError(name, v)
	}
	if data[11] != 0 {
		return object{}, 0, &CorruptError{Name: name, Reason: fmt.Sprintf("flags %#02x are not known", data[11])}
	}
	o := object{kind: objectKind(data[10]), nonce: [16]byte(data[16:32])}
	return o, int64(binary.LittleEndian.Uint32(data[12:])), nil
}

// versionError tells a version from the future apart from one that never was.
func versionError(name string, found uint16) error {
	if found == 0 {
		return &CorruptError{Name: name, Reason: "version is 0"}
	}
	return &VersionError{What: name, Found: found, Known: version}
}

// readObject reads and checks the blob; its kind must be one of kinds.
func readObject(ctx context.Context, b Backend, name string, kinds ...objectKind) (object, error) {
	data, err := readBlob(ctx, b, name, maxObject)
	if err != nil {
		return object{}, err
	}
	o, err := decodeObject(name, data)
	if err != nil {
		return object{}, err
	}
	for _, kind := range kinds {
		if o.kind == kind {
			return o, nil
		}
	}
	return object{}, &CorruptError{Name: name, Reason: fmt.Sprintf("object of kind %d, want %v", o.kind, kinds)}
}
