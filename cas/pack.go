package cas

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// Kind says what a pack holds: the two are kept apart so that metadata stays
// together.
type Kind uint8

// The kinds.
const (
	KindData Kind = 1 // chunks of files
	KindMeta Kind = 2 // recipes, file lists
)

// String returns data, meta or the number.
func (k Kind) String() string {
	switch k {
	case KindData:
		return "data"
	case KindMeta:
		return "meta"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Pack is what the end of a pack file says about it.
type Pack struct {
	ID     ID
	Kind   Kind
	Size   int64   // of the file, bytes
	Frames []Frame // in order of offset
	Unread error   // of a scan: the first of its reads that failed; nil: all succeeded
}

// The pack's parts; see docs/format.md, "Pack".
const (
	packMagic      = "SSPACK\r\n"
	packEndMagic   = "SSPKEND\n"
	packHeaderSize = 64 // without the session's key and the checksum
	trailerSize    = 80
	entrySize      = 84
	maxFrames      = 64 << 10 // that a reader accepts: several directories are read at once
	packFrames     = 32 << 10 // at which a writer seals: its footer then takes 3 MB in memory
	maxPackSize    = 1 << 30  // bytes: a file may have a length that nobody has written
	maxFooter      = maxFrames * entrySize
	// minEntryStored is the least that one entry takes in a compressed
	// footer: its ID is random, so zstd cannot shorten it.
	minEntryStored = 32
	tailRead       = 64 << 10 // first read from the end, bytes
)

// packHeader is the start of a pack file.
type packHeader struct {
	kind    Kind
	repo    UUID
	session Key
	salt    [32]byte // random: no pack name ever comes back
}

func (h packHeader) encode() []byte {
	buf := append(make([]byte, 0, packHeaderSize+len(h.session)+4), packMagic...)
	buf = binary.LittleEndian.AppendUint16(buf, version)
	buf = append(buf, byte(h.kind), 0)
	buf = binary.LittleEndian.AppendUint16(buf, uint16(len(h.session)))
	buf = append(buf, 0, 0)
	buf = append(buf, h.repo[:]...)
	buf = append(buf, h.salt[:]...)
	buf = append(buf, h.session...)
	return binary.LittleEndian.AppendUint32(buf, checksum(buf))
}

// parsePackSession returns the key in a pack's header, from the start of the
// file.
func parsePackSession(head []byte) (Key, error) {
	if len(head) < packHeaderSize || string(head[:8]) != packMagic {
		return "", fmt.Errorf("magic of the header is missing")
	}
	if v := binary.LittleEndian.Uint16(head[8:]); v != version {
		return "", versionError("pack", v)
	}
	end := packHeaderSize + int(binary.LittleEndian.Uint16(head[12:]))
	if len(head) < end+4 {
		return "", fmt.Errorf("header of %d bytes ends before byte %d", end+4, len(head))
	}
	if got, want := checksum(head[:end]), binary.LittleEndian.Uint32(head[end:]); got != want {
		return "", fmt.Errorf("header checksum %08x stored, %08x computed", want, got)
	}
	return ParseKey(string(head[packHeaderSize:end]))
}

// packTrailer is the last part of a pack file.
type packTrailer struct {
	kind        Kind
	footerStart int64
	footerSize  uint32 // as stored, bytes
	plainSize   uint32 // of the footer's table, bytes
	frames      uint32
	footerHash  ID // of the footer as stored
}

func (t packTrailer) encode() []byte {
	buf := binary.LittleEndian.AppendUint64(make([]byte, 0, trailerSize), uint64(t.footerStart))
	buf = binary.LittleEndian.AppendUint32(buf, t.footerSize)
	buf = binary.LittleEndian.AppendUint32(buf, t.plainSize)
	buf = binary.LittleEndian.AppendUint32(buf, t.frames)
	buf = binary.LittleEndian.AppendUint16(buf, version)
	buf = append(buf, byte(t.kind), 0)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(t.footerStart)+uint64(t.footerSize)+trailerSize)
	buf = append(buf, t.footerHash[:]...)
	buf = binary.LittleEndian.AppendUint32(buf, checksum(buf))
	buf = append(buf, 0, 0, 0, 0)
	return append(buf, packEndMagic...)
}

// parseTrailer checks the last trailerSize bytes of a file of that size.
func parseTrailer(buf []byte, fileSize int64) (packTrailer, error) {
	if string(buf[72:]) != packEndMagic {
		return packTrailer{}, fmt.Errorf("magic at the end is %q, want %q", buf[72:], packEndMagic)
	}
	if got, want := checksum(buf[:64]), binary.LittleEndian.Uint32(buf[64:]); got != want {
		return packTrailer{}, fmt.Errorf("trailer checksum %08x stored, %08x computed", want, got)
	}
	if v := binary.LittleEndian.Uint16(buf[20:]); v != version {
		return packTrailer{}, versionError("pack", v)
	}
	if buf[23] != 0 || binary.LittleEndian.Uint32(buf[68:]) != 0 {
		return packTrailer{}, fmt.Errorf("trailer flags %#02x %x are not known", buf[23], buf[68:72])
	}
	if size := binary.LittleEndian.Uint64(buf[24:]); size != uint64(fileSize) {
		return packTrailer{}, fmt.Errorf("file has %d bytes, its trailer says %d", fileSize, size)
	}
	t := packTrailer{
		kind:        Kind(buf[22]),
		footerStart: int64(binary.LittleEndian.Uint64(buf)),
		footerSize:  binary.LittleEndian.Uint32(buf[8:]),
		plainSize:   binary.LittleEndian.Uint32(buf[12:]),
		frames:      binary.LittleEndian.Uint32(buf[16:]),
		footerHash:  ID(buf[32:64]),
	}
	return t, t.validate(fileSize)
}

func (t packTrailer) validate(fileSize int64) error {
	switch {
	case t.kind != KindData && t.kind != KindMeta:
		return fmt.Errorf("unknown kind %d", t.kind)
	case t.frames == 0 || t.frames > maxFrames:
		return fmt.Errorf("%d frames, want 1 to %d", t.frames, maxFrames)
	case t.plainSize != t.frames*entrySize:
		return fmt.Errorf("footer of %d plain bytes for %d frames", t.plainSize, t.frames)
	case t.footerStart < packHeaderSize || t.footerStart+int64(t.footerSize) != fileSize-trailerSize:
		return fmt.Errorf("footer at byte %d, %d bytes long, does not end at the trailer", t.footerStart, t.footerSize)
	case int64(t.footerSize) < minEntryStored*int64(t.frames):
		return fmt.Errorf("footer of %d bytes cannot hold %d frames", t.footerSize, t.frames)
	}
	return nil
}

// encodeFooter returns everything behind the last frame: footer and trailer.
func encodeFooter(kind Kind, frames []Frame, start int64) ([]byte, error) {
	table := make([]byte, 0, len(frames)*entrySize)
	for _, f := range frames {
		table = f.appendEntry(table)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("make zstd encoder: %w", err)
	}
	footer := z.EncodeAll(table, nil)
	t := packTrailer{
		kind:        kind,
		footerStart: start,
		footerSize:  uint32(len(footer)),
		plainSize:   uint32(len(table)),
		frames:      uint32(len(frames)),
		footerHash:  Sum(footer),
	}
	return append(footer, t.encode()...), nil
}

func (f Frame) appendEntry(buf []byte) []byte {
	buf = append(buf, f.ID[:]...)
	buf = append(buf, f.Base[:]...)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(f.Offset))
	buf = binary.LittleEndian.AppendUint32(buf, f.StoredSize)
	buf = binary.LittleEndian.AppendUint32(buf, f.PlainSize)
	return append(buf, byte(f.Codec), f.Depth, 0, 0)
}

