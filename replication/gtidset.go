package replication

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"slices"
	"strconv"
)

// GTIDSet is a set of MySQL's global transaction identifiers, tagged ones
// included. The zero value is the empty set. A set never changes; every
// operation takes time linear in the number of intervals of its operands.
//
// Source: MySQL Reference Manual, "GTID Format and Storage".
type GTIDSet struct {
	origins []origin // ascending by UUID, then tag; none without intervals
}

// origin is the part of a set that shares a UUID and a tag.
type origin struct {
	uuid      [16]byte
	tag       string     // lower case; empty for untagged, which comes first
	intervals []interval // ascending, disjoint, not touching
}

// interval holds the sequence numbers first to last, both included,
// 1 <= first <= last <= maxSeq.
type interval struct{ first, last uint64 }

func (o origin) compare(p origin) int {
	return cmp.Or(bytes.Compare(o.uuid[:], p.uuid[:]), cmp.Compare(o.tag, p.tag))
}

// IsEmpty reports whether the set holds no GTID.
func (s GTIDSet) IsEmpty() bool { return len(s.origins) == 0 }

// Equal reports whether both sets hold the same GTIDs.
func (s GTIDSet) Equal(t GTIDSet) bool {
	return slices.EqualFunc(s.origins, t.origins, func(o, p origin) bool {
		return o.compare(p) == 0 && slices.Equal(o.intervals, p.intervals)
	})
}

// Contains reports whether every GTID of t is in s.
func (s GTIDSet) Contains(t GTIDSet) bool {
	i := 0
	for _, p := range t.origins {
		for i < len(s.origins) && s.origins[i].compare(p) < 0 {
			i++
		}
		if i == len(s.origins) || s.origins[i].compare(p) != 0 || !covers(s.origins[i].intervals, p.intervals) {
			return false
		}
	}
	return true
}

// covers reports whether every number of b is in a.
func covers(a, b []interval) bool {
	i := 0
	for _, want := range b {
		for i < len(a) && a[i].last < want.first {
			i++
		}
		if i == len(a) || want.first < a[i].first || a[i].last < want.last {
			return false
		}
	}
	return true
}

// Subtract returns the GTIDs of s that are not in t.
func (s GTIDSet) Subtract(t GTIDSet) GTIDSet { return combine(s, t, subtract) }

// Union returns the GTIDs that are in s or in t.
func (s GTIDSet) Union(t GTIDSet) GTIDSet { return combine(s, t, unite) }

// split parts the set by origins.
func (s GTIDSet) split(keep func(origin) bool) (kept, others GTIDSet) {
	for _, o := range s.origins {
		if keep(o) {
			kept.origins = append(kept.origins, o)
		} else {
			others.origins = append(others.origins, o)
		}
	}
	return kept, others
}

func (s GTIDSet) hasUUID(uuid [16]byte) bool {
	return slices.ContainsFunc(s.origins, func(o origin) bool { return o.uuid == uuid })
}

// combine applies op to the intervals of each origin that s or t has.
func combine(s, t GTIDSet, op func(a, b []interval) []interval) GTIDSet {
	var result GTIDSet
	a, b := s.origins, t.origins
	for len(a) > 0 || len(b) > 0 {
		var next origin
		var left, right []interval
		order := 0
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		default:
			order = a[0].compare(b[0])
		}
		if order <= 0 {
			next, left, a = a[0], a[0].intervals, a[1:]
		}
		if order >= 0 {
			next, right, b = b[0], b[0].intervals, b[1:]
		}
		if next.intervals = op(left, right); len(next.intervals) > 0 {
			result.origins = append(result.origins, next)
		}
	}
	return result
}

