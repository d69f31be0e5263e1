// Package sorted keeps many millions of small values, in order and by key, in
// hardly more memory than they take themselves. A slice that grows is copied again
// and again, and what it leaves behind is memory until the runtime has collected it.
// Here nothing moves while values are added, and sorting uses the same memory again.
package sorted

import (
	"iter"
	"math/bits"
	"slices"
	"sort"
)

const (
	buckets     = 256
	pageEntries = 256
)

// Table is a set of entries in groups: those of one key, by which they are found.
// Entries lie in buckets, chosen by the first byte of the key, and there in pages.
// The entries of a group lie side by side once they are sorted. Reading is safe for
// concurrent use while nobody adds or sorts.
type Table[E any] struct {
	Key[E]
	buckets [buckets]bucket[E]
}

// Key says how the entries of one bucket are told apart.
type Key[E any] struct {
	Prefix func(e *E) uint64  // the key's first bytes, as far as a number holds them
	Same   func(a, b *E) bool // the keys are the same
	Order  func(a, b E) int   // compares all that matters: the prefix, then the key, then the rest
}

type bucket[E any] struct {
	pages [][]E    // none is empty
	lasts []uint64 // of each page, the prefix of the last entry, once it is sorted; no prefix is in two pages
	count int
	dirty bool // entries are not in order
}

// NewTable returns an empty table.
func NewTable[E any](key Key[E]) *Table[E] { return &Table[E]{Key: key} }

// Add adds an entry whose key begins with that byte. It is found after Sort.
func (t *Table[E]) Add(first byte, e E) {
	b := &t.buckets[first]
	last := len(b.pages) - 1
	if last < 0 || len(b.pages[last]) == cap(b.pages[last]) {
		b.pages = append(b.pages, make([]E, 0, pageEntries))
		last++
	}
	b.pages[last] = append(b.pages[last], e)
	b.count++
	b.dirty = true
}

// Sort sorts what was added. Entries move: pointers to them and groups that were
// found do not count any more.
func (t *Table[E]) Sort() {
	largest := 0
	for i := range t.buckets {
		if t.buckets[i].dirty {
			largest = max(largest, t.buckets[i].count)
		}
	}
	scratch := make([]E, 0, largest)
	for i := range t.buckets {
		if b := &t.buckets[i]; b.dirty {
			t.sort(b, scratch)
		}
	}
}

// sort sorts a bucket, with room in scratch for all of its entries.
func (t *Table[E]) sort(b *bucket[E], scratch []E) {
	for _, page := range b.pages {
		scratch = append(scratch, page...)
	}
	slices.SortFunc(scratch, t.Order)
	spare := b.pages
	b.pages, b.lasts = make([][]E, 0, len(spare)+1), b.lasts[:0]
	for len(scratch) > 0 {
		n := t.prefixAt(scratch)
		last := len(b.pages) - 1
		if last < 0 || cap(b.pages[last])-len(b.pages[last]) < n {
			var page []E
			page, spare = takePage(spare, n)
			b.pages, b.lasts = append(b.pages, page), append(b.lasts, 0)
			last++
		}
		b.pages[last] = append(b.pages[last], scratch[:n]...)
		b.lasts[last] = t.Prefix(&scratch[0])
		scratch = scratch[n:]
	}
	b.dirty = false
}

// takePage returns an empty page with room for n entries, and those that are left of
// the pages to be used again.
func takePage[E any](spare [][]E, n int) (page []E, left [][]E) {
	if len(spare) > 0 && cap(spare[0]) >= n {
		return spare[0][:0], spare[1:]
	}
	return make([]E, 0, max(n, pageEntries)), spare
}

// prefixAt returns how many entries at the start have the same prefix.
func (t *Table[E]) prefixAt(entries []E) int {
	n, prefix := 1, t.Prefix(&entries[0])
	for n < len(entries) && t.Prefix(&entries[n]) == prefix {
		n++
	}
	return n
}

// Find returns the group with that prefix of which is tells that it is the one, given
// its first entry; nil if there is none. Groups have a prefix of their own, unless
// somebody has made keys that begin alike. The entries are the table's own: what does
// not change the order may be changed in them. All has been sorted.
func (t *Table[E]) Find(first byte, prefix uint64, is func(e *E) bool) []E {
	b := &t.buckets[first]
	at, _ := slices.BinarySearch(b.lasts, prefix)
	if at == len(b.lasts) {
		return nil
	}
	page, before := b.pages[at], uint64(0)
	if at > 0 {
		before = b.lasts[at-1]
	}
	n := t.search(page, prefix, evenly(prefix-before, b.lasts[at]-before, len(page)-1))
	for page = page[n:]; len(page) > 0 && t.Prefix(&page[0]) == prefix; {
		size := t.groupAt(page)
		if is(&page[0]) {
			return page[:size]
		}
		page = page[size:]
	}
	return nil
}

// evenly returns count times part of whole, which is not less than part.
func evenly(part, whole uint64, count int) int {
	if whole == 0 {
		return 0
	}
	high, low := bits.Mul64(part, uint64(count))
	n, _ := bits.Div64(high, low, whole)
	return int(n)
}

// search returns the first entry of a page whose prefix is not less; the last one's is
// not. The search begins at guess, and takes the longer the farther away the entry is.
// That is where it is if prefixes are spread evenly, as those of hashes are: then
// little has to be fetched from memory, which is what takes time.
func (t *Table[E]) search(page []E, prefix uint64, guess int) int {
	isLess := func(n int) bool { return t.Prefix(&page[n]) < prefix }
	low, high := 0, len(page)-1 // the entry is between
	if step := 1; isLess(guess) {
		for low = guess + 1; low+step < high && isLess(low+step); step *= 2 {
			low += step + 1
		}
		high = min(low+step, high)
	} else {
		for high = guess; high-step > low && !isLess(high-step); step *= 2 {
			high -= step
		}
		low = max(high-step, low)
	}
	return low + sort.Search(high-low, func(n int) bool { return !isLess(low + n) })
}

// groupAt returns how many entries at the start are of one group.
func (t *Table[E]) groupAt(entries []E) int {
	n := 1
	for n < len(entries) && t.Same(&entries[n], &entries[0]) {
		n++
	}
	return n
}

// Groups returns all groups, in order of bucket and key. All has been sorted.
func (t *Table[E]) Groups() iter.Seq[[]E] {
	return func(yield func([]E) bool) {
		for i := range t.buckets {
			for _, page := range t.buckets[i].pages {
				for len(page) > 0 {
					n := t.groupAt(page)
					if !yield(page[:n]) {
						return
					}
					page = page[n:]
				}
			}
		}
	}
}
