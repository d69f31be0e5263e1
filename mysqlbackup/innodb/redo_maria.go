package innodb

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
)

// Layout of MariaDB's redo log since 10.8: one file, a ring after its header.
// Source: log0log.h; mini-transactions: mtr0types.h, parse in log0recv.cc.
const (
	mariaRedoName      = "ib_logfile0"
	mariaRedoFormat    = 0x50687973 // "Phys"
	mariaRedoEncrypted = 1 << 31    // in the format
	mariaRedoKey       = 0xf09f979d // format of 10.11 if it is encrypted: the character of a key
	mariaRedoHeader    = 12288      // bytes before the ring
	mariaCkptSize      = 64         // bytes, the last four a CRC-32C
	maxMTR             = 1 << 20    // bytes of a mini-transaction, about
	mariaScanBuffer    = 64 << 10
)

// fileCheckpoint is the record that ends a checkpoint: type and length, two
// zero bytes for a page, 8 bytes of LSN.
const (
	fileCheckpoint     = 0xfa
	fileCheckpointSize = 11
)

func readMariaRedo(fsys fs.FS) (_ Redo, err error) {
	f, err := openRedo(fsys, mariaRedoName)
	if err != nil {
		return Redo{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var header [mariaRedoHeader]byte
	if n, err := f.at.ReadAt(header[:], 0); n < len(header) && n < redoBlock {
		return Redo{}, fmt.Errorf("%s: %w", mariaRedoName, err)
	}
	r, ring, end, err := parseMariaRedoHeader(header[:], f.size)
	if err != nil {
		return Redo{}, fmt.Errorf("%s: %w", mariaRedoName, err)
	}
	ring.at = f.at
	return r, judgeMariaRedo(&r, ring, end)
}

// parseMariaRedoHeader decodes the header of a file of size bytes. It returns
// the newest checkpoint and the LSN where the log went on after it.
func parseMariaRedoHeader(header []byte, size int64) (Redo, *mariaRing, uint64, error) {
	if format := be32(header[offRedoFormat:]); format != mariaRedoFormat {
		if format == mariaRedoFormat|mariaRedoEncrypted || format == mariaRedoKey {
			return Redo{}, nil, 0, fmt.Errorf("%w: it is encrypted", ErrRedoFormat)
		}
		return Redo{}, nil, 0, fmt.Errorf("%w: format 0x%x of %q, want 0x%x of MariaDB 10.8 and later",
			ErrRedoFormat, format, creator(header), mariaRedoFormat)
	}
	if !redoBlockOK(header) {
		return Redo{}, nil, 0, errors.New("checksum of the header is wrong")
	}
	if size <= mariaRedoHeader {
		return Redo{}, nil, 0, fmt.Errorf("file of %d bytes is too short", size)
	}
	ring := &mariaRing{first: be64(header[offRedoStart:]), capacity: uint64(size) - mariaRedoHeader}
	r := Redo{Format: "mariadb Phys", Creator: creator(header)}
	var end uint64
	for _, off := range []int{4096, 8192} {
		b := header[off : off+mariaCkptSize]
		lsn, e := be64(b), be64(b[8:])
		if !sumOK(b) || lsn < ring.first || e < lsn || e > maxRedoLSN {
			continue
		}
		if lsn > r.CheckpointLSN || lsn == r.CheckpointLSN && e > end {
			r.CheckpointLSN, end = lsn, e
		}
	}
	if r.CheckpointLSN == 0 {
		return Redo{}, nil, 0, errors.New("no valid checkpoint")
	}
	return r, ring, end, nil
}

// judgeMariaRedo reads what follows a checkpoint, which was taken when the log
// ended at end. After a clean stop it is at most the record that ends this
// same checkpoint.
func judgeMariaRedo(r *Redo, ring *mariaRing, end uint64) error {
	m, err := ring.mtr(end)
	r.EndLSN = end + m.size
	if err == nil && m.size > 0 && m.checkpoint == r.CheckpointLSN {
		m, err = ring.mtr(r.EndLSN)
		r.EndLSN += m.size
	}
	if err != nil {
		return err
	}
	r.Clean = end == r.CheckpointLSN && m.size == 0
	if !r.Clean {
		r.Why = replayWhy(r)
	}
	return nil
}

// mariaRing reads the ring by LSN.
type mariaRing struct {
	at       io.ReaderAt
	first    uint64 // LSN of the start of the ring in its first round
	capacity uint64 // bytes of the ring
	buf      []byte // part of the ring …
	from     uint64 // … from this LSN on
}

// mariaMTR is one mini-transaction.
type mariaMTR struct {
	size       uint64 // bytes; 0 if what stands there is not a valid one of this round
	checkpoint uint64 // if it is nothing but the end of a checkpoint: the LSN of that
}

// mtr decodes the mini-transaction at lsn: records, a byte that tells the
// round of the ring, and the CRC-32C of the records.
func (g *mariaRing) mtr(lsn uint64) (mariaMTR, error) {
	size, err := g.records(lsn)
	if size == 0 || err != nil {
		return mariaMTR{}, err
	}
	round, err := g.byteAt(lsn + size)
	if err != nil || round != g.sequence(lsn+size) {
		return mariaMTR{}, err
	}
	sum, stored := uint32(0), uint32(0)
	record := make([]byte, 0, fileCheckpointSize)
	for i := range size + 5 {
		b, err := g.byteAt(lsn + i)
		switch {
		case err != nil:
			return mariaMTR{}, err
		case i > size:
			stored = stored<<8 | uint32(b)
		case i < size:
			sum = crc32.Update(sum, castagnoli(), []byte{b})
			if i < fileCheckpointSize {
				record = append(record, b)
			}
		}
	}
	if sum != stored {
		return mariaMTR{}, nil
	}
	m := mariaMTR{size: size + 5}
	if size == fileCheckpointSize && record[0] == fileCheckpoint && record[1] == 0 && record[2] == 0 {
		m.checkpoint = be64(record[3:])
	}
	return m, nil
}

// records returns the length of the records at lsn, 0 if they do not end.
func (g *mariaRing) records(lsn uint64) (uint64, error) {
	var size uint64
	for size < maxMTR {
		b, err := g.byteAt(lsn + size)
		if err != nil {
			return 0, err
		}
		if b <= 1 {
			return size, nil
		}
		length := uint64(b & 0xf)
		if length == 0 {
			more, err := g.varint(lsn + size + 1)
			if err != nil || more >= maxMTR {
				return 0, err
			}
			length = more + 15
		}
		size += 1 + length
	}
	return 0, nil
}

// varint decodes a number of one to five bytes: as many leading one bits as
// bytes follow, each length going on where the shorter ones end.
func (g *mariaRing) varint(lsn uint64) (uint64, error) {
	b, err := g.byteAt(lsn)
	if err != nil {
		return 0, err
	}
	var base uint64
	n := 0 // bytes that follow
	for ; n < 4 && b&(0x80>>n) != 0; n++ {
		base += 1 << (7 * (n + 1))
	}
	v := uint64(b) & (0x7f >> n)
	for i := range n {
		b, err := g.byteAt(lsn + 1 + uint64(i))
		if err != nil {
			return 0, err
		}
		v = v<<8 | uint64(b)
	}
	return base + v, nil
}

// sequence is the byte that ends a mini-transaction there; it alternates from
// round to round.
func (g *mariaRing) sequence(lsn uint64) byte {
	return byte(1 - (lsn-g.first)/g.capacity%2)
}

// byteAt returns the byte at lsn, through the buffer.
func (g *mariaRing) byteAt(lsn uint64) (byte, error) {
	if lsn < g.from || lsn-g.from >= uint64(len(g.buf)) {
		pos := (lsn - g.first) % g.capacity
		g.buf = append(g.buf[:0], make([]byte, min(g.capacity-pos, mariaScanBuffer))...)
		g.from = lsn
		if n, err := g.at.ReadAt(g.buf, mariaRedoHeader+int64(pos)); n < len(g.buf) {
			g.buf = g.buf[:0]
			return 0, fmt.Errorf("%s: %w", mariaRedoName, err)
		}
	}
	return g.buf[lsn-g.from], nil
}
