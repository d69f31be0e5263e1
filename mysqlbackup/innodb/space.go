package innodb

import (
	"errors"
	"fmt"
)

// Space says how the pages of one tablespace are laid out, as its page 0
// tells it. It is a value: copies are equal and independent.
type Space struct {
	ID             uint32 // tablespace ID; 0 is the system tablespace
	Flags          uint32 // as stored on page 0
	SizePages      uint32 // size that page 0 claims, in pages, all files of the space together
	PageSize       int    // bytes of a page in the file: 1024 to 65536
	LogicalSize    int    // bytes of a page in the server's memory (innodb_page_size): 4096 to 65536
	MariaDB        bool   // written by MariaDB
	FullCRC32      bool   // MariaDB's innodb_checksum_algorithm=full_crc32
	RowCompressed  bool   // ROW_FORMAT=COMPRESSED, any KEY_BLOCK_SIZE
	PageCompressed bool   // MariaDB's PAGE_COMPRESSED; MySQL's COMPRESSION leaves no mark on page 0
	Encrypted      bool   // MySQL's ENCRYPTION='Y'; for MariaDB see Report.Encrypted
}

// Bits of the flags on page 0. Source: fsp0types.h of both servers.
const (
	flagZipShift       = 1
	flagZipMask        = 0xf
	flagPageShift      = 6
	flagPageMask       = 0xf
	flagMySQLEncrypted = 1 << 13
	flagMySQLKnown     = 1<<15 - 1
	flagMariaCompress  = 1 << 16
	flagMariaKnown     = 1<<11 - 1 | flagMariaCompress
	flagFullCRC32      = 1 << 4
	flagFullPageMask   = 0xf
	flagFullCompShift  = 5
	flagFullKnown      = 1<<8 - 1
)

// ParseSpace reads the header of a tablespace from the first [HeaderSize]
// bytes of its page 0 or more. It verifies no checksum: [Checker.Check] does.
// It fails if the bytes are not the start of a tablespace, or if the flags
// have bits that no supported server writes.
func ParseSpace(page0 []byte, mariadb bool) (Space, error) {
	s, err := parseSpace(page0, mariadb)
	if err != nil {
		return Space{}, fmt.Errorf("read tablespace header: %w", err)
	}
	return s, nil
}

func parseSpace(page0 []byte, mariadb bool) (Space, error) {
	if len(page0) < HeaderSize {
		return Space{}, fmt.Errorf("%d bytes, want at least %d", len(page0), HeaderSize)
	}
	if isZero(page0[:HeaderSize]) {
		return Space{}, errors.New("page 0 is empty")
	}
	if no := be32(page0[offPageNo:]); no != 0 {
		return Space{}, fmt.Errorf("page 0 says that it is page %d", no)
	}
	s := Space{
		ID:        be32(page0[offFSPSpaceID:]),
		Flags:     be32(page0[offFSPFlags:]),
		SizePages: be32(page0[offFSPSize:]),
		MariaDB:   mariadb,
	}
	if id := be32(page0[offSpaceID:]); id != s.ID {
		return Space{}, fmt.Errorf("page 0 says that it is in tablespace %d and in tablespace %d", id, s.ID)
	}
	if mariadb && s.Flags&flagFullCRC32 != 0 {
		return s, s.parseFullCRC32()
	}
	return s, s.parseClassic()
}

func (s *Space) parseFullCRC32() error {
	if s.Flags&^flagFullKnown != 0 {
		return s.flagsError()
	}
	s.FullCRC32 = true
	s.PageCompressed = s.Flags>>flagFullCompShift != 0
	return s.setLogical(s.Flags & flagFullPageMask)
}

func (s *Space) parseClassic() error {
	known := uint32(flagMySQLKnown)
	if s.MariaDB {
		known = flagMariaKnown
	}
	if s.Flags&^known != 0 {
		return s.flagsError()
	}
	s.PageCompressed = s.MariaDB && s.Flags&flagMariaCompress != 0
	s.Encrypted = !s.MariaDB && s.Flags&flagMySQLEncrypted != 0
	shift := s.Flags >> flagPageShift & flagPageMask
	if shift == 0 {
		shift = 5 // 16 KiB is written as 0
	}
	if err := s.setLogical(shift); err != nil {
		return err
	}
	zip := s.Flags >> flagZipShift & flagZipMask
	if zip == 0 {
		return nil
	}
	s.RowCompressed = true
	s.PageSize = 512 << zip
	if s.PageSize > 16<<10 || s.PageSize > s.LogicalSize {
		return s.flagsError()
	}
	return nil
}

// setLogical takes the size of a page as a power of two of 512 bytes.
func (s *Space) setLogical(shift uint32) error {
	if shift < 3 || shift > 7 {
		return s.flagsError()
	}
	s.LogicalSize = 512 << shift
	s.PageSize = s.LogicalSize
	return nil
}

func (s *Space) flagsError() error {
	return fmt.Errorf("flags 0x%x are not known", s.Flags)
}

// FlushLSN returns the LSN up to which MySQL says that everything was flushed
// when it stopped, from page 0 of the first file of the system tablespace.
// After a clean stop it equals the highest page LSN of all files and the
// checkpoint of the redo log. MariaDB 10.8 and later leave it 0.
func FlushLSN(page0 []byte) (uint64, error) {
	if len(page0) < HeaderSize {
		return 0, fmt.Errorf("read flush LSN: %d bytes, want at least %d", len(page0), HeaderSize)
	}
	return be64(page0[offFlushLSN:]), nil
}
