package check_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/check"
	"github.com/shardseed/shardseed/index"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/walk"
)

// everything is a history in which every kind of object occurs.
func everything(t testing.TB) *site {
	t.Helper()
	s := history(t)
	if _, err := s.repo.SetValue(t.Context(), "shards/commerce/0/primary", []byte("db1:3306")); err != nil {
		t.Fatal(err)
	}
	gone := s.backup(t, "orders/0", map[string][]byte{"x/y.ibd": s.noise(50)})
	if err := s.repo.Forget(t.Context(), gone.Key(), nil); err != nil {
		t.Fatal(err)
	}
	s.made, s.files = s.made[:3], s.files[:3]
	if err := s.repo.MarkDamaged(t.Context(), cas.ID{9}, nil); err != nil {
		t.Fatal(err)
	}
	list := []byte("SSOBJ\r\n\x1a\x01\x00\x07\x00\x24\x00\x00\x00")
	list = append(list, make([]byte, 16)...)
	list = append(binary.LittleEndian.AppendUint32(list, 1), make([]byte, 32)...)
	sum := cas.Sum(list)
	s.backend.Overwrite("gc/0000000001.final", append(list, sum[:]...))
	s.check(t, true)
	return s
}

// spoil is one way to damage a blob; nil removes it.
type spoil struct {
	name string
	do   func(data []byte) []byte
}

func cutTo(size int64) spoil {
	return spoil{fmt.Sprintf("cut to %d", size), func(data []byte) []byte { return data[:size] }}
}

func flipAt(field string, at int64) spoil {
	return spoil{fmt.Sprintf("flipped in %s", field), func(data []byte) []byte { data[at] ^= 0x10; return data }}
}

func both() []spoil {
	return []spoil{
		{"missing", nil},
		{"emptied", func([]byte) []byte { return nil }},
		{"longer", func(data []byte) []byte { return append(data, 0) }},
		{"zeroed", func(data []byte) []byte { return make([]byte, len(data)) }},
	}
}

// objectSpoils damages every field of an object, and cuts it at each.
func objectSpoils(size int64) []spoil {
	all := both()
	for field, at := range map[string]int64{
		"magic": 0, "version": 8, "kind": 10, "flags": 11, "length": 12, "nonce": 16, "payload": 32, "hash": size - 32, "last byte": size - 1,
	} {
		all = append(all, flipAt(field, min(at, size-1)), cutTo(min(at, size-1)))
	}
	return all
}

// packSpoils likewise damages a pack.
func packSpoils(pack *cas.Pack) []spoil {
	all := both()
	field := func(name string, at int64) { all = append(all, flipAt(name, at), cutTo(at)) }
	for name, at := range map[string]int64{"magic": 0, "version": 8, "kind": 10, "flags": 11, "key length": 12, "reserved": 14, "uuid": 16, "salt": 32, "key": 64} {
		field("header "+name, at)
	}
	for _, n := range []int{0, len(pack.Frames) / 2, len(pack.Frames) - 1} {
		f := pack.Frames[n]
		for name, at := range map[string]int64{
			"magic": 0, "codec": 4, "depth": 5, "flags": 6, "stored size": 8, "plain size": 12, "ID": 16, "base": 48, "checksum": 80,
			"payload": 84, "middle of the payload": 84 + int64(f.StoredSize)/2, "end of the payload": 83 + int64(f.StoredSize),
		} {
			field(fmt.Sprintf("frame %d %s", n, name), f.Offset+at)
		}
	}
	last := pack.Frames[len(pack.Frames)-1]
	end := last.Offset + last.Size()
	for name, at := range map[string]int64{"start": 0, "middle": (pack.Size - 80 - end) / 2, "end": pack.Size - 81 - end} {
		field("footer "+name, end+at)
	}
	for name, at := range map[string]int64{
		"offset": 0, "length": 8, "table": 12, "frames": 16, "version": 20, "kind": 22, "flags": 23, "size": 24, "hash": 32, "checksum": 64, "reserved": 68, "magic": 72, "end": 79,
	} {
		field("trailer "+name, pack.Size-80+at)
	}
	return all
}

// ill is what cannot be restored: for each backup the numbers of chunks of files,
// or nil where all is lost.
type ill map[string]map[string][]int

