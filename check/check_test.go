package check_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/mem"
	"github.com/shardseed/shardseed/check"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
)

// history is three backups: the second changes all of one table a little, which
// makes deltas of depth 1, the third once more.
func history(t testing.TB) *site {
	t.Helper()
	s := newSite(t)
	orders, items := s.noise(5*chunkSize+100), s.noise(3*chunkSize)
	s.backup(t, "commerce/0", map[string][]byte{"commerce/orders.ibd": orders, "commerce/items@0024.ibd": items, "ibdata1": make([]byte, 9*chunkSize)})
	second := changed(orders)
	s.backup(t, "commerce/0", map[string][]byte{"commerce/orders.ibd": second, "commerce/items@0024.ibd": items, "empty": nil})
	s.backup(t, "commerce/0", map[string][]byte{"commerce/orders.ibd": changed(second), "commerce/items@0024.ibd": items})
	return s
}

func TestWhole(t *testing.T) {
	s := history(t)
	for _, data := range []bool{false, true} {
		f, summary := s.check(t, data)
		if f.any() || summary.Backups != 3 || summary.Packs != 6 || summary.Unreferenced != 0 || summary.Frames < 9+6+6 {
			t.Errorf("data %v: %+v\n%s", data, summary, f)
		}
		if want := 0; data && (summary.NeverRead != want || summary.ReadPacks != 6 || summary.ReadBytes != summary.Bytes || summary.Oldest == nil) {
			t.Errorf("read: %+v", summary)
		}
	}
	for n := range s.made {
		s.wantRestore(t, n)
	}
}

// A damaged frame is told with all that hangs on it: through the deltas of later
// backups too.
func TestDamagedBase(t *testing.T) {
	s := history(t)
	pack := s.own(t, 0, cas.KindData)
	id := cas.Sum(s.files[0]["commerce/orders.ibd"][2*chunkSize : 3*chunkSize])
	s.flipFrame(pack, slices.IndexFunc(pack.Frames, func(f cas.Frame) bool { return f.ID == id }))
	if f, _ := s.check(t, false); f.any() {
		t.Errorf("without reading data:\n%s", f)
	}
	f, summary := s.check(t, true)
	if len(f.packs) != 1 || f.packs[0].ID != pack.ID || f.packs[0].Bad != 1 || !slices.Equal(f.packs[0].Kinds, []check.Kind{check.KindContent}) {
		t.Errorf("packs:\n%s", f)
	}
	if len(f.ranges) != 3 || len(f.backups) != 3 || summary.Damaged != 3 {
		t.Fatalf("got\n%s", f)
	}
	for n, r := range f.ranges {
		want := check.Range{
			Keyspace: "commerce", Shard: "0", Name: s.made[n].Name.String(), Part: check.PartData, Root: "datadir", Path: "commerce/orders.ibd", Table: "commerce.orders",
			Offset: 2 * chunkSize, Length: chunkSize, State: check.Lost, Packs: []cas.ID{pack.ID},
		}
		if r.Name != want.Name || r.Path != want.Path || r.Offset != want.Offset || r.Length != want.Length || r.Table != want.Table || r.State != want.State || !slices.Equal(r.Packs, want.Packs) {
			t.Errorf("range %d: got %+v, want %+v", n, r, want)
		}
		if b := f.backups[n]; b.Lost != chunkSize || b.Files != 1 || b.State != check.Lost || !slices.Equal(b.Tables, []string{"commerce.orders"}) {
			t.Errorf("backup %d: %+v", n, b)
		}
	}
	// The ledger knows: a check that reads no data reads that pack again.
	f, _ = s.check(t, false)
	if len(f.ranges) != 3 {
		t.Errorf("the next check:\n%s", f)
	}
	_, err := s.restore(t.Context(), s.made[2])
	var corrupt *cas.CorruptError
	if !errors.As(err, &corrupt) || corrupt.Pack != pack.ID {
		t.Errorf("restore: got %v, want the pack named", err)
	}
}

