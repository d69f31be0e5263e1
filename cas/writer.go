package cas

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// WriterOptions are the choices of a Writer. The zero value works: it knows no
// earlier chunks and compresses fast.
type WriterOptions struct {
	Known       Locator                         // chunks stored earlier; may be nil
	Learn       func(ctx context.Context) error // makes Known find what lies in the packs that are sealed, so that the Writer need not remember it; may be nil
	Compression Level
	Wait        func(ctx context.Context, n int) error // called before n bytes are written, from several goroutines at once; nil: no limit
}

// Writer stores chunks in packs. Safe for concurrent use: callers compress in
// their own goroutines and take turns only to append. A chunk is safely stored
// only when Flush has returned nil. The first error of any call is every later
// call's error. It remembers the chunks newly stored, about 60 bytes each: those
// that Known was not made to find by Learn, which is called whenever there are
// 64 Ki of them.
type Writer struct {
	session  *Session
	known    Locator                         // may be nil
	learn    func(ctx context.Context) error // may be nil
	bases    *Reader                         // of known; nil as known is
	encoders *encoders
	wait     func(ctx context.Context, n int) error // may be nil
	target   int64                                  // size at which a pack is sealed, bytes
	remember int                                    // chunks of its own from which on it calls learn
	data     lane
	meta     lane
	sealing  chan struct{} // holds one token per pack being sealed
	drainMu  sync.Mutex    // held while all tokens are taken, one by one
	learnMu  sync.Mutex    // held while learn is called
	started  atomic.Uint32 // packs

	mu     sync.Mutex    // guards what follows; never held during I/O
	err    error         // the first
	own    map[ID]uint32 // chunks that known need not find → number of the pack
	sealed []uint32      // numbers of packs that known need not find
	flying map[ID]*flight
	packs  []*Pack         // sealed, in the order they were finished
	relied map[ID]struct{} // packs of hits and of their bases
	unread []error         // why bases could not be read, the first few
}

// remembered is how many chunks a Writer remembers before it calls Learn.
const remembered = 64 << 10

// flight is a chunk on its way into a pack. err is set before done is closed.
type flight struct {
	done chan struct{}
	err  error
}

// Chunk is a chunk to be stored.
type Chunk struct {
	ID    ID // of Plain, by Sum; zero: nothing is stored
	Plain []byte
	Like  ID // a chunk known from earlier that it probably resembles; zero: none
}

// Put says what became of a chunk.
type Put struct {
	New    bool  // the chunk was not stored before
	Stored int64 // bytes added to a pack, frame header included
}

// NewWriter returns a writer of chunks for the session. The caller closes it.
func (s *Session) NewWriter(opts WriterOptions) *Writer {
	w := &Writer{
		session:  s,
		known:    opts.Known,
		learn:    opts.Learn,
		remember: remembered,
		encoders: newEncoders(opts.Compression, s.repo.decoders),
		wait:     opts.Wait,
		target:   PackTarget,
		data:     lane{kind: KindData},
		meta:     lane{kind: KindMeta},
		sealing:  make(chan struct{}, maxSealing),
		own:      map[ID]uint32{},
		flying:   map[ID]*flight{},
		relied:   map[ID]struct{}{},
	}
	if opts.Known != nil {
		w.bases = s.repo.NewReader(opts.Known)
		w.bases.pinned = true // a delta's depth is that of the very copy it was made from
	}
	return w
}

// Put stores a chunk unless it is stored already. id must be Sum(plain); with
// the zero ID nothing is stored. plain is not kept.
func (w *Writer) Put(ctx context.Context, kind Kind, id ID, plain []byte) (Put, error) {
	chunk := Chunk{ID: id, Plain: plain}
	if stored, err := w.isStored(chunk); err != nil || stored {
		return Put{}, err
	}
	return w.put(ctx, kind, chunk, nil, nil)
}

