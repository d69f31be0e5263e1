package innodb

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
)

// Checker checks the pages of one file. It is safe for concurrent use by
// goroutines that bring a Report each.
type Checker struct {
	space       Space
	firstPage   uint32
	doublewrite doublewrite
	inflaters   *sync.Pool // of *inflater
}

// NewChecker reads page 0 of a tablespace's first file, and of the system
// tablespace also where the doublewrite area lies. It fails if page 0 is not
// the start of a tablespace, and then nothing about the file can be checked.
func NewChecker(first io.ReaderAt, mariadb bool) (*Checker, error) {
	var head [HeaderSize]byte
	if n, err := first.ReadAt(head[:], 0); n < len(head) {
		return nil, fmt.Errorf("read tablespace header: %w", err)
	}
	space, err := ParseSpace(head[:], mariadb)
	if err != nil {
		return nil, err
	}
	c := &Checker{space: space, inflaters: &sync.Pool{New: func() any { return &inflater{} }}}
	if space.ID == 0 {
		c.doublewrite, err = readDoublewrite(first, space)
	}
	return c, err
}

// From returns a Checker for a further file of the same tablespace, which has
// no page 0 of its own: firstPage is the number of its first page, the sum of
// the pages of the files before it (ibdata2 after ibdata1).
func (c *Checker) From(firstPage uint32) *Checker {
	further := *c
	further.firstPage = firstPage
	return &further
}

// Space returns what page 0 said.
func (c *Checker) Space() Space { return c.space }

// tailSlack is what may be missing at the end of a file with small pages.
const tailSlack = 4096

// CheckSize returns an error if a file of size bytes, the only one of its
// tablespace, is not whole: not a multiple of the page size, or shorter than
// page 0 says. Servers start on such files, so it is a warning. MariaDB itself
// may leave out the end of a file with small pages, less than tailSlack bytes.
func (c *Checker) CheckSize(size int64) error {
	pageSize := int64(c.space.PageSize)
	if size%pageSize != 0 {
		return fmt.Errorf("file of %d bytes is not a multiple of its page size %d", size, pageSize)
	}
	if pages := size / pageSize; (int64(c.space.SizePages)-pages)*pageSize >= max(pageSize, tailSlack) {
		return fmt.Errorf("file has %d pages, page 0 says %d", pages, c.space.SizePages)
	}
	return nil
}

// Check checks the pages in data, the bytes of the file from offset on, and
// adds the result to r. The offset is a multiple of the page size, and so is
// the length of data unless the file ends inside a page, which counts as a bad
// page. Check keeps no reference to data and does not change it.
func (c *Checker) Check(offset int64, data []byte, r *Report) {
	size := c.space.PageSize
	if offset < 0 || offset%int64(size) != 0 {
		panic("innodb: internal error: check from inside a page")
	}
	no := int64(c.firstPage) + offset/int64(size)
	for ; len(data) >= size; no++ {
		c.add(no, data[:size:size], r)
		data = data[size:]
	}
	if len(data) > 0 {
		r.Pages++
		r.bad(pageNo(no), fmt.Sprintf("file ends after %d of %d bytes of this page", len(data), size))
	}
}

func pageNo(no int64) uint32 { return uint32(min(no, math.MaxUint32)) }

// add checks one page and counts it.
func (c *Checker) add(number int64, p []byte, r *Report) {
	r.Pages++
	if isZero(p) {
		r.Zero++
		return
	}
	no := pageNo(number)
	if c.doublewrite.contains(no) {
		r.Doublewrite++
		return
	}
	v := c.page(number, p)
	if v.why != "" {
		r.bad(no, v.why)
		return
	}
	if v.opaque {
		r.Unchecked++
	} else {
		r.Checked++
	}
	if v.encrypted {
		r.Encrypted++
	}
	r.MaxLSN = max(r.MaxLSN, be64(p[offLSN:]))
}

// verdict is what is known of one page.
type verdict struct {
	why       string // of a bad page; empty if the page is good as far as it can be read
	opaque    bool   // the content could not be verified
	encrypted bool
	noSpaceID bool // the space ID in the header is not plain
}

// page checks one page that is neither empty nor in the doublewrite area.
func (c *Checker) page(number int64, p []byte) verdict {
	v := c.content(p)
	switch {
	case v.why != "":
	case int64(be32(p[offPageNo:])) != number:
		v.why = fmt.Sprintf("page says that it is page %d", be32(p[offPageNo:]))
	case !v.noSpaceID && be32(p[offSpaceID:]) != c.space.ID:
		v.why = fmt.Sprintf("page says that it is in tablespace %d, not in %d", be32(p[offSpaceID:]), c.space.ID)
	}
	return v
}

// content verifies a page by its own checksums.
func (c *Checker) content(p []byte) verdict {
	switch {
	case c.space.FullCRC32:
		return fullCRC32(p)
	case c.space.MariaDB:
		return c.mariaClassic(p)
	default:
		return c.mysql(p)
	}
}

