package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
)

// minGarbage is how many entries of vanished packs a database may hold at
// least; above that it is made anew when they are the greater part.
const minGarbage = 100_000

// Stats measures an index.
type Stats struct {
	Packs     int   // that are there and alive
	Chunks    int64 // frames in them: a chunk counts once for each copy
	FileBytes int64 // of the database; 0 when all is in memory
}

// Index finds chunks in a repository. Safe for concurrent use.
type Index struct {
	repo Source
	path string // of the database
	seal *seal  // nil: no file is used

	mu       sync.RWMutex // guards all below; held for reading in a Lookup
	file     *file        // opened for reading; nil: none
	live     map[uint32]cas.ID
	overlay  *Memory // packs that are not in file
	problems []error
	broken   atomic.Bool // a read from file has failed: it is not used any more
}

// Open opens the index of a repository in a folder of the host, which is made
// if need be, and brings it up to date: packs that are new are read, packs
// that are gone or given up are left out. A writer reserves its session first.
//
// Only the repository's listings and the context can make it fail. A pack whose
// directory cannot be read is left out, and a file that cannot be used is
// replaced or does without: see [Index.Problems].
func Open(ctx context.Context, dir string, repo Source) (*Index, error) {
	x := newIndex(dir, repo)
	if err := x.acquire(ctx, dir, unix.F_RDLCK); err != nil {
		x.problem("index file is not used: %w", err)
	}
	if err := x.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open index: %w", err), x.Close())
	}
	return x, nil
}

// Rebuild drops the index of a repository in a folder, makes it anew and opens
// it. Unlike [Open] it fails if the file cannot be written or is in use.
func Rebuild(ctx context.Context, dir string, repo Source) (*Index, error) {
	x := newIndex(dir, repo)
	err := x.acquire(ctx, dir, unix.F_WRLCK)
	if errors.Is(err, errBusy) {
		err = hint.Wrap(err, "wait until the other run has ended")
	}
	if err == nil {
		err = x.drop()
	}
	if err == nil {
		err = x.open(ctx)
	}
	if err == nil && x.file == nil {
		err = errors.Join(x.problems...)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("rebuild index: %w", err), x.Close())
	}
	return x, nil
}

func newIndex(dir string, repo Source) *Index {
	return &Index{repo: repo, path: filepath.Join(dir, repo.UUID().String()+".db"), overlay: newMemory()}
}

// acquire opens and locks the seal.
func (x *Index) acquire(ctx context.Context, dir string, kind int16) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s, err := openSeal(strings.TrimSuffix(x.path, ".db") + ".seal")
	if err != nil {
		return err
	}
	if err := s.lockSoon(ctx, kind); err != nil {
		return errors.Join(err, s.close())
	}
	x.seal = s
	return nil
}

// Lookup finds a copy of a chunk; see [cas.Locator].
func (x *Index) Lookup(id cas.ID, below uint8) (cas.Chain, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	r := resolver{copies: x.copies}
	return r.find(question{id, below})
}

// copies returns all copies in living packs. The caller holds mu.
func (x *Index) copies(id cas.ID) []cas.Location {
	copies := x.overlay.appendCopies(nil, id)
	if x.file == nil || x.broken.Load() {
		return copies
	}
	all, err := x.file.appendCopies(copies, id, x.live)
	if err != nil {
		x.broken.Store(true)
		return copies
	}
	return all
}

// HasPacks tells whether all packs are there, alive and indexed: a chunk that
// one of them holds counts as present if they hold its bases too.
func (x *Index) HasPacks(ids []cas.ID) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	known := make(map[cas.ID]struct{}, len(x.live))
	for _, id := range x.live {
		known[id] = struct{}{}
	}
	for _, id := range ids {
		if _, inFile := known[id]; !inFile && !x.overlay.has(id) {
			return false
		}
	}
	return !x.broken.Load()
}

// Add takes in packs that this process has written, in memory; [Index.Save], or
// the next Open, puts them into the file. It keeps nothing of what it is given.
func (x *Index) Add(packs []*cas.Pack) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, pack := range packs {
		if err := x.overlay.add(pack); err != nil {
			return err
		}
	}
	return nil
}

// Save brings the file up to date with the repository, as Open does, if no
// other run uses it now; the next Open has less to do then. It is for the end
// of a backup: lookups wait for it, and may find less afterwards. Only the
// repository's listings and the context can make it fail.
func (x *Index) Save(ctx context.Context) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	now, err := takeSurvey(ctx, x.repo)
	if err == nil && x.broken.Swap(false) {
		err = x.drop()
	}
	if err == nil {
		err = x.refreshFile(ctx, now, unread{})
	}
	if err != nil {
		return fmt.Errorf("save index: %w", err)
	}
	if known := x.filePacks(); x.overlay.within(known) {
		x.overlay = newMemory()
	}
	return nil
}

// Problems returns what did not keep the index from working but deserves a
// warning: packs that were left out, a file that was not used. Sorted.
func (x *Index) Problems() []error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	problems := slices.Clone(x.problems)
	if x.broken.Load() {
		problems = append(problems, fmt.Errorf("index file %s cannot be read any more; known chunks may be stored again", x.path))
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return problems
}

// Stats returns how much is in the index.
func (x *Index) Stats() Stats {
	x.mu.RLock()
	defer x.mu.RUnlock()
	stats := x.overlay.Stats()
	if x.file == nil {
		return stats
	}
	for ordinal := range x.live {
		stats.Packs++
		stats.Chunks += int64(x.file.packs[ordinal].frames)
	}
	if info, err := os.Stat(x.path); err == nil {
		stats.FileBytes = info.Size()
	}
	return stats
}

// Close ends the use of the file. A file that could not be read is void.
func (x *Index) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	err := x.file.close()
	x.file = nil
	if x.seal == nil {
		return err
	}
	if x.broken.Load() {
		err = errors.Join(err, x.seal.clear())
	}
	err = errors.Join(err, x.seal.close())
	x.seal = nil
	return err
}

func (x *Index) problem(format string, args ...any) {
	x.problems = append(x.problems, fmt.Errorf(format, args...))
}