// PutAll is Put for several chunks. A chunk that is not stored yet becomes a
// delta of the chunk that it is said to resemble, if that is known, can be read,
// is as long, and makes it much smaller. The result has an element for each
// chunk.
func (w *Writer) PutAll(ctx context.Context, kind Kind, chunks []Chunk) ([]Put, error) {
	puts := make([]Put, len(chunks))
	var alone, alike []int // indexes of what is to be stored
	bases := make([]Chain, len(chunks))
	for i, chunk := range chunks {
		stored, err := w.isStored(chunk)
		if err != nil {
			return nil, err
		}
		if stored {
			continue
		}
		if bases[i], err = w.base(chunk); err != nil {
			return nil, err
		}
		if bases[i] == nil {
			alone = append(alone, i)
		} else {
			alike = append(alike, i)
		}
	}
	left, err := w.putAlike(ctx, kind, chunks, bases, alike, puts)
	if err != nil {
		return nil, err
	}
	for _, i := range append(alone, left...) {
		if puts[i], err = w.put(ctx, kind, chunks[i], nil, nil); err != nil {
			return nil, err
		}
	}
	return puts, nil
}

// putAlike stores the chunks with these indexes, each with its base, and
// returns the indexes of those whose bases could not be read.
func (w *Writer) putAlike(ctx context.Context, kind Kind, chunks []Chunk, bases []Chain, alike []int, puts []Put) ([]int, error) {
	if len(alike) == 0 {
		return nil, nil
	}
	done := make([]bool, len(alike))
	err := w.bases.chains(ctx, len(alike), func(n int, plain []byte) (err error) {
		i := alike[n]
		done[n] = true
		puts[i], err = w.put(ctx, kind, chunks[i], bases[i], plain)
		return err
	}, func(n int) (Chain, error) { return bases[alike[n]], nil })
	if err == nil {
		return nil, nil
	}
	if failed := cmp.Or(ctx.Err(), w.failed()); failed != nil {
		return nil, failed
	}
	w.noteUnread(err)
	var left []int
	for n, i := range alike {
		if !done[n] {
			left = append(left, i)
		}
	}
	return left, nil
}

// maxUnread bounds the errors about bases that a Writer remembers.
const maxUnread = 10

func (w *Writer) noteUnread(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.unread) < maxUnread {
		w.unread = append(w.unread, err)
	}
}

// Problems returns why chunks were stored in full although chunks that they
// resemble are stored: those could not be read. At most ten.
func (w *Writer) Problems() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.unread)
}

// isStored checks a chunk and tells whether it needs no storing: it was stored
// earlier, or is all zeros.
func (w *Writer) isStored(c Chunk) (bool, error) {
	if c.ID.IsZero() {
		return true, nil
	}
	if len(c.Plain) == 0 || len(c.Plain) > MaxPlainSize {
		return false, w.fail(fmt.Errorf("store chunk %s: %d bytes, want 1 to %d", c.ID.Short(), len(c.Plain), MaxPlainSize))
	}
	if err := w.failed(); err != nil {
		return false, err
	}
	chain, err := w.lookup(c.ID, len(c.Plain))
	if err != nil || chain == nil {
		return false, w.fail(err)
	}
	w.rely(chain)
	return true, nil
}

// base returns the chain of the chunk that c may become a delta of; nil if
// there is none. In place of a chunk that is too deep it takes the one at the
// end of that chunk's chain.
func (w *Writer) base(c Chunk) (Chain, error) {
	if c.Like.IsZero() || c.Like == c.ID {
		return nil, nil
	}
	chain, err := w.lookup(c.Like, len(c.Plain))
	if err != nil || chain == nil {
		return nil, w.fail(err)
	}
	if chain[0].Depth >= ChainDepth {
		chain = chain.root()
	}
	if chain[0].ID == c.ID {
		return nil, nil
	}
	return chain, nil
}

