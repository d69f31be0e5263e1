package cas

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// Marks are the packs that something speaks against.
type Marks struct {
	Condemned map[ID]struct{} // by a garbage collection that has not decided yet
	Final     map[ID]struct{} // decided: about to be deleted, or deleted
	Damaged   map[ID]struct{}
}

// Marks reads what speaks against packs. The caller owns the maps.
func (r *Repository) Marks(ctx context.Context) (Marks, error) {
	m, err := r.marks(ctx)
	if err != nil {
		return Marks{}, err
	}
	return Marks{Condemned: m.condemned, Final: m.final, Damaged: m.damaged}, nil
}

// DamagedPacks returns the packs that are marked as damaged; unlike Marks it
// reads nothing of garbage collection.
func (r *Repository) DamagedPacks(ctx context.Context) (map[ID]struct{}, error) {
	damaged := map[ID]struct{}{}
	if err := r.readDamaged(ctx, damaged); err != nil {
		return nil, fmt.Errorf("list damaged packs: %w", err)
	}
	return damaged, nil
}

// MarkDamaged marks a pack for good: from now on no backup relies on what it
// holds, and stores it again. The note says for people who found what. It returns
// ErrExists if the pack is marked already.
func (r *Repository) MarkDamaged(ctx context.Context, pack ID, note []byte) error {
	if err := r.writable(); err != nil {
		return err
	}
	if err := r.putObject(ctx, "damaged/"+pack.String(), objectDamaged, note); err != nil {
		return fmt.Errorf("mark pack %s as damaged: %w", pack.Short(), err)
	}
	return nil
}

// parsePackHeader reads the start of a pack.
func parsePackHeader(buf []byte) (packHeader, error) {
	if len(buf) < packHeaderSize+4 {
		return packHeader{}, fmt.Errorf("header has %d bytes, want at least %d", len(buf), packHeaderSize+4)
	}
	if string(buf[:8]) != packMagic {
		return packHeader{}, fmt.Errorf("magic at the start is %q, want %q", buf[:8], packMagic)
	}
	if v := binary.LittleEndian.Uint16(buf[8:]); v != version {
		return packHeader{}, versionError("pack", v)
	}
	end := packHeaderSize + int(binary.LittleEndian.Uint16(buf[12:]))
	if len(buf) < end+4 {
		return packHeader{}, fmt.Errorf("header ends behind byte %d", len(buf))
	}
	if got, want := checksum(buf[:end]), binary.LittleEndian.Uint32(buf[end:]); got != want {
		return packHeader{}, fmt.Errorf("header checksum %08x stored, %08x computed", want, got)
	}
	if buf[11] != 0 || buf[14] != 0 || buf[15] != 0 {
		return packHeader{}, fmt.Errorf("header flags %#02x %#02x %#02x are not known", buf[11], buf[14], buf[15])
	}
	h := packHeader{
		kind:    Kind(buf[10]),
		repo:    UUID(buf[16:32]),
		salt:    [32]byte(buf[32:64]),
		session: Key(buf[packHeaderSize:end]),
	}
	return h, nil
}

// maxPackHeader is the longest that a header can be, bytes.
const maxPackHeader = packHeaderSize + 3*maxPart + 2 + 4

// readPackHeader reads the start of a pack.
func readPackHeader(blob BlobReader) (packHeader, error) {
	buf := make([]byte, min(blob.Size(), maxPackHeader))
	if err := readPart(blob, ID{}, buf, 0); err != nil {
		return packHeader{}, err
	}
	h, err := parsePackHeader(buf)
	if err != nil {
		return packHeader{}, &CorruptError{Reason: err.Error()}
	}
	return h, nil
}

// InspectAll reads and checks both ends of packs, so many at a time, and calls fn
// with what comes of each: one call at a time, in any order. It reads no frame, and
// the directory's are fn's only until it returns. The pack is nil if its directory
// cannot be read. With a pack, the error says what is wrong with its header: damaged,
// of another kind than the directory says, or of another repository. Errors are those
// of Pack. The first error of fn, or the context's, ends it.
func (r *Repository) InspectAll(ctx context.Context, ids []ID, workers int, fn func(id ID, pack *Pack, err error) error) error {
	d := &directoryReader{repo: r, check: r.checkHeader, use: fn}
	return d.readAll(ctx, ids, workers)
}

func (r *Repository) checkHeader(blob BlobReader, pack *Pack) error {
	h, err := readPackHeader(blob)
	var bad *CorruptError
	switch {
	case errors.As(err, &bad):
		return &CorruptError{Pack: pack.ID, Reason: bad.Reason}
	case err != nil:
		return fmt.Errorf("read pack %s: %w", pack.ID.Short(), err)
	case h.kind != pack.Kind:
		return &CorruptError{Pack: pack.ID, Reason: fmt.Sprintf("its header says %s, its end %s", h.kind, pack.Kind)}
	case h.repo != r.uuid:
		return &CorruptError{Pack: pack.ID, Reason: fmt.Sprintf("it belongs to repository %s, not to this one, %s", h.repo, r.uuid)}
	}
	return nil
}
