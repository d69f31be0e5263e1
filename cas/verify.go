package cas

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/blake3"
)

// Verification is what reading a whole pack has found.
type Verification struct {
	Err      error         // the file is not the one that its name says, or cannot be read; nil: every byte is right
	Bad      map[int]error // frames, by their number in the directory, that do not give their chunk; of more than a hundred it is not said why
	Suspects []ID          // other packs, with a frame that a delta here needs and that is bad; each once
	Orphans  int           // deltas whose base is nowhere
}

// Good tells whether every byte of the pack is right, and every frame that can be
// decoded.
func (v *Verification) Good() bool { return v.Err == nil && len(v.Bad) == 0 }

// verifyBuffer is how much of a pack is read at once, bytes.
const verifyBuffer = 1 << 20

// sequence returns a reader of in with a buffer that is used again.
func (b *buffers) sequence(in io.Reader) *bufio.Reader {
	if b.in == nil {
		b.in = bufio.NewReaderSize(nil, verifyBuffer)
	}
	b.in.Reset(in)
	return b.in
}

// Verify reads every byte of a pack, compares their hash with the pack's name, and
// decodes and hashes every frame of the directory: deltas through their chains,
// whose bases the locator finds. It goes on after a damaged frame. The pack may be
// one that Scan returned. read is told of bytes before they are read, and may
// wait. The error is the context's or read's.
func (r *Reader) Verify(ctx context.Context, pack *Pack, read func(ctx context.Context, n int) error) (*Verification, error) {
	v := &verifier{reader: r, pack: pack, read: read, found: &Verification{Bad: map[int]error{}}, buffers: r.takeBuffers()}
	defer r.giveBuffers(v.buffers)
	if err := v.stream(ctx); err != nil {
		if stop := v.stopped(ctx, err); stop != nil {
			return nil, stop
		}
		v.found.Err = err
	}
	if err := v.deltas(ctx); err != nil {
		return nil, err
	}
	return v.found, nil
}

// verifier reads one pack.
type verifier struct {
	reader  *Reader
	pack    *Pack
	read    func(ctx context.Context, n int) error // may be nil
	found   *Verification
	buffers *buffers
	readErr error // of read
}

// stopped returns the error that ends the whole work, if err is or follows from
// one.
func (v *verifier) stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if v.readErr != nil && errors.Is(err, v.readErr) {
		return v.readErr
	}
	return nil
}