// The promise: damage, repair, back up again, and the older backups are whole too.
func TestRepairAndBackUpAgain(t *testing.T) {
	s := history(t)
	pack := s.own(t, 0, cas.KindData)
	id := cas.Sum(s.files[0]["commerce/orders.ibd"][2*chunkSize : 3*chunkSize])
	s.flipFrame(pack, slices.IndexFunc(pack.Frames, func(f cas.Frame) bool { return f.ID == id }))
	s.check(t, true)
	before := s.backend.Names()
	dry, _, _ := s.repair(t, true)
	if after := s.backend.Names(); len(after) != len(before) || dry.Salvaged != 8 || len(dry.Marked) != 1 {
		t.Errorf("a dry run made %d blobs: %+v", len(after)-len(before), dry)
	}
	result, _, after := s.repair(t, false)
	if !slices.Equal(result.Marked, []cas.ID{pack.ID}) || result.Salvaged != 8 || result.Unsaved != 1 || len(result.NewPacks) != 1 {
		t.Errorf("repaired: %+v", result)
	}
	if len(after.ranges) != 3 || len(result.Whole) != 0 || result.After.Whole() {
		t.Errorf("after:\n%s", after)
	}
	again, _, _ := s.repair(t, false)
	if again.Salvaged != 0 || len(again.Marked) != 0 || len(again.NewPacks) != 0 {
		t.Errorf("repaired again: %+v", again)
	}
	s.backup(t, "commerce/0", s.files[0])
	for n := range s.made {
		s.wantRestore(t, n)
	}
	for _, data := range []bool{false, true} {
		if f, summary := s.check(t, data); f.any() || summary.MarkedPacks != 1 {
			t.Errorf("data %v: %+v\n%s", data, summary, f)
		}
	}
}

// A repair gives signs of life while it writes, and ends its session: a prune
// neither takes a long one for dead nor waits for one that has ended.
func TestRepairLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := history(t)
		pack := s.own(t, 0, cas.KindData)
		s.flip(name(pack.ID), pack.Size-40)
		before := new(found)
		opts := check.RepairOptions{Options: s.options(before), Random: s.noise(8), After: new(found)}
		beats := map[string]bool{}
		opts.Wait = func(context.Context, int) error {
			time.Sleep(2 * cas.BeatEvery)
			for _, blob := range s.backend.Names() {
				if strings.HasPrefix(blob, "beats/-repair/") {
					beats[blob] = true
				}
			}
			return nil
		}
		result, err := check.Repair(t.Context(), opts)
		if err != nil || result.Salvaged < 5 {
			t.Fatalf("repair: %+v, %v", result, err)
		}
		if len(beats) < 2 {
			t.Errorf("signs of life: %v", beats)
		}
		ended := false
		for _, blob := range s.backend.Names() {
			ended = ended || strings.HasPrefix(blob, "manifests/-repair/")
		}
		if !ended {
			t.Error("its session was not ended")
		}
	})
}

