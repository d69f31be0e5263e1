package cas_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/cas/mem"
)

func verify(t *testing.T, x *copies, pack *cas.Pack) *cas.Verification {
	t.Helper()
	v, err := newReader(t, x.repo, castest.NewIndex(t, x.repo)).Verify(t.Context(), pack, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerify(t *testing.T) {
	x := newCopies(t)
	for _, pack := range []*cas.Pack{x.a, x.b, x.c, x.d} {
		if v := verify(t, x, pack); !v.Good() || v.Orphans != 0 || len(v.Suspects) != 0 {
			t.Errorf("got %+v", v)
		}
	}
}

// What is wrong with a pack is told of that pack, frame by frame; a delta whose
// base is damaged tells of the base's pack, and is good if there is another base.
func TestVerifyDamage(t *testing.T) {
	cut := func(x *copies, pack *cas.Pack, size int64) {
		x.backend.Overwrite(cas.PackName(pack.ID), x.backend.Bytes(cas.PackName(pack.ID))[:size])
	}
	flip := func(x *copies, pack *cas.Pack, at int64) {
		data := x.backend.Bytes(cas.PackName(pack.ID))
		data[at] ^= 1
		x.backend.Overwrite(cas.PackName(pack.ID), data)
	}
	pick := map[string]func(x *copies) *cas.Pack{
		"a": func(x *copies) *cas.Pack { return x.a }, "c": func(x *copies) *cas.Pack { return x.c }, "d": func(x *copies) *cas.Pack { return x.d },
	}
	tests := []struct {
		name     string
		spoil    func(x *copies)
		pack     string
		bad      []int
		wrong    string // what is said of the file
		orphans  int
		suspects int
	}{
		{"a payload", func(x *copies) { damage(x.backend, x.a, 1) }, "a", []int{1}, "content hashes to", 0, 0},
		{"a frame header", func(x *copies) { flip(x, x.a, x.a.Frames[0].Offset+20) }, "a", []int{0}, "content hashes to", 0, 0},
		{"the header", func(x *copies) { flip(x, x.a, 40) }, "a", nil, "content hashes to", 0, 0},
		{"the trailer", func(x *copies) { flip(x, x.a, x.a.Size-1) }, "a", nil, "content hashes to", 0, 0},
		{"the footer", func(x *copies) { flip(x, x.a, x.a.Size-100) }, "a", nil, "content hashes to", 0, 0},
		{"cut in the second frame", func(x *copies) { cut(x, x.a, x.a.Frames[1].Offset+200) }, "a", []int{1}, "it ends too early", 0, 0},
		{"cut in the first frame", func(x *copies) { cut(x, x.a, x.a.Frames[0].Offset+20) }, "a", []int{0, 1}, "it ends too early", 0, 0},
		{"cut at the end", func(x *copies) { cut(x, x.a, x.a.Size-1) }, "a", nil, "content hashes to", 0, 0},
		{"longer", func(x *copies) {
			x.backend.Overwrite(cas.PackName(x.a.ID), append(x.backend.Bytes(cas.PackName(x.a.ID)), 0))
		}, "a", nil, "content hashes to", 0, 0},
		{"gone", func(x *copies) { x.backend.Drop(cas.PackName(x.a.ID)) }, "a", nil, "not found", 0, 0},
		{"a delta", func(x *copies) { damage(x.backend, x.c, 0) }, "c", []int{0}, "content hashes to", 0, 0},
		{"one base", func(x *copies) { damage(x.backend, x.a, 0) }, "c", nil, "", 0, 1},
		{"both bases", func(x *copies) { damage(x.backend, x.a, 0); damage(x.backend, x.b, 0) }, "c", nil, "", 1, 2},
		{"the delta below", func(x *copies) { damage(x.backend, x.c, 0) }, "d", nil, "", 1, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			x := newCopies(t)
			index := castest.NewIndex(t, x.repo)
			index[cas.Sum(x.base)] = []cas.Location{{Pack: x.a.ID, Frame: x.a.Frames[0]}, {Pack: x.b.ID, Frame: x.b.Frames[0]}}
			test.spoil(x)
			pack := pick[test.pack](x)
			v, err := newReader(t, x.repo, index).Verify(t.Context(), pack, nil)
			if err != nil {
				t.Fatal(err)
			}
			if (v.Err == nil) != (test.wrong == "") || v.Err != nil && !strings.Contains(v.Err.Error(), test.wrong) {
				t.Errorf("the file: got %v, want %q", v.Err, test.wrong)
			}
			if len(v.Bad) != len(test.bad) || v.Orphans != test.orphans || len(v.Suspects) != test.suspects {
				t.Errorf("got %+v, want frames %v, %d orphans, %d suspects", v, test.bad, test.orphans, test.suspects)
			}
			for _, n := range test.bad {
				if v.Bad[n] == nil {
					t.Errorf("frame %d is not bad: %v", n, v.Bad)
				}
			}
		})
	}
}

// A part of a pack that cannot be read costs the frames in it.
func TestVerifyReadError(t *testing.T) {
	x := newCopies(t)
	index := castest.NewIndex(t, x.repo)
	repo, err := cas.Open(t.Context(), holes{x.backend, x.a.Frames[1].Offset + 100})
	if err != nil {
		t.Fatal(err)
	}
	v, err := newReader(t, repo, index).Verify(t.Context(), x.a, nil)
	if err != nil || !errors.Is(v.Err, errHole) || len(v.Bad) != 1 || !errors.Is(v.Bad[1], errHole) {
		t.Errorf("got %+v, %v", v, err)
	}
	found, err := repo.Scan(t.Context(), x.a.ID)
	if err != nil || len(found.Frames) != 1 || found.Frames[0] != x.a.Frames[0] || found.Kind != cas.KindData || !errors.Is(found.Unread, errHole) {
		t.Errorf("scan: got %+v, %v", found, err)
	}
}

var errHole = errors.New("bad sector")

// holes is a backend in which one byte of each pack cannot be read.
type holes struct {
	*mem.Backend
	at int64
}

func (h holes) Open(ctx context.Context, name string) (cas.BlobReader, error) {
	blob, err := h.Backend.Open(ctx, name)
	if err != nil || !strings.HasPrefix(name, "packs/") {
		return blob, err
	}
	return holed{blob, h.at}, nil
}

type holed struct {
	cas.BlobReader
	at int64
}

func (h holed) ReadAt(buf []byte, offset int64) (int, error) {
	if offset > h.at || offset+int64(len(buf)) <= h.at {
		return h.BlobReader.ReadAt(buf, offset)
	}
	n, _ := h.BlobReader.ReadAt(buf[:h.at-offset], offset)
	return n, errHole
}

func TestVerifyStops(t *testing.T) {
	x := newCopies(t)
	reader := newReader(t, x.repo, castest.NewIndex(t, x.repo))
	enough := errors.New("enough")
	if v, err := reader.Verify(t.Context(), x.a, func(context.Context, int) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %+v, %v", v, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v, err := reader.Verify(ctx, x.c, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %+v, %v", v, err)
	}
	asked := 0
	if _, err := reader.Verify(t.Context(), x.a, func(_ context.Context, n int) error { asked += n; return nil }); err != nil || int64(asked) != x.a.Size {
		t.Errorf("asked for %d bytes of %d, %v", asked, x.a.Size, err)
	}
}