func parseEntry(buf []byte) (Frame, error) {
	f := Frame{
		ID:         ID(buf[:32]),
		Base:       ID(buf[32:64]),
		Offset:     int64(binary.LittleEndian.Uint64(buf[64:])),
		StoredSize: binary.LittleEndian.Uint32(buf[72:]),
		PlainSize:  binary.LittleEndian.Uint32(buf[76:]),
		Codec:      Codec(buf[80]),
		Depth:      buf[81],
	}
	if buf[82] != 0 || buf[83] != 0 {
		return Frame{}, fmt.Errorf("entry flags %#02x %#02x are not known", buf[82], buf[83])
	}
	return f, f.validate()
}

// parseTable reads the footer's plain table into frames, which is grown if needed;
// they lie in order, apart from each other and before end.
func parseTable(frames []Frame, table []byte, end int64) ([]Frame, error) {
	frames = slices.Grow(frames[:0], len(table)/entrySize)
	next := int64(packHeaderSize)
	for entry := range slices.Chunk(table, entrySize) {
		n := len(frames)
		f, err := parseEntry(entry)
		if err != nil {
			return nil, fmt.Errorf("frame %d: %w", n, err)
		}
		if f.Offset < next || f.Offset > end || f.end() > end {
			return nil, fmt.Errorf("frame %d: bytes %d to %d are not within %d to %d", n, f.Offset, f.end(), next, end)
		}
		next = f.end()
		frames = append(frames, f)
	}
	return frames, nil
}

// readPack reads and checks the end of a pack; the frames are not touched.
func readPack(blob BlobReader, id ID, decoders *decoders) (*Pack, error) {
	t, footer, err := new(endBuffers).read(blob, id)
	if err != nil {
		return nil, err
	}
	return new(tableBuffers).parse(blob, id, t, footer, decoders)
}

// endBuffers are what the end of a pack is read into.
type endBuffers struct{ tail, footer []byte }

