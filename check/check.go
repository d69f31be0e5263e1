package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/walk"
)

// Options are the choices of a check. Repo, Findings, Progress and Now must be
// set.
type Options struct {
	Repo     *cas.Repository
	Shards   []string                               // keyspace/shard; none: all
	Read     *Subset                                // of the data, to be read; nil: none
	Workers  int                                    // packs that are read at once; 0: 1
	Wait     func(ctx context.Context, n int) error // before n bytes are read; nil: no limit
	Findings Findings
	Progress Progress
	Now      func() time.Time
	Mute     bool // the ledger is not written
}

// run is one run of a check.
type run struct {
	Options
	catalog  *catalog
	marks    cas.Marks
	ledger   *cas.Ledger
	backups  []listed
	recorded []cas.ID            // packs that records name
	objects  []Object            // that are damaged
	advice   []string            // about them
	reader   *cas.Reader         // of what is readable
	lost     bool                // a chunk is in no pack, or a node cannot be read
	missing  map[cas.ID]struct{} // packs that are not there, named by records of backups with chunks that are in no pack
	gone     []*packState        // that garbage collection has deleted while they were to be read
	early    bool                // packs were deleted before their directories were read
	summary  Summary
	visited  bits // nodes that were walked through
}

// Check checks a repository and tells what it finds. The error says why the check
// could not be done; damage is no error. What garbage collection has moved in the
// meantime is looked for again.
func Check(ctx context.Context, opts Options) (_ *Summary, err error) {
	r, err := look(ctx, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.reader.Close()) }()
	return &r.summary, r.report(ctx)
}

// maxTries bounds how often a check begins again.
const maxTries = 3

// look returns a run that has found out what is needed and what is damaged, and
// has told nothing of packs and backups. If packs have been deleted meanwhile
// that held what is needed, it begins again: it is elsewhere now.
func look(ctx context.Context, opts Options) (*run, error) {
	var packs int
	var bytes int64
	for try := 0; ; try++ {
		r, err := newRun(ctx, opts)
		if err != nil {
			return nil, err
		}
		r.summary.ReadPacks, r.summary.ReadBytes = packs, bytes
		if err := r.check(ctx); err != nil {
			return nil, errors.Join(err, r.reader.Close())
		}
		moved, err := r.hasMoved(ctx)
		if err != nil {
			return nil, errors.Join(err, r.reader.Close())
		}
		if try == maxTries || !moved {
			if err := r.Repo.Confirm(ctx); err != nil {
				return nil, errors.Join(err, r.reader.Close())
			}
			return r, nil
		}
		if err := r.reader.Close(); err != nil {
			return nil, err
		}
		packs, bytes = r.summary.ReadPacks, r.summary.ReadBytes
		opts.Progress.Step("again", "packs have been deleted meanwhile")
		if !opts.Mute {
			opts.Read = nil // what was found to be damaged is in the ledger, and read again
		}
	}
}

// hasMoved tells whether a pack that has been deleted held anything that is needed,
// or may have. Packs that were given up when the run began held nothing that the
// records need, which were read later.
func (r *run) hasMoved(ctx context.Context) (bool, error) {
	if len(r.objects) > 0 {
		return false, nil
	}
	if r.lost && r.early {
		return true, nil
	}
	r.catalog.needBases()
	if slices.ContainsFunc(r.gone, func(p *packState) bool { return r.catalog.count(p, needed) > 0 }) {
		return true, nil
	}
	if len(r.missing) == 0 {
		return false, nil
	}
	now, err := r.Repo.Marks(ctx)
	if err != nil {
		return false, err
	}
	for id := range r.missing {
		_, before := r.marks.Final[id]
		if _, final := now.Final[id]; final && !before {
			return true, nil
		}
	}
	return false, nil
}

