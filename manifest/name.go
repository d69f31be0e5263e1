package manifest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/shardseed/shardseed/cas"
)

// Keyspace is the name of a logical database, as in Vitess: one to 64 letters,
// digits, underscores and dashes.
type Keyspace string

// Shard is the name of a keyspace's part, as in Vitess. A name with a dash is
// a range of keyspace IDs in lower-case hexadecimal ("-80", "40-80", "80-",
// and "-" for all of it); any other name stands for itself ("0").
type Shard string

// TabletAlias names one server: the cell it stands in and its number there.
// Two aliases are the same when they are ==.
type TabletAlias struct {
	Cell string // letters, digits, underscores, dashes and dots; neither of the last two first
	UID  uint32
}

// Name is the name of a backup within its shard: when it was begun and by
// whom. Names sort by time, as text and by [Name.Compare].
type Name struct {
	Time  time.Time // UTC, whole seconds
	Alias TabletAlias
}

const (
	maxWord    = 64 // letters of a keyspace, shard or cell name
	nameLayout = "2006-01-02.150405"
)

var (
	wordPattern  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]*$`)
	shardPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	rangePattern = regexp.MustCompile(`^([0-9a-f]*)-([0-9a-f]*)$`)
	aliasPattern = regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9_.-]*)-([0-9]{1,10})$`)
)

// ParseKeyspace reads the name of a keyspace.
func ParseKeyspace(s string) (Keyspace, error) {
	if len(s) > maxWord || !wordPattern.MatchString(s) {
		return "", fmt.Errorf("parse keyspace %q: want 1 to %d letters, digits, underscores or dashes, no dash first", s, maxWord)
	}
	return Keyspace(s), nil
}

// ParseShard reads the name of a shard. The digits of a range are put into
// lower case, as Vitess does.
func ParseShard(s string) (Shard, error) {
	if len(s) > maxWord || !shardPattern.MatchString(s) {
		return "", fmt.Errorf("parse shard %q: want 1 to %d letters, digits, underscores or dashes", s, maxWord)
	}
	if !strings.Contains(s, "-") {
		return Shard(s), nil
	}
	lower := strings.ToLower(s)
	ends := rangePattern.FindStringSubmatch(lower)
	if ends == nil || len(ends[1])%2 != 0 || len(ends[2])%2 != 0 {
		return "", fmt.Errorf("parse shard %q: a name with a dash is a range of keyspace IDs such as -80, 40-80 or 80-", s)
	}
	if ends[2] != "" && ends[1] >= ends[2] {
		return "", fmt.Errorf("parse shard %q: the range is empty, %q is not below %q", s, ends[1], ends[2])
	}
	return Shard(lower), nil
}

// ParseKeyspaceShard reads "keyspace/shard".
func ParseKeyspaceShard(s string) (Keyspace, Shard, error) {
	left, right, found := strings.Cut(s, "/")
	if !found {
		return "", "", fmt.Errorf("parse %q: want KEYSPACE/SHARD, such as commerce/0", s)
	}
	keyspace, err := ParseKeyspace(left)
	if err != nil {
		return "", "", err
	}
	shard, err := ParseShard(right)
	if err != nil {
		return "", "", err
	}
	return keyspace, shard, nil
}

// ParseTabletAlias reads "cell-uid". The last dash ends the cell, since cells
// may hold dashes. Zeros before the number do not count: zone1-101 and
// zone1-0000000101 are the same alias.
func ParseTabletAlias(s string) (TabletAlias, error) {
	parts := aliasPattern.FindStringSubmatch(s)
	if parts == nil || len(parts[1]) > maxWord {
		return TabletAlias{}, fmt.Errorf("parse tablet alias %q: want CELL-UID, such as zone1-101", s)
	}
	uid, err := strconv.ParseUint(parts[2], 10, 32)
	if err != nil {
		return TabletAlias{}, fmt.Errorf("parse tablet alias %q: uid %s is above %d", s, parts[2], uint32(1<<32-1))
	}
	return TabletAlias{Cell: parts[1], UID: uint32(uid)}, nil
}

// String returns the alias as Vitess prints and stores it, the number padded
// to ten digits: zone1-0000000101. Everything that is stored uses this form.
func (a TabletAlias) String() string { return fmt.Sprintf("%s-%010d", a.Cell, a.UID) }

// Short returns the alias as people type it: zone1-101.
func (a TabletAlias) Short() string { return fmt.Sprintf("%s-%d", a.Cell, a.UID) }

// MarshalText returns [TabletAlias.String]; the zero alias is an error.
func (a TabletAlias) MarshalText() ([]byte, error) {
	if _, err := ParseTabletAlias(a.String()); err != nil {
		return nil, err
	}
	return []byte(a.String()), nil
}

// UnmarshalText is [ParseTabletAlias].
func (a *TabletAlias) UnmarshalText(text []byte) error {
	parsed, err := ParseTabletAlias(string(text))
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

// NewName returns the name of a backup that begins at t, cut to the second.
func NewName(t time.Time, alias TabletAlias) Name {
	return Name{Time: t.UTC().Truncate(time.Second), Alias: alias}
}

// ParseName reads "2026-08-01.131502.zone1-0000000101"; the short form of the
// alias is accepted too. The time has a fixed length, so that dots in the cell
// leave no doubt.
func ParseName(s string) (Name, error) {
	if len(s) < len(nameLayout)+1 || s[len(nameLayout)] != '.' {
		return Name{}, fmt.Errorf("parse backup name %q: want DATE.TIME.ALIAS, such as 2026-08-01.131502.zone1-0000000101", s)
	}
	t, err := time.ParseInLocation(nameLayout, s[:len(nameLayout)], time.UTC)
	if err != nil || t.Format(nameLayout) != s[:len(nameLayout)] {
		return Name{}, fmt.Errorf("parse backup name %q: %q is not a time in the form yyyy-mm-dd.hhmmss", s, s[:len(nameLayout)])
	}
	alias, err := ParseTabletAlias(s[len(nameLayout)+1:])
	if err != nil {
		return Name{}, fmt.Errorf("parse backup name %q: %w", s, err)
	}
	return Name{Time: t, Alias: alias}, nil
}

// String returns the name as it is stored and shown, the alias padded.
func (n Name) String() string { return n.Time.UTC().Format(nameLayout) + "." + n.Alias.String() }

// Compare orders names by time, then by alias as text: the order of their
// strings.
func (n Name) Compare(other Name) int { return strings.Compare(n.String(), other.String()) }

// MarshalText returns [Name.String]; a name that would not parse is an error.
func (n Name) MarshalText() ([]byte, error) {
	if _, err := ParseName(n.String()); err != nil {
		return nil, err
	}
	return []byte(n.String()), nil
}

// UnmarshalText is [ParseName].
func (n *Name) UnmarshalText(text []byte) error {
	parsed, err := ParseName(string(text))
	if err != nil {
		return err
	}
	*n = parsed
	return nil
}

// Key returns the key under which the backup is stored in a repository:
// keyspace/shard/name.
func Key(keyspace Keyspace, shard Shard, name Name) cas.Key {
	return cas.Key(string(keyspace) + "/" + string(shard) + "/" + name.String())
}
