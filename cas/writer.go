package cas

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// WriterOptions are the choices of a Writer. The zero value works: it knows no
// earlier chunks and compresses fast.
type WriterOptions struct {
	Known       Locator // chunks stored earlier; may be nil
	Compression Level
}

// Writer stores chunks in packs. Safe for concurrent use: callers compress in
// their own goroutines and take turns only to append. A chunk is safely stored
// only when Flush has returned nil. The first error of any call is every later
// call's error. Memory grows by about 150 bytes per chunk newly stored.
type Writer struct {
	session  *Session
	known    Locator
	encoders *encoders
	target   int64 // size at which a pack is sealed, bytes
	data     lane
	meta     lane
	sealing  chan struct{} // holds one token per pack being sealed
	drainMu  sync.Mutex    // held while all tokens are taken, one by one

	mu     sync.Mutex // guards what follows; never held during I/O
	err    error      // the first
	own    map[ID]uint8
	flying map[ID]*flight
	packs  []*Pack         // sealed, in the order they were finished
	relied map[ID]struct{} // packs of hits and of their bases
}

// flight is a chunk on its way into a pack. err is set before done is closed.
type flight struct {
	done chan struct{}
	err  error
}

// Put says what a call of Writer.Put did.
type Put struct {
	New    bool  // the chunk was not stored before
	Stored int64 // bytes added to a pack, frame header included
}

// NewWriter returns a writer of chunks for the session. The caller closes it.
func (s *Session) NewWriter(opts WriterOptions) *Writer {
	return &Writer{
		session:  s,
		known:    opts.Known,
		encoders: newEncoders(opts.Compression, s.repo.decoders),
		target:   PackTarget,
		data:     lane{kind: KindData},
		meta:     lane{kind: KindMeta},
		sealing:  make(chan struct{}, maxSealing),
		own:      map[ID]uint8{},
		flying:   map[ID]*flight{},
		relied:   map[ID]struct{}{},
	}
}

// Put stores a chunk unless it is stored already. id must be Sum(plain); with
// the zero ID nothing is stored. plain is not kept.
func (w *Writer) Put(ctx context.Context, kind Kind, id ID, plain []byte) (Put, error) {
	return w.put(ctx, kind, Frame{ID: id}, plain, nil)
}

// PutDelta is Put with a hint: base is a chunk of the same length that plain
// probably resembles. The chunk is stored as its delta if a copy of the base at
// depth less than MaxDepth is at hand, else as Put does.
func (w *Writer) PutDelta(ctx context.Context, kind Kind, id ID, plain []byte, base ID, basePlain []byte) (Put, error) {
	f := Frame{ID: id}
	if len(basePlain) != len(plain) || base == id || base.IsZero() {
		return w.put(ctx, kind, f, plain, nil)
	}
	if got := Sum(basePlain); got != base {
		return Put{}, w.fail(fmt.Errorf("store chunk %s: base %s hashes to %s", id.Short(), base.Short(), got.Short()))
	}
	depth, found, err := w.baseDepth(base, len(plain))
	if err != nil {
		return Put{}, w.fail(fmt.Errorf("store chunk %s: %w", id.Short(), err))
	}
	if found {
		f.Base, f.Depth = base, depth+1
	}
	return w.put(ctx, kind, f, plain, basePlain)
}

func (w *Writer) put(ctx context.Context, kind Kind, f Frame, plain, base []byte) (Put, error) {
	if f.ID.IsZero() {
		return Put{}, nil
	}
	if len(plain) == 0 || len(plain) > MaxPlainSize {
		return Put{}, w.fail(fmt.Errorf("store chunk %s: %d bytes, want 1 to %d", f.ID.Short(), len(plain), MaxPlainSize))
	}
	if err := w.failed(); err != nil {
		return Put{}, err
	}
	if _, found, err := w.lookup(f.ID, AnyDepth, len(plain)); err != nil || found {
		return Put{}, w.fail(err)
	}
	flight, err := w.claim(ctx, f.ID)
	if err != nil || flight == nil {
		return Put{}, err
	}
	err = w.store(ctx, kind, &f, plain, base)
	if err != nil {
		err = fmt.Errorf("store chunk %s: %w", f.ID.Short(), err)
	}
	if err := w.land(f, flight, err); err != nil {
		return Put{}, err
	}
	return Put{New: true, Stored: f.size()}, nil
}