func TestInspect(t *testing.T) {
	x := newCopies(t)
	if pack, err := x.repo.Inspect(t.Context(), x.a.ID); err != nil || len(pack.Frames) != 2 {
		t.Errorf("got %+v, %v", pack, err)
	}
	data := x.backend.Bytes(cas.PackName(x.a.ID))
	for n := range 64 + len("ks/-80/a") + 4 {
		bad := append([]byte{}, data...)
		bad[n] ^= 1
		x.backend.Overwrite(cas.PackName(x.a.ID), bad)
		pack, err := x.repo.Inspect(t.Context(), x.a.ID)
		var newer *cas.VersionError
		if pack == nil || !errors.Is(err, cas.ErrCorrupt) && !errors.As(err, &newer) {
			t.Errorf("byte %d turned: got %v, %v", n, pack, err)
		}
	}
	x.backend.Overwrite(cas.PackName(x.a.ID), data)
	foreign := new(mem.Backend)
	repo, err := cas.Create(t.Context(), foreign, cas.Config{}, random(9), clock)
	if err != nil {
		t.Fatal(err)
	}
	foreign.Overwrite(cas.PackName(x.a.ID), data)
	pack, err := repo.Inspect(t.Context(), x.a.ID)
	if pack == nil || !errors.Is(err, cas.ErrCorrupt) || !strings.Contains(err.Error(), "it belongs to repository "+x.repo.UUID().String()) {
		t.Errorf("a pack of another repository: got %v, %v", pack, err)
	}
	foreign.Overwrite(cas.PackName(x.a.ID), data[:len(data)-1])
	if pack, err := repo.Inspect(t.Context(), x.a.ID); pack != nil || !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("cut: got %v, %v", pack, err)
	}
}

