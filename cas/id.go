package cas

import (
	"bytes"
	"encoding/hex"
	"fmt"
)

// ID names a chunk by the BLAKE3-256 of its plain bytes, and a pack by the
// BLAKE3-256 of its file. As a chunk, the zero ID stands for a run of zero
// bytes of any length; it is never stored.
type ID [32]byte

// AllZero tells whether plain holds zero bytes only, in which case its chunk ID
// is the zero ID. No bytes at all count as zero.
func AllZero(plain []byte) bool {
	return len(plain) == 0 || plain[0] == 0 && bytes.Equal(plain[1:], plain[:len(plain)-1])
}

// ParseID reads the 64 hex digits that String prints; capitals are refused, so
// that a name has one spelling.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) {
		return ID{}, fmt.Errorf("parse ID %q: %d characters, want %d", s, len(s), 2*len(id))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("parse ID %q: %v", s, err)
	}
	if id.String() != s {
		return ID{}, fmt.Errorf("parse ID %q: capital letters", s)
	}
	return id, nil
}

// String returns 64 hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first 8 hex digits, for people.
func (id ID) Short() string { return hex.EncodeToString(id[:4]) }

// IsZero tells whether id is the zero ID.
func (id ID) IsZero() bool { return id == ID{} }

// Compare orders IDs by their bytes: -1, 0 or +1.
func (id ID) Compare(other ID) int { return bytes.Compare(id[:], other[:]) }

// MarshalText returns what String returns.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}
