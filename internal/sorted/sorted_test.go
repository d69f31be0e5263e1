package sorted

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

type pair struct{ key, rest uint32 }

// pairs have keys of which the prefix leaves out the last bit.
func pairs() *Table[pair] {
	return NewTable(Key[pair]{
		Prefix: func(p *pair) uint64 { return uint64(p.key >> 1) },
		Same:   func(a, b *pair) bool { return a.key == b.key },
		Order:  func(a, b pair) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.rest, b.rest)) },
	})
}

func find(table *Table[pair], key uint32) []uint32 {
	var list []uint32
	for _, p := range table.Find(bucketOf(key), uint64(key>>1), func(p *pair) bool { return p.key == key }) {
		list = append(list, p.rest)
	}
	return list
}

func bucketOf(key uint32) byte { return byte(key >> 1 % 3) }

// TestTable compares a table with a plain map, through several rounds of adding and
// sorting; some groups are larger than a page.
func TestTable(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		keys := 1 + random.Uint32N(1<<random.IntN(14))
		table, want := pairs(), map[uint32][]uint32{}
		for round := range 4 {
			for range random.IntN(5000) {
				p := pair{random.Uint32N(keys), random.Uint32()}
				if random.IntN(4) == 0 {
					p.key = 1
				}
				table.Add(bucketOf(p.key), p)
				want[p.key] = append(want[p.key], p.rest)
			}
			table.Sort()
			t.Run(fmt.Sprintf("seed %d round %d", seed, round), func(t *testing.T) { compare(t, table, want, keys) })
		}
	}
}

func compare(t *testing.T, table *Table[pair], want map[uint32][]uint32, keys uint32) {
	for key := range keys + 1 {
		slices.Sort(want[key])
		if got := find(table, key); !slices.Equal(got, want[key]) {
			t.Fatalf("key %d: found %d, want %d", key, got, want[key])
		}
	}
	seen, last := map[uint32]bool{}, pair{}
	for group := range table.Groups() {
		first := group[0]
		if seen[first.key] || !slices.Equal(rests(group), want[first.key]) {
			t.Fatalf("group of key %d: %v, want %d", first.key, group, want[first.key])
		}
		if bucketOf(first.key) == bucketOf(last.key) && first.key < last.key {
			t.Fatalf("key %d comes after %d", first.key, last.key)
		}
		seen[first.key], last = true, first
	}
	if filled := len(want); len(seen) != filled-empty(want) {
		t.Fatalf("%d groups, want %d", len(seen), filled)
	}
}

func empty(want map[uint32][]uint32) int {
	n := 0
	for _, rest := range want {
		if len(rest) == 0 {
			n++
		}
	}
	return n
}

func rests(group []pair) []uint32 {
	var list []uint32
	for _, p := range group {
		list = append(list, p.rest)
	}
	return list
}

// TestTableInPlace: to sort takes no memory that grows with the table, and a group
// may be written to.
func TestTableInPlace(t *testing.T) {
	table := pairs()
	random := rand.New(rand.NewPCG(1, 1))
	const entries = 1 << 18
	for range entries {
		table.Add(byte(random.Uint32()), pair{random.Uint32N(1 << 20), 1})
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	table.Sort()
	runtime.ReadMemStats(&after)
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > entries*8/10 {
		t.Errorf("sorting a table of %d bytes allocates %d", entries*8, allocated)
	}
	for group := range table.Groups() {
		group[0].rest = 2
		if find(table, 1<<21) != nil {
			t.Fatal("found what is not there")
		}
		break
	}
	for group := range table.Groups() {
		if group[0].rest != 2 {
			t.Fatal("what was written to a group is gone")
		}
		break
	}
}

func TestList(t *testing.T) {
	var l List[uint32]
	var places []*uint32
	for n := range uint32(3*listPage + 1) {
		if l.Len() != int(n) {
			t.Fatalf("%d elements, want %d", l.Len(), n)
		}
		l.Add(n * 7)
		places = append(places, l.At(n))
	}
	for n, place := range places {
		if l.At(uint32(n)) != place || *place != uint32(n)*7 {
			t.Fatalf("element %d is %d, want %d, where it was before", n, *place, n*7)
		}
	}
}

// TestSearch: what is looked for is found wherever the search begins, also if
// prefixes are not spread evenly.
func TestSearch(t *testing.T) {
	table := pairs()
	random := rand.New(rand.NewPCG(3, 3))
	for range 2000 {
		page := make([]pair, 1+random.IntN(40))
		for i := range page {
			page[i].key = 2 * random.Uint32N(1<<(1+random.IntN(20)))
		}
		slices.SortFunc(page, func(a, b pair) int { return cmp.Compare(a.key, b.key) })
		last := uint64(page[len(page)-1].key >> 1)
		for _, prefix := range []uint64{0, last, random.Uint64N(last + 1), uint64(page[random.IntN(len(page))].key >> 1)} {
			want := slices.IndexFunc(page, func(p pair) bool { return uint64(p.key>>1) >= prefix })
			for guess := range page {
				if got := table.search(page, prefix, guess); got != want {
					t.Fatalf("prefix %d in %v from %d on: got %d, want %d", prefix, page, guess, got, want)
				}
			}
		}
	}
}

func TestEvenly(t *testing.T) {
	const most = math.MaxUint64
	for _, c := range []struct {
		part, whole uint64
		count, want int
	}{{0, 0, 255, 0}, {0, 5, 255, 0}, {5, 5, 255, 255}, {1, 2, 255, 127}, {most, most, 255, 255}, {most / 2, most, 255, 127}, {most - 1, most, 1 << 30, 1<<30 - 1}} {
		if got := evenly(c.part, c.whole, c.count); got != c.want {
			t.Errorf("%d times %d of %d: got %d, want %d", c.count, c.part, c.whole, got, c.want)
		}
	}
}
