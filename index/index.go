package index

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
)

// Stats measures an index.
type Stats struct {
	Packs     int   // that are there and alive
	Chunks    int64 // frames in them: a chunk counts once for each copy
	FileBytes int64 // of the files in the folder; 0 when all is elsewhere
}

// Index finds chunks in a repository. Safe for concurrent use.
type Index struct {
	repo    Source
	folder  folder
	scratch scratch
	batch   int        // frames that are sorted at once
	saving  sync.Mutex // held while the index is brought up to date

	mu       sync.RWMutex // guards what follows; held for reading in a Lookup
	files    parts        // in the folder
	overlay  parts        // packs that are not: they could not be written
	problems []error
}

// Open opens the index of a repository in a folder of the host, which is made
// if need be, and brings it up to date: packs that are new are read, packs
// that are gone or given up are left out. A writer reserves its session first.
//
// Only the repository's listings and the context can make it fail. A pack whose
// directory cannot be read is left out, and files that cannot be used are
// replaced or done without: see [Index.Problems].
func Open(ctx context.Context, dir string, repo Source) (*Index, error) {
	x := newIndex(dir, repo)
	if err := x.refresh(ctx, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("open index: %w", err), x.Close())
	}
	return x, nil
}

// Rebuild drops the index of a repository in a folder, makes it anew and opens
// it. Unlike [Open] it fails if it cannot be written or another run writes it.
func Rebuild(ctx context.Context, dir string, repo Source) (*Index, error) {
	x := newIndex(dir, repo)
	if err := x.rebuild(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("rebuild index: %w", err), x.Close())
	}
	return x, nil
}

func (x *Index) rebuild(ctx context.Context) (err error) {
	held, err := x.folder.lock(ctx)
	if errors.Is(err, errBusy) {
		err = hint.Wrap(err, "wait until the other run has ended")
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	if err := x.folder.clear(); err != nil {
		return err
	}
	if err := x.refresh(ctx, held); err != nil {
		return err
	}
	if len(x.overlay) > 0 {
		return errors.Join(x.problems...)
	}
	return nil
}

func newIndex(dir string, repo Source) *Index {
	f := folder{dir: filepath.Join(dir, repo.UUID().String()), repo: repo.UUID(), tries: busyTries}
	return &Index{repo: repo, folder: f, scratch: newScratch(f.dir), batch: batchFrames}
}

// Lookup finds a copy of a chunk; see [cas.Locator]. What an index file cannot
// tell any more counts as absent.
func (x *Index) Lookup(id cas.ID, below uint8) (cas.Chain, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	r := resolver{copies: x.copies}
	return r.find(question{id, below})
}

// LookupWithout likewise leaves copies out; see [cas.Chooser].
func (x *Index) LookupWithout(id cas.ID, below uint8, skip func(cas.Location) bool) (cas.Chain, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	r := resolver{copies: without(x.copies, skip)}
	return r.find(question{id, below})
}

// copies returns all copies in living packs. The caller holds mu.
func (x *Index) copies(id *cas.ID) ([]cas.Location, error) {
	copies, _ := x.files.copies(id) // an error is kept in the run
	more, _ := x.overlay.copies(id)
	return append(copies, more...), nil
}

// HasPacks tells whether all packs are there, alive and indexed: a chunk that
// one of them holds counts as present if they hold its bases too.
func (x *Index) HasPacks(ids []cas.ID) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if len(x.damaged()) > 0 {
		return false
	}
	inFiles, inOverlay := x.files.packs(), x.overlay.packs()
	for _, id := range ids {
		_, inFile := inFiles[id]
		_, elsewhere := inOverlay[id]
		if !inFile && !elsewhere {
			return false
		}
	}
	return true
}

// damaged returns the runs that could not be read. The caller holds mu.
func (x *Index) damaged() []*run {
	return slices.DeleteFunc(append(x.files.runs(), x.overlay.runs()...), func(r *run) bool { return !r.bad.Load() })
}

// Save brings the index up to date with the repository, as Open does: it finds
// the packs that this process has written since, and files that could not be
// read are made anew. Lookups go on meanwhile. What cannot be written now, because
// another run writes, is kept outside the folder. Only the repository's listings
// and the context can make it fail.
func (x *Index) Save(ctx context.Context) error {
	if err := x.refresh(ctx, nil); err != nil {
		return fmt.Errorf("save index: %w", err)
	}
	return nil
}

// Problems returns what did not keep the index from working but deserves a
// warning: packs that were left out, files that were not used. Sorted.
func (x *Index) Problems() []error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	problems := slices.Clone(x.problems)
	for _, r := range x.damaged() {
		problems = append(problems, fmt.Errorf("index file %s cannot be read any more; known chunks may be stored again", filepath.Join(x.folder.dir, r.name)))
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return problems
}

// Stats returns how much is in the index.
func (x *Index) Stats() Stats {
	x.mu.RLock()
	defer x.mu.RUnlock()
	files, overlay := x.files.stats(), x.overlay.stats()
	return Stats{Packs: files.Packs + overlay.Packs, Chunks: files.Chunks + overlay.Chunks, FileBytes: files.FileBytes}
}

// Close ends the use of the files. No other call may follow.
func (x *Index) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	err := errors.Join(x.files.close(), x.overlay.close())
	x.files, x.overlay = nil, nil
	return err
}
