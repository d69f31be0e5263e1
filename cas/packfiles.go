package cas

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// maxOpenPacks bounds the pack files that a Reader keeps open; more are open
// only while more are being read from.
const maxOpenPacks = 32

// packFiles keeps packs open between reads. Safe for concurrent use.
type packFiles struct {
	backend Backend

	mu    sync.Mutex // guards what follows; never held during I/O
	files map[ID]*packFile
	clock uint64 // counts uses
}

// packFile is an open pack. Its fields are guarded by packFiles.mu.
type packFile struct {
	blob  BlobReader
	users int
	used  uint64 // when it was used last, by packFiles.clock
}

// acquire returns the open pack; the caller releases it.
func (p *packFiles) acquire(ctx context.Context, id ID) (*packFile, error) {
	if file := p.use(id, nil); file != nil {
		return file, nil
	}
	blob, err := p.backend.Open(ctx, packName(id))
	if err != nil {
		err = fmt.Errorf("open pack %s: %w", id.Short(), err)
	}
	if errors.Is(err, ErrNotFound) {
		err = &goneError{id, err}
	}
	if err != nil {
		return nil, err
	}
	file := p.use(id, blob)
	if file.blob != blob { // another goroutine was faster
		return file, blob.Close()
	}
	return file, nil
}

// use counts one more user of a pack. A pack that is not open is opened with
// blob; without a blob, use returns nil then.
func (p *packFiles) use(id ID, blob BlobReader) *packFile {
	p.mu.Lock()
	defer p.mu.Unlock()
	file := p.files[id]
	if file == nil {
		if blob == nil {
			return nil
		}
		file = &packFile{blob: blob}
		p.files[id] = file
	}
	p.clock++
	file.users++
	file.used = p.clock
	return file
}

// release ends a use. If too many packs are open, it closes the one that has
// not been used for longest.
func (p *packFiles) release(file *packFile) error {
	if oldest := p.retire(file); oldest != nil {
		return oldest.blob.Close()
	}
	return nil
}

func (p *packFiles) retire(file *packFile) *packFile {
	p.mu.Lock()
	defer p.mu.Unlock()
	file.users--
	if len(p.files) <= maxOpenPacks {
		return nil
	}
	var oldestID ID
	var oldest *packFile
	for id, f := range p.files {
		if f.users == 0 && (oldest == nil || f.used < oldest.used) {
			oldestID, oldest = id, f
		}
	}
	if oldest != nil {
		delete(p.files, oldestID)
	}
	return oldest
}

// close closes all packs. No one may be using them.
func (p *packFiles) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, f := range p.files {
		errs = append(errs, f.blob.Close())
	}
	clear(p.files)
	return errors.Join(errs...)
}
