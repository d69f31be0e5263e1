// Package innodb reads files of InnoDB: it checks pages while somebody else
// copies them, and decodes redo logs far enough to say whether a server was
// stopped cleanly. It speaks no SQL and writes nothing.
//
// Start with [NewChecker] for a tablespace, hand every range of its bytes to
// [Checker.Check], and add the reports up with [Report.Merge]. [ReadRedo] says
// what the redo log proves; [FlushLSN] is MySQL's second witness.
//
// All integers on disk are big-endian. Names of fields and their offsets
// follow the source of the servers: storage/innobase/include/fil0types.h,
// fsp0types.h, log0constants.h (MySQL) and fil0fil.h, fsp0types.h, log0log.h
// (MariaDB).
package innodb

import "encoding/binary"

// Offsets in the header of every page, in bytes.
const (
	offChecksum   = 0  // stored checksum; full_crc32: key version
	offPageNo     = 4  // number of the page in its tablespace
	offLSN        = 16 // 8 bytes: end of the newest change
	offType       = 24 // 2 bytes
	offFlushLSN   = 26 // 8 bytes: flush LSN on page 0 of the system tablespace, otherwise see offKeyVersion
	offKeyVersion = 26 // MariaDB without full_crc32: version of the encryption key, 0 if plain
	offPostCRC    = 30 // MariaDB without full_crc32: checksum of the encrypted page
	offSpaceID    = 34
	offBody       = 38 // the header ends here
)

// Offsets in page 0, in bytes.
const (
	offFSPSpaceID = 38
	offFSPSize    = 46 // pages
	offFSPFlags   = 54
)

// HeaderSize is how many bytes of page 0 [ParseSpace] and [FlushLSN] need.
const HeaderSize = 58

// Page types that change how a page is checked.
const (
	typeMySQLCompressed       = 14
	typeMySQLEncrypted        = 15
	typeMySQLCompressedAndEnc = 16
	typeMySQLEncryptedRTree   = 17
	typeMariaCompressed       = 34354
	typeMariaCompressedAndEnc = 37401
)

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
