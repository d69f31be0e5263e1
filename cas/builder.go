package cas

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/blake3"
)

// builderBuffer gathers small frames before they are hashed and written, bytes.
const builderBuffer = 256 << 10

// packBuilder is a pack being filled. One goroutine at a time.
type packBuilder struct {
	kind   Kind
	number uint32 // of all packs of the writer
	blob   Blob
	hash   *blake3.Hasher // of all bytes that went to blob
	out    *bufio.Writer  // to hash and blob; its first error is its last
	frames []Frame
	size   int64  // bytes so far
	header []byte // of the frame appended last
}

// newPack stages a pack and writes its header.
func (s *Session) newPack(ctx context.Context, kind Kind) (*packBuilder, error) {
	header := packHeader{kind: kind, repo: s.repo.uuid, session: s.key}
	if err := s.repo.random(header.salt[:]); err != nil {
		return nil, err
	}
	blob, err := s.repo.backend.Stage(ctx)
	if err != nil {
		return nil, fmt.Errorf("stage pack: %w", err)
	}
	hash := blake3.New()
	b := &packBuilder{kind: kind, blob: blob, hash: hash}
	b.out = bufio.NewWriterSize(io.MultiWriter(blob, hash), builderBuffer)
	if err := b.write(header.encode()); err != nil {
		return nil, errors.Join(fmt.Errorf("write pack: %w", err), blob.Discard())
	}
	return b, nil
}

func (b *packBuilder) write(data []byte) error {
	n, err := b.out.Write(data)
	b.size += int64(n)
	return err
}

// append adds the frame and sets its offset.
func (b *packBuilder) append(f *Frame, payload []byte) error {
	f.Offset = b.size
	b.header = f.appendHeader(b.header[:0])
	if err := b.write(b.header); err != nil {
		return err
	}
	if err := b.write(payload); err != nil {
		return err
	}
	b.frames = append(b.frames, *f)
	return nil
}

func (b *packBuilder) full(target int64) bool {
	return b.size >= target || len(b.frames) >= packFrames
}

// seal ends the pack and publishes it under its hash. The builder is finished
// then, whatever the outcome.
func (b *packBuilder) seal(ctx context.Context, r *Repository) (*Pack, error) {
	if err := b.finish(); err != nil {
		return nil, errors.Join(err, b.blob.Discard())
	}
	pack := &Pack{Kind: b.kind, Size: b.size, Frames: b.frames}
	b.hash.Sum(pack.ID[:0])
	name := packName(pack.ID)
	err := b.blob.Publish(ctx, name)
	if errors.Is(err, ErrExists) {
		err = b.checkPublished(ctx, r, name)
	}
	if err != nil {
		return nil, errors.Join(err, b.blob.Discard())
	}
	return pack, nil
}

func (b *packBuilder) finish() error {
	end, err := encodeFooter(b.kind, b.frames, b.size)
	if err != nil {
		return err
	}
	if err := b.write(end); err != nil {
		return err
	}
	return b.out.Flush()
}

// checkPublished accepts a taken name as our own success whose reply was lost:
// nobody else can make a pack of that name, for its header holds our salt.
func (b *packBuilder) checkPublished(ctx context.Context, r *Repository, name string) (err error) {
	blob, err := r.backend.Open(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	if blob.Size() != b.size {
		return fmt.Errorf("%s %w with %d bytes, not %d", name, ErrExists, blob.Size(), b.size)
	}
	return nil
}