// truth finds out by restoring every chunk.
func (s *site) truth(t *testing.T) ill {
	t.Helper()
	all := ill{}
	for _, m := range s.made {
		files, err := s.illFiles(t, m)
		if err != nil || len(files) > 0 {
			all[m.Key().String()] = files
		}
	}
	return all
}

// illFiles returns an error if all of the backup is lost.
func (s *site) illFiles(t *testing.T, m *manifest.Manifest) (map[string][]int, error) {
	t.Helper()
	if _, err := walk.Manifest(t.Context(), s.repo, m.Key()); err != nil {
		return nil, err
	}
	chunks, err := index.OfBackup(t.Context(), t.TempDir(), s.repo, m.Packs)
	if err != nil {
		t.Fatal(err)
	}
	reader := s.repo.NewReader(chunks)
	defer func() {
		if err := errors.Join(reader.Close(), chunks.Close()); err != nil {
			t.Error(err)
		}
	}()
	entries, err := walk.Files(t.Context(), reader, m.Files)
	if err != nil {
		return nil, err
	}
	files := map[string][]int{}
	for _, f := range entries {
		if f.Size == 0 || f.Recipe.IsZero() {
			continue
		}
		count := cas.LeafChunks(f.Size, f.ChunkSize, 0)
		ids, err := reader.Leaf(t.Context(), f.Recipe, count)
		if err != nil {
			for n := range count {
				files[string(f.Path)] = append(files[string(f.Path)], n)
			}
			continue
		}
		for n, id := range ids {
			if _, err := reader.Chunk(t.Context(), id, int(min(chunkSize, f.Size-int64(n)*chunkSize))); err != nil {
				files[string(f.Path)] = append(files[string(f.Path)], n)
			}
		}
	}
	return files, nil
}

// told is what a check says of the same.
func told(f *found) ill {
	all := ill{}
	for _, b := range f.backups {
		key := b.Keyspace + "/" + b.Shard + "/" + b.Name
		if b.Reason != "" {
			all[key] = nil
			continue
		}
		all[key] = map[string][]int{}
	}
	for _, r := range f.ranges {
		key := r.Keyspace + "/" + r.Shard + "/" + r.Name
		if r.Part == check.PartList {
			all[key] = nil
		}
		if all[key] == nil {
			continue
		}
		chunks := map[int]bool{}
		for _, n := range all[key][string(r.Path)] {
			chunks[n] = true
		}
		for at := r.Offset; at < r.Offset+r.Length; at += chunkSize {
			chunks[int(at/chunkSize)] = true
		}
		all[key][string(r.Path)] = slices.Sorted(maps.Keys(chunks))
	}
	return all
}

