package hostile

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// What follows builds large repositories that nothing is wrong with: many small
// frames, as years of backups of a large server leave them.

const (
	scaleChunk   = 4 << 10 // bytes: the smallest there is
	scalePack    = 2_400   // frames: 64 MiB of chunks of 64 KiB that compress to 27 KiB
	scaleLeaves  = 4       // of a file
	scaleBackups = 14
	scaleDepth   = 6
	// perChunk is about how many frames there are in the end for each chunk of
	// the first backup.
	perChunk = 2.65
)

// growing is a server's data, and the repository that it is backed up into: files
// of four leaves each. Each backup finds a quarter of the chunks of a quarter of
// the leaves changed, half of them the same as the last time, so that deltas stand
// on deltas; and a file that no other has.
type growing struct {
	*repository
	random   *rand.Rand
	plain    []byte
	versions []uint16
	depths   []uint8 // of the newest versions
	chunks   []cas.ID
	leaves   []cas.ID
	own      int // chunks of files that only one backup has, so far
	data     packer
	meta     packer
	packs    []cas.ID
	nodes    map[cas.ID]struct{}
	frames   int
	deltas   int
	backups  []cas.Key
}

// packer is a pack that is being filled.
type packer struct {
	kind  byte
	data  []byte
	table []byte
	count int
}

// newGrowing fills a repository until it has about so many frames.
func newGrowing(t testing.TB, frames int) *growing {
	t.Helper()
	each := scaleLeaves * cas.NodeFanout
	chunks := max(1, int(float64(frames)/perChunk)/each) * each
	g := &growing{
		repository: newRepository(t), random: rand.New(rand.NewPCG(1, 2)), plain: bytes.Repeat([]byte("x"), scaleChunk),
		versions: make([]uint16, chunks), depths: make([]uint8, chunks), chunks: make([]cas.ID, chunks), leaves: make([]cas.ID, chunks/cas.NodeFanout),
		nodes: map[cas.ID]struct{}{}, data: packer{kind: 1}, meta: packer{kind: 2},
	}
	for n := range scaleBackups {
		g.backUp(n)
	}
	return g
}

// backUp makes a backup, the first of everything.
func (g *growing) backUp(number int) {
	m := record(replication.MariaDB)
	m.Name = manifest.NewName(m.Name.Time.Add(time.Duration(number)*time.Minute), m.Name.Alias)
	m.Files.ChunkSize = cas.DefaultChunkSize
	g.key = m.Key()
	own := max(1, len(g.leaves)/16)
	ids := make([]cas.ID, 0, own*cas.NodeFanout)
	for leaf := range g.leaves {
		hot := leaf%8 == 0
		if number > 0 && !hot && g.random.IntN(8) > 0 {
			continue
		}
		first := g.random.IntN(4)
		if hot {
			first = 0
		}
		for slot := range cas.NodeFanout {
			if number > 0 && slot%4 != first {
				continue
			}
			g.change(leaf*cas.NodeFanout+slot, number)
			if len(ids) < cap(ids) && (number > 0 || slot%16 == 0) { // among the others, so that packs are only in part of use later
				ids = append(ids, g.ownChunk())
			}
		}
		g.leaves[leaf] = g.node(0, g.chunks[leaf*cas.NodeFanout:][:cas.NodeFanout])
	}
	for len(ids) < cap(ids) {
		ids = append(ids, g.ownChunk())
	}
	lines := append([]string{g.file("own", ids)}, g.files()...)
	g.flush(&g.data)
	g.flush(&g.meta)
	before := len(m.Packs)
	g.list(m, lines...)
	g.packs = append(g.packs, m.Packs[before:]...)
	m.Packs = slices.Clone(g.packs)
	g.publish(m)
	g.backups = append(g.backups, g.key)
}

// files stores the recipes of the files that all backups have.
func (g *growing) files() []string {
	var lines []string
	for at := 0; at < len(g.leaves); at += scaleLeaves {
		root := g.node(1, g.leaves[at:][:scaleLeaves])
		lines = append(lines, scaleLine(fmt.Sprintf("t%08d", at), scaleLeaves*cas.NodeFanout, root))
	}
	return lines
}

