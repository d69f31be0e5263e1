package replication

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// maxTag is the longest tag of a GTID, in bytes.
	// Source: MySQL Reference Manual, "GTID Format and Storage".
	maxTag = 32
	// maxSeq is the highest sequence number that MySQL 9.7 accepts; its manual
	// says one more.
	maxSeq = 1<<63 - 2
)

// ParseGTIDSet reads a set as the server prints it: elements parted by commas,
// each a UUID and then intervals and tags parted by colons; a tag holds for the
// intervals behind it. Spaces, newlines and upper case are accepted, as are
// intervals in any order, touching and overlapping; "" is the empty set. Unlike
// the server it refuses empty elements and intervals that run backwards: no
// server prints them.
func ParseGTIDSet(text string) (GTIDSet, error) {
	if len(text) > maxText {
		return GTIDSet{}, fmt.Errorf("parse GTID set: %d bytes, want at most %d", len(text), maxText)
	}
	if trim(text) == "" {
		return GTIDSet{}, nil
	}
	var origins []origin
	for element := range strings.SplitSeq(text, ",") {
		parsed, err := parseElement(element)
		if err != nil {
			return GTIDSet{}, fmt.Errorf("parse GTID set at %q: %w", clip(trim(element)), err)
		}
		origins = append(origins, parsed...)
	}
	return normalized(origins), nil
}

// parseElement reads what stands between two commas; there is one origin for
// each run of intervals with the same tag, none without intervals.
func parseElement(text string) ([]origin, error) {
	head, rest, more := strings.Cut(text, ":")
	uuid, err := parseUUID(trim(head))
	if err != nil {
		return nil, err
	}
	origins := []origin{{uuid: uuid}}
	for more {
		var part string
		part, rest, more = strings.Cut(rest, ":")
		part = trim(part)
		last := &origins[len(origins)-1]
		if part == "" || isDigit(part[0]) {
			iv, err := parseInterval(part)
			if err != nil {
				return nil, err
			}
			last.intervals = append(last.intervals, iv)
			continue
		}
		tag, err := parseTag(part)
		if err != nil {
			return nil, err
		}
		if last.intervals == nil && last.tag != "" {
			return nil, fmt.Errorf("tag %q has no interval", last.tag)
		}
		if last.intervals == nil {
			last.tag = tag
			continue
		}
		origins = append(origins, origin{uuid: uuid, tag: tag})
	}
	if origins[len(origins)-1].intervals == nil {
		return nil, errors.New("no interval at its end")
	}
	return origins, nil
}

func parseUUID(text string) (uuid [16]byte, err error) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return uuid, fmt.Errorf("%q is no UUID", clip(text))
	}
	digits := text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
	if _, err := hex.Decode(uuid[:], []byte(digits)); err != nil {
		return uuid, fmt.Errorf("%q is no UUID", text)
	}
	return uuid, nil
}

// parseTag takes a letter or underscore, then letters, digits and underscores.
func parseTag(text string) (string, error) {
	if len(text) > maxTag {
		return "", fmt.Errorf("tag %q has %d characters, want at most %d", clip(text), len(text), maxTag)
	}
	for i := range len(text) {
		lower := text[i] | 0x20 // maps letters, and only letters, to a-z
		letter := 'a' <= lower && lower <= 'z'
		if !letter && text[i] != '_' && (i == 0 || !isDigit(text[i])) {
			return "", fmt.Errorf("%q is neither an interval nor a tag", text)
		}
	}
	return strings.ToLower(text), nil
}

func parseInterval(text string) (interval, error) {
	from, to, ranged := strings.Cut(text, "-")
	first, err := parseNumber(trim(from))
	if err != nil {
		return interval{}, err
	}
	if !ranged {
		return interval{first, first}, nil
	}
	last, err := parseNumber(trim(to))
	if err != nil {
		return interval{}, err
	}
	if last < first {
		return interval{}, fmt.Errorf("interval %d-%d runs backwards", first, last)
	}
	return interval{first, last}, nil
}

func parseNumber(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n == 0 || n > maxSeq {
		return 0, fmt.Errorf("%q is no sequence number from 1 to %d", clip(text), int64(maxSeq))
	}
	return n, nil
}
