package index

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/zeebo/blake3"
	"go.etcd.io/bbolt"

	"github.com/shardseed/shardseed/cas"
)

const (
	batchFrames = 2 << 20   // sorted at once: about 250 MB while a new database is filled
	txFrames    = 128 << 10 // put in one transaction
	fileCursors = 32        // lookups at once; more wait
	fill        = 0.9       // of a page: keys come sorted
	fileLock    = 100 * time.Millisecond
)

// file is an open database.
//
// Lookups use cursors that are made when it is opened. They never begin a
// transaction: bbolt looks at the file then while it holds a lock, and a fault
// at that moment would leave the lock held, and everybody waiting, for ever.
type file struct {
	db      *bbolt.DB
	header  header
	packs   map[uint32]filePack // by ordinal
	batch   int                 // frames that are sorted at once
	txs     []*bbolt.Tx         // of the cursors
	cursors chan *bbolt.Cursor  // through the chunks, when opened for reading
	lost    atomic.Bool         // bbolt panicked: its locks are in an unknown state
}

// access says what a database is opened for.
type access bool

const (
	reading access = false
	writing access = true
)

// openFile opens a database whose seal has been checked, and reads its table
// of packs. A database that does not exist is made if it is not opened for
// reading only.
func openFile(path string, repo cas.UUID, how access) (f *file, err error) {
	options := &bbolt.Options{
		Timeout:        fileLock, // the seal is locked: only a stranger could hold bbolt's own lock
		ReadOnly:       how == reading,
		FreelistType:   bbolt.FreelistMapType,
		NoStatistics:   true,
		NoSync:         true, // close syncs, before the seal is written; until then the database is void
		NoGrowSync:     true,
		NoFreelistSync: false,
	}
	f = &file{batch: batchFrames}
	err = f.guard(func() error {
		var err error
		if f.db, err = bbolt.Open(path, 0o600, options); err != nil {
			return err
		}
		if err := f.load(repo); err != nil || how == writing {
			return err
		}
		return f.makeCursors()
	})
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// makeCursors makes as many cursors as there may be lookups at once.
func (f *file) makeCursors() error {
	f.cursors = make(chan *bbolt.Cursor, fileCursors)
	for range fileCursors {
		tx, err := f.db.Begin(false)
		if err != nil {
			return err
		}
		f.txs = append(f.txs, tx)
		f.cursors <- tx.Bucket(bucketChunks()).Cursor()
	}
	return nil
}

// close closes the database; what was written is on disk then. No lookup runs.
// A nil file is closed. A lost one is left to the process's end: its seal or
// its whole file will go, so that nobody else is in the way of its locks.
func (f *file) close() error {
	if f == nil || f.db == nil || f.lost.Load() {
		return nil
	}
	return f.guard(func() error {
		var err error
		for _, tx := range f.txs {
			err = errors.Join(err, tx.Rollback())
		}
		if !f.db.IsReadOnly() {
			err = errors.Join(err, f.db.Sync())
		}
		return errors.Join(err, f.db.Close())
	})
}

// load reads the header and the table of packs, or makes the buckets of a new
// database.
func (f *file) load(repo cas.UUID) error {
	if !f.db.IsReadOnly() {
		if err := f.create(repo); err != nil {
			return err
		}
	}
	return f.db.View(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketMeta(), bucketPacks(), bucketChunks()} {
			if tx.Bucket(name) == nil {
				return fmt.Errorf("%w: no bucket %q", errFile, name)
			}
		}
		var err error
		if f.header, err = decodeHeader(tx.Bucket(bucketMeta()).Get(keyHeader())); err != nil {
			return err
		}
		if f.header.repo != repo {
			return fmt.Errorf("%w: it is of repository %s", errFile, f.header.repo)
		}
		f.packs = make(map[uint32]filePack)
		return tx.Bucket(bucketPacks()).ForEach(f.loadPack)
	})
}

func (f *file) loadPack(key, value []byte) error {
	if len(key) != 4 || len(value) != packSize {
		return fmt.Errorf("%w: pack entry %x %x", errFile, key, value)
	}
	f.packs[binary.BigEndian.Uint32(key)] = filePack{id: cas.ID(value[:32]), frames: binary.BigEndian.Uint32(value[32:])}
	return nil
}

