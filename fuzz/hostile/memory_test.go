package hostile

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// bomb is a repository that is small and claims, or makes, a lot.
type bomb struct {
	name  string
	build func(r *repository)
	good  bool  // it is no damage, only large: check finds nothing
	fits  bool  // and it can be restored
	slow  bool  // for "make hostile"
	limit int64 // bytes of memory, if not memoryLimit
}

var large = flag.Bool("large", false, "the large repositories too")

// TestBombs: sizes and counts of a repository are not trusted with memory, time or
// room on the disk.
func TestBombs(t *testing.T) {
	for _, b := range bombs() {
		if b.slow && !*large {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			r := newRepository(t)
			b.build(r)
			h := newHost(t, r, replication.MariaDB)
			h.limit = b.limit
			all := h.runAll()
			if got := all["restore --force"]; got.code == 0 && !b.fits {
				t.Errorf("restored: %+v", got)
			}
			if got := all["check --read-data"]; got.code == 0 && !b.good {
				t.Errorf("found to be good: %+v", got)
			}
		})
	}
}

func bombs() []bomb {
	text := func(format string, args ...any) func(*repository) {
		return func(r *repository) { r.publishText(fmt.Appendf(nil, format, args...)) }
	}
	return []bomb{
		{name: "record of empty values", slow: true, build: func(r *repository) {
			text(`{"version":1,"channels":[%s{}]}`, strings.Repeat("{},", 22<<20))(r)
		}},
		{name: "record of brackets", build: func(r *repository) { text("%s", strings.Repeat("[", 64<<20-1))(r) }},
		{name: "record of GTIDs", build: func(r *repository) {
			var gtids strings.Builder
			for i := 1; gtids.Len() < 7<<20; i += 2 {
				fmt.Fprintf(&gtids, ":%d", i)
			}
			text(`{"version":1,"position":{"flavor":"mysql","executed":"3e11fa47-71ca-11e1-9e33-c80aa9429562%s"}}`, gtids.String())(r)
		}},
		{name: "record of 200,000 packs that are not there", slow: true, build: func(r *repository) {
			m := record(replication.MariaDB)
			r.list(m, `{"root":"datadir","path":"a","kind":"dir","mode":488}`)
			source := rand.NewChaCha8([32]byte{1})
			for range 200_000 {
				var id cas.ID
				_, _ = source.Read(id[:]) // never fails
				m.Packs = append(m.Packs, id)
			}
			r.publish(m)
		}, good: true, fits: true},
		{name: "list of many links", slow: true, build: func(r *repository) {
			m := record(replication.MariaDB)
			lines := make([]string, 30_000)
			for i := range lines {
				lines[i] = fmt.Sprintf(`{"root":"datadir","path":"t%09d","kind":"symlink","target":"/src/x"}`, i)
			}
			r.list(m, lines...)
			r.publish(m)
		}, good: true, fits: true},
		{name: "list of a line without end", slow: true, build: func(r *repository) {
			m := record(replication.MariaDB)
			m.Files.Count, m.Files.Size = 1, 64<<20
			r.listText(m, bytes.NewBuffer(bytes.Repeat([]byte("x"), 64<<20)))
			r.publish(m)
		}},
		{name: "list that claims 4 GiB", build: func(r *repository) {
			m := record(replication.MariaDB)
			m.Files = manifest.FileList{Count: 1 << 40, Size: 4 << 30, ChunkSize: 4 << 10}
			r.publish(m)
		}},
		{name: "list that claims 8 EiB", build: func(r *repository) {
			m := record(replication.MariaDB)
			m.Files = manifest.FileList{Count: 1, Size: 1<<63 - 1, ChunkSize: 16 << 20}
			r.publish(m)
		}},
		{name: "1 PiB of zeros", build: func(r *repository) {
			m := record(replication.MariaDB)
			r.list(m, fileLine("zeros", 1<<50, cas.ID{}, ""))
			r.publish(m)
		}, good: true},
		{name: "1 PiB of holes", build: func(r *repository) {
			m := record(replication.MariaDB)
			r.list(m, fileLine("zeros", 1<<50, cas.ID{}, `,"sparse":true`))
			r.publish(m)
		}, good: true},
		{name: "tree of 256 TiB that is one chunk", build: func(r *repository) { tree(r, `,"sparse":true`) }, good: true},
		{name: "tree of 256 TiB, dense", build: func(r *repository) { tree(r, "") }, good: true},
		{name: "tree that is its own leaf", build: func(r *repository) {
			m := record(replication.MariaDB)
			leaf := plainFrame(same(0, cas.Sum([]byte("x")), 1024))
			top := plainFrame(same(1, leaf.id, 1024))
			wrong := plainFrame(same(2, leaf.id, 2)) // of level 0 where 1 should be
			m.Packs = append(m.Packs, r.pack(2, leaf, top, wrong))
			r.list(m, fileLine("a", 2*1024*1024*65536, wrong.id, `,"sparse":true`))
			r.publish(m)
		}},
		{name: "frames of zstd that yield gigabytes", build: func(r *repository) {
			m := record(replication.MariaDB)
			payload := zip(make([]byte, 64<<20)) // 6 KB
			var all []byte
			for range 100 {
				all = append(all, payload...)
			}
			id := cas.Sum([]byte("never"))
			f := &frame{id: id, codec: 1, plain: 16 << 20, payload: all}
			m.Packs = append(m.Packs, r.pack(1, f))
			line := fmt.Sprintf(`{"root":"datadir","path":"a","kind":"file","size_bytes":%d,"chunk_size_bytes":%d,"mode":416,"recipe":"%s"}`, 16<<20, 16<<20, id)
			r.list(m, line)
			r.publish(m)
		}},
		{name: "sizes of frames", build: func(r *repository) {
			m := record(replication.MariaDB)
			big := &frame{id: cas.Sum([]byte("a")), codec: 0, plain: 1<<32 - 1, payload: []byte("a"), stored: 1<<32 - 1}
			m.Packs = append(m.Packs, r.pack(1, big))
			r.list(m, fileLine("a", 65536, big.id, ""))
			r.publish(m)
		}},
		{name: "directories of 65,536 frames", slow: true, limit: 350 << 20, build: func(r *repository) {
			m := record(replication.MariaDB)
			source := rand.NewChaCha8([32]byte{2})
			for range 12 {
				frames := make([]*frame, 64<<10)
				for i := range frames {
					frames[i] = &frame{codec: 0, plain: 1, payload: []byte("a")}
					_, _ = source.Read(frames[i].id[:]) // never fails
				}
				m.Packs = append(m.Packs, r.pack(1, frames...))
			}
			r.list(m, `{"root":"datadir","path":"a","kind":"dir","mode":488}`)
			r.publish(m)
		}, fits: true},
		{name: "directories that claim 2^32 frames", build: func(r *repository) {
			m := record(replication.MariaDB)
			for _, count := range []uint32{1 << 20, 1<<32 - 1, 1 << 31, 65537} {
				m.Packs = append(m.Packs, r.packOf(1, r.packHeader(1), make([]byte, 84), min(count, 1<<20)))
			}
			r.list(m, fileLine("a", 65536, cas.Sum([]byte("a")), ""))
			r.publish(m)
		}},
		{name: "directory that unpacks to gigabytes", build: func(r *repository) {
			m := record(replication.MariaDB)
			m.Packs = append(m.Packs, r.packOf(1, r.packHeader(1), make([]byte, 512<<20), 60000))
			r.list(m, fileLine("a", 65536, cas.Sum([]byte("a")), ""))
			r.publish(m)
		}},
		{name: "packs of 15 TiB that are holes", slow: true, build: func(r *repository) {
			m := record(replication.MariaDB)
			for i := range 4 {
				id := cas.Sum([]byte{byte(i)})
				r.write(packName(id), nil)
				if err := os.Chmod(r.path(packName(id)), 0o600); err != nil {
					r.t.Fatal(err)
				}
				if err := os.Truncate(r.path(packName(id)), 15<<40); err != nil {
					r.t.Fatal(err)
				}
				m.Packs = append(m.Packs, id)
			}
			r.list(m, fileLine("a", 65536, cas.Sum([]byte("a")), ""))
			r.publish(m)
		}},
		{name: "circles of deltas", build: circles},
		{name: "deltas with many bases", build: manyBases},
		{name: "objects that are holes", build: func(r *repository) {
			m := record(replication.MariaDB)
			r.list(m, `{"root":"datadir","path":"a","kind":"dir","mode":488}`)
			r.publish(m)
			for _, name := range []string{
				"verified/0000000001", "gc/0000000001.condemned", "values/shards/commerce/-80/primary/0000000001", "values/proofs/" + backupKey + "/0000000001",
				"values/holds/" + backupKey + "/0000000001", "manifests/commerce/-80/2026-11-23.040001.zone1-0000000101",
			} {
				r.write(name, nil)
				if err := os.Chmod(r.path(name), 0o600); err != nil {
					r.t.Fatal(err)
				}
				if err := os.Truncate(r.path(name), 4<<40); err != nil {
					r.t.Fatal(err)
				}
			}
		}},
		{name: "values of 64 MiB", slow: true, fits: true, build: func(r *repository) {
			m := record(replication.MariaDB)
			r.list(m, `{"root":"datadir","path":"a","kind":"dir","mode":488}`)
			r.publish(m)
			deep := []byte(strings.Repeat("[", 64<<20-1))
			r.object("values/holds/"+backupKey+"/0000000001", kindValue, deep)
			r.object("values/proofs/"+backupKey+"/0000000001", kindValue, []byte(`{"version":1,"findings":[`+strings.Repeat("{},", 20<<20)+`{}]}`))
			r.object("values/shards/commerce/-80/backup/0000000001", kindValue, deep)
			r.object("values/shards/commerce/-80/primary/0000000001", kindValue, bytes.Repeat([]byte("x"), 60<<20))
		}},
		{name: "ledger and lists of gc that are full", slow: true, fits: true, build: func(r *repository) {
			m := record(replication.MariaDB)
			r.list(m, `{"root":"datadir","path":"a","kind":"dir","mode":488}`)
			r.publish(m)
			ledger := make([]byte, 16+56*1_000_000)
			copy(ledger[8:], []byte{0x40, 0x42, 0x0f, 0})
			source := rand.NewChaCha8([32]byte{3})
			for i := range 1_000_000 {
				_, _ = source.Read(ledger[16+56*i:][:32]) // never fails
			}
			r.object("verified/0000000001", kindLedger, ledger)
			r.object("gc/0000000001.condemned", kindPackList, bytes.Repeat([]byte{0xff}, 8))
			r.object("gc/0000000002.condemned", kindPackList, append([]byte{0xff, 0xff, 0xff, 0xff}, make([]byte, 1<<20)...))
		}},
	}
}