// file stores the recipe of a file.
func (g *growing) file(path string, ids []cas.ID) string {
	var leaves []cas.ID
	for part := range slices.Chunk(ids, cas.NodeFanout) {
		leaves = append(leaves, g.node(0, part))
	}
	root := leaves[0]
	if len(leaves) > 1 {
		root = g.tree(1, leaves)
	}
	return scaleLine(path, len(ids), root)
}

// tree stores the nodes above those of a level.
func (g *growing) tree(level byte, below []cas.ID) cas.ID {
	if len(below) == 1 {
		return below[0]
	}
	var above []cas.ID
	for part := range slices.Chunk(below, cas.NodeFanout) {
		if len(part) == 1 {
			above = append(above, part[0])
			continue
		}
		above = append(above, g.node(level, part))
	}
	return g.tree(level+1, above)
}

func scaleLine(path string, chunks int, root cas.ID) string {
	return fmt.Sprintf(`{"root":"datadir","path":%q,"kind":"file","size_bytes":%d,"chunk_size_bytes":%d,"mode":416,"recipe":%q}`, path, chunks*scaleChunk, scaleChunk, root)
}

// change stores a new version of a chunk, most often as a delta.
func (g *growing) change(n, number int) {
	before := g.chunks[n]
	g.versions[n]++
	id, payload := g.content(uint64(n), uint64(g.versions[n]))
	f := frame{id: id, codec: 1, plain: scaleChunk, payload: payload}
	g.chunks[n] = id
	if number == 0 || g.depths[n] == scaleDepth || g.random.IntN(8) == 0 {
		g.depths[n] = 0
	} else {
		g.depths[n]++
		f.codec, f.base, f.depth = 2, before, g.depths[n]
		f.payload = difference(uint64(g.versions[n]) ^ uint64(g.versions[n]-1))
		g.deltas++
	}
	g.store(&g.data, &f)
}

// ownChunk stores a chunk that nothing resembles.
func (g *growing) ownChunk() cas.ID {
	g.own++
	id, payload := g.content(1<<63|uint64(g.own), 0)
	g.store(&g.data, &frame{id: id, codec: 1, plain: scaleChunk, payload: payload})
	return id
}

// content returns a chunk: two numbers, and then all the same. So it is known how
// zstd has it, without a compressor, which takes most of the time.
func (g *growing) content(a, b uint64) (cas.ID, []byte) {
	binary.LittleEndian.PutUint64(g.plain, a)
	binary.LittleEndian.PutUint64(g.plain[8:], b)
	return cas.Sum(g.plain), zstdFrame(g.plain[:16], 'x', scaleChunk-16)
}

// difference returns the payload of a delta in which the second number differs.
func difference(number uint64) []byte {
	start := make([]byte, 17)
	start[0] = 1 // of eight blocks of 512 bytes the first
	binary.LittleEndian.PutUint64(start[9:], number)
	return zstdFrame(start, 0, 512-16)
}

// zstdFrame is a frame of zstd of two blocks: bytes as they are, and one byte many
// times. Source: RFC 8878, 3.1.1.
func zstdFrame(start []byte, fill byte, count int) []byte {
	buf := []byte{0x28, 0xb5, 0x2f, 0xfd, 1<<6 | 1<<5}                                // one segment, its size in two bytes
	buf = binary.LittleEndian.AppendUint16(buf, uint16(len(start)+count-256))         // less 256
	buf = append(buf, byte(len(start)<<3), byte(len(start)>>5), byte(len(start)>>13)) // raw
	buf = append(buf, start...)
	return append(buf, byte(count<<3)|1<<1|1, byte(count>>5), byte(count>>13), fill) // the last, of one byte
}

// node stores a node of a recipe, once.
func (g *growing) node(level byte, ids []cas.ID) cas.ID {
	plain := node(level, ids...)
	id := cas.Sum(plain)
	if _, known := g.nodes[id]; known {
		return id
	}
	g.nodes[id] = struct{}{}
	g.store(&g.meta, &frame{id: id, plain: uint32(len(plain)), payload: plain})
	return id
}

func (g *growing) store(p *packer, f *frame) {
	if p.count == 0 {
		p.data, p.table = append(p.data[:0], g.packHeader(p.kind)...), p.table[:0]
	}
	p.table = append(p.table, f.entry(int64(len(p.data)))...)
	p.data = append(append(p.data, f.header()...), f.payload...)
	p.count++
	g.frames++
	if p.count == scalePack || len(p.data) > cas.PackTarget {
		g.flush(p)
	}
}