// stream reads the file from its start to its end, hashes it, and decodes the
// frames on the way. The error is what is wrong with the file.
func (v *verifier) stream(ctx context.Context) (err error) {
	blob, err := v.reader.repo.backend.Open(ctx, packName(v.pack.ID))
	if err != nil {
		return fmt.Errorf("open pack %s: %w", v.pack.ID.Short(), err)
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	if blob.Size() > maxPackSize {
		return &CorruptError{Pack: v.pack.ID, Reason: fmt.Sprintf("%d bytes long, at most %d are allowed", blob.Size(), maxPackSize)}
	}
	hash := blake3.New()
	section := io.NewSectionReader(blob, 0, blob.Size())
	paced := &pacedReader{ctx: ctx, in: section, left: blob.Size(), v: v}
	in := v.buffers.sequence(io.TeeReader(paced, hash))
	defer in.Reset(nil) // it is kept for the next pack
	at := int64(0)
	for n := range v.pack.Frames {
		f := &v.pack.Frames[n]
		if _, err := io.CopyN(io.Discard, in, f.Offset-at); err != nil {
			return v.unreadable(ctx, n, err)
		}
		v.buffers.stored = sized(v.buffers.stored, int(f.Size()))
		if _, err := io.ReadFull(in, v.buffers.stored); err != nil {
			return v.unreadable(ctx, n, err)
		}
		at = f.end()
		v.frame(n, v.buffers.stored)
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return v.unreadable(ctx, len(v.pack.Frames), err)
	}
	var got ID
	if hash.Sum(got[:0]); got != v.pack.ID {
		return &CorruptError{Pack: v.pack.ID, Got: got}
	}
	return nil
}

// pacedReader asks before each read.
type pacedReader struct {
	ctx  context.Context
	in   io.Reader
	left int64 // bytes
	v    *verifier
}

// Read implements io.Reader.
func (p *pacedReader) Read(buf []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	buf = buf[:min(int64(len(buf)), max(p.left, 1))]
	if p.v.read != nil && p.left > 0 {
		if p.v.readErr = p.v.read(p.ctx, len(buf)); p.v.readErr != nil {
			return 0, p.v.readErr
		}
	}
	n, err := p.in.Read(buf)
	p.left -= int64(n)
	return n, err
}

// unreadable goes on after the file could not be read at frame n: from there on
// each frame is read by itself.
func (v *verifier) unreadable(ctx context.Context, n int, cause error) error {
	if v.stopped(ctx, cause) != nil {
		return cause
	}
	for ; n < len(v.pack.Frames); n++ {
		f := &v.pack.Frames[n]
		loc := Location{Pack: v.pack.ID, Frame: *f}
		stored, err := v.reader.read(ctx, v.buffers.stored, loc, loc.Size())
		if err != nil {
			v.bad(n, err)
			continue
		}
		v.buffers.stored = stored
		v.frame(n, stored)
	}
	if errors.Is(cause, io.EOF) || errors.Is(cause, io.ErrUnexpectedEOF) {
		return &CorruptError{Pack: v.pack.ID, Reason: "it ends too early"}
	}
	return fmt.Errorf("read pack %s: %w", v.pack.ID.Short(), cause)
}

// maxBadReasons is for how many bad frames of a pack it is kept why.
const maxBadReasons = 100

var errBad = errors.New("it is bad, as many before it")

func (v *verifier) bad(n int, err error) {
	if len(v.found.Bad) >= maxBadReasons {
		err = errBad
	}
	v.found.Bad[n] = err
}

// frame decodes a frame; what stands alone is hashed too.
func (v *verifier) frame(n int, stored []byte) {
	loc := Location{Pack: v.pack.ID, Frame: v.pack.Frames[n]}
	v.buffers.scratch = sized(v.buffers.scratch, maxDifference(int(loc.PlainSize)))
	content, err := unpack(v.reader.repo.decoders, v.buffers.scratch, loc, stored)
	if err != nil {
		v.bad(n, err)
		return
	}
	if loc.Codec == CodecDelta {
		return
	}
	if got := Sum(content); got != loc.ID {
		v.bad(n, corrupt(loc, got, ""))
	}
}

// deltas decodes the deltas that can be decoded through their chains, many at a
// time.
func (v *verifier) deltas(ctx context.Context) error {
	var w window
	var numbers []int // of the window's frames
	for n := range v.pack.Frames {
		f := &v.pack.Frames[n]
		if f.Codec != CodecDelta || v.found.Bad[n] != nil {
			continue
		}
		base, found := v.base(f)
		if !found {
			v.found.Orphans++
			continue
		}
		if _, twice := w.byID[f.ID]; twice || w.full() {
			if err := v.check(ctx, &w, numbers); err != nil {
				return err
			}
			numbers = numbers[:0]
		}
		w.add(len(numbers), append(Chain{{v.pack.ID, *f}}, base...))
		numbers = append(numbers, n)
	}
	return v.check(ctx, &w, numbers)
}

// base finds a chain for the base of a delta.
func (v *verifier) base(f *Frame) (Chain, bool) {
	chain, err := v.reader.lookup(f.Base, f.Depth)
	return chain, err == nil && chain.check(f.Base, f.Depth, int(f.PlainSize)) == nil
}

// check decodes and hashes what is in the window, and empties it.
func (v *verifier) check(ctx context.Context, w *window, numbers []int) error {
	defer w.clear()
	w.plan()
	_ = v.reader.combine(ctx, w, v.buffers) // what it could not combine is no good
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for i := range w.slots {
		s := &w.slots[i]
		if s.good {
			continue
		}
		if err := v.alone(ctx, numbers[i], s); err != nil {
			return err
		}
	}
	return nil
}

// alone decodes one delta by itself, with other copies of its base if need be.
func (v *verifier) alone(ctx context.Context, n int, s *slot) error {
	f := &v.pack.Frames[n]
	chain := s.chain
	for {
		bad, err := v.reader.unfold(ctx, chain, s.plain)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		v.reader.noteBad(*bad)
		if *bad == chain[0] {
			v.bad(n, err)
			return nil
		}
		v.suspect(bad.Pack)
		base, found := v.base(f)
		if !found || v.anyBad(base) {
			v.found.Orphans++
			return nil
		}
		chain = append(Chain{chain[0]}, base...)
	}
}

func (v *verifier) anyBad(chain Chain) bool {
	for _, loc := range chain {
		if v.reader.isBad(loc) {
			return true
		}
	}
	return false
}

func (v *verifier) suspect(pack ID) {
	for _, id := range v.found.Suspects {
		if id == pack {
			return
		}
	}
	if pack != v.pack.ID {
		v.found.Suspects = append(v.found.Suspects, pack)
	}
}