// newRun reads the small objects and the directories of all packs.
func newRun(ctx context.Context, opts Options) (*run, error) {
	r := &run{Options: opts, catalog: newCatalog(), missing: map[cas.ID]struct{}{}}
	r.reader = r.Repo.NewReader(&locator{ctx: ctx, repo: r.Repo, catalog: r.catalog, flag: readable})
	r.Progress.Step("records", "")
	if err := r.readObjects(ctx); err != nil {
		return nil, err
	}
	r.Progress.Step("packs", "")
	if err := r.readPacks(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// check finds out what is needed and what is damaged.
func (r *run) check(ctx context.Context) error {
	r.Progress.Step("recipes", "")
	r.catalog.resolve()
	if err := r.walkAll(ctx); err != nil {
		return err
	}
	return r.readData(ctx)
}

// readObjects reads the small objects: records, marks, lists of garbage
// collection, the ledger.
func (r *run) readObjects(ctx context.Context) (err error) {
	r.marks, err = r.Repo.Marks(ctx)
	var corrupt *cas.CorruptError
	if errors.As(err, &corrupt) {
		r.object(corrupt.Name, "a list of garbage collection: "+corrupt.Error())
		r.marks.Damaged, err = r.Repo.DamagedPacks(ctx)
	}
	if err != nil {
		return err
	}
	if err := r.readBackups(ctx); err != nil { // after the marks: see hasMoved
		return err
	}
	if err := r.findVanished(ctx); err != nil {
		return err
	}
	if r.ledger, err = r.Repo.Ledger(ctx); err != nil {
		return err
	}
	for _, problem := range r.ledger.Problems {
		var corrupt *cas.CorruptError
		if errors.As(problem, &corrupt) {
			r.object(corrupt.Name, "a part of the ledger: "+corrupt.Error())
		} else {
			r.Progress.Warn(problem.Error())
		}
	}
	return r.readPrimaries(ctx)
}

// listed is a backup that is listed, without the packs that its record names: they
// would take most of the memory, and many backups name the same ones.
type listed struct {
	walk.Listed
	named []uint32 // those packs, by their number in run.recorded
}

func (r *run) readBackups(ctx context.Context) error {
	numbers := map[cas.ID]uint32{}
	return walk.EachBackup(ctx, r.Repo, r.Shards, func(b walk.Listed) error {
		l := listed{Listed: b}
		if b.Manifest != nil {
			l.named = make([]uint32, len(b.Manifest.Packs))
			for i, id := range b.Manifest.Packs {
				number, known := numbers[id]
				if !known {
					number = uint32(len(r.recorded))
					numbers[id] = number
					r.recorded = append(r.recorded, id)
				}
				l.named[i] = number
			}
			b.Manifest.Packs = nil
		}
		r.backups = append(r.backups, l)
		return nil
	})
}

// findVanished notes backups that were there and are gone, and lists of garbage
// collection that a collection cannot do without.
func (r *run) findVanished(ctx context.Context) error {
	keys, err := r.Repo.Vanished(ctx)
	var corrupt *cas.CorruptError
	if errors.As(err, &corrupt) {
		if !slices.ContainsFunc(r.objects, func(o Object) bool { return o.Name == corrupt.Name }) {
			r.object(corrupt.Name, "a list of garbage collection: "+corrupt.Error())
		}
		r.advise(err)
		return nil
	}
	for _, key := range keys {
		if len(r.Shards) == 0 || slices.Contains(r.Shards, key.Shard()) {
			err := cas.VanishedError(key)
			errors.As(err, &corrupt)
			r.object(corrupt.Name, corrupt.Reason)
			r.advise(err)
		}
	}
	return err
}

// readPrimaries reads what the repository says of the shards' primaries.
func (r *run) readPrimaries(ctx context.Context) error {
	shards := r.Shards
	if len(shards) == 0 {
		var err error
		if shards, err = r.Repo.Shards(ctx); err != nil {
			return err
		}
	}
	for _, shard := range shards {
		_, _, err := r.Repo.Value(ctx, "shards/"+shard+"/primary")
		var corrupt *cas.CorruptError
		switch {
		case errors.As(err, &corrupt):
			r.object(corrupt.Name, "the primary of "+shard+": "+corrupt.Error())
			r.advise(hint.Wrap(err, fmt.Sprintf("run \"shardseed primary set %s HOST:PORT\" to write its address anew", shard)))
		case err != nil && !errors.Is(err, cas.ErrNotFound):
			return err
		}
	}
	return nil
}

// advise takes in what an error about an object says is to be done.
func (r *run) advise(err error) {
	for _, text := range hint.Of(err) {
		if !slices.Contains(r.advice, text) {
			r.advice = append(r.advice, text)
		}
	}
}

func (r *run) object(name, reason string) {
	r.objects = append(r.objects, Object{Name: name, Reason: reason})
}

// walkAll goes through all backups: it notes which chunks are needed, and whether
// one of them is lacking. A node that several backups share is read once.
func (r *run) walkAll(ctx context.Context) error {
	r.visited = newBits(r.catalog.frames())
	for _, b := range r.backups {
		switch {
		case isNewer(b.Err):
			r.summary.Errors = append(r.summary.Errors, b.Err)
			continue
		case errors.Is(b.Err, cas.ErrCorrupt):
			continue // report tells it
		case b.Err != nil:
			return b.Err
		}
		if err := walk.Backup(ctx, r.reader, b.Manifest, &needs{r, b.named}); err != nil {
			return fmt.Errorf("check backup %s: %w", b.Key, err)
		}
	}
	return nil
}

// needs is the visitor that notes what is needed.
type needs struct {
	*run
	named []uint32 // packs that the backup's record names
}

// Visit implements walk.Visitor.
func (n *needs) Visit(p walk.Piece) (below bool, err error) {
	known := n.catalog.need(p.ID)
	if !known {
		n.noteMissing()
	}
	if p.Kind != walk.Node || !known {
		return true, nil
	}
	return n.visited.add(n.catalog.copies(newKey(p.ID, 0))[0].frame), nil
}

// noteMissing notes the packs that the record names and that are not there: a
// chunk of the backup is in no pack.
func (n *needs) noteMissing() {
	n.lost = true
	for _, number := range n.named {
		id := n.recorded[number]
		if _, found := n.catalog.number[id]; !found {
			n.missing[id] = struct{}{}
		}
	}
}

// Lost implements walk.Visitor. The packs that the chunk was read from are to be
// read as a whole.
func (n *needs) Lost(p walk.Piece, err error) error {
	n.lost = true
	id := p.ID
	var chunk *cas.ChunkError
	if errors.As(err, &chunk) {
		id = chunk.ID
	}
	into, seen := map[*packState]struct{}{}, frameSet{}
	for _, copy := range n.catalog.copies(newKey(id, 0)) {
		n.doubt(copy, into, seen)
	}
	for pack := range into {
		pack.suspect = true
	}
	var corrupt *cas.CorruptError
	if errors.As(err, &corrupt) {
		n.catalog.suspect(corrupt.Pack)
	}
	return nil
}

// bits is a set of frames.
type bits []uint64

func newBits(frames int) bits { return make(bits, frames/64+1) }

func (b bits) has(frame uint32) bool { return b[frame/64]&(1<<(frame%64)) != 0 }

// add adds a frame and tells whether it is new.
func (b bits) add(frame uint32) bool {
	if b.has(frame) {
		return false
	}
	b[frame/64] |= 1 << (frame % 64)
	return true
}
