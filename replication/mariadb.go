package replication

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MariaDBGTID is one of MariaDB's global transaction identifiers.
type MariaDBGTID struct {
	Domain uint32
	Server uint32 // server_id of the server that wrote the transaction
	Seq    uint64 // ascending within a domain
}

// writer is a server within a domain.
type writer struct{ domain, server uint32 }

func (g MariaDBGTID) writer() writer { return writer{g.Domain, g.Server} }

// String is "domain-server-seq".
func (g MariaDBGTID) String() string { return string(g.appendTo(nil)) }

func (g MariaDBGTID) appendTo(b []byte) []byte {
	b = append(strconv.AppendUint(b, uint64(g.Domain), 10), '-')
	b = append(strconv.AppendUint(b, uint64(g.Server), 10), '-')
	return strconv.AppendUint(b, g.Seq, 10)
}

// compare orders by domain, sequence number and server, so that the newest
// GTID of a domain comes last, as in gtid_binlog_state.
func (g MariaDBGTID) compare(h MariaDBGTID) int {
	return cmp.Or(cmp.Compare(g.Domain, h.Domain), cmp.Compare(g.Seq, h.Seq), cmp.Compare(g.Server, h.Server))
}

// MariaDBPosition is a list of MariaDB's GTIDs. gtid_slave_pos and its like
// hold one for each domain; gtid_binlog_state and the list at the start of a
// binary log hold one for each server of each domain. Each stands for itself
// and all before it in its domain. The zero value is the empty list.
//
// Source: MariaDB Server Documentation, "Global Transaction ID".
type MariaDBPosition struct {
	gtids []MariaDBGTID // ascending (compare); a domain and server once only
}

// ParseMariaDBPosition reads a comma-separated list as the server prints it, in
// any order; spaces and newlines are accepted, "" is the empty list. The same
// server twice in a domain is an error.
func ParseMariaDBPosition(text string) (MariaDBPosition, error) {
	if len(text) > maxText {
		return MariaDBPosition{}, fmt.Errorf("parse MariaDB position: %d bytes, want at most %d", len(text), maxText)
	}
	if trim(text) == "" {
		return MariaDBPosition{}, nil
	}
	var gtids []MariaDBGTID
	for element := range strings.SplitSeq(text, ",") {
		g, err := parseMariaDBGTID(trim(element))
		if err != nil {
			return MariaDBPosition{}, fmt.Errorf("parse MariaDB position: %w", err)
		}
		gtids = append(gtids, g)
	}
	if g, found := repeated(gtids); found {
		return MariaDBPosition{}, fmt.Errorf("parse MariaDB position: server %d stands twice in domain %d", g.Server, g.Domain)
	}
	slices.SortFunc(gtids, MariaDBGTID.compare)
	return MariaDBPosition{gtids: gtids}, nil
}

// ParseMariaDBGTIDList reads the Info column that SHOW BINLOG EVENTS prints for
// a Gtid_list event: the state of the binary log at the start of the file, in
// brackets.
func ParseMariaDBGTIDList(info string) (MariaDBPosition, error) {
	inner, opened := strings.CutPrefix(trim(info), "[")
	inner, closed := strings.CutSuffix(inner, "]")
	if !opened || !closed {
		return MariaDBPosition{}, fmt.Errorf("parse Gtid_list event %q: want a list in brackets", clip(info))
	}
	return ParseMariaDBPosition(inner)
}

func parseMariaDBGTID(text string) (MariaDBGTID, error) {
	parts := strings.SplitN(text, "-", 4)
	if len(parts) != 3 {
		return MariaDBGTID{}, fmt.Errorf("%q is not domain-server-seq", clip(text))
	}
	domain, err1 := strconv.ParseUint(parts[0], 10, 32)
	server, err2 := strconv.ParseUint(parts[1], 10, 32)
	seq, err3 := strconv.ParseUint(parts[2], 10, 64)
	if errors.Join(err1, err2, err3) != nil {
		return MariaDBGTID{}, fmt.Errorf("%q is not domain-server-seq", clip(text))
	}
	return MariaDBGTID{Domain: uint32(domain), Server: uint32(server), Seq: seq}, nil
}

