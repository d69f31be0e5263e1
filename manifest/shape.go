package manifest

import "fmt"

// Bounds of a record's JSON. Empty values take up to a hundred times as much
// memory as text; whoever can write to a repository could fill a record with them.
const (
	maxNesting = 16
	maxValues  = 64 << 10 // that are not the IDs of packs
	maxString  = 8 << 20  // bytes of one string
	idLength   = 64       // bytes of an ID's string
)

// checkShape refuses a text that may grow in memory to many times its length. It
// need not be valid JSON.
func checkShape(data []byte) error {
	var s shape
	for at := 0; at < len(data); at++ {
		if data[at] == '"' {
			length := stringLength(data[at+1:])
			if length > maxString {
				return fmt.Errorf("a string of more than %d bytes", maxString)
			}
			s.isID = length == idLength
			at += length + 1
			continue
		}
		s.next(data[at])
		if s.depth > maxNesting || s.values > maxValues {
			return fmt.Errorf("values more than %d deep, or more than %d of them", maxNesting, maxValues)
		}
	}
	return nil
}

// shape counts values. Those that are an ID's string pay for themselves.
type shape struct {
	depth, values int
	isID          bool // what came last is an ID's string
}

func (s *shape) next(c byte) {
	switch c {
	case '{', '[':
		s.depth++
		s.values++
	case '}', ']':
		s.depth--
	case ',':
		if !s.isID {
			s.values++
		}
	case ' ', '\n', '\r', '\t':
		return
	}
	s.isID = false
}

// stringLength returns how many bytes stand before the quote that ends a string.
func stringLength(data []byte) int {
	for at := 0; at < len(data); at++ {
		switch data[at] {
		case '\\':
			at++
		case '"':
			return at
		}
	}
	return len(data)
}