func (g *growing) flush(p *packer) {
	if p.count > 0 {
		g.packs = append(g.packs, g.packOf(p.kind, p.data, p.table, uint32(p.count)))
	}
	p.count = 0
}

// forget removes six of the fourteen backups.
func (g *growing) forget() {
	for n := 1; n < 12; n += 2 {
		g.write("forgotten/"+string(g.backups[n]), nil)
	}
}

// scale is how many frames TestScale has.
var scale = flag.Int("frames", 20_000, "how many frames TestScale has")

// TestScale: the commands that look at a whole repository find nothing wrong with a
// large one, also after a collection has repacked it; it tells how much memory and
// time they take. Of "make scale" with many frames docs/testing.md has the outcome.
func TestScale(t *testing.T) {
	begun := time.Now()
	g := newGrowing(t, *scale)
	g.forget()
	t.Logf("%d frames, of which %d are deltas, in %d packs: made in %v", g.frames, g.deltas, len(g.packs), time.Since(begun).Round(time.Millisecond))
	for _, args := range [][]string{
		{"reindex"},
		{"check"},
		{"repair", "--dry-run"},
		{"stats"},
		{"forget", "commerce/-80", "--keep-last", "1", "--dry-run"},
		{"prune", "--dry-run"},
		{"check", "--read-data"},
		{"prune"},
		{"check", "--read-data"},
	} {
		got := g.measure(args...)
		t.Logf("%-45s %6.1f MiB, %4d bytes a frame, %6d ms", strings.Join(args, " "), float64(got.peak)/(1<<20), got.peak/int64(g.frames), got.took.Milliseconds())
		if args[0] == "prune" && !strings.Contains(got.stdout, "repack") {
			t.Errorf("nothing is repacked: %s", got.stdout)
		}
	}
}

// TestMemoryPerFrame: for each frame the commands that look at a whole repository take
// no more than half as much memory again as docs/cli.md says. What they need is the
// same each time; garbage, of which there is more when the machine is slow, is not: so
// the least of some runs counts.
func TestMemoryPerFrame(t *testing.T) {
	small, big := newGrowing(t, 75_000), newGrowing(t, 500_000)
	for _, c := range []struct {
		args  []string
		bytes float64 // for each frame; what reindex sorts at once is full at 128 Ki of them
	}{
		{[]string{"check"}, 30}, {[]string{"repair", "--dry-run"}, 30}, {[]string{"prune", "--dry-run"}, 40}, {[]string{"reindex"}, 30},
	} {
		limit, got := 1.5*c.bytes, math.Inf(1)
		low, high := int64(0), int64(math.MaxInt64)
		for try := 0; try < memoryTries && got > limit; try++ {
			low, high = max(low, small.measure(c.args...).peak), min(high, big.measure(c.args...).peak)
			got = float64(high-low) / float64(big.frames-small.frames)
			t.Logf("%v: %.1f and %.1f MiB, %.1f bytes for each frame", c.args, float64(low)/(1<<20), float64(high)/(1<<20), got)
		}
		if got > limit {
			t.Errorf("%v takes %.1f bytes for each frame, want %.1f at most", c.args, got, limit)
		}
	}
}

// memoryTries is how often a command may take too much because of garbage.
const memoryTries = 5

// measure runs a command, which must succeed, as an operator does, on a machine of
// two processors.
func (g *growing) measure(args ...string) outcome {
	g.t.Helper()
	path, err := program()
	if err != nil {
		g.t.Fatal(err)
	}
	cmd := exec.Command(path, append(args, "--root", g.root)...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GOGC=") || strings.HasPrefix(v, "GOMEMLIMIT=") })
	cmd.Env = append(cmd.Env, "GOMAXPROCS=2", "SHARDSEED_CACHE_DIR="+filepath.Join(g.root, "..", "cache"))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	peak, late := (&host{t: g.t, patience: time.Hour}).watch(cmd, begun)
	got := outcome{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String(), peak: peak, took: time.Since(begun)}
	if got.code != 0 || late {
		g.t.Fatalf("%s: %+v", args, got)
	}
	return got
}
