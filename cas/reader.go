package cas

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
)

// Bounds of one read of neighboring frames, in bytes.
const (
	maxRun = 4 << 20  // longer only for a single frame
	maxGap = 64 << 10 // bytes between two frames that are read and dropped
)

// Reader gives chunks back. Whatever it returns has been hashed against its ID.
// If the locator is a Chooser, a chunk of which one copy is damaged is read from
// another.
// Its memory is bounded by the windows that are decoded at a time, one more
// than GOMAXPROCS. Safe for concurrent use.
type Reader struct {
	repo    *Repository
	locator Locator
	packs   *packFiles
	slots   chan struct{}                          // holds one token per window that is being decoded
	wait    func(ctx context.Context, n int) error // may be nil
	pinned  bool                                   // no other copies than those first found are taken

	spareMu sync.Mutex // guards spare
	spare   []*buffers // those not in use; the last that was used is the first to be used again: there are no more than are needed

	badMu sync.RWMutex       // guards bad; never held during I/O
	bad   map[place]struct{} // frames that were found to be damaged or could not be read
}

// NewReader returns a reader of the chunks that the locator finds. The caller
// closes it.
func (r *Repository) NewReader(locator Locator) *Reader {
	return &Reader{
		repo:    r,
		locator: locator,
		packs:   &packFiles{backend: r.backend, files: map[ID]*packFile{}},
		slots:   make(chan struct{}, runtime.GOMAXPROCS(0)+1),
	}
}

// Limit makes the Reader call wait before it reads n bytes of a pack, from
// several goroutines at once. It comes before all use.
func (r *Reader) Limit(wait func(ctx context.Context, n int) error) { r.wait = wait }

// Close closes the packs that are open. No other call may be running.
func (r *Reader) Close() error { return r.packs.close() }

// Chunk returns the plain bytes of a chunk that has plainSize of them. The
// caller owns them. The zero ID gives zeros. It returns ErrNotFound if the
// chunk or one of its bases is not stored, and a *CorruptError.
func (r *Reader) Chunk(ctx context.Context, id ID, plainSize int) ([]byte, error) {
	if id.IsZero() {
		return make([]byte, plainSize), nil
	}
	var chunk []byte
	size := func(int) int { return plainSize }
	err := r.Chunks(ctx, []ID{id}, size, func(_ int, plain []byte) error {
		chunk = slices.Clone(plain)
		return nil
	})
	return chunk, err
}

// locate looks up a copy and refuses one that cannot be right.
func (r *Reader) locate(id ID, plainSize int) (Chain, error) {
	chain, err := r.lookup(id, AnyDepth)
	if err != nil {
		return nil, fmt.Errorf("look up chunk %s: %w", id.Short(), err)
	}
	return chain, chain.check(id, AnyDepth, plainSize)
}

// Chunks calls fn with the plain bytes of each chunk, in order but for chunks
// that are in the list more than once; frames close to each other are read at
// once, those of bases too. sizes gives the plain size of chunk i. Zero IDs are
// skipped. fn is called from this goroutine and may use plain only until it
// returns; it must neither change it nor use the Reader. Errors are those of
// Chunk, each in a *ChunkError, and fn's own; the first ends the call.
func (r *Reader) Chunks(ctx context.Context, ids []ID, sizes func(i int) int, fn func(i int, plain []byte) error) error {
	return r.chains(ctx, len(ids), fn, func(i int) (Chain, error) {
		if ids[i].IsZero() {
			return nil, nil
		}
		found, err := r.locate(ids[i], sizes(i))
		if err != nil {
			err = &ChunkError{Index: i, ID: ids[i], Err: err}
		}
		return found, err
	})
}

// chains is Chunks for chains that chain finds, one call for each in order;
// those that are nil are skipped. While a window is decoded, the store fetches
// the next one.
func (r *Reader) chains(ctx context.Context, count int, fn func(int, []byte) error, chain func(i int) (Chain, error)) error {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	b := r.takeBuffers()
	defer func() {
		r.giveBuffers(b)
		<-r.slots
	}()
	planned, filling := &window{}, &window{}
	for i := range count {
		found, err := chain(i)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			filling.add(i, found)
		}
		if !filling.full() && i+1 < count {
			continue
		}
		filling.plan()
		if err := r.expect(ctx, filling); err != nil {
			return err
		}
		if err := r.deliver(ctx, planned, b, fn); err != nil {
			return err
		}
		planned, filling = filling, planned
	}
	return r.deliver(ctx, planned, b, fn)
}

func (r *Reader) takeBuffers() *buffers {
	r.spareMu.Lock()
	defer r.spareMu.Unlock()
	if len(r.spare) == 0 {
		return &buffers{}
	}
	last := len(r.spare) - 1
	b := r.spare[last]
	r.spare = r.spare[:last]
	return b
}

func (r *Reader) giveBuffers(b *buffers) {
	r.spareMu.Lock()
	defer r.spareMu.Unlock()
	r.spare = append(r.spare, b)
}