// read returns the trailer of a pack, and the footer as stored.
func (b *endBuffers) read(blob BlobReader, id ID) (t packTrailer, footer []byte, err error) {
	size := blob.Size()
	if size < packHeaderSize+trailerSize {
		return packTrailer{}, nil, &CorruptError{Pack: id, Reason: fmt.Sprintf("%d bytes long, want at least %d", size, packHeaderSize+trailerSize)}
	}
	if size > maxPackSize {
		return packTrailer{}, nil, &CorruptError{Pack: id, Reason: fmt.Sprintf("%d bytes long, at most %d are allowed", size, maxPackSize)}
	}
	b.tail = sized(b.tail, int(min(size, tailRead)))
	if err := readPart(blob, id, b.tail, size-int64(len(b.tail))); err != nil {
		return packTrailer{}, nil, err
	}
	if t, err = parseTrailer(b.tail[len(b.tail)-trailerSize:], size); err != nil {
		return packTrailer{}, nil, packError(id, err)
	}
	if inTail := len(b.tail) - trailerSize; int(t.footerSize) <= inTail {
		return t, b.tail[inTail-int(t.footerSize) : inTail], nil
	}
	b.footer = sized(b.footer, int(t.footerSize)) // not longer than the file: see validate
	return t, b.footer, readPart(blob, id, b.footer, t.footerStart)
}

// tableBuffers are what a footer is decoded into.
type tableBuffers struct {
	table  []byte
	frames []Frame
}

// parse returns the pack of a footer. Its frames are in the buffers.
func (b *tableBuffers) parse(blob BlobReader, id ID, t packTrailer, footer []byte, decoders *decoders) (*Pack, error) {
	if err := b.parseFooter(t, footer, decoders); err != nil {
		return nil, packError(id, err)
	}
	return &Pack{ID: id, Kind: t.kind, Size: blob.Size(), Frames: b.frames}, nil
}

func (b *tableBuffers) parseFooter(t packTrailer, footer []byte, decoders *decoders) (err error) {
	if got := Sum(footer); got != t.footerHash {
		return fmt.Errorf("footer hashes to %s, its trailer says %s", got.Short(), t.footerHash.Short())
	}
	if b.table, err = decoders.unzip(b.table, footer, int(t.plainSize)); err != nil {
		return fmt.Errorf("footer: %w", err)
	}
	b.frames, err = parseTable(b.frames, b.table, t.footerStart)
	return err
}

// readPart fills buf with what lies at offset within a pack. It is damage if the
// pack is no longer as long as it was when it was opened.
func readPart(blob BlobReader, id ID, buf []byte, offset int64) error {
	err := readFull(blob, buf, offset)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return &CorruptError{Pack: id, Reason: fmt.Sprintf("it has become shorter while it was read: bytes %d to %d are not there", offset, offset+int64(len(buf)))}
	}
	return err
}

// packError makes what a parser said an error about the pack.
func packError(id ID, err error) error {
	var tooNew *VersionError
	if errors.As(err, &tooNew) {
		return &VersionError{What: "pack " + id.Short(), Found: tooNew.Found, Known: tooNew.Known}
	}
	return &CorruptError{Pack: id, Reason: err.Error()}
}

// packName returns the blob's name of a pack.
func packName(id ID) string {
	s := id.String()
	return "packs/" + s[:2] + "/" + s
}

// PackIDs returns all packs, sorted. Names that are no pack's are ignored.
func (r *Repository) PackIDs(ctx context.Context) ([]ID, error) {
	var ids []ID
	folders, err := r.backend.List(ctx, "packs")
	if err != nil {
		return nil, fmt.Errorf("list packs: %w", err)
	}
	for _, folder := range folders {
		if !folder.Dir || len(folder.Name) != 2 {
			continue
		}
		entries, err := r.backend.List(ctx, "packs/"+folder.Name)
		if err != nil {
			return nil, fmt.Errorf("list packs: %w", err)
		}
		for _, entry := range entries {
			id, err := ParseID(entry.Name)
			if err == nil && !entry.Dir && entry.Name[:2] == folder.Name {
				ids = append(ids, id)
			}
		}
	}
	slices.SortFunc(ids, ID.Compare)
	return ids, nil
}

// Pack reads and checks the directory of a pack; it reads no frame. It returns
// ErrNotFound, a *CorruptError or a *VersionError.
func (r *Repository) Pack(ctx context.Context, id ID) (*Pack, error) {
	return r.openPack(ctx, id, func(blob BlobReader) (*Pack, error) { return readPack(blob, id, r.decoders) })
}

// openPack calls read with the open pack. If that returns no pack, the directory
// could not be read.
func (r *Repository) openPack(ctx context.Context, id ID, read func(BlobReader) (*Pack, error)) (pack *Pack, err error) {
	blob, err := r.backend.Open(ctx, packName(id))
	if err != nil {
		return nil, fmt.Errorf("open pack %s: %w", id.Short(), err)
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	if pack, err = read(blob); pack == nil {
		err = fmt.Errorf("read pack directory: %w", err)
	}
	return pack, err
}
