package cas

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
)

// Bounds of one read of neighboring frames, in bytes.
const (
	maxRun = 4 << 20  // longer only for a single frame
	maxGap = 64 << 10 // bytes between two frames that are read and dropped
)

// Reader gives chunks back. Whatever it returns has been hashed against its ID.
// Safe for concurrent use.
type Reader struct {
	repo    *Repository
	locator Locator
	packs   *packFiles
}

// NewReader returns a reader of the chunks that the locator finds. The caller
// closes it.
func (r *Repository) NewReader(locator Locator) *Reader {
	return &Reader{
		repo:    r,
		locator: locator,
		packs:   &packFiles{backend: r.backend, files: map[ID]*packFile{}},
	}
}

// Close closes the packs that are open. No other call may be running.
func (r *Reader) Close() error { return r.packs.close() }

// Chunk returns the plain bytes of a chunk that has plainSize of them. The
// caller owns them. The zero ID gives zeros. It returns ErrNotFound if the
// chunk or one of its bases is not stored, and a *CorruptError.
func (r *Reader) Chunk(ctx context.Context, id ID, plainSize int) ([]byte, error) {
	if id.IsZero() {
		return make([]byte, plainSize), nil
	}
	loc, err := r.locate(id, AnyDepth, plainSize)
	if err != nil {
		return nil, err
	}
	return r.load(ctx, loc)
}

// locate looks up a copy and refuses one that cannot be right.
func (r *Reader) locate(id ID, below uint8, plainSize int) (Location, error) {
	loc, err := r.locator.Lookup(id, below)
	if err != nil {
		return Location{}, fmt.Errorf("look up chunk %s: %w", id.Short(), err)
	}
	if int64(loc.PlainSize) != int64(plainSize) {
		return Location{}, corrupt(loc, ID{}, fmt.Sprintf("has %d plain bytes, want %d", loc.PlainSize, plainSize))
	}
	if loc.Depth >= below {
		return Location{}, corrupt(loc, ID{}, fmt.Sprintf("has depth %d, want less than %d", loc.Depth, below))
	}
	return loc, nil
}

// load reads, decodes and verifies one chunk.
func (r *Reader) load(ctx context.Context, loc Location) ([]byte, error) {
	stored, err := r.read(ctx, nil, loc, loc.size())
	if err != nil {
		return nil, err
	}
	return r.decode(ctx, nil, loc, stored)
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
	buf = sized(buf, int(size))
	if err := readFull(file.blob, buf, loc.Offset); err != nil {
		return nil, fmt.Errorf("read pack %s: %w", loc.Pack.Short(), err)
	}
	return buf, nil
}

// decode checks the frame at the start of stored and returns its plain bytes,
// in dst if it is large enough.
func (r *Reader) decode(ctx context.Context, dst []byte, loc Location, stored []byte) ([]byte, error) {
	f, err := parseFrameHeader(stored)
	if err != nil {
		return nil, corrupt(loc, ID{}, err.Error())
	}
	f.Offset = loc.Offset
	if f != loc.Frame {
		return nil, corrupt(loc, ID{}, fmt.Sprintf("frame is of chunk %s, %s, %d bytes for %d; expected %s, %d bytes for %d",
			f.ID.Short(), f.Codec, f.StoredSize, f.PlainSize, loc.Codec, loc.StoredSize, loc.PlainSize))
	}
	base, err := r.base(ctx, loc)
	if err != nil {
		return nil, fmt.Errorf("chunk %s: base: %w", loc.ID.Short(), err)
	}
	plain, err := r.repo.decoders.decode(dst, f, stored[frameHeaderSize:f.size()], base)
	if err != nil {
		return nil, corrupt(loc, ID{}, err.Error())
	}
	if got := Sum(plain); got != loc.ID {
		return nil, corrupt(loc, got, "")
	}
	return plain, nil
}

// base returns the plain bytes that a delta was made from, nil for other
// frames. Depths fall from base to base, so the chain ends.
func (r *Reader) base(ctx context.Context, loc Location) ([]byte, error) {
	if loc.Codec != CodecDelta {
		return nil, nil
	}
	base, err := r.locate(loc.Base, loc.Depth, int(loc.PlainSize))
	if err != nil {
		return nil, err
	}
	return r.load(ctx, base)
}

func corrupt(loc Location, got ID, reason string) error {
	return &CorruptError{Pack: loc.Pack, Offset: loc.Offset, Want: loc.ID, Got: got, Reason: reason}
}

// wanted is one chunk asked for: the caller's number and where it is.
type wanted struct {
	index int
	loc   Location
}

// Chunks calls fn with the plain bytes of each chunk, in the order in which the
// packs hold them; frames close to each other are read at once. sizes gives the
// plain size of chunk i. Zero IDs are skipped. fn is called from this goroutine
// and may use plain only until it returns; it must not change it. Errors are
// those of Chunk and fn's own; the first ends the call.
func (r *Reader) Chunks(ctx context.Context, ids []ID, sizes func(i int) int, fn func(i int, plain []byte) error) error {
	list := make([]wanted, 0, len(ids))
	for i, id := range ids {
		if id.IsZero() {
			continue
		}
		loc, err := r.locate(id, AnyDepth, sizes(i))
		if err != nil {
			return err
		}
		list = append(list, wanted{i, loc})
	}
	slices.SortFunc(list, func(a, b wanted) int {
		return cmp.Or(a.loc.Pack.Compare(b.loc.Pack), cmp.Compare(a.loc.Offset, b.loc.Offset), cmp.Compare(a.index, b.index))
	})
	return r.chunks(ctx, list, fn)
}

// chunks reads the sorted list, run by run.
func (r *Reader) chunks(ctx context.Context, list []wanted, fn func(int, []byte) error) error {
	var stored, plain []byte
	for len(list) > 0 {
		err := ctx.Err()
		if err != nil {
			return err
		}
		n, size := nextRun(list)
		if stored, err = r.read(ctx, stored, list[0].loc, size); err != nil {
			return err
		}
		if plain, err = r.deliver(ctx, plain, list[:n], stored, fn); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// deliver decodes the frames of one run, each once, and returns its buffer.
func (r *Reader) deliver(ctx context.Context, plain []byte, run []wanted, stored []byte, fn func(int, []byte) error) ([]byte, error) {
	for n, w := range run {
		if n == 0 || w.loc != run[n-1].loc {
			var err error
			if plain, err = r.decode(ctx, plain, w.loc, stored[w.loc.Offset-run[0].loc.Offset:]); err != nil {
				return nil, err
			}
		}
		if err := fn(w.index, plain); err != nil {
			return nil, err
		}
	}
	return plain, nil
}

// nextRun returns how many chunks of the sorted list are read at once, and the
// length of that read in bytes.
func nextRun(list []wanted) (int, int64) {
	first := list[0].loc
	end := first.end()
	for n, w := range list[1:] {
		near := w.loc.Pack == first.Pack && w.loc.Offset <= end+maxGap
		if !near || w.loc.end() > max(end, first.Offset+maxRun) {
			return n + 1, end - first.Offset
		}
		end = max(end, w.loc.end())
	}
	return len(list), end - first.Offset
}
