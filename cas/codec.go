package cas

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Level says how hard a Writer compresses.
type Level uint8

// The levels. The fastest is the zero value and the default.
const (
	LevelFastest Level = iota
	LevelDefault
	LevelBetter
	LevelBest
)

// decoders is a pool of zstd decoders, each single-threaded and free of state
// between calls. Safe for concurrent use.
type decoders struct{ pool sync.Pool }

func newDecoders() *decoders {
	return &decoders{pool: sync.Pool{New: func() any {
		d, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxWindow(MaxPlainSize),
			zstd.WithDecoderMaxMemory(MaxPlainSize+MaxPlainSize/4),
			zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic("cas: internal error: make zstd decoder: " + err.Error())
		}
		return d
	}}}
}

// unzip decodes one payload of exactly size plain bytes into dst, which is
// grown if needed.
func (p *decoders) unzip(dst, payload []byte, size int) ([]byte, error) {
	got, err := p.inflate(dst, payload, size)
	if err == nil && len(got) != size {
		return nil, fmt.Errorf("decode zstd: %d plain bytes, want %d", len(got), size)
	}
	return got, err
}

// inflate decodes one payload of at most size bytes into dst, which is grown if
// needed. It allocates no more than size asks for.
func (p *decoders) inflate(dst, payload []byte, size int) ([]byte, error) {
	d := p.pool.Get().(*zstd.Decoder) //nolint:errcheck // the pool makes nothing else
	defer p.pool.Put(d)
	dst = sized(dst, size)
	got, err := d.DecodeAll(payload, dst[:0:size])
	if err != nil {
		return nil, fmt.Errorf("decode zstd: %v", err)
	}
	return got, nil
}

// content returns what a frame holds: the plain bytes, of a delta the
// difference to its base. It may be in dst, if that is large enough, or in
// payload. Nothing is hashed.
func (p *decoders) content(dst []byte, f Frame, payload []byte) ([]byte, error) {
	size := int(f.PlainSize)
	switch f.Codec {
	case CodecRaw:
		if len(payload) != size {
			return nil, fmt.Errorf("raw payload has %d bytes, want %d", len(payload), size)
		}
		return payload, nil
	case CodecZstd:
		return p.unzip(dst, payload, size)
	case CodecDelta:
		return p.inflate(dst, payload, maxDifference(size))
	}
	return nil, fmt.Errorf("unknown codec %d", f.Codec)
}

// sized returns a buffer of length size: dst if it is large enough.
func sized(dst []byte, size int) []byte {
	if cap(dst) < size {
		return make([]byte, size)
	}
	return dst[:size]
}

// encoders is a pool of compressors of one level. Safe for concurrent use.
type encoders struct {
	pool     sync.Pool
	decoders *decoders
}

// encoder compresses and verifies chunks, one at a time, in its own buffers.
type encoder struct {
	zstd       *zstd.Encoder
	transcode  func(plain []byte) []byte // of the fastest level, else nil; see transcoder
	decoders   *decoders
	out        []byte // payload made last
	delta      []byte // payload of a delta made last
	difference []byte
	check      []byte // payload decoded again
	applied    []byte // base with the difference applied
}

func newEncoders(level Level, decoders *decoders) *encoders {
	return &encoders{decoders: decoders, pool: sync.Pool{New: func() any {
		z, err := zstd.NewWriter(nil,
			zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderLevel(level.zstd()),
			zstd.WithEncoderCRC(false))
		if err != nil {
			panic("cas: internal error: make zstd encoder: " + err.Error())
		}
		e := &encoder{zstd: z, decoders: decoders}
		if level == LevelFastest {
			e.transcode = new(transcoder).encode
		}
		return e
	}}}
}

func (l Level) zstd() zstd.EncoderLevel {
	switch l {
	case LevelDefault:
		return zstd.SpeedDefault
	case LevelBetter:
		return zstd.SpeedBetterCompression
	case LevelBest:
		return zstd.SpeedBestCompression
	}
	return zstd.SpeedFastest
}

