package check

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/shardseed/shardseed/cas"
)

// locator finds chunks in a catalog. What it lacks of a frame it reads from the
// pack's directory, of which it keeps some.
type locator struct {
	ctx     context.Context // of the run: cas.Locator has none
	repo    *cas.Repository
	catalog *catalog
	flag    state // present or readable: which copies count

	mu    sync.Mutex // guards all below; held while a directory is read
	dirs  map[cas.ID]*directory
	kept  int // frames in dirs
	clock int
}

// directory is one that is kept.
type directory struct {
	pack *cas.Pack
	used int // when it was used last
}

var _ cas.Chooser = (*locator)(nil)

// keptFrames bounds the directories that a locator keeps: 104 bytes for each.
const keptFrames = 256 << 10

// Lookup implements cas.Locator.
func (l *locator) Lookup(id cas.ID, below uint8) (cas.Chain, error) {
	return l.LookupWithout(id, below, func(cas.Location) bool { return false })
}

// LookupWithout implements cas.Chooser. Copies that count as present come first.
func (l *locator) LookupWithout(id cas.ID, below uint8, skip func(cas.Location) bool) (cas.Chain, error) {
	if chain := l.chain(id, below, skip, frameSet{}); chain != nil {
		return chain, nil
	}
	return nil, fmt.Errorf("chunk %s: %w", id.Short(), cas.ErrNotFound)
}

// chain returns nil if there is none. A frame in vain led to none.
func (l *locator) chain(id cas.ID, below uint8, skip func(cas.Location) bool, vain frameSet) cas.Chain {
	copies := slices.Clone(l.catalog.copies(newKey(id, 0)))
	slices.SortStableFunc(copies, func(a, b key) int {
		x, y := l.catalog.state(a.frame), l.catalog.state(b.frame)
		if x&present != y&present {
			return int(y&present) - int(x&present)
		}
		return int(x.depth()) - int(y.depth())
	})
	for _, copy := range copies {
		s := l.catalog.state(copy.frame)
		if s.depth() >= below || s&l.flag == 0 || !vain.add(copy.frame) {
			continue
		}
		loc, err := l.location(copy.frame)
		if err != nil || loc.ID != id || skip(loc) {
			continue
		}
		if loc.Codec != cas.CodecDelta {
			return cas.Chain{loc}
		}
		if base := l.chain(loc.Base, loc.Depth, skip, vain); base != nil {
			return append(cas.Chain{loc}, base...)
		}
	}
	return nil
}

// location returns a frame with all that its directory says.
func (l *locator) location(frame uint32) (cas.Location, error) {
	p := l.catalog.packOf(frame)
	pack, err := l.directory(p)
	if err != nil {
		return cas.Location{}, err
	}
	n := int(frame - p.first)
	if n >= len(pack.Frames) {
		return cas.Location{}, fmt.Errorf("pack %s has changed", p.id.Short())
	}
	return cas.Location{Pack: p.id, Frame: pack.Frames[n]}, nil
}

func (l *locator) directory(p *packState) (*cas.Pack, error) {
	if p.scanned != nil {
		return p.scanned, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	if d := l.dirs[p.id]; d != nil {
		d.used = l.clock
		return d.pack, nil
	}
	pack, err := l.repo.Pack(l.ctx, p.id)
	if err != nil {
		return nil, err
	}
	if l.dirs == nil {
		l.dirs = map[cas.ID]*directory{}
	}
	l.dirs[p.id] = &directory{pack, l.clock}
	l.kept += len(pack.Frames)
	for l.kept > keptFrames && len(l.dirs) > 1 {
		l.drop()
	}
	return pack, nil
}

// drop forgets the directory that has not been used for longest.
func (l *locator) drop() {
	var oldest cas.ID
	for id, d := range l.dirs {
		if first := l.dirs[oldest]; first == nil || d.used < first.used {
			oldest = id
		}
	}
	l.kept -= len(l.dirs[oldest].pack.Frames)
	delete(l.dirs, oldest)
}