// subtract returns the numbers of a that are not in b.
func subtract(a, b []interval) []interval {
	if len(b) == 0 {
		return a
	}
	var rest []interval
	for _, iv := range a {
		for len(b) > 0 && b[0].last < iv.first {
			b = b[1:]
		}
		at := iv.first // the first number not decided yet
		for _, hole := range b {
			if hole.first > iv.last {
				break
			}
			if hole.first > at {
				rest = append(rest, interval{at, hole.first - 1})
			}
			at = hole.last + 1
		}
		if at <= iv.last {
			rest = append(rest, interval{at, iv.last})
		}
	}
	return rest
}

// unite returns the numbers of a and of b.
func unite(a, b []interval) []interval {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	var all []interval
	for len(a) > 0 || len(b) > 0 {
		if len(b) == 0 || len(a) > 0 && a[0].first <= b[0].first {
			all, a = extend(all, a[0]), a[1:]
		} else {
			all, b = extend(all, b[0]), b[1:]
		}
	}
	return all
}

// extend adds iv, which starts no earlier than the last interval of list.
func extend(list []interval, iv interval) []interval {
	if n := len(list); n > 0 && iv.first-1 <= list[n-1].last {
		list[n-1].last = max(list[n-1].last, iv.last)
		return list
	}
	return append(list, iv)
}

// String is the set as the server prints it in @@gtid_executed, but without a
// newline after each comma: lower case, ascending, "" for the empty set, such
// as "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7:tag:1-3".
func (s GTIDSet) String() string { return s.text(-1) }

// Short is String for messages: a few intervals, then how many are left out.
// It can't be parsed.
func (s GTIDSet) Short() string { return s.text(shortItems) }

// text prints at most limit intervals; all of them if limit is negative.
func (s GTIDSet) text(limit int) string {
	var b []byte
	shown := 0
	for i, o := range s.origins {
		if shown == limit {
			break
		}
		if i == 0 || o.uuid != s.origins[i-1].uuid {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendUUID(b, o.uuid)
		}
		if o.tag != "" {
			b = append(append(b, ':'), o.tag...)
		}
		for _, iv := range o.intervals {
			if shown == limit {
				break
			}
			b = appendInterval(b, iv)
			shown++
		}
	}
	if left := s.size() - shown; left > 0 {
		return string(b) + "," + more(left, "interval")
	}
	return string(b)
}

// size is the number of intervals.
func (s GTIDSet) size() int {
	n := 0
	for _, o := range s.origins {
		n += len(o.intervals)
	}
	return n
}

func appendUUID(b []byte, uuid [16]byte) []byte {
	for i, part := range [][]byte{uuid[:4], uuid[4:6], uuid[6:8], uuid[8:10], uuid[10:]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, part)
	}
	return b
}

func appendInterval(b []byte, iv interval) []byte {
	b = strconv.AppendUint(append(b, ':'), iv.first, 10)
	if iv.last > iv.first {
		b = strconv.AppendUint(append(b, '-'), iv.last, 10)
	}
	return b
}

// MarshalText returns String. It never fails.
func (s GTIDSet) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is ParseGTIDSet.
func (s *GTIDSet) UnmarshalText(text []byte) error {
	parsed, err := ParseGTIDSet(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}

// compact sorts intervals in place and merges those that overlap or touch.
func compact(intervals []interval) []interval {
	byFirst := func(a, b interval) int { return cmp.Compare(a.first, b.first) }
	if !slices.IsSortedFunc(intervals, byFirst) {
		slices.SortFunc(intervals, byFirst)
	}
	merged := intervals[:0]
	for _, iv := range intervals {
		merged = extend(merged, iv)
	}
	return merged
}

// normalized returns the set of all origins, which may repeat; it takes them.
func normalized(origins []origin) GTIDSet {
	slices.SortStableFunc(origins, origin.compare)
	merged := origins[:0]
	for _, o := range origins {
		if n := len(merged); n > 0 && merged[n-1].compare(o) == 0 {
			merged[n-1].intervals = append(merged[n-1].intervals, o.intervals...)
			continue
		}
		merged = append(merged, o)
	}
	for i := range merged {
		merged[i].intervals = compact(merged[i].intervals)
	}
	return GTIDSet{origins: slices.Clip(merged)}
}
