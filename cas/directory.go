package cas

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// cachedFrames bounds the directories that are kept, in frames: 27 MB. Those of the
// longest chain fit, if each of its frames is in another pack.
const cachedFrames = MaxDepth * packFrames

// directories finds chunks by a census, which knows their packs, and the packs'
// directories, of which it keeps those used last. Safe for concurrent use.
type directories struct {
	ctx    context.Context // a Locator is not given one
	repo   *Repository
	census *census

	mu     sync.Mutex // guards what follows, and is held while a directory is read
	packs  map[uint32]*directory
	frames int
	clock  uint64
}

var _ Locator = (*directories)(nil)

// directory is the directory of one pack.
type directory struct {
	frames []Frame // by ID, then by depth
	used   uint64
}

func newDirectories(ctx context.Context, repo *Repository, c *census) *directories {
	return &directories{ctx: ctx, repo: repo, census: c, packs: map[uint32]*directory{}}
}

// Lookup implements Locator: of the lowest tier that has one, the copy that is
// kept, if it is less deep.
func (d *directories) Lookup(id ID, below uint8) (Chain, error) {
	copies := d.census.find(short(id))
	for t := range tier(tiers) {
		if copies != nil && copies[0].best[t] > 0 && copies[0].best[t] <= below {
			return d.chain(id, t)
		}
	}
	return nil, fmt.Errorf("chunk %s: %w", id.Short(), ErrNotFound)
}

// chain follows the best copies of a tier.
func (d *directories) chain(id ID, t tier) (Chain, error) {
	var chain Chain
	for {
		copies := d.census.find(short(id))
		if copies == nil || copies[0].best[t] == 0 {
			return nil, fmt.Errorf("chunk %s: %w", id.Short(), ErrNotFound)
		}
		e := d.census.pick(copies, t)
		f, err := d.frame(e, id)
		if err != nil {
			return nil, err
		}
		chain = append(chain, Location{Pack: d.census.packs[e.pack].id, Frame: f})
		if f.Codec != CodecDelta {
			return chain, nil
		}
		id = f.Base
	}
}

// frame returns the frame of an entry.
func (d *directories) frame(e *entry, id ID) (Frame, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, err := d.directory(e.pack)
	if err != nil {
		return Frame{}, err
	}
	at, found := slices.BinarySearchFunc(dir.frames, id, func(f Frame, id ID) int { return f.ID.Compare(id) })
	for ; found && at < len(dir.frames) && dir.frames[at].ID == id; at++ {
		if f := dir.frames[at]; f.Depth == e.depth && f.Size() == int64(e.size) && short(f.Base) == d.census.baseOf(e) {
			return f, nil
		}
	}
	return Frame{}, fmt.Errorf("chunk %s in pack %s: %w", id.Short(), d.census.packs[e.pack].id.Short(), ErrNotFound)
}

// directory returns the directory of a pack. The caller holds mu.
func (d *directories) directory(pack uint32) (*directory, error) {
	d.clock++
	if dir := d.packs[pack]; dir != nil {
		dir.used = d.clock
		return dir, nil
	}
	read, err := d.repo.Pack(d.ctx, d.census.packs[pack].id)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(read.Frames, func(a, b Frame) int { return a.ID.Compare(b.ID) })
	for len(d.packs) > 0 && d.frames+len(read.Frames) > cachedFrames {
		d.dropOldest()
	}
	dir := &directory{frames: read.Frames, used: d.clock}
	d.packs[pack] = dir
	d.frames += len(dir.frames)
	return dir, nil
}

func (d *directories) dropOldest() {
	oldest, found := uint32(0), false
	for pack, dir := range d.packs {
		if !found || dir.used < d.packs[oldest].used {
			oldest, found = pack, true
		}
	}
	d.frames -= len(d.packs[oldest].frames)
	delete(d.packs, oldest)
}
