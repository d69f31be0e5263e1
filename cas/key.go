package cas

import (
	"fmt"
	"path"
	"strings"
)

// Key names a session and the backup it becomes: "keyspace/shard/name".
// Within a shard, keys sort by time because names begin with it.
type Key string

// maxPart bounds each part of a key, in bytes: a file name.
const maxPart = 200

// ParseKey checks that s is three parts of ASCII letters, digits, dot, dash and
// underscore, none of which begins with a dot.
func ParseKey(s string) (Key, error) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 {
		return "", fmt.Errorf("parse key %q: %d parts, want keyspace/shard/name", s, len(parts))
	}
	for _, part := range parts {
		if err := CheckPart(part); err != nil {
			return "", fmt.Errorf("parse key %q: %w", s, err)
		}
	}
	return Key(s), nil
}

// NewKey joins and checks the three parts of a key.
func NewKey(keyspace, shard, name string) (Key, error) {
	return ParseKey(keyspace + "/" + shard + "/" + name)
}

// CheckPart refuses what cannot be one part of a key or of a value's name.
func CheckPart(part string) error {
	switch {
	case part == "":
		return fmt.Errorf("a part is empty")
	case len(part) > maxPart:
		return fmt.Errorf("part %q has %d characters, at most %d are allowed", part, len(part), maxPart)
	case part[0] == '.':
		return fmt.Errorf("part %q begins with a dot", part)
	}
	for _, r := range part {
		if !partRune(r) {
			return fmt.Errorf("part %q holds %q; only letters, digits, '.', '_' and '-' are allowed", part, r)
		}
	}
	return nil
}

func partRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
}

// String returns the key as text.
func (k Key) String() string { return string(k) }

// Shard returns the key's shard, "keyspace/shard".
func (k Key) Shard() string { return path.Dir(string(k)) }

// Keyspace returns the first part of the key.
func (k Key) Keyspace() string { return path.Dir(k.Shard()) }

// ShardName returns the part of the key between keyspace and name.
func (k Key) ShardName() string { return path.Base(k.Shard()) }

// Name returns the last part of the key.
func (k Key) Name() string { return path.Base(string(k)) }
