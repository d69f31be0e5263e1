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

// decode returns the plain bytes of a frame, in dst if it is large enough.
// base is nil but for a delta. Nothing is hashed.
func (p *decoders) decode(dst []byte, f Frame, payload, base []byte) ([]byte, error) {
	size := int(f.PlainSize)
	switch f.Codec {
	case CodecRaw:
		if len(payload) != size {
			return nil, fmt.Errorf("raw payload has %d bytes, want %d", len(payload), size)
		}
		return append(sized(dst, size)[:0], payload...), nil
	case CodecZstd:
		return p.unzip(dst, payload, size)
	case CodecDelta:
		if len(base) != size {
			return nil, fmt.Errorf("base %s has %d bytes, its delta %d", f.Base.Short(), len(base), size)
		}
		plain, err := p.unzip(dst, payload, size)
		if err != nil {
			return nil, err
		}
		subtle.XORBytes(plain, plain, base)
		return plain, nil
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
	zstd     *zstd.Encoder
	decoders *decoders
	out      []byte // payload made last
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

// encode makes f the frame of plain: codec and sizes are set, the payload
// returned. It is a delta if f.Base is set, else zstd; raw if that would not be
// smaller. The payload has been decoded and compared with plain; it is valid
// until the next call, and is plain itself when raw.
func (e *encoder) encode(f *Frame, plain, base []byte) ([]byte, error) {
	f.PlainSize = uint32(len(plain))
	src := plain
	f.Codec = CodecZstd
	if !f.Base.IsZero() {
		f.Codec = CodecDelta
		if len(base) != len(plain) {
			return nil, fmt.Errorf("base %s has %d bytes, the chunk %d", f.Base.Short(), len(base), len(plain))
		}
		e.xor = sized(e.xor, len(plain))
		subtle.XORBytes(e.xor, plain, base)
		src = e.xor
	}
	e.out = e.zstd.EncodeAll(src, e.out[:0])
	if len(e.out) >= len(plain) {
		f.Codec, f.Depth, f.Base, f.StoredSize = CodecRaw, 0, ID{}, uint32(len(plain))
		return plain, nil
	}
	f.StoredSize = uint32(len(e.out))
	return e.out, e.verify(*f, plain, base)
}

// verify decodes what encode made: compressors have had bugs.
func (e *encoder) verify(f Frame, plain, base []byte) error {
	got, err := e.decoders.decode(e.check, f, e.out, base)
	if err != nil {
		return fmt.Errorf("verify %s frame of chunk %s: %w", f.Codec, f.ID.Short(), err)
	}
	e.check = got
	if !bytes.Equal(got, plain) {
		return fmt.Errorf("verify %s frame of chunk %s: decodes to other bytes than were given", f.Codec, f.ID.Short())
	}
	return nil
}
