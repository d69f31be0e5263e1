package check

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
)

// Subset is a part of the data, as --read-data-subset has it.
type Subset struct {
	fraction float64 // above 0; else
	bytes    int64
}

// All is the whole.
func All() Subset { return Subset{fraction: 1} }

// ParseSubset reads "5%", "1/7" or "10GiB".
func ParseSubset(text string) (Subset, error) {
	refused := fmt.Errorf("%q is no part of the data, such as 5%%, 1/7 or 10GiB", text)
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		n, err := strconv.ParseFloat(percent, 64)
		if err != nil || !(n > 0 && n <= 100) {
			return Subset{}, refused
		}
		return Subset{fraction: n / 100}, nil
	}
	if above, below, ok := strings.Cut(text, "/"); ok {
		n, err := strconv.ParseUint(above, 10, 32)
		d, err2 := strconv.ParseUint(below, 10, 32)
		if err != nil || err2 != nil || n == 0 || n > d {
			return Subset{}, refused
		}
		return Subset{fraction: float64(n) / float64(d)}, nil
	}
	n, err := humanize.ParseBytes(text)
	if err != nil || n == 0 || n > math.MaxInt64 {
		return Subset{}, refused
	}
	return Subset{bytes: int64(n)}, nil
}

// choose returns the packs to read: those that were read longest ago first, until
// they are the part.
func (s Subset) choose(packs []*packState) (chosen []*packState, bytes int64) {
	ordered := slices.Clone(packs)
	total := int64(0)
	for _, p := range ordered {
		total += p.size
	}
	slices.SortFunc(ordered, func(a, b *packState) int {
		return cmp.Or(cmp.Compare(a.last.Order, b.last.Order), a.id.Compare(b.id))
	})
	goal := s.bytes
	if s.fraction > 0 {
		goal = int64(math.Ceil(float64(total) * s.fraction))
	}
	for _, p := range ordered {
		if bytes >= goal {
			break
		}
		chosen = append(chosen, p)
		bytes += p.size
	}
	return chosen, bytes
}