// tree publishes a file of 256 TiB all of whose chunks are one, by four nodes.
func tree(r *repository, more string) {
	m := record(replication.MariaDB)
	chunk := plainFrame(bytes.Repeat([]byte("x"), 65536))
	leaf := plainFrame(same(0, chunk.id, 1024))
	one := plainFrame(same(1, leaf.id, 1024))
	two := plainFrame(same(2, one.id, 1024))
	top := plainFrame(same(3, two.id, 4))
	m.Packs = append(m.Packs, r.pack(1, chunk), r.pack(2, leaf, one, two, top))
	r.list(m, fileLine("a", 4<<46, top.id, more))
	r.publish(m)
}

// circles publishes a file whose chunk is a delta of one that is a delta of it.
func circles(r *repository) {
	m := record(replication.MariaDB)
	a, b := cas.Sum([]byte("a")), cas.Sum([]byte("b"))
	delta := zip(make([]byte, 16)) // nothing differs
	for depth := byte(1); depth <= 8; depth++ {
		m.Packs = append(m.Packs,
			r.pack(1, &frame{id: a, base: b, codec: 2, depth: depth, plain: 65536, payload: delta}, &frame{id: b, base: a, codec: 2, depth: depth, plain: 65536, payload: delta}))
	}
	r.list(m, fileLine("a", 65536, a, ""))
	r.publish(m)
}

// manyBases publishes a file whose chunk has eight depths of deltas, each with a
// hundred copies, and nothing below.
func manyBases(r *repository) {
	m := record(replication.MariaDB)
	delta := zip(make([]byte, 16))
	id := func(depth byte) cas.ID { return cas.Sum([]byte{'d', depth}) }
	for range 4 {
		var frames []*frame
		for depth := byte(1); depth <= 8; depth++ {
			for range 25 {
				frames = append(frames, &frame{id: id(depth), base: id(depth - 1), codec: 2, depth: depth, plain: 65536, payload: delta})
			}
		}
		m.Packs = append(m.Packs, r.pack(1, frames...))
	}
	m.Packs = append(m.Packs, r.pack(1, &frame{id: id(0), codec: 1, plain: 65536, payload: zip([]byte("not that chunk"))}))
	r.list(m, fileLine("a", 65536, id(8), ""))
	r.publish(m)
}