func (c *Checker) mysql(p []byte) verdict {
	switch be16(p[offType:]) {
	case typeMySQLEncrypted, typeMySQLCompressedAndEnc, typeMySQLEncryptedRTree:
		return verdict{opaque: true, encrypted: true}
	case typeMySQLCompressed:
		if !c.space.RowCompressed {
			return c.unpacked(p, unpackMySQL)
		}
	}
	return c.plain(p)
}

// plain verifies a page that is neither encrypted nor page compressed.
func (c *Checker) plain(p []byte) verdict {
	if c.space.RowCompressed {
		return verdict{why: zipWhy(p), opaque: be32(p) == noChecksum}
	}
	v := verdict{why: classicWhy(p), opaque: be32(p) == noChecksum}
	if v.why == "" {
		v.why = lsnWhy(p, be32(p[len(p)-4:]))
	}
	return v
}

// lsnWhy compares the low half of the LSN in the header with the trailer's:
// they differ if a write was torn.
func lsnWhy(p []byte, trailer uint32) string {
	if low := be32(p[offLSN+4:]); low != trailer {
		return fmt.Sprintf("low half of the LSN is 0x%08x in the header, 0x%08x in the trailer", low, trailer)
	}
	return ""
}

// mariaClassic verifies a page of MariaDB without full_crc32. Old pages
// may have anything where the version of the key stands, so that a page which
// is no good encrypted one is tried as a plain one.
func (c *Checker) mariaClassic(p []byte) verdict {
	if be16(p[offType:]) == typeMariaCompressed && !c.space.RowCompressed {
		return c.unpacked(p, unpackMaria)
	}
	if be32(p[offKeyVersion:]) == 0 {
		return c.plain(p)
	}
	crc := classicCRC32
	if c.space.RowCompressed {
		crc = zipCRC32
	}
	stored, computed := be32(p[offPostCRC:]), crc(p)
	switch {
	case stored == computed:
		return verdict{encrypted: true}
	case be16(p[offType:]) == typeMariaCompressedAndEnc && !c.space.RowCompressed:
		// The server does not verify this checksum, and good pages of MariaDB
		// 10.11 have been seen to fail it.
		// Source: fil_space_verify_crypt_checksum in fil0crypt.cc.
		return verdict{encrypted: true, opaque: true}
	}
	v := c.plain(p)
	if v.why != "" {
		v.why += "; as an encrypted page: " + checksumWhy(stored, computed)
	}
	return v
}

// fullCRC32 verifies a page of MariaDB with full_crc32, which may be encrypted
// and page compressed: the checksum is of the bytes as they are stored.
func fullCRC32(p []byte) verdict {
	const compressed = 1 << 15
	v := verdict{encrypted: be32(p) != 0}
	used := p
	if t := be16(p[offType:]); t&compressed != 0 {
		size := int(t&^compressed) << 8
		if size == 0 || size >= len(p) {
			v.why = fmt.Sprintf("compressed length %d does not fit into the page", size)
			return v
		}
		used, v.noSpaceID = p[:size], true
	}
	end := len(used) - 4
	if stored, computed := be32(used[end:]), crc32c(used[:end]); stored != computed {
		v.why = checksumWhy(stored, computed)
		return v
	}
	v.noSpaceID = v.noSpaceID || v.encrypted
	if !v.noSpaceID {
		v.why = lsnWhy(p, be32(p[len(p)-8:]))
	}
	return v
}

// doublewrite is where copies of other tablespaces' pages lie in the system
// tablespace; the zero value is nowhere.
type doublewrite struct {
	blocks [2]uint32 // number of the first page of each
	pages  uint32    // length of each
}

// readDoublewrite finds the doublewrite area from page 5 of the system
// tablespace. Without the area's mark there is none.
// Source: TRX_SYS_DOUBLEWRITE in trx0sys.h.
func readDoublewrite(first io.ReaderAt, s Space) (doublewrite, error) {
	const (
		page      = 5
		fromEnd   = 190
		magic     = 536853855
		minExtent = 1 << 20 // bytes; never less than minPages
		minPages  = 64
	)
	var b [12]byte
	n, err := first.ReadAt(b[:], int64(page+1)*int64(s.PageSize)-fromEnd)
	if n < len(b) && !errors.Is(err, io.EOF) {
		return doublewrite{}, fmt.Errorf("read page %d of the system tablespace: %w", page, err)
	}
	if n < len(b) || be32(b[:]) != magic {
		return doublewrite{}, nil
	}
	return doublewrite{
		blocks: [2]uint32{be32(b[4:]), be32(b[8:])},
		pages:  uint32(max(minExtent/s.PageSize, minPages)),
	}, nil
}

func (d doublewrite) contains(no uint32) bool {
	return no-d.blocks[0] < d.pages || no-d.blocks[1] < d.pages
}