// expect lets the store fetch what the window reads. What cannot be had is found
// out when it is read.
func (r *Reader) expect(ctx context.Context, w *window) error {
	for _, run := range w.runs {
		first := run.pieces[0]
		file, err := r.packs.acquire(ctx, first.loc.Pack)
		if err != nil {
			continue
		}
		file.blob.Expect(first.loc.Offset, run.size)
		if err := r.packs.release(file); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Reloader is a Locator that can look for chunks elsewhere when a pack cannot be
// found: garbage collection may have stored again what is needed of it, and
// deleted it, since the Locator was made.
type Reloader interface {
	Locator
	// Reload makes later Lookups pass over the pack, and know all others.
	Reload(ctx context.Context, gone ID) error
}

// goneError: a pack cannot be found.
type goneError struct {
	pack ID
	err  error
}

func (e *goneError) Error() string { return e.err.Error() }
func (e *goneError) Unwrap() error { return e.err }

// gone returns the pack because of which an error came, if the locator may know
// where its chunks are now.
func (r *Reader) gone(err error) ID {
	var gone *goneError
	if _, ok := r.locator.(Reloader); ok && errors.As(err, &gone) {
		return gone.pack
	}
	return ID{}
}

// reload looks up the chunks of a window anew.
func (r *Reader) reload(ctx context.Context, w *window, gone ID) error {
	locator, ok := r.locator.(Reloader)
	if !ok {
		panic("cas: internal error: reload of a locator that cannot")
	}
	if err := locator.Reload(ctx, gone); err != nil {
		return fmt.Errorf("look for what pack %s held: %w", gone.Short(), err)
	}
	for i := range w.slots {
		s := &w.slots[i]
		chain, err := r.locate(s.chain[0].ID, int(s.chain[0].PlainSize))
		if err != nil {
			return err
		}
		s.chain = chain
	}
	w.plan()
	return nil
}

// deliver reads, decodes and verifies the chunks of a window that was planned,
// and empties it.
func (r *Reader) deliver(ctx context.Context, w *window, b *buffers, fn func(int, []byte) error) error {
	together := r.combine(ctx, w, b)
	for tried := map[ID]bool{}; together != nil; {
		pack := r.gone(together)
		if pack.IsZero() || tried[pack] {
			break
		}
		tried[pack] = true
		if err := r.reload(ctx, w, pack); err != nil {
			return err
		}
		together = r.combine(ctx, w, b)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for i := range w.slots {
		s := &w.slots[i]
		if !s.good {
			if err := r.decodeAlone(ctx, s); err != nil {
				return &ChunkError{Index: s.indexes[0], ID: s.chain[0].ID, Err: err}
			}
		}
		for _, index := range s.indexes {
			if err := fn(index, s.plain); err != nil {
				return err
			}
		}
	}
	w.clear()
	return nil
}

// combine reads and decodes the frames of a window that was planned. What comes
// out has not been verified.
func (r *Reader) combine(ctx context.Context, w *window, b *buffers) (err error) {
	w.share(b)
	for _, run := range w.runs {
		if err := ctx.Err(); err != nil {
			return err
		}
		first := run.pieces[0]
		if b.stored, err = r.read(ctx, b.stored, *first.loc, run.size); err != nil {
			return err
		}
		if err := b.combine(r.repo.decoders, run.pieces); err != nil {
			return err
		}
	}
	return nil
}

// read returns size bytes of the pack from the frame on, in buf if it is large
// enough.
func (r *Reader) read(ctx context.Context, buf []byte, loc Location, size int64) (_ []byte, err error) {
	file, err := r.packs.acquire(ctx, loc.Pack)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.packs.release(file)) }()
	if loc.Offset < 0 || loc.Offset > file.blob.Size() || size > file.blob.Size()-loc.Offset {
		return nil, corrupt(loc, ID{}, fmt.Sprintf("pack ends at byte %d", file.blob.Size()))
	}
	if r.wait != nil {
		if err := r.wait(ctx, int(size)); err != nil {
			return nil, err
		}
	}
	buf = sized(buf, int(size))
	err = readPart(file.blob, loc.Pack, buf, loc.Offset)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		err = fmt.Errorf("read pack %s: %w", loc.Pack.Short(), err)
	}
	if errors.Is(err, ErrNotFound) { // it was open, and another host has removed it
		err = &goneError{loc.Pack, err}
	}
	return buf, err
}

// unpack checks the frame at the start of stored and returns its content, in dst
// if that is large enough, or in stored.
func unpack(d *decoders, dst []byte, loc Location, stored []byte) ([]byte, error) {
	f, err := parseFrameHeader(stored)
	if err != nil {
		return nil, corrupt(loc, ID{}, err.Error())
	}
	f.Offset = loc.Offset
	if f != loc.Frame {
		return nil, corrupt(loc, ID{}, fmt.Sprintf("frame is of chunk %s, %s, %d bytes for %d; expected %s, %d bytes for %d",
			f.ID.Short(), f.Codec, f.StoredSize, f.PlainSize, loc.Codec, loc.StoredSize, loc.PlainSize))
	}
	content, err := d.content(dst, f, stored[frameHeaderSize:f.Size()])
	if err != nil {
		return nil, corrupt(loc, ID{}, err.Error())
	}
	return content, nil
}

func corrupt(loc Location, got ID, reason string) error {
	return &CorruptError{Pack: loc.Pack, Offset: loc.Offset, Want: loc.ID, Got: got, Reason: reason}
}

// nextRun returns how many of the sorted pieces are read at once, and the
// length of that read in bytes.
func nextRun(pieces []piece) (int, int64) {
	first := pieces[0].loc
	end := first.end()
	for n, p := range pieces[1:] {
		near := p.loc.Pack == first.Pack && p.loc.Offset <= end+maxGap
		if !near || p.loc.end() > max(end, first.Offset+maxRun) {
			return n + 1, end - first.Offset
		}
		end = max(end, p.loc.end())
	}
	return len(pieces), end - first.Offset
}

// comparePieces sorts by place.
func comparePieces(a, b piece) int {
	return cmp.Or(a.loc.Pack.Compare(b.loc.Pack), cmp.Compare(a.loc.Offset, b.loc.Offset))
}
