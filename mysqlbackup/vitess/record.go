package vitess

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Alias names a tablet: the cell it is in, and its number there.
type Alias struct {
	Cell string `json:"cell"`
	UID  uint32 `json:"uid"`
}

// aliasPattern is Vitess' own.
var aliasPattern = regexp.MustCompile(`^([-_.a-zA-Z0-9]+)-([0-9]+)$`)

// ParseAlias reads "zone1-101" or "zone1-0000000101".
func ParseAlias(text string) (Alias, error) {
	parts := aliasPattern.FindStringSubmatch(text)
	if parts == nil {
		return Alias{}, fmt.Errorf("parse tablet alias %q: want CELL-UID, such as zone1-101", text)
	}
	uid, err := strconv.ParseUint(parts[2], 10, 32)
	if err != nil {
		return Alias{}, fmt.Errorf("parse tablet alias %q: uid %s is above %d", text, parts[2], uint32(1<<32-1))
	}
	return Alias{Cell: parts[1], UID: uint32(uid)}, nil
}

// String returns the alias as people type it: zone1-101.
func (a Alias) String() string { return fmt.Sprintf("%s-%d", a.Cell, a.UID) }

// IsZero reports whether there is no alias.
func (a Alias) IsZero() bool { return a == Alias{} }

// Type is the type of a tablet, in capitals.
type Type string

// The types that matter here.
const (
	Unknown  Type = "UNKNOWN"
	Primary  Type = "PRIMARY"
	Replica  Type = "REPLICA"
	ReadOnly Type = "RDONLY"
	Spare    Type = "SPARE"
	Backup   Type = "BACKUP"
	Restore  Type = "RESTORE"
	Drained  Type = "DRAINED"
)

// typeNames are the types by number.
// Source: topodata.proto.
func typeNames() []Type {
	return []Type{Unknown, Primary, Replica, ReadOnly, Spare, "EXPERIMENTAL", Backup, Restore, Drained}
}

// UnmarshalJSON reads a type. GetTablet prints its name in capitals, GetTablets
// its number, /debug/vars its name in lower case.
func (t *Type) UnmarshalJSON(text []byte) error {
	var number int
	if json.Unmarshal(text, &number) == nil {
		*t = Type(strconv.Itoa(number)) // one that is not known yet is none of those above
		if names := typeNames(); number >= 0 && number < len(names) {
			*t = names[number]
		}
		return nil
	}
	var name string
	if err := json.Unmarshal(text, &name); err != nil {
		return fmt.Errorf("tablet type %s: want a name or a number", text)
	}
	*t = Type(strings.ToUpper(name))
	if *t == "MASTER" { // before Vitess 11
		*t = Primary
	}
	return nil
}

// Serves reports whether queries go to tablets of the type, primaries apart.
func (t Type) Serves() bool { return t == Replica || t == ReadOnly }

// Tablet is the record of a tablet.
type Tablet struct {
	Alias    Alias
	Keyspace string
	Shard    string
	Type     Type
	Host     string // of vttablet; "": it was stopped, and the type is what it was before
	Port     int    // of its HTTP server
	MySQL    string // host of mysqld; "" as Host
	MySQLTCP int    // port of mysqld
}

// Runs reports whether vttablet has not been stopped in order. One that was
// killed leaves its record as it was.
func (t Tablet) Runs() bool { return t.Host != "" && t.MySQL != "" }

// tabletText is a tablet as the client prints it; GetTablets leaves out what is
// empty.
type tabletText struct {
	Alias    Alias          `json:"alias"`
	Hostname string         `json:"hostname"`
	Ports    map[string]int `json:"port_map"`
	Keyspace string         `json:"keyspace"`
	Shard    string         `json:"shard"`
	Type     Type           `json:"type"`
	MySQL    string         `json:"mysql_hostname"`
	MySQLTCP int            `json:"mysql_port"`
}

func (t tabletText) tablet() (Tablet, error) {
	if t.Alias.Cell == "" || t.Keyspace == "" || t.Shard == "" {
		return Tablet{}, errors.New("a tablet without alias, keyspace or shard")
	}
	if t.Type == "" {
		t.Type = Unknown
	}
	if t.MySQLTCP < 0 || t.MySQLTCP > 65535 {
		return Tablet{}, fmt.Errorf("tablet %s: mysql_port %d", t.Alias, t.MySQLTCP)
	}
	return Tablet{t.Alias, t.Keyspace, t.Shard, t.Type, t.Hostname, t.Ports["vt"], t.MySQL, t.MySQLTCP}, nil
}

// decode reads one JSON value and refuses an empty answer.
func decode(text []byte, into any) error {
	if len(bytes.TrimSpace(text)) == 0 {
		return errors.New("the answer is empty")
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

// ParseTablet reads what GetTablet prints.
func ParseTablet(text []byte) (Tablet, error) {
	var t tabletText
	if err := decode(text, &t); err != nil {
		return Tablet{}, err
	}
	return t.tablet()
}

// ParseTablets reads what GetTablets --format json prints.
func ParseTablets(text []byte) ([]Tablet, error) {
	var list []tabletText
	if err := decode(text, &list); err != nil {
		return nil, err
	}
	tablets := make([]Tablet, 0, len(list))
	for _, entry := range list {
		t, err := entry.tablet()
		if err != nil {
			return nil, err
		}
		tablets = append(tablets, t)
	}
	return tablets, nil
}

// Shard is the record of a shard.
type Shard struct {
	Keyspace string
	Name     string
	Primary  Alias // zero: the shard has none yet
}

// ParseShard reads what GetShard prints.
func ParseShard(text []byte) (Shard, error) {
	var s struct {
		Keyspace string `json:"keyspace"`
		Name     string `json:"name"`
		Shard    struct {
			Primary Alias `json:"primary_alias"`
		} `json:"shard"`
	}
	if err := decode(text, &s); err != nil {
		return Shard{}, err
	}
	if s.Keyspace == "" || s.Name == "" {
		return Shard{}, errors.New("a shard without a name")
	}
	return Shard{s.Keyspace, s.Name, s.Shard.Primary}, nil
}