// lookup finds a chunk among those stored earlier: a copy of depth less than
// below whose packs, and those of its bases, may be relied on. It notes that
// they are.
func (w *Writer) lookup(id ID, below uint8, plainSize int) (Location, bool, error) {
	if w.known == nil {
		return Location{}, false, nil
	}
	var packs []ID
	var first Location
	for next, limit := id, below; ; {
		loc, err := w.known.Lookup(next, limit)
		if errors.Is(err, ErrNotFound) {
			return Location{}, false, nil
		}
		if err != nil {
			return Location{}, false, fmt.Errorf("look up chunk %s: %w", next.Short(), err)
		}
		if loc.Depth >= limit || int(loc.PlainSize) != plainSize || w.session.dead(loc.Pack) {
			return Location{}, false, nil
		}
		if packs == nil {
			first = loc
		}
		packs = append(packs, loc.Pack)
		if loc.Codec != CodecDelta {
			break
		}
		next, limit = loc.Base, loc.Depth
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, pack := range packs {
		w.relied[pack] = struct{}{}
	}
	return first, true, nil
}

// baseDepth returns the depth of a copy of the chunk that a delta can be made
// from.
func (w *Writer) baseDepth(base ID, plainSize int) (uint8, bool, error) {
	w.mu.Lock()
	depth, found := w.own[base]
	w.mu.Unlock()
	if found && depth < MaxDepth {
		return depth, true, nil
	}
	loc, found, err := w.lookup(base, MaxDepth, plainSize)
	return loc.Depth, found, err
}

// claim returns a flight if the caller is to store the chunk, nil if it is
// stored. If another call is storing it, claim waits for that call's outcome.
func (w *Writer) claim(ctx context.Context, id ID) (*flight, error) {
	w.mu.Lock()
	if w.err != nil {
		defer w.mu.Unlock()
		return nil, w.err
	}
	if _, stored := w.own[id]; stored {
		w.mu.Unlock()
		return nil, nil
	}
	other, found := w.flying[id]
	if !found {
		mine := &flight{done: make(chan struct{})}
		w.flying[id] = mine
		w.mu.Unlock()
		return mine, nil
	}
	w.mu.Unlock()
	select {
	case <-other.done:
		return nil, other.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// land ends a flight and returns its outcome.
func (w *Writer) land(f Frame, flight *flight, err error) error {
	err = w.fail(err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.own[f.ID] = f.Depth
	}
	delete(w.flying, f.ID)
	flight.err = err
	close(flight.done)
	return err
}

// fail makes err the error of all later calls if it is the first, and returns
// the first. A nil err changes nothing and returns nil.
func (w *Writer) fail(err error) error {
	if err == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	return w.err
}

// failed returns the first error.
func (w *Writer) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// store compresses the chunk and appends it to the open pack of its kind.
func (w *Writer) store(ctx context.Context, kind Kind, f *Frame, plain, base []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e := w.encoders.acquire()
	defer w.encoders.release(e)
	payload, err := e.encode(f, plain, base)
	if err != nil {
		return err
	}
	full, err := w.append(ctx, kind, f, payload)
	if err != nil || full == nil {
		return err
	}
	return w.seal(ctx, full)
}

// Packs returns the packs sealed so far. The caller owns the slice, not the
// packs.
func (w *Writer) Packs() []*Pack {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.packs)
}

// Relied returns the packs that the chunks put so far rely on, sorted: those of
// hits and of their bases, and the writer's own that are sealed.
func (w *Writer) Relied() []ID {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := slices.Collect(maps.Keys(w.relied))
	for _, pack := range w.packs {
		if _, listed := w.relied[pack.ID]; !listed {
			ids = append(ids, pack.ID)
		}
	}
	slices.SortFunc(ids, ID.Compare)
	return ids
}
