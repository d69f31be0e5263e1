package cas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

const (
	scanBuffer = 1 << 20 // bytes that are searched for frames at once
	scanSkip   = 4 << 10 // bytes that are left out where the file cannot be read
	scanWaste  = 4       // times the file's length that may be read in vain, after headers that promise what is not there
)

// Scan looks for the frames of a pack whose directory cannot be read: for headers
// whose checksum is right, with a payload that decodes, and to the chunk's ID if
// it is no delta. It returns a pack as its directory would have it, with what was
// found; it may be read and verified like another. The pack's kind is data if the
// file's start does not say it. Where the file cannot be read nothing is found:
// see [Pack.Unread].
func (r *Repository) Scan(ctx context.Context, id ID) (pack *Pack, err error) {
	blob, err := r.backend.Open(ctx, packName(id))
	if err != nil {
		return nil, fmt.Errorf("open pack %s: %w", id.Short(), err)
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	pack = &Pack{ID: id, Kind: KindData, Size: blob.Size()}
	if h, err := readPackHeader(blob); err == nil && h.kind == KindMeta {
		pack.Kind = KindMeta
	}
	s := scanner{in: blob, size: min(blob.Size(), maxPackSize), decoders: r.decoders}
	if err := s.run(ctx); err != nil {
		return nil, fmt.Errorf("scan pack %s: %w", id.Short(), err)
	}
	pack.Frames, pack.Unread = s.frames, s.unread
	return pack, nil
}

// scanner looks for frames.
type scanner struct {
	in       io.ReaderAt
	size     int64
	decoders *decoders
	frames   []Frame
	at       int64 // where the search goes on
	wasted   int64 // bytes of payloads read in vain
	unread   error // of the first read that failed
	payload  []byte
	content  []byte
	scratch  []byte
}

func (s *scanner) run(ctx context.Context) error {
	buf := make([]byte, min(scanBuffer, s.size))
	for s.at < s.size && len(s.frames) < maxFrames {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := s.in.ReadAt(buf[:min(int64(len(buf)), s.size-s.at)], s.at)
		switch {
		case n < frameHeaderSize && err != nil && !errors.Is(err, io.EOF):
			s.miss(err)
			s.at += scanSkip
		case n < frameHeaderSize:
			return nil
		default:
			s.search(buf[:n])
		}
		if s.wasted > scanWaste*s.size+scanBuffer {
			return nil
		}
	}
	return nil
}

func (s *scanner) miss(err error) {
	if s.unread == nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		s.unread = err
	}
}

// search looks for the next frame that begins in buf, which is what stands at at,
// and moves at behind it, or to the end of what was searched.
func (s *scanner) search(buf []byte) {
	for n := 0; ; n++ {
		next := bytes.Index(buf[n:], []byte(frameMagic))
		if next < 0 {
			s.at += int64(len(buf) - len(frameMagic) + 1)
			return
		}
		n += next
		if len(buf)-n < frameHeaderSize {
			s.at += int64(max(n, 1))
			return
		}
		f, err := parseFrameHeader(buf[n:])
		if err != nil {
			continue
		}
		f.Offset = s.at + int64(n)
		if f.end() > s.size {
			continue
		}
		if s.whole(&f) {
			s.frames = append(s.frames, f)
			s.at = f.end()
			return
		}
		if s.wasted += f.Size(); s.wasted > scanWaste*s.size {
			s.at = s.size
			return
		}
	}
}

// whole tells whether a frame's payload is right, as far as can be told.
func (s *scanner) whole(f *Frame) bool {
	s.payload = sized(s.payload, int(f.StoredSize))
	if err := readFull(s.in, s.payload, f.Offset+frameHeaderSize); err != nil {
		s.miss(err)
		return false
	}
	s.content = sized(s.content, maxDifference(int(f.PlainSize)))
	content, err := s.decoders.content(s.content, *f, s.payload)
	if err != nil {
		return false
	}
	if f.Codec != CodecDelta {
		return Sum(content) == f.ID
	}
	s.scratch = sized(s.scratch, int(f.PlainSize))
	return applyDifference(s.scratch, content) == nil
}