// The order of verifications is that in which they were written down, whatever
// the clocks of those who did it; a summary stands for what came before it.
func TestLedger(t *testing.T) {
	repo, backend := newRepo(t)
	at := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	record := func(pack byte, good bool, clock time.Time) {
		t.Helper()
		if err := repo.RecordVerified(t.Context(), []cas.Verified{{Pack: cas.ID{pack}, Good: good, Time: clock, Order: 99}}); err != nil {
			t.Fatal(err)
		}
	}
	read := func() *cas.Ledger {
		t.Helper()
		l, err := repo.Ledger(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if l := read(); l.Last(cas.ID{1}) != (cas.Verified{}) || len(l.Problems) != 0 {
		t.Errorf("an empty ledger: %+v", l)
	}
	record(1, true, at)
	record(2, true, at.AddDate(1, 0, 0)) // a clock that is a year ahead
	record(1, false, at.AddDate(-1, 0, 0))
	l := read()
	one, two := l.Last(cas.ID{1}), l.Last(cas.ID{2})
	if one.Order <= two.Order || one.Good || !one.Time.Equal(at.AddDate(-1, 0, 0)) || !two.Good {
		t.Errorf("got %+v and %+v", one, two)
	}
	for range 64 {
		record(3, true, at)
	}
	if err := repo.SummarizeLedger(t.Context(), read(), []cas.ID{{1}, {2}, {3}, {4}}); err != nil {
		t.Fatal(err)
	}
	record(2, true, at)
	gens := len(backend.Names())
	for _, name := range []string{"verified/0000000001", "verified/0000000002", "verified/0000000003"} {
		backend.Drop(name)
	}
	l = read()
	if l.Last(cas.ID{1}) != one || l.Last(cas.ID{2}).Order <= l.Last(cas.ID{3}).Order || l.Last(cas.ID{3}).Order != 67 {
		t.Errorf("after a summary: %+v, %+v, %+v", l.Last(cas.ID{1}), l.Last(cas.ID{2}), l.Last(cas.ID{3}))
	}
	if l.Long() || len(backend.Names()) != gens-3 {
		t.Errorf("a second summary so soon, %d blobs, want %d", len(backend.Names()), gens-3)
	}
	backend.Overwrite("verified/0000000069", []byte("damaged"))
	if l := read(); len(l.Problems) != 1 || !errors.Is(l.Problems[0], cas.ErrCorrupt) || l.Last(cas.ID{3}).Order != 67 {
		t.Errorf("a damaged part: %+v", l)
	}
	backend.Drop("verified/0000000069")
}

// A summary leaves damaged parts behind. What they said of packs is not known, and
// may have been worse than what was said before.
func TestLedgerDamaged(t *testing.T) {
	repo, backend := newRepo(t)
	record := func(pack byte, good bool) {
		t.Helper()
		if err := repo.RecordVerified(t.Context(), []cas.Verified{{Pack: cas.ID{pack}, Good: good}}); err != nil {
			t.Fatal(err)
		}
	}
	summarize := func() *cas.Ledger {
		t.Helper()
		l, err := repo.Ledger(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := repo.SummarizeLedger(t.Context(), l, []cas.ID{{1}, {2}, {3}, {4}}); err != nil {
			t.Fatal(err)
		}
		if l, err = repo.Ledger(t.Context()); err != nil {
			t.Fatal(err)
		}
		return l
	}
	record(1, true)
	record(2, false)
	record(3, true)
	record(1, false)
	record(4, true)
	backend.Overwrite("verified/0000000004", backend.Bytes("verified/0000000004")[:50])
	backend.Overwrite("verified/0000000003", []byte("damaged"))
	if l, err := repo.Ledger(t.Context()); err != nil || !l.Damaged() || len(l.Problems) != 2 || !l.Last(cas.ID{1}).Good {
		t.Errorf("two damaged parts: %+v, %v", l, err)
	}
	l := summarize()
	if l.Damaged() || len(l.Problems) != 0 {
		t.Errorf("after a summary: %+v", l)
	}
	none := cas.Verified{}
	if one, two, three, four := l.Last(cas.ID{1}), l.Last(cas.ID{2}), l.Last(cas.ID{3}), l.Last(cas.ID{4}); one != none || two == none || two.Good || three != none || !four.Good {
		t.Errorf("after a summary: got %+v, %+v, %+v, %+v", one, two, three, four)
	}

	// What a newer program has written is not left behind, nor what is damaged beside it.
	record(1, true)
	newer := backend.Bytes("verified/0000000007")
	newer[8] = 2
	backend.Overwrite("verified/0000000007", newer)
	record(2, true)
	backend.Overwrite("verified/0000000008", []byte("damaged"))
	if l := summarize(); !l.Damaged() || len(l.Problems) != 2 || len(backend.Bytes("verified/0000000009")) != 0 {
		t.Errorf("beside a newer part: %+v", l)
	}
	backend.Drop("verified/0000000007")
	backend.Drop("verified/0000000008")
}

// What is read again and again takes no more memory than what is read once, and
// the last one counts; of two in one part the worse.
func TestLedgerOfMany(t *testing.T) {
	const packs, times = 1000, 60
	repo, _ := newRepo(t)
	pack := func(n int) cas.ID { return cas.ID{byte(n >> 8), byte(n), 7} }
	for round := range times {
		var entries []cas.Verified
		for n := range packs {
			entries = append(entries, cas.Verified{Pack: pack(n), Good: (n+round)%2 == 0})
		}
		if err := repo.RecordVerified(t.Context(), entries); err != nil {
			t.Fatal(err)
		}
	}
	twice := []cas.Verified{{Pack: pack(0), Good: false}, {Pack: pack(0), Good: true}, {Pack: pack(2), Good: true}, {Pack: pack(2), Good: false}}
	if err := repo.RecordVerified(t.Context(), twice); err != nil {
		t.Fatal(err)
	}
	l, err := repo.Ledger(t.Context())
	if err != nil || len(l.Problems) > 0 {
		t.Fatal(err, l.Problems)
	}
	for n := range packs {
		want := cas.Verified{Pack: pack(n), Good: (n+times-1)%2 == 0, Order: times, Time: time.Unix(0, 0).UTC()}
		if n == 0 || n == 2 {
			want.Good, want.Order = false, times+1
		}
		if got := l.Last(pack(n)); got != want {
			t.Errorf("pack %d: got %+v, want %+v", n, got, want)
		}
	}
	if got := l.Last(pack(packs)); got != (cas.Verified{}) {
		t.Errorf("a pack that was never read: %+v", got)
	}
}

func TestMarks(t *testing.T) {
	repo, backend := newRepo(t)
	if err := repo.MarkDamaged(t.Context(), cas.ID{1}, []byte("why")); err != nil {
		t.Fatal(err)
	}
	if err := repo.MarkDamaged(t.Context(), cas.ID{1}, nil); !errors.Is(err, cas.ErrExists) {
		t.Errorf("marked twice: got %v, want ErrExists", err)
	}
	backend.Overwrite("gc/0000000001.condemned", cas.EncodeObject(cas.ObjectPackList, cas.EncodeIDs([]cas.ID{{2}})))
	backend.Overwrite("gc/0000000002.final", cas.EncodeObject(cas.ObjectPackList, cas.EncodeIDs([]cas.ID{{3}})))
	m, err := repo.Marks(t.Context())
	if _, ok := m.Damaged[cas.ID{1}]; err != nil || !ok || len(m.Damaged) != 1 || len(m.Condemned) != 1 || len(m.Final) != 1 {
		t.Errorf("got %+v, %v", m, err)
	}
	backend.Overwrite("gc/0000000003.final", []byte("damaged"))
	if _, err := repo.Marks(t.Context()); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
	if damaged, err := repo.DamagedPacks(t.Context()); err != nil || len(damaged) != 1 {
		t.Errorf("got %v, %v", damaged, err)
	}
	backend.Drop("gc/0000000003.final")
}

// A session that is abandoned is never listed and cannot be committed.
func TestAbandon(t *testing.T) {
	repo, _ := newRepo(t)
	session := begin(t, repo, key)
	for range 2 {
		if err := session.Abandon(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := session.Commit(t.Context(), newWriter(t, session, cas.WriterOptions{}), nil); err == nil {
		t.Error("an abandoned session can be committed")
	}
	if keys, err := repo.Keys(t.Context(), "ks", "-80"); err != nil || len(keys) != 0 {
		t.Errorf("got %v, %v", keys, err)
	}
	if _, err := repo.Record(t.Context(), key); !errors.Is(err, cas.ErrRevoked) {
		t.Errorf("got %v, want ErrRevoked", err)
	}
}