// What can still be read in a pack without a directory is copied.
func TestSalvage(t *testing.T) {
	s := history(t)
	for _, n := range []int{0, 1} {
		for _, kind := range []cas.Kind{cas.KindData, cas.KindMeta} {
			pack := s.own(t, n, kind)
			s.flip(name(pack.ID), pack.Size-40)
		}
	}
	f, _ := s.check(t, false)
	if len(f.packs) != 4 || len(f.backups) != 3 {
		t.Fatalf("got\n%s", f)
	}
	for _, b := range f.backups {
		if b.State != check.Salvageable || b.Lost != 0 {
			t.Errorf("got %+v", b)
		}
	}
	for _, p := range f.packs {
		if !slices.Equal(p.Kinds, []check.Kind{check.KindDirectory, check.KindContent}) || p.Frames == 0 || p.Bad != 0 || p.Needed != p.Frames {
			t.Errorf("got %+v", p)
		}
	}
	if _, err := s.restore(t.Context(), s.made[0]); err == nil {
		t.Error("the first backup can be restored")
	}
	result, _, after := s.repair(t, false)
	if after.any() || len(result.Whole) != 3 || result.Unsaved != 0 || !result.After.Whole() {
		t.Errorf("repaired: %+v\n%s", result, after)
	}
	deltas := 0
	for _, id := range result.NewPacks {
		pack, err := s.repo.Pack(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		for _, frame := range pack.Frames {
			if frame.Codec == cas.CodecDelta {
				deltas++
			}
		}
	}
	if deltas != 6 {
		t.Errorf("%d deltas among what was salvaged, want 6", deltas)
	}
	for n := range s.made {
		s.wantRestore(t, n)
	}
	if f, _ := s.check(t, true); f.any() {
		t.Errorf("got\n%s", f)
	}
}

// A pack that is gone is told with what its backups lack.
func TestMissingPack(t *testing.T) {
	s := history(t)
	pack := s.own(t, 1, cas.KindData)
	s.backend.Drop(name(pack.ID))
	f, _ := s.check(t, false)
	if len(f.packs) != 1 || f.packs[0].ID != pack.ID || f.packs[0].Kinds[0] != check.KindMissing || len(f.backups) != 2 {
		t.Errorf("got\n%s", f)
	}
	for _, r := range f.ranges {
		if r.Offset != 0 || r.Length != 5*chunkSize+100 || r.State != check.Lost || !slices.Equal(r.Packs, []cas.ID{pack.ID}) {
			t.Errorf("got %+v", r)
		}
	}
	s.wantRestore(t, 0)
	result, _, after := s.repair(t, false)
	if len(result.Marked) != 0 || result.Salvaged != 0 || len(after.backups) != 2 {
		t.Errorf("repaired: %+v\n%s", result, after)
	}
	s.backup(t, "commerce/0", s.files[1])
	for n := range s.made[:2] {
		s.wantRestore(t, n)
	}
	s.wantRestore(t, 2)
}

func TestRecords(t *testing.T) {
	s := history(t)
	blob := "manifests/" + string(s.made[1].Key())
	s.flip(blob, 100)
	f, _ := s.check(t, false)
	if len(f.backups) != 1 || f.backups[0].Name != s.made[1].Name.String() || !strings.Contains(f.backups[0].Reason, "its record cannot be read") {
		t.Errorf("got\n%s", f)
	}
}

// When data is read in parts, the packs that were read longest ago come first, and a run that ends early has not read in vain. A clock
// that is a year off changes nothing.
func TestReadInParts(t *testing.T) {
	s := history(t)
	part, err := check.ParseSubset("1") // byte: one pack
	if err != nil {
		t.Fatal(err)
	}
	read := func(limit int) *check.Summary {
		t.Helper()
		f := new(found)
		opts := s.options(f)
		opts.Read, opts.Workers = &part, 1
		if limit > 0 {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			all, waits := check.All(), 0
			opts.Read = &all
			opts.Wait = func(context.Context, int) error {
				if waits++; waits > limit {
					cancel()
				}
				return nil
			}
			if _, err := check.Check(ctx, opts); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want canceled", err)
			}
			return nil
		}
		summary, err := check.Check(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		return summary
	}
	s.now = s.now.AddDate(1, 0, 0)
	read(3) // ends in the fourth pack
	ledger, err := s.repo.Ledger(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done := 0
	for _, kind := range []cas.Kind{cas.KindData, cas.KindMeta} {
		for _, pack := range s.packs(t, kind) {
			if ledger.Last(pack.ID).Good {
				done++
			}
		}
	}
	if done != 3 {
		t.Errorf("%d packs are in the ledger after a run that ended in the fourth", done)
	}
	s.now = s.now.AddDate(-2, 0, 0)
	for n := 0; ; n++ {
		summary := read(0)
		if summary.NeverRead == 0 {
			if !summary.Oldest.After(s.now) {
				t.Errorf("the oldest verification is of %v", summary.Oldest)
			}
			break
		}
		if n > 3 {
			t.Fatalf("after %d parts %d packs were never read", n, summary.NeverRead)
		}
	}
	for range 2 { // now those that were read first, by the clock a year ahead, come again
		if summary := read(0); !summary.Oldest.After(s.now) {
			t.Errorf("the oldest verification is of %v", summary.Oldest)
		}
	}
	if summary := read(0); summary.Oldest.After(s.now) {
		t.Errorf("the oldest verification is of %v", summary.Oldest)
	}
}

// What a repository says of a backup's last verification follows its packs.
func TestLastVerified(t *testing.T) {
	s := history(t)
	want := func(n int, verified, failed bool) {
		t.Helper()
		last, problems, err := check.LastVerified(t.Context(), s.repo, "commerce/0")
		if err != nil || len(problems) != 0 {
			t.Fatal(problems, err)
		}
		if got := last.Of(s.made[n]); (got.Time != nil) != verified || got.Failed != failed {
			t.Errorf("backup %d: got %+v, want verified %v, failed %v", n, got, verified, failed)
		}
	}
	want(0, false, false)
	s.check(t, true)
	want(2, true, false)
	pack := s.own(t, 1, cas.KindData)
	s.flipFrame(pack, 0)
	s.check(t, true)
	want(0, true, false)
	want(1, false, true)
	want(2, false, true)
	s.repair(t, false)
	want(0, true, false)
	want(1, false, true) // the rest was salvaged, that frame is lost
	s.check(t, true)
	want(1, false, true)
	s.backup(t, "commerce/0", s.files[1]) // stores it anew
	want(1, false, true)
	s.check(t, true)
	want(1, true, false)
	want(3, true, false)
	if err := s.repo.RecordVerified(t.Context(), []cas.Verified{{Pack: s.own(t, 0, cas.KindData).ID, Good: true, Time: s.now.AddDate(-30, 0, 0)}}); err != nil {
		t.Fatal(err)
	}
	last, _, err := check.LastVerified(t.Context(), s.repo, "commerce/0")
	if err != nil {
		t.Fatal(err)
	}
	if got := last.Of(s.made[0]); got.Time == nil || got.Time.Year() == s.now.Year()-30 {
		t.Errorf("what was read last, by a clock that is behind, counts as oldest: %v", got.Time)
	}
}

// A backup whose pack is gone is not verified, though all packs are that are left.
func TestLastVerifiedMissing(t *testing.T) {
	s := history(t)
	pack := s.own(t, 1, cas.KindData)
	data := s.backend.Bytes(name(pack.ID))
	s.check(t, true)
	s.backend.Drop(name(pack.ID))
	want := func(n int, verified bool) {
		t.Helper()
		last, problems, err := check.LastVerified(t.Context(), s.repo, "commerce/0")
		if err != nil || len(problems) != 0 {
			t.Fatal(problems, err)
		}
		if got := last.Of(s.made[n]); (got.Time != nil) != verified || got.Failed == verified {
			t.Errorf("backup %d: got %+v, want verified %v", n, got, verified)
		}
	}
	for _, read := range []bool{false, true} {
		s.check(t, read)
		want(0, true)
		want(1, false)
		want(2, false)
	}
	s.repair(t, false)
	want(1, false)
	s.backend.Overwrite(name(pack.ID), data) // it is back
	s.check(t, false)
	want(1, true)
}

// A damaged part of the ledger is told until a repair sets it aside; a dry run does
// not. What it may have said has to be found again.
func TestRepairLedger(t *testing.T) {
	s := history(t)
	s.check(t, true)
	s.flipFrame(s.own(t, 2, cas.KindData), 0)
	s.now = s.now.Add(time.Hour)
	s.check(t, true)
	s.backend.Overwrite("verified/0000000002", []byte("damaged"))
	wantObjects := func(f *found, want int) {
		t.Helper()
		if len(f.objects) != want || want > 0 && f.objects[0].Name != "verified/0000000002" {
			t.Errorf("got\n%s", f)
		}
	}
	f, summary := s.check(t, false)
	wantObjects(f, 1)
	if summary.DamagedObjects != 1 {
		t.Errorf("got %+v", summary)
	}
	result, before, after := s.repair(t, true)
	wantObjects(before, 1)
	wantObjects(after, 0)
	if len(result.Aside) != 1 || result.Before.DamagedObjects != 1 || result.After.DamagedObjects != 0 {
		t.Errorf("a dry run: %+v", result)
	}
	f, _ = s.check(t, false)
	wantObjects(f, 1)
	result, _, after = s.repair(t, false)
	wantObjects(after, 0)
	if !slices.Equal(result.Aside, []string{"verified/0000000002"}) || result.After.NeverRead != 6 {
		t.Errorf("got %+v", result)
	}
	if f, summary := s.check(t, false); f.any() || summary.NeverRead != 6 {
		t.Errorf("after the repair: %+v\n%s", summary, f)
	}
	if f, _ := s.check(t, true); len(f.packs) != 1 {
		t.Errorf("all read again:\n%s", f)
	}
}

// A verdict that cannot be read is told, and written anew.
func TestDamagedVerdict(t *testing.T) {
	s := history(t)
	pack := s.own(t, 2, cas.KindData)
	s.backend.Drop(name(pack.ID))
	s.check(t, false)
	blob := "values/checks/" + string(s.made[2].Key()) + "/0000000001"
	s.flip(blob, 40)
	problems := func() int {
		_, problems, err := check.LastVerified(t.Context(), s.repo, "commerce/0")
		if err != nil {
			t.Fatal(err)
		}
		return len(problems)
	}
	if got := problems(); got != 1 {
		t.Errorf("%d problems, want 1", got)
	}
	s.check(t, false)
	if got := problems(); got != 0 {
		t.Errorf("%d problems after another check", got)
	}
	last, _, err := check.LastVerified(t.Context(), s.repo, "commerce/0")
	if err != nil || !last.Of(s.made[2]).Failed {
		t.Errorf("got %+v, %v", last, err)
	}
}

// Packs of other repositories, and packs under each other's names.
func TestForeignAndRenamed(t *testing.T) {
	s := history(t)
	other := &site{backend: new(mem.Backend), rng: rand.NewChaCha8([32]byte{7}), now: s.now}
	var err error
	if other.repo, err = cas.Create(t.Context(), other.backend, cas.Config{ChunkSize: chunkSize}, other.rng, s.clock); err != nil {
		t.Fatal(err)
	}
	other.backup(t, "commerce/0", s.files[0])
	foreign, ours := other.own(t, 0, cas.KindData), s.own(t, 0, cas.KindData)
	s.backend.Overwrite(name(foreign.ID), other.backend.Bytes(name(foreign.ID)))
	s.backend.Drop(name(ours.ID))
	f, _ := s.check(t, true)
	if len(f.packs) != 1 || f.packs[0].ID != foreign.ID || !slices.Equal(f.packs[0].Kinds, []check.Kind{check.KindForeign}) || f.packs[0].Bad != 0 || len(f.backups) != 0 {
		t.Errorf("got\n%s", f)
	}
	s.wantRestore(t, 2) // from the foreign pack: chunks are what their IDs say
	result, _, after := s.repair(t, false)
	if after.any() || result.Salvaged != 9 || len(result.Marked) != 1 {
		t.Errorf("got %+v\n%s", result, after)
	}
	s.backend.Drop(name(foreign.ID))
	for n := range s.made {
		s.wantRestore(t, n)
	}
}

func TestTableNames(t *testing.T) {
	for path, want := range map[string]string{
		"commerce/orders.ibd":           "commerce.orders",
		"a@002db/t@0024.MYD":            "a-b.t$",
		"commerce/orders#P#p0.ibd":      "commerce.orders",
		"commerce/orders#p#p0#sp#s.MYI": "commerce.orders",
		"commerce/orders_417.sdi":       "commerce.orders",
		"commerce/db.opt":               "",
		"ibdata1":                       "",
		"mysql.ibd":                     "",
		"#innodb_redo/#ib_redo7":        "",
		"commerce/fts_orders.ibd":       "commerce.fts_orders",
		"commerce/FTS_000000000000014f_00000000000001a2_INDEX_1.ibd": "",
		"commerce/fts_0000000000000440_being_deleted.ibd":            "",
		"x/@zz.ibd":     "x.@zz",
		"\xff/\xfe.ibd": "\xff.\xfe",
	} {
		if got := check.TableOf(manifest.Path(path), ""); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	if got := check.TableOf("orders.ibd", "/srv/fast/comm@002derce"); got != "comm-erce.orders" {
		t.Errorf("a table with a folder of its own: got %q", got)
	}
}

func TestParseSubset(t *testing.T) {
	for _, text := range []string{"", "0%", "101%", "-1%", "NaN%", "x%", "0/7", "8/7", "1/0", "1/x", "/", "0", "0MiB", "1 parsec", "-5"} {
		if got, err := check.ParseSubset(text); err == nil {
			t.Errorf("%q: got %+v, want an error", text, got)
		}
	}
	for _, text := range []string{"100%", "0.5%", "1/7", "7/7", "10GiB", "1"} {
		if _, err := check.ParseSubset(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A ledger of many parts is summed up by the next run that reads data.
func TestLedgerIsSummedUp(t *testing.T) {
	s := history(t)
	pack := s.own(t, 0, cas.KindData)
	for range 64 {
		if err := s.repo.RecordVerified(t.Context(), []cas.Verified{{Pack: pack.ID, Good: true, Time: s.now}}); err != nil {
			t.Fatal(err)
		}
	}
	s.check(t, true)
	for _, blob := range s.backend.Names() {
		if strings.HasPrefix(blob, "verified/") && blob <= "verified/0000000064" {
			s.backend.Drop(blob)
		}
	}
	ledger, err := s.repo.Ledger(t.Context())
	if err != nil || ledger.Last(pack.ID).Order != 66 {
		t.Errorf("got %+v, %v, want a summary as generation 65 and the run's own as 66", ledger, err)
	}
}

// interrupted is a progress that does something when a step begins for the first time.
type interrupted struct {
	*found
	step string
	do   func()
}

// Step implements check.Progress.
func (i *interrupted) Step(name, detail string) {
	i.found.Step(name, detail)
	if name == i.step && i.do != nil {
		do := i.do
		i.do = nil
		do()
	}
}

// pruneAt returns a progress that removes the first backup and prunes when a step
// begins. It counts the packs.
func (s *site) pruneAt(t *testing.T, f *found, step string, packs *int) *interrupted {
	return &interrupted{f, step, func() {
		if err := s.repo.Forget(t.Context(), s.made[0].Key(), nil); err != nil {
			t.Fatal(err)
		}
		result, err := mysqlbackup.Prune(t.Context(), s.repo, cas.PruneOptions{Workers: 1, Progress: new(found), Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		*packs = result.Packs
	}}
}

// Packs that are deleted before or while a check reads its way through recipes are no
// damage either.
func TestPruneBetweenSteps(t *testing.T) {
	for _, step := range []string{"records", "packs", "recipes"} {
		s, f := history(t), new(found)
		pruned := 0
		opts := s.options(f)
		opts.Progress = s.pruneAt(t, f, step, &pruned)
		if summary, err := check.Check(t.Context(), opts); err != nil || f.any() || !summary.Whole() || pruned == 0 {
			t.Errorf("%s: %d packs pruned, %+v, %v\n%s", step, pruned, summary, err, f)
		}
	}
}

// Likewise while a repair looks, marks and copies: with damage somewhere, only that
// is told.
func TestPruneWhileRepairing(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		for _, dry := range []bool{false, true} {
			for _, step := range []string{"records", "packs", "recipes", "mark", "salvage"} {
				s := history(t)
				if damaged {
					pack := s.own(t, 2, cas.KindData)
					s.flipFrame(pack, 0)
					s.check(t, true)
				}
				before, after := new(found), new(found)
				pruned := 0
				opts := check.RepairOptions{Options: s.options(before), Random: s.noise(8), Note: []byte("test"), After: after, DryRun: dry}
				opts.Progress = s.pruneAt(t, before, step, &pruned)
				result, err := check.Repair(t.Context(), opts)
				if err != nil || pruned == 0 {
					t.Fatalf("damaged %v, dry %v, %s: %d packs pruned, %v", damaged, dry, step, pruned, err)
				}
				marked := 0
				if damaged {
					marked = 1
				}
				if len(result.Marked) != marked || result.Before.Whole() == damaged || result.After.Whole() == damaged || len(after.packs) > 1 || len(after.backups) != marked {
					t.Errorf("damaged %v, dry %v, %s: %+v\n%s", damaged, dry, step, result, after)
				}
			}
		}
	}
}

// An error about a record is told once, not again after the repair.
func TestRepairTellsErrorsOnce(t *testing.T) {
	s := history(t)
	session, err := s.repo.Begin(t.Context(), "commerce/0/2030-01-01.000000.zone1-0000000101", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Commit(t.Context(), session.NewWriter(cas.WriterOptions{}), []byte(`{"version":9}`)); err != nil {
		t.Fatal(err)
	}
	result, _, _ := s.repair(t, false)
	if len(result.Before.Errors) != 1 || len(result.After.Errors) != 1 {
		t.Errorf("before %v, after %v, want one each", result.Before.Errors, result.After.Errors)
	}
}

// Packs that garbage collection deletes while a check reads are no damage: neither
// those that nobody needs, nor those whose chunks have moved, nor those of a backup
// that was removed meanwhile.
func TestPruneMeanwhile(t *testing.T) {
	for name, forgotten := range map[string][]int{"the oldest": {0}, "all but the newest": {0, 1}, "all but the oldest": {1, 2}} {
		for _, mute := range []bool{false, true} {
			s, f := history(t), new(found)
			all := check.All()
			opts := s.options(f)
			opts.Read, opts.Workers, opts.Mute = &all, 1, mute
			pruned := 0
			opts.Wait = func(ctx context.Context, _ int) error {
				if pruned > 0 {
					return nil
				}
				for _, n := range forgotten {
					if err := s.repo.Forget(ctx, s.made[n].Key(), nil); err != nil {
						return err
					}
				}
				result, err := mysqlbackup.Prune(ctx, s.repo, cas.PruneOptions{Workers: 1, Progress: f, Now: time.Now})
				if err == nil {
					pruned = result.Packs
				}
				return err
			}
			summary, err := check.Check(t.Context(), opts)
			if err != nil || f.any() || !summary.Whole() || pruned == 0 || summary.Backups > 3 {
				t.Errorf("%s, mute %v: %d packs pruned, %+v, %v\n%s", name, mute, pruned, summary, err, f)
			}
		}
	}
}