// create makes what a new database lacks.
func (f *file) create(repo cas.UUID) error {
	return f.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketPacks(), bucketChunks()} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		meta, err := tx.CreateBucketIfNotExists(bucketMeta())
		if err != nil || meta.Get(keyHeader()) != nil {
			return err
		}
		return meta.Put(keyHeader(), header{repo: repo}.encode())
	})
}

// appendCopies appends the copies of a chunk that lie in living packs.
func (f *file) appendCopies(copies []cas.Location, id cas.ID, live map[uint32]cas.ID) ([]cas.Location, error) {
	cursor := <-f.cursors
	defer func() { f.cursors <- cursor }()
	err := f.guard(func() error {
		for key, value := cursor.Seek(id[:]); bytes.HasPrefix(key, id[:]); key, value = cursor.Next() {
			ordinal, frame, err := decodeEntry(key, value)
			if err != nil {
				return err
			}
			if pack, alive := live[ordinal]; alive {
				copies = append(copies, cas.Location{Pack: pack, Frame: frame})
			}
		}
		return nil
	})
	return copies, err
}

// batch is what is sorted before it is put: the frames of some packs.
type batch struct {
	packs  []*cas.Pack
	frames int
}

// put adds the packs of a batch, in transactions of neighboring keys: each
// touches few pages of a large database.
func (f *file) put(b batch) error {
	slots := make([]slot, 0, b.frames)
	for i, pack := range b.packs {
		for n := range pack.Frames {
			slots = append(slots, slot{frame: &pack.Frames[n], ordinal: f.header.next + uint32(i), number: uint32(n)})
		}
	}
	slices.SortFunc(slots, func(a, b slot) int {
		if c := a.frame.ID.Compare(b.frame.ID); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(a.ordinal, b.ordinal), cmp.Compare(a.number, b.number))
	})
	for part := range slices.Chunk(slots, txFrames) {
		if err := f.db.Update(func(tx *bbolt.Tx) error { return putSlots(tx, part) }); err != nil {
			return err
		}
	}
	return f.putPacks(b)
}

func putSlots(tx *bbolt.Tx, slots []slot) error {
	bucket := tx.Bucket(bucketChunks())
	bucket.FillPercent = fill
	for _, s := range slots {
		if err := bucket.Put(s.key(), s.value()); err != nil {
			return err
		}
	}
	return nil
}

// putPacks adds the packs themselves, and counts.
func (f *file) putPacks(b batch) error {
	next := f.header
	next.next += uint32(len(b.packs))
	next.entries += uint64(b.frames)
	err := f.db.Update(func(tx *bbolt.Tx) error {
		for i, pack := range b.packs {
			key := binary.BigEndian.AppendUint32(nil, f.header.next+uint32(i))
			value := binary.BigEndian.AppendUint32(slices.Clone(pack.ID[:]), uint32(len(pack.Frames)))
			if err := tx.Bucket(bucketPacks()).Put(key, value); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta()).Put(keyHeader(), next.encode())
	})
	if err != nil {
		return err
	}
	for i, pack := range b.packs {
		f.packs[f.header.next+uint32(i)] = filePack{id: pack.ID, frames: uint32(len(pack.Frames))}
	}
	f.header = next
	return nil
}

// forget removes packs from the table. Their entries stay, and mean nothing.
func (f *file) forget(ordinals []uint32) error {
	err := f.db.Update(func(tx *bbolt.Tx) error {
		for _, ordinal := range ordinals {
			if err := tx.Bucket(bucketPacks()).Delete(binary.BigEndian.AppendUint32(nil, ordinal)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, ordinal := range ordinals {
		delete(f.packs, ordinal)
	}
	return nil
}

// guard runs fn and turns a panic of bbolt, or a memory fault in the mapped
// file, into an error: the disk under a cache may fail, or somebody may cut the
// file short, while a server that is stopped waits for its backup.
func (f *file) guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			f.lost.Store(true)
			err = fmt.Errorf("%w: %v", errFile, cause)
		}
	}()
	return fn()
}

// sealText returns what the seal of a database says: its size and hash.
func sealText(path string) (text string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	hash := blake3.New()
	size, err := io.CopyBuffer(hash, onlyReader{f}, make([]byte, 1<<20))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("shardseed index %d\n%d %x\n", fileVersion, size, hash.Sum(nil)), nil
}

// onlyReader keeps io.CopyBuffer from the short cuts of *os.File, which would
// not use the buffer.
type onlyReader struct{ io.Reader }
