package innodb

import (
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"strconv"
	"strings"
)

// Layout of MySQL's redo log since 8.0.30.
// Source: log0constants.h and log0types.h.
const (
	mysqlRedoDir      = "#innodb_redo"
	mysqlRedoPrefix   = "#ib_redo"
	mysqlRedoFormat   = 6    // 8.0.30 and later
	mysqlRedoHeader   = 2048 // bytes before the first block of data
	offMySQLUUID      = 4    // the same in all files of a log
	offMySQLFlags     = 48
	offMySQLCkptLSN   = 8
	mysqlCkpt1        = 512 // offsets of the two checkpoint blocks
	mysqlCkpt2        = 1536
	flagCrashUnsafe   = 1 << 1 // redo logging was off, and pages have not been flushed since
	flagNoInit        = 1 << 2 // the data directory was never finished
	blockHeader       = 12     // number, length, first group, epoch
	blockTrailer      = 4
	blockEncryptedBit = 0x8000 // in the length
	blocksPerEpoch    = 1 << 30
	offBlockLen       = 4
	offBlockEpoch     = 8
	maxRedoLSN        = 1<<63 - 1
	maxMySQLRedoFile  = 4096 // files; a server makes 32
)

// mysqlRedoFile is what the header of one file says.
type mysqlRedoFile struct {
	name    string
	start   uint64 // LSN of the first block
	end     uint64 // LSN after the last block that fits
	uuid    uint32
	flags   uint32
	ckpt    uint64 // newest valid checkpoint in this file; 0 if none
	creator string
}

func readMySQLRedo(fsys fs.FS) (Redo, error) {
	files, err := mysqlRedoFiles(fsys)
	if err != nil {
		return Redo{}, err
	}
	newest := files[len(files)-1]
	r := Redo{Format: "mysql " + strconv.Itoa(mysqlRedoFormat), Creator: newest.creator}
	for _, f := range files {
		r.CheckpointLSN = max(r.CheckpointLSN, f.ckpt)
		if f.uuid != newest.uuid {
			return Redo{}, fmt.Errorf("%s and %s are of different servers", f.name, newest.name)
		}
	}
	if r.CheckpointLSN == 0 {
		return Redo{}, errors.New("no file has a valid checkpoint")
	}
	if err := judgeMySQLRedo(fsys, files, &r); err != nil {
		return Redo{}, err
	}
	for _, f := range files {
		if r.Clean && f.flags&(flagCrashUnsafe|flagNoInit) != 0 {
			r.Clean, r.Why = false, fmt.Sprintf("%s has flags 0x%x: redo logging was off or the server was never initialized", f.name, f.flags)
		}
	}
	return r, nil
}

// mysqlRedoFiles reads the header of every file, ordered by LSN.
func mysqlRedoFiles(fsys fs.FS) ([]mysqlRedoFile, error) {
	entries, err := fs.ReadDir(fsys, mysqlRedoDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, oldMySQLRedo(fsys, err)
	}
	if err != nil {
		return nil, err
	}
	var files []mysqlRedoFile
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), mysqlRedoPrefix)
		if _, err := strconv.ParseUint(digits, 10, 64); !ok || err != nil {
			continue // spare files end in _tmp
		}
		if len(files) == maxMySQLRedoFile {
			return nil, fmt.Errorf("more than %d files in %s", maxMySQLRedoFile, mysqlRedoDir)
		}
		f, err := readMySQLRedoFile(fsys, mysqlRedoDir+"/"+e.Name())
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no %s file in %s", mysqlRedoPrefix, mysqlRedoDir)
	}
	sort.Slice(files, func(i, j int) bool { return files[i].start < files[j].start })
	return files, nil
}