// outcome checks a damaged repository. What a check says must be what a restore
// finds, and nothing may be amiss that it does not tell.
func (s *site) outcome(t *testing.T) string {
	t.Helper()
	repo, err := cas.Open(t.Context(), s.backend)
	if err != nil {
		return "refused"
	}
	s.repo = repo
	f := new(found)
	opts, all := s.options(f), check.All()
	opts.Read = &all
	summary, err := check.Check(t.Context(), opts)
	if err != nil {
		var newer *cas.VersionError
		if !errors.As(err, &newer) {
			t.Errorf("check: %v", err)
		}
		return "refused"
	}
	if len(summary.Errors) > 0 {
		return "refused"
	}
	want, got := s.truth(t), told(f)
	if summary.Backups < len(s.made) {
		for key, files := range want { // a register that is gone
			if files == nil {
				delete(want, key)
			}
		}
		if len(want) == 0 && len(got) == 0 {
			return "not listed"
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a restore lacks (-) and a check tells (+):\n%s\n%s", diff, f)
	}
	switch {
	case len(f.backups) > 0:
		return "told: backups"
	case f.any():
		return "told"
	}
	return "not needed"
}

// heal repairs, backs the same files up again, and wants all to be whole but for
// records that are lost.
func (s *site) heal(t *testing.T) {
	t.Helper()
	result, _, after := s.repair(t, false)
	if diff := cmp.Diff(s.truth(t), told(after)); diff != "" {
		t.Errorf("after the repair a restore lacks (-) and it tells (+):\n%s", diff)
	}
	again := *s
	for n := range s.made {
		again.backup(t, "again/0", s.files[n])
	}
	for n, m := range s.made {
		if _, err := walk.Manifest(t.Context(), s.repo, m.Key()); err == nil {
			s.wantRestore(t, n)
		}
	}
	for n := range again.made[3:] {
		again.wantRestore(t, n+3)
	}
	f, summary := again.check(t, true)
	if len(f.packs) > 0 || len(f.ranges) > 0 {
		t.Errorf("in the end: %+v after %+v\n%s", summary, result, f)
	}
}

// target is a blob of the matrix.
type target struct {
	what   string
	blob   string
	spoils []spoil
	swap   string // a blob of the same kind
	want   map[string]bool
}

func outcomes(names ...string) map[string]bool {
	want := map[string]bool{}
	for _, name := range names {
		want[name] = true
	}
	return want
}

func (s *site) targets(t *testing.T) []target {
	t.Helper()
	object := func(what, blob, swap string, want ...string) target {
		data := s.backend.Bytes(blob)
		if data == nil {
			t.Fatalf("no blob %s", blob)
		}
		return target{what, blob, objectSpoils(int64(len(data))), swap, outcomes(want...)}
	}
	key := func(n int) string { return string(s.made[n].Key()) }
	all := []target{
		object("configuration", "config/0000000001", "", "refused"),
		object("session", "sessions/"+key(1), "sessions/"+key(0), "not needed"),
		object("register", "manifests/"+key(1), "manifests/"+key(0), "told: backups", "not listed", "refused"),
		object("primary", "values/shards/commerce/0/primary/0000000001", "", "told", "not needed", "refused"),
		object("damaged mark", "damaged/"+cas.ID{9}.String(), "", "not needed"),
		object("list of garbage collection", "gc/0000000001.final", "", "told", "not needed", "refused"),
		object("ledger", "verified/0000000001", "", "told", "not needed"),
	}
	for _, blob := range s.backend.Names() {
		if strings.HasPrefix(blob, "forgotten/") {
			all = append(all, object("forgotten mark", blob, "", "not needed"))
		}
	}
	format := target{"FORMAT", "FORMAT", both(), "", outcomes("refused")}
	for at := range int64(len("shardseed repository\nversion 1\nuuid ") + 36) {
		format.spoils = append(format.spoils, flipAt(fmt.Sprintf("byte %d", at), at), cutTo(at))
	}
	all = append(all, format)
	for _, kind := range []cas.Kind{cas.KindData, cas.KindMeta} {
		for n := range 2 {
			pack := s.own(t, n, kind)
			all = append(all, target{
				fmt.Sprintf("%s pack of backup %d", kind, n), name(pack.ID), packSpoils(pack), name(s.own(t, 2, kind).ID), outcomes("told", "told: backups"),
			})
		}
	}
	return all
}

// TestDamage damages every kind of object in every field, cuts it at each, takes
// it away and puts another in its place. Each time a check says exactly what a
// restore finds; then what can be healed is.
func TestDamage(t *testing.T) {
	first := everything(t)
	saved := map[string][]byte{}
	for _, blob := range first.backend.Names() {
		saved[blob] = first.backend.Bytes(blob)
	}
	for _, target := range first.targets(t) {
		if target.swap != "" {
			other := saved[target.swap]
			target.spoils = append(target.spoils, spoil{"replaced by another", func([]byte) []byte { return other }})
		}
		if target.what == "FORMAT" { // the line that only people read
			for n, s := range target.spoils {
				if s.name == "longer" {
					target.spoils = slices.Delete(target.spoils, n, n+1)
					break
				}
			}
		}
		t.Run(target.what, func(t *testing.T) {
			counts := map[string]int{}
			for n, spoil := range target.spoils {
				t.Run(spoil.name, func(t *testing.T) {
					s := *first
					s.backend = newBackend(saved)
					if spoil.do == nil {
						s.backend.Drop(target.blob)
					} else {
						s.backend.Overwrite(target.blob, spoil.do(s.backend.Bytes(target.blob)))
					}
					got := s.outcome(t)
					counts[got]++
					if !target.want[got] {
						t.Errorf("outcome %q, want one of %v", got, target.want)
					}
					if strings.HasPrefix(got, "told") && strings.HasPrefix(target.blob, "packs/") && n%3 == 0 {
						s.heal(t)
					}
				})
			}
			t.Logf("%s: %v", target.what, counts)
		})
	}
}
