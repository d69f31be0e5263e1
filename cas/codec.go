package cas

import (
	"bytes"
	"crypto/subtle"
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
			zstd.WithDecoderMaxMemory(maxFooter),
			zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic("cas: internal error: make zstd decoder: " + err.Error())
		}
		return d
	}}}
}

// unzip decodes one payload of exactly size plain bytes into dst, which is
// grown if needed. It allocates no more than size asks for.
func (p *decoders) unzip(dst, payload []byte, size int) ([]byte, error) {
	d := p.pool.Get().(*zstd.Decoder) //nolint:errcheck // the pool makes nothing else
	defer p.pool.Put(d)
	dst = sized(dst, size)
	got, err := d.DecodeAll(payload, dst[:0:size])
	if err != nil {
		return nil, fmt.Errorf("decode zstd: %v", err)
	}
	if len(got) != size {
		return nil, fmt.Errorf("decode zstd: %d plain bytes, want %d", len(got), size)
	}
	return got, nil
}

// difference returns what a frame holds: the plain bytes, of a delta their
// difference to the base. It may be in dst, if that is large enough, or in
// payload. Nothing is hashed.
func (p *decoders) difference(dst []byte, f Frame, payload []byte) ([]byte, error) {
	switch f.Codec {
	case CodecRaw:
		if len(payload) != int(f.PlainSize) {
			return nil, fmt.Errorf("raw payload has %d bytes, want %d", len(payload), f.PlainSize)
		}
		return payload, nil
	case CodecZstd, CodecDelta:
		return p.unzip(dst, payload, int(f.PlainSize))
	}
	return nil, fmt.Errorf("unknown codec %d", f.Codec)
}

// decode returns the plain bytes of a frame, as difference does. base is of use
// for a delta only.
func (p *decoders) decode(dst []byte, f Frame, payload, base []byte) ([]byte, error) {
	if f.Codec == CodecDelta && len(base) != int(f.PlainSize) {
		return nil, fmt.Errorf("base %s has %d bytes, its delta %d", f.Base.Short(), len(base), f.PlainSize)
	}
	plain, err := p.difference(dst, f, payload)
	if err == nil && f.Codec == CodecDelta {
		subtle.XORBytes(plain, plain, base)
	}
	return plain, err
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
	zstd     *zstd.Encoder
	decoders *decoders
	out      []byte // payload made last
	delta    []byte // payload of a delta made last
	xor      []byte // plain XOR base
	check    []byte // payload decoded again
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
		return &encoder{zstd: z, decoders: decoders}
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

// clearWin is the part of the plain size, one clearWin-th, up to which a delta
// is taken without a look at what the chunk is by itself.
const clearWin = 8

// encode makes f the frame of plain: codec and sizes are set, the payload
// returned. If f.Base is set, it is a delta where that is a clear win or at
// least smaller; else zstd; raw if that would not be smaller. What f says of a
// base is removed if it is no delta. The payload has been decoded and compared
// with plain; it is valid until the next call, and is plain itself when raw.
func (e *encoder) encode(f *Frame, plain, base []byte) ([]byte, error) {
	f.PlainSize = uint32(len(plain))
	if !f.Base.IsZero() {
		if len(base) != len(plain) {
			return nil, fmt.Errorf("base %s has %d bytes, the chunk %d", f.Base.Short(), len(base), len(plain))
		}
		e.xor = sized(e.xor, len(plain))
		subtle.XORBytes(e.xor, plain, base)
		e.delta = e.zstd.EncodeAll(e.xor, e.delta[:0])
		if len(e.delta) <= len(plain)/clearWin {
			return e.finish(f, CodecDelta, e.delta, plain, base)
		}
	}
	e.out = e.zstd.EncodeAll(plain, e.out[:0])
	if !f.Base.IsZero() && len(e.delta) < min(len(e.out), len(plain)) {
		return e.finish(f, CodecDelta, e.delta, plain, base)
	}
	f.Depth, f.Base = 0, ID{}
	if len(e.out) >= len(plain) {
		f.Codec, f.StoredSize = CodecRaw, uint32(len(plain))
		return plain, nil
	}
	return e.finish(f, CodecZstd, e.out, plain, nil)
}

// finish completes a frame whose payload is no longer than the chunk. It
// decodes the payload and compares: compressors have had bugs.
func (e *encoder) finish(f *Frame, codec Codec, payload, plain, base []byte) ([]byte, error) {
	f.Codec, f.StoredSize = codec, uint32(len(payload))
	got, err := e.decoders.decode(e.check, *f, payload, base)
	if err != nil {
		return nil, fmt.Errorf("verify %s frame of chunk %s: %w", f.Codec, f.ID.Short(), err)
	}
	e.check = got
	if !bytes.Equal(got, plain) {
		return nil, fmt.Errorf("verify %s frame of chunk %s: decodes to other bytes than were given", f.Codec, f.ID.Short())
	}
	return payload, nil
}