func (p *encoders) acquire() *encoder {
	return p.pool.Get().(*encoder) //nolint:errcheck // the pool makes nothing else
}

func (p *encoders) release(e *encoder) { p.pool.Put(e) }

// clearWin: a delta of up to this part of the plain size, one eighth, is taken
// without a look at what the chunk takes by itself.
const clearWin = 8

// encode makes f the frame of plain: codec and sizes are set, the payload
// returned. If f.Base is set, it is a delta where that is a clear win or at
// least smaller; else zstd; raw if that would not be smaller. What f says of a
// base is removed if it is no delta. The payload has been decoded and compared
// with plain; it is valid until the next call, and is plain itself when raw.
func (e *encoder) encode(f *Frame, plain, base []byte) ([]byte, error) {
	f.PlainSize = uint32(len(plain))
	e.delta = e.delta[:0]
	if !f.Base.IsZero() {
		if len(base) != len(plain) {
			return nil, fmt.Errorf("base %s has %d bytes, the chunk %d", f.Base.Short(), len(base), len(plain))
		}
		e.difference = appendDifference(e.difference[:0], plain, base)
		e.delta = e.zstd.EncodeAll(e.difference, e.delta)
		if len(e.delta) <= len(plain)/clearWin {
			return e.verifyDelta(f, plain, base)
		}
	}
	transcoded := e.compress(plain)
	if size := len(e.delta); size > 0 && size < min(len(e.out), len(plain)) {
		return e.verifyDelta(f, plain, base)
	}
	f.Depth, f.Base = 0, ID{}
	payload, err := e.encodeAlone(f, plain)
	if err != nil && transcoded { // see transcoder
		e.out = e.zstd.EncodeAll(plain, e.out[:0])
		return e.encodeAlone(f, plain)
	}
	return payload, err
}

// compress makes plain into the payload in out. It returns whether the transcoder
// made it.
func (e *encoder) compress(plain []byte) (transcoded bool) {
	if e.transcode != nil {
		if data := e.transcode(plain); data != nil {
			e.out = append(e.out[:0], data...)
			return true
		}
	}
	e.out = e.zstd.EncodeAll(plain, e.out[:0])
	return false
}

// encodeAlone completes a frame that is no delta, of the payload in out or of plain
// itself.
func (e *encoder) encodeAlone(f *Frame, plain []byte) ([]byte, error) {
	if len(e.out) >= len(plain) {
		f.Codec, f.StoredSize = CodecRaw, uint32(len(plain))
		return plain, nil
	}
	return e.verify(f, plain)
}

// verify completes a frame of the payload in out. It decodes the payload and
// compares: compressors have had bugs.
func (e *encoder) verify(f *Frame, plain []byte) ([]byte, error) {
	f.Codec, f.StoredSize = CodecZstd, uint32(len(e.out))
	got, err := e.decoders.content(e.check, *f, e.out)
	if err != nil {
		return nil, verifyError(f, err)
	}
	e.check = got
	if !bytes.Equal(got, plain) {
		return nil, verifyError(f, errOtherBytes)
	}
	return e.out, nil
}

// verifyDelta likewise completes a frame of the payload in delta.
func (e *encoder) verifyDelta(f *Frame, plain, base []byte) ([]byte, error) {
	f.Codec, f.StoredSize = CodecDelta, uint32(len(e.delta))
	got, err := e.decoders.content(e.check, *f, e.delta)
	if err != nil {
		return nil, verifyError(f, err)
	}
	e.check = got
	e.applied = append(e.applied[:0], base...)
	if err := applyDifference(e.applied, got); err != nil {
		return nil, verifyError(f, err)
	}
	if !bytes.Equal(e.applied, plain) {
		return nil, verifyError(f, errOtherBytes)
	}
	return e.delta, nil
}

var errOtherBytes = errors.New("decodes to other bytes than were given")

func verifyError(f *Frame, err error) error {
	return fmt.Errorf("verify %s frame of chunk %s: %w", f.Codec, f.ID.Short(), err)
}