// oldMySQLRedo says what is there instead of the folder.
func oldMySQLRedo(fsys fs.FS, missing error) error {
	const name = "ib_logfile0"
	f, err := openRedo(fsys, name)
	if err != nil {
		return missing
	}
	var b [redoBlock]byte
	if n, err := f.at.ReadAt(b[:], 0); n < len(b) {
		return errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	return errors.Join(fmt.Errorf("%w: %s has format %d of %q, from before MySQL 8.0.30",
		ErrRedoFormat, name, be32(b[offRedoFormat:]), creator(b[:])), f.Close())
}

func readMySQLRedoFile(fsys fs.FS, name string) (_ mysqlRedoFile, err error) {
	f, err := openRedo(fsys, name)
	if err != nil {
		return mysqlRedoFile{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var header [mysqlRedoHeader]byte
	if n, err := f.at.ReadAt(header[:], 0); n < len(header) {
		return mysqlRedoFile{}, fmt.Errorf("%s: %w", name, err)
	}
	return parseMySQLRedoHeader(name, header[:], f.size)
}

// parseMySQLRedoHeader decodes the first mysqlRedoHeader bytes of a file of
// size bytes.
func parseMySQLRedoHeader(name string, header []byte, size int64) (mysqlRedoFile, error) {
	if format := be32(header[offRedoFormat:]); format != mysqlRedoFormat {
		return mysqlRedoFile{}, fmt.Errorf("%w: %s has format %d of %q, want %d",
			ErrRedoFormat, name, format, creator(header), mysqlRedoFormat)
	}
	if !redoBlockOK(header) {
		return mysqlRedoFile{}, fmt.Errorf("%s: checksum of the header is wrong", name)
	}
	f := mysqlRedoFile{
		name:    name,
		start:   be64(header[offRedoStart:]),
		uuid:    be32(header[offMySQLUUID:]),
		flags:   be32(header[offMySQLFlags:]),
		creator: creator(header),
	}
	if size < mysqlRedoHeader {
		return mysqlRedoFile{}, fmt.Errorf("%s: file of %d bytes is too short", name, size)
	}
	data := uint64(size-mysqlRedoHeader) &^ (redoBlock - 1)
	if f.start%redoBlock != 0 || f.start > maxRedoLSN-data {
		return mysqlRedoFile{}, fmt.Errorf("%s: start LSN %d is impossible", name, f.start)
	}
	f.end = f.start + data
	for _, off := range []int{mysqlCkpt1, mysqlCkpt2} {
		if b := header[off : off+redoBlock]; redoBlockOK(b) {
			f.ckpt = max(f.ckpt, be64(b[offMySQLCkptLSN:]))
		}
	}
	return f, nil
}

// judgeMySQLRedo reads the block that the checkpoint is in. Recovery follows the log
// until a block that is not full, so that this block alone says whether
// anything follows. What lies behind it may be the rest of a longer log that
// an earlier recovery has cut off.
func judgeMySQLRedo(fsys fs.FS, files []mysqlRedoFile, r *Redo) error {
	r.EndLSN = r.CheckpointLSN
	first := r.CheckpointLSN &^ (redoBlock - 1)
	offset := r.CheckpointLSN - first
	if offset < blockHeader || offset >= redoBlock-blockTrailer {
		return fmt.Errorf("checkpoint LSN %d is not inside a block", r.CheckpointLSN)
	}
	b, err := readMySQLBlock(fsys, files, first)
	if err != nil {
		return err
	}
	length, state := parseBlock(b[:], first)
	switch {
	case state == blockEncrypted:
		return fmt.Errorf("%w: it is encrypted", ErrRedoFormat)
	case state == blockForeign && offset == blockHeader:
		r.Clean = true // the block before is full, and this one has not been begun
	case state != blockValid || length < offset:
		r.Why = fmt.Sprintf("the block of checkpoint %d is damaged or missing", r.CheckpointLSN)
	case length > offset:
		r.EndLSN = first + length
		r.Why = replayWhy(r)
	default:
		r.Clean = true
	}
	return nil
}

// readMySQLBlock reads the block that starts at lsn from the file that has it.
func readMySQLBlock(fsys fs.FS, files []mysqlRedoFile, lsn uint64) (b [redoBlock]byte, err error) {
	i := sort.Search(len(files), func(i int) bool { return files[i].end > lsn })
	if i == len(files) || files[i].start > lsn {
		return b, fmt.Errorf("no file has the block of checkpoint LSN %d", lsn)
	}
	f, err := openRedo(fsys, files[i].name)
	if err != nil {
		return b, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if n, err := f.at.ReadAt(b[:], int64(mysqlRedoHeader+lsn-files[i].start)); n < len(b) {
		return b, fmt.Errorf("%s: %w", files[i].name, err)
	}
	return b, nil
}

// blockState is what was found where a block belongs.
type blockState int

const (
	blockForeign   blockState = iota // not this block: never written in this round
	blockTorn                        // the right number, but a wrong checksum or length
	blockEncrypted                   // the right number, the rest is not readable
	blockValid
)

// parseBlock judges the redoBlock bytes of b as the block that starts at lsn,
// and returns how many of them, with the header, are used.
func parseBlock(b []byte, lsn uint64) (uint64, blockState) {
	number := lsn / redoBlock
	if be32(b) != uint32(number%blocksPerEpoch)+1 || be32(b[offBlockEpoch:]) != uint32(number/blocksPerEpoch)+1 {
		return 0, blockForeign
	}
	length := uint64(be16(b[offBlockLen:]))
	switch {
	case length&blockEncryptedBit != 0:
		return 0, blockEncrypted
	case !redoBlockOK(b), length < blockHeader, length > redoBlock:
		return 0, blockTorn
	}
	return length, blockValid
}
