package cas

import "context"

// place is where a frame begins.
type place struct {
	pack   ID
	offset int64
}

// lookup finds a copy, without the frames that were found to be bad if there is
// another way.
func (r *Reader) lookup(id ID, below uint8) (Chain, error) {
	if chooser, ok := r.locator.(Chooser); ok && r.knowsBad() {
		if chain, err := chooser.LookupWithout(id, below, r.isBad); err == nil {
			return chain, nil
		}
	}
	return r.locator.Lookup(id, below)
}

// decodeAlone reads, decodes and verifies one chunk by itself. Where a frame is
// damaged or cannot be read, it tries the chunk's other copies and those of its
// bases. If there is no way left, the error is that of the first.
func (r *Reader) decodeAlone(ctx context.Context, s *slot) error {
	id, size := s.chain[0].ID, int(s.chain[0].PlainSize)
	chain := s.chain
	var first error
	for {
		bad, err := r.unfold(ctx, chain, s.plain)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
		chooser, ok := r.locator.(Chooser)
		if !ok || r.pinned || ctx.Err() != nil {
			return first
		}
		r.noteBad(*bad)
		if chain, err = chooser.LookupWithout(id, AnyDepth, r.isBad); err != nil || chain.check(id, AnyDepth, size) != nil {
			return first
		}
	}
}

// unfold decodes a chain from its root on into plain and verifies each step. With
// an error it returns the frame that is to blame.
func (r *Reader) unfold(ctx context.Context, chain Chain, plain []byte) (*Location, error) {
	s := slot{plain: plain}
	for i := len(chain) - 1; i >= 0; i-- {
		loc := &chain[i]
		if err := r.step(ctx, &s, loc); err != nil {
			return loc, chain.with(loc, err)
		}
	}
	return nil, nil
}

// step adds a frame to what stands in the slot, and verifies the outcome.
func (r *Reader) step(ctx context.Context, s *slot, loc *Location) error {
	stored, err := r.read(ctx, nil, *loc, loc.Size())
	if err != nil {
		return err
	}
	content, err := unpack(r.repo.decoders, nil, *loc, stored)
	if err == nil {
		err = s.combine(loc, content)
	}
	if err != nil {
		return err
	}
	if got := Sum(s.plain); got != loc.ID {
		return corrupt(*loc, got, "")
	}
	return nil
}

func (r *Reader) noteBad(loc Location) {
	r.badMu.Lock()
	defer r.badMu.Unlock()
	if r.bad == nil {
		r.bad = map[place]struct{}{}
	}
	r.bad[place{loc.Pack, loc.Offset}] = struct{}{}
}

func (r *Reader) isBad(loc Location) bool {
	r.badMu.RLock()
	defer r.badMu.RUnlock()
	_, bad := r.bad[place{loc.Pack, loc.Offset}]
	return bad
}

func (r *Reader) knowsBad() bool {
	r.badMu.RLock()
	defer r.badMu.RUnlock()
	return len(r.bad) > 0
}