// put stores a chunk that is not known from earlier; base and its plain bytes
// are nil if it has none.
func (w *Writer) put(ctx context.Context, kind Kind, c Chunk, base Chain, basePlain []byte) (Put, error) {
	flight, err := w.claim(ctx, c.ID)
	if err != nil || flight == nil {
		return Put{}, err
	}
	f := Frame{ID: c.ID}
	if base != nil {
		f.Base, f.Depth = base[0].ID, base[0].Depth+1
	}
	pack, err := w.store(ctx, kind, &f, c.Plain, basePlain)
	if err != nil {
		err = fmt.Errorf("store chunk %s: %w", f.ID.Short(), err)
	}
	if f.Codec == CodecDelta {
		w.rely(base)
	}
	if err := w.land(f, pack, flight, err); err != nil {
		return Put{}, err
	}
	return Put{New: true, Stored: f.Size()}, nil
}

// copyFrame stores a frame as it is in another pack, unless this writer has
// stored the chunk. The caller has verified what it decodes to.
func (w *Writer) copyFrame(ctx context.Context, kind Kind, f Frame, payload []byte) error {
	flight, err := w.claim(ctx, f.ID)
	if err != nil || flight == nil {
		return err
	}
	number, full, err := w.append(ctx, kind, &f, payload)
	if err == nil && full != nil {
		err = w.seal(ctx, full)
	}
	if err != nil {
		err = fmt.Errorf("copy chunk %s: %w", f.ID.Short(), err)
	}
	return w.land(f, number, flight, err)
}

// lookup finds a chunk among those stored earlier: a copy whose packs, and those
// of its bases, may be relied on. It returns nil if there is none.
func (w *Writer) lookup(id ID, plainSize int) (Chain, error) {
	if w.known == nil {
		return nil, nil
	}
	chain, err := w.known.Lookup(id, AnyDepth)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up chunk %s: %w", id.Short(), err)
	}
	if !w.usable(chain, id, plainSize) {
		return nil, nil
	}
	return chain, nil
}

// usable tells whether what was found is what was asked for, in packs that may
// be relied on.
func (w *Writer) usable(chain Chain, id ID, plainSize int) bool {
	if err := chain.check(id, AnyDepth, plainSize); err != nil {
		return false
	}
	for _, loc := range chain {
		if w.session.dead(loc.Pack) {
			return false
		}
	}
	return true
}

// Rely notes that the backup needs these packs, which the caller has found to be
// there: it refers to chunks in them that it does not put. It returns false, and
// notes nothing, if one of them may not be relied on.
func (w *Writer) Rely(packs []ID) bool {
	for _, id := range packs {
		if w.session.dead(id) {
			return false
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range packs {
		w.relied[id] = struct{}{}
	}
	return true
}

// rely notes that the backup needs the packs of the chain.
func (w *Writer) rely(chain Chain) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, loc := range chain {
		w.relied[loc.Pack] = struct{}{}
	}
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

// land ends the flight of a chunk that is in the pack of that number, and returns
// its outcome.
func (w *Writer) land(f Frame, pack uint32, flight *flight, err error) error {
	err = w.fail(err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.own[f.ID] = pack
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

// store compresses the chunk and appends it to the open pack of its kind, whose
// number it returns.
func (w *Writer) store(ctx context.Context, kind Kind, f *Frame, plain, base []byte) (pack uint32, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	e := w.encoders.acquire()
	defer w.encoders.release(e)
	payload, err := e.encode(f, plain, base)
	if err != nil {
		return 0, err
	}
	if w.wait != nil {
		if err := w.wait(ctx, int(f.Size())); err != nil {
			return 0, err
		}
	}
	pack, full, err := w.append(ctx, kind, f, payload)
	if err != nil || full == nil {
		return pack, err
	}
	return pack, w.seal(ctx, full)
}

// Packs returns the packs sealed so far; of a Writer that can Learn without their
// frames. The caller owns the slice, not the packs.
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