// repeated returns a GTID whose domain and server stand in gtids before it.
func repeated(gtids []MariaDBGTID) (MariaDBGTID, bool) {
	seen := make(map[writer]struct{}, len(gtids))
	for _, g := range gtids {
		if _, ok := seen[g.writer()]; ok {
			return g, true
		}
		seen[g.writer()] = struct{}{}
	}
	return MariaDBGTID{}, false
}

// IsEmpty reports whether the list holds no GTID.
func (p MariaDBPosition) IsEmpty() bool { return len(p.gtids) == 0 }

// GTIDs returns a copy of the list, ascending by domain, then sequence number.
func (p MariaDBPosition) GTIDs() []MariaDBGTID { return slices.Clone(p.gtids) }

// Equal reports whether both lists hold the same GTIDs.
func (p MariaDBPosition) Equal(q MariaDBPosition) bool { return slices.Equal(p.gtids, q.gtids) }

// Contains reports whether a server at p has everything that a server at q has,
// judged by the highest sequence number of each domain; it can't see that two
// servers wrote different transactions under the same number.
func (p MariaDBPosition) Contains(q MariaDBPosition) bool { return q.Subtract(p).IsEmpty() }

// Subtract returns the GTIDs of p that are newer than the newest of their
// domain in q, or whose domain q doesn't know.
func (p MariaDBPosition) Subtract(q MariaDBPosition) MariaDBPosition {
	newest := q.newest()
	return p.filter(func(g MariaDBGTID) bool { return g.Seq > newest[g.Domain] })
}

// Newest returns the newest GTID of each domain: the form that gtid_slave_pos
// takes.
func (p MariaDBPosition) Newest() MariaDBPosition {
	var result MariaDBPosition
	for i, g := range p.gtids {
		if i+1 == len(p.gtids) || p.gtids[i+1].Domain != g.Domain {
			result.gtids = append(result.gtids, g)
		}
	}
	return result
}

// newest maps each domain to its highest sequence number.
func (p MariaDBPosition) newest() map[uint32]uint64 {
	seqs := make(map[uint32]uint64, len(p.gtids))
	for _, g := range p.gtids {
		seqs[g.Domain] = g.Seq // ascending within a domain
	}
	return seqs
}

// byServer maps each server of each domain to its sequence number.
func (p MariaDBPosition) byServer() map[writer]uint64 {
	seqs := make(map[writer]uint64, len(p.gtids))
	for _, g := range p.gtids {
		seqs[g.writer()] = g.Seq
	}
	return seqs
}

func (p MariaDBPosition) filter(keep func(MariaDBGTID) bool) MariaDBPosition {
	var result MariaDBPosition
	for _, g := range p.gtids {
		if keep(g) {
			result.gtids = append(result.gtids, g)
		}
	}
	return result
}

// String is the list parted by commas, ascending by domain, then sequence
// number; "" for the empty list.
func (p MariaDBPosition) String() string { return p.text(len(p.gtids)) }

// Short is String for messages: a few GTIDs, then how many are left out. It
// can't be parsed.
func (p MariaDBPosition) Short() string { return p.text(shortItems) }

// text prints at most limit GTIDs.
func (p MariaDBPosition) text(limit int) string {
	shown := p.gtids[:min(limit, len(p.gtids))]
	var b []byte
	for i, g := range shown {
		if i > 0 {
			b = append(b, ',')
		}
		b = g.appendTo(b)
	}
	if left := len(p.gtids) - len(shown); left > 0 {
		return string(b) + "," + more(left, "GTID")
	}
	return string(b)
}

// MarshalText returns String. It never fails.
func (p MariaDBPosition) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is ParseMariaDBPosition.
func (p *MariaDBPosition) UnmarshalText(text []byte) error {
	parsed, err := ParseMariaDBPosition(string(text))
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}
