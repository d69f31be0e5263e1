package cas

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardseed/shardseed/internal/hint"
)

// PruneOptions say how garbage collection goes about it. Walk, Progress and Now
// must be set.
type PruneOptions struct {
	// Walk calls visit for every chunk that the backup with this record needs,
	// but for bases of deltas: those of its metadata, before they are read
	// through the reader, and those of its files. node says that the chunk is
	// read as a node of a recipe; if visit returns false then, what is below
	// need not be visited. Several calls may run at once.
	Walk func(ctx context.Context, key Key, record []byte, reader *Reader, visit func(id ID, node bool) (below bool, err error)) error

	MaxUnused  float64       // part of the stored bytes that may be of no use before packs are repacked; below 0: never repack
	DryRun     bool          // write and delete nothing
	Wait       time.Duration // longest time to wait for sessions that give signs of life
	StaleAfter time.Duration // a session or reader that gives none for so long is ended; 0: DefaultStaleAfter
	Visibility time.Duration // after so long every host sees what one has created; 0: at once
	Workers    int           // things that are done at once; at least 1
	Note       string        // who is collecting, for people
	Progress   PruneProgress
	Now        func() time.Time
}

// DefaultStaleAfter is how long a session may be silent before it is ended.
const DefaultStaleAfter = 15 * time.Minute

// PruneProgress is told how garbage collection goes on. Advance is called from
// many goroutines at once, everything else from one.
type PruneProgress interface {
	Step(name, detail string)
	Warn(text string)
	Begin(what string, total int64) // bytes; 0: not known
	Advance(n int64)
	End()
}

// PruneResult says what garbage collection has done, or in a dry run would do;
// then what repacking writes is an estimate.
type PruneResult struct {
	Backups  int   // that are listed, or still being read
	Packs    int   // deleted
	Deleted  int64 // bytes of those
	Repacked int64 // bytes of frames that were stored again, out of packs of which little is needed
	Written  int64 // bytes of the packs that hold them now
	Stored   int64 // bytes of the packs that are left
	Unused   int64 // bytes of frames in them that no backup needs
	Left     int   // files without a name that were removed: their writers ended before they gave them one
	LeftSize int64 // bytes of those
	Revoked  []Key // sessions that were ended, for they gave no signs of life
	Waited   []Key // sessions that were waited for, to their end
	Waiting  []Key // sessions still at work: what they may need is decided by the next run
}

// leftFor is how long nobody must have written to a file without a name before it
// is removed. A writer does within seconds; one that was stalled for so long is told.
const leftFor = 24 * time.Hour

// sweepLeft removes what writers left behind.
func (r *Repository) sweepLeft(ctx context.Context, opts PruneOptions, result *PruneResult) (err error) {
	sweeper, ok := r.backend.(Sweeper)
	if !ok || opts.DryRun {
		return nil
	}
	if result.Left, result.LeftSize, err = sweeper.Sweep(ctx, leftFor); err != nil {
		return fmt.Errorf("prune: remove what writers left behind: %w", err)
	}
	return nil
}

// Freed returns the bytes by which the repository is smaller now.
func (r *PruneResult) Freed() int64 { return r.Deleted - r.Written }

// pruneRounds bounds the generations of one run: one that another run has left,
// and one of its own.
const pruneRounds = 2

// pruneRestarts bounds how often a run starts over because another was faster.
const pruneRestarts = 10

// Prune deletes the packs that no backup needs and repacks those of which little
// is needed. It is safe beside sessions, readers and other collections on any
// hosts, and may be interrupted at any point; docs/design.md, "Pruning", says why.
// What another run has begun is finished first. An unreadable backup, or anything
// else that leaves open what is needed, ends it with an error before anything is
// condemned. Sessions that are still at work when Wait is over end it without
// one: see PruneResult.Waiting.
func (r *Repository) Prune(ctx context.Context, opts PruneOptions) (*PruneResult, error) {
	if err := r.prunable(); err != nil {
		return nil, err
	}
	if opts.StaleAfter <= 0 {
		opts.StaleAfter = DefaultStaleAfter
	}
	opts.Workers = max(1, opts.Workers)
	result := &PruneResult{}
	for rounds, restarts := 0, 0; rounds < pruneRounds; {
		p := newPruner(r, opts, result)
		more, err := p.run(ctx)
		switch {
		case err == nil && !more:
			return result, r.sweepLeft(ctx, opts, result)
		case err == nil:
			rounds++
		case restarts == pruneRestarts || !p.overtaken(ctx, err):
			return nil, fmt.Errorf("prune: %w", err)
		default:
			restarts++
			opts.Progress.Step("restart", "another run has deleted packs meanwhile")
		}
	}
	return result, nil
}

// overtaken tells whether something was missing because another collection has
// come to its end meanwhile: it knows of backups that were forgotten since.
func (p *pruner) overtaken(ctx context.Context, cause error) bool {
	if p.lists == nil || !errors.Is(cause, ErrNotFound) && !errors.Is(cause, ErrCorrupt) {
		return false
	}
	final, err := exists(ctx, p.repo.backend, listName(p.lists.gen, listFinal))
	return err == nil && final
}

// prunable refuses to delete where a feature is in use that this program does not
// know, even one that others may ignore.
func (r *Repository) prunable() error {
	if flags := r.features | r.ignored; flags != 0 {
		return hintVersion(&VersionError{What: "deleting from the repository", Features: flags})
	}
	return nil
}

// pruner works on one generation.
type pruner struct {
	PruneOptions
	repo   *Repository
	result *PruneResult
	lists  *collection
	census *census
	found  *directories // by census
	reader *Reader      // by found

	outcomes  map[Key]outcome // of sessions, as far as they are final
	sessions  map[Key]bool    // that were ever seen
	registers map[Key]bool    // that were seen
	forgotten map[Key]bool    // as the run found them; later ones are still kept
	pinned    map[Key]bool    // being read
	walked    map[Key]bool    // backups whose chunks the census knows as needed
	stored    map[ID]bool     // packs that were listed last
	damaged   map[ID]struct{} // packs marked so
	suspect   map[ID]struct{} // packs found so by this run
	doomed    map[ID]struct{} // condemned, or about to be
	owners    map[ID]Key      // sessions of packs, those that were looked up
	late      map[Key]bool    // removed backups whose readers came too late to keep them
}

func newPruner(r *Repository, opts PruneOptions, result *PruneResult) *pruner {
	return &pruner{
		PruneOptions: opts, repo: r, result: result, census: newCensus(),
		outcomes: map[Key]outcome{}, sessions: map[Key]bool{}, registers: map[Key]bool{}, forgotten: map[Key]bool{}, pinned: map[Key]bool{},
		walked: map[Key]bool{}, suspect: map[ID]struct{}{}, doomed: map[ID]struct{}{}, owners: map[ID]Key{}, late: map[Key]bool{},
	}
}

// run takes a generation to its end. It returns true if that was begun by another
// run, so that there may be more to free.
func (p *pruner) run(ctx context.Context) (more bool, err error) {
	p.Progress.Step("mark", "")
	if err := p.begin(ctx); err != nil {
		return false, err
	}
	if err := p.judge(ctx); err != nil {
		return false, err
	}
	if err := p.mark(ctx); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, p.reader.Close()) }()
	adopted := p.lists.condemned != nil
	if p.DryRun {
		return false, p.rehearse(ctx)
	}
	if adopted {
		p.Progress.Step("condemn", fmt.Sprintf("finishing what another run has begun: %d packs", len(p.lists.condemned.packs)))
	} else if begun, err := p.condemn(ctx); err != nil || !begun {
		return false, errors.Join(err, p.account(ctx))
	}
	finished, err := p.settle(ctx)
	if err != nil || !finished {
		return false, errors.Join(err, p.account(ctx))
	}
	if err := p.sweep(ctx); err != nil {
		return false, err
	}
	return adopted, p.account(ctx)
}

// begin reads what there is, makes sure that nothing of it has been lost, and
// finishes the deletions of earlier generations.
func (p *pruner) begin(ctx context.Context) error {
	var err error
	if p.lists, err = p.repo.readCollection(ctx); err != nil {
		return fmt.Errorf("read garbage collection: %w", err)
	}
	if p.forgotten, err = p.repo.keysIn(ctx, "forgotten"); err != nil {
		return err
	}
	if err := p.listRegisters(ctx); err != nil {
		return err
	}
	if p.DryRun {
		return nil
	}
	return p.sweep(ctx)
}

// listRegisters lists the registers, twice: one that is missing from a listing
// would be missed. A backup that was there before, in this run or in any other, and
// cannot be found any more ends the run: what only it needs would be deleted.
func (p *pruner) listRegisters(ctx context.Context) error {
	var missing []Key
	for range 2 {
		keys, err := p.repo.keysIn(ctx, "manifests")
		if err != nil {
			return err
		}
		maps.Copy(p.registers, keys)
		if missing, err = p.missing(ctx, keys); err != nil {
			return err
		}
		if len(missing) == 0 {
			continue
		}
		if err := p.sleep(ctx, p.Visibility); err != nil { // another host's collection may have seen it first
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return hint.Wrap(VanishedError(slices.Min(missing)), "nothing is deleted")
}

// VanishedError says of a backup that its record was there and is gone.
func VanishedError(key Key) error {
	return hint.Wrap(&CorruptError{Name: manifestName(key), Reason: "the record of this backup was there and is gone"},
		"bring back what is missing in the folder manifests of the repository; if the backup is gone for good, say so by an empty file forgotten/"+string(key))
}

// Vanished returns the backups that a garbage collection has seen and whose records
// are neither there now nor forgotten, sorted.
func (r *Repository) Vanished(ctx context.Context) ([]Key, error) {
	lists, err := r.readCollection(ctx)
	if err != nil {
		return nil, fmt.Errorf("read garbage collection: %w", err)
	}
	if len(lists.known) == 0 {
		return nil, nil
	}
	forgotten, err := r.keysIn(ctx, "forgotten")
	if err != nil {
		return nil, err
	}
	listed, err := r.keysIn(ctx, "manifests")
	if err != nil {
		return nil, err
	}
	vanished, err := r.undecided(ctx, without(lists.known, listed, forgotten), func(Key, outcome) {})
	slices.Sort(vanished)
	return vanished, err
}

// undecided returns those of the backups that have no register, looked for by name;
// tell is told of each.
func (r *Repository) undecided(ctx context.Context, keys []Key, tell func(Key, outcome)) ([]Key, error) {
	var left []Key
	for _, key := range keys {
		now, err := r.outcome(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", manifestName(key), err)
		}
		tell(key, now)
		if now == open {
			left = append(left, key)
		}
	}
	return left, nil
}

// missing returns the backups that were there and are neither listed now, nor
// found when looked for by name, nor forgotten.
func (p *pruner) missing(ctx context.Context, listed map[Key]bool) ([]Key, error) {
	were := slices.Concat(without(p.lists.known, listed, p.forgotten), without(p.registers, listed, p.forgotten))
	return p.repo.undecided(ctx, were, p.decide)
}

func without(keys map[Key]bool, others ...map[Key]bool) []Key {
	var left []Key
	for key := range keys {
		if !slices.ContainsFunc(others, func(o map[Key]bool) bool { return o[key] }) {
			left = append(left, key)
		}
	}
	return left
}

// listSessions likewise lists the sessions.
func (p *pruner) listSessions(ctx context.Context) error {
	for range 2 {
		keys, err := p.repo.keysIn(ctx, "sessions")
		if err != nil {
			return err
		}
		maps.Copy(p.sessions, keys)
	}
	return nil
}

// unfinished returns the sessions that have no register, sorted.
func (p *pruner) unfinished(ctx context.Context) ([]Key, error) {
	var keys []Key
	for key := range p.sessions {
		if p.registers[key] {
			continue
		}
		now, err := p.outcome(ctx, key)
		if err != nil {
			return nil, err
		}
		if now == open {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// outcome returns what a session has come to. A register is known from then on.
func (p *pruner) outcome(ctx context.Context, key Key) (outcome, error) {
	if now := p.outcomes[key]; now != open {
		return now, nil
	}
	now, err := p.repo.outcome(ctx, key)
	if err != nil {
		return open, fmt.Errorf("read %s: %w", manifestName(key), err)
	}
	p.decide(key, now)
	return now, nil
}

func (p *pruner) decide(key Key, now outcome) {
	if now != open {
		p.outcomes[key] = now
		p.registers[key] = true
	}
}

// mark finds out what the backups need: packs, then sessions, then registers.
// A pack that is listed has a session that is older; either that is still
// unfinished when it is listed, or its register is listed.
func (p *pruner) mark(ctx context.Context) error {
	stored, err := p.repo.PackIDs(ctx)
	if err != nil {
		return err
	}
	if err := p.listSessions(ctx); err != nil {
		return err
	}
	if err := p.listRegisters(ctx); err != nil {
		return err
	}
	if p.lists.condemned != nil {
		for _, id := range p.lists.condemned.packs {
			p.doomed[id] = struct{}{}
		}
	}
	if err := p.load(ctx, stored); err != nil {
		return err
	}
	p.census.resolve()
	p.found = newDirectories(ctx, p.repo, p.census)
	p.reader = p.repo.NewReader(p.found)
	err = p.walk(ctx)
	var lacking *lackError
	if errors.As(err, &lacking) { // a backup that came after the packs were listed
		if err = p.sleep(ctx, p.Visibility); err == nil {
			err = p.walkAnew(ctx)
		}
	}
	if err != nil {
		return errors.Join(err, p.reader.Close())
	}
	p.census.choose()
	return nil
}

// load reads the directories of the packs that are new, and says in which tier
// each pack is now.
func (p *pruner) load(ctx context.Context, stored []ID) error {
	marked, err := p.repo.marks(ctx)
	if err != nil {
		return err
	}
	p.damaged = marked.damaged
	p.stored = make(map[ID]bool, len(stored))
	var fresh []ID
	for _, id := range stored {
		p.stored[id] = true
		if _, known := p.census.ordinal[id]; !known && !p.isGone(id) {
			p.census.reserve(id)
			fresh = append(fresh, id)
		}
	}
	d := &directoryReader{repo: p.repo, use: func(id ID, pack *Pack, err error) error { return p.take(ctx, id, pack, err) }}
	if err := d.readAll(ctx, fresh, p.Workers); err != nil {
		return err
	}
	p.assign()
	return nil
}

// take takes a pack into the census, once its directory has been read.
func (p *pruner) take(ctx context.Context, id ID, pack *Pack, err error) error {
	if pack, err = p.judgePack(ctx, id, pack, err); err != nil {
		return err
	}
	if pack == nil {
		p.stored[id] = false
		return nil
	}
	return p.census.add(pack)
}

// isGone tells whether a pack counts as deleted already.
func (p *pruner) isGone(id ID) bool {
	_, final := p.lists.final[id]
	_, later := p.lists.later[id]
	return final || later
}

// judgePack says what comes of reading a pack's directory; nil if the pack is gone. Of
// a pack that is marked as damaged nothing need be readable.
func (p *pruner) judgePack(ctx context.Context, id ID, pack *Pack, err error) (*Pack, error) {
	switch _, marked := p.damaged[id]; {
	case errors.Is(err, ErrNotFound):
		return nil, nil //nolint:nilnil // another collection has deleted it; if it is missed, a walk says so
	case errors.Is(err, ErrCorrupt) && marked:
		size, err := p.repo.blobSize(ctx, packName(id))
		return &Pack{ID: id, Kind: KindData, Size: size}, err
	case errors.Is(err, ErrCorrupt):
		return nil, hint.Wrap(err, "nothing is deleted: what this pack holds is not known; run \"shardseed check\", then \"shardseed repair\"")
	}
	return pack, err
}

// assign says in which tier each pack is.
func (p *pruner) assign() {
	for i := range p.census.packs {
		pack := &p.census.packs[i]
		_, damaged := p.damaged[pack.id]
		_, suspect := p.suspect[pack.id]
		_, doomed := p.doomed[pack.id]
		switch {
		case p.isGone(pack.id) || !p.stored[pack.id]:
			pack.tier = tierGone
		case damaged || suspect:
			pack.tier = tierDamaged
		case doomed:
			pack.tier = tierDoomed
		default:
			pack.tier = tierKeep
		}
	}
}

// walk notes what the backups need that have not been walked yet: those that are
// committed, and not forgotten unless somebody still reads them.
func (p *pruner) walk(ctx context.Context) error {
	if err := p.listPins(ctx); err != nil {
		return err
	}
	p.Progress.Begin("mark", 0)
	defer p.Progress.End()
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(p.Workers)
	var mu sync.Mutex // guards the census' marks and walked
	fresh := slices.DeleteFunc(slices.Sorted(maps.Keys(p.registers)), func(key Key) bool {
		return p.walked[key] || p.forgotten[key] && (!p.pinned[key] || p.late[key])
	})
	for _, key := range fresh {
		group.Go(func() error {
			found, err := p.walkBackup(running, key, &mu)
			if err != nil || !found {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			p.walked[key] = true
			return nil
		})
	}
	return group.Wait()
}

// lackError: a backup needs a chunk that no pack has.
type lackError struct {
	key Key
	id  ID
}

func (e *lackError) Error() string {
	return fmt.Sprintf("chunk %s: no pack has a copy that can be decoded", e.id.Short())
}

// Is matches ErrCorrupt.
func (e *lackError) Is(target error) bool { return target == ErrCorrupt }

// walkBackup returns false if the register is a revocation.
func (p *pruner) walkBackup(ctx context.Context, key Key, mu *sync.Mutex) (bool, error) {
	o, err := p.repo.register(ctx, key)
	if errors.Is(err, ErrRevoked) {
		return false, nil
	}
	if err == nil {
		err = p.Walk(ctx, key, o.payload, p.reader, func(id ID, node bool) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			if !p.census.need(id) {
				return false, &lackError{key, id}
			}
			if !node {
				return true, nil
			}
			p.Progress.Advance(int64(p.census.find(short(id))[0].size))
			return !p.census.walk(id), nil
		})
	}
	if errors.Is(err, ErrNotFound) { // what is listed is never missing
		err = &CorruptError{Name: manifestName(key), Reason: err.Error()}
	}
	if err != nil {
		err = fmt.Errorf("backup %s: %w", key, err)
	}
	if errors.Is(err, ErrCorrupt) {
		err = hint.Wrap(err, fmt.Sprintf("nothing is deleted: run \"shardseed check\", then \"shardseed repair\", or remove the backup with \"shardseed rm %s %s\"", key.Shard(), key.Name()))
	}
	return err == nil, err
}

// keysIn lists what has the form of a key in a folder.
func (r *Repository) keysIn(ctx context.Context, dir string) (map[Key]bool, error) {
	keys := map[Key]bool{}
	err := r.eachShard(ctx, dir, func(folder string, entries []Entry) error {
		for _, entry := range entries {
			if key, err := ParseKey(folder + "/" + entry.Name); err == nil && !entry.Dir {
				keys[key] = true
			}
		}
		return nil
	})
	return keys, err
}

// eachShard calls fn with what lies in dir for each shard; folder is
// keyspace/shard.
func (r *Repository) eachShard(ctx context.Context, dir string, fn func(folder string, entries []Entry) error) error {
	keyspaces, err := r.backend.List(ctx, dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for _, keyspace := range keyspaces {
		if !keyspace.Dir || CheckPart(keyspace.Name) != nil {
			continue
		}
		shards, err := r.backend.List(ctx, dir+"/"+keyspace.Name)
		if err != nil {
			return fmt.Errorf("list %s: %w", dir, err)
		}
		for _, shard := range shards {
			if !shard.Dir || CheckPart(shard.Name) != nil {
				continue
			}
			folder := keyspace.Name + "/" + shard.Name
			entries, err := r.backend.List(ctx, dir+"/"+folder)
			if err != nil {
				return fmt.Errorf("list %s: %w", dir, err)
			}
			if err := fn(folder, entries); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Repository) blobSize(ctx context.Context, name string) (int64, error) {
	blob, err := r.backend.Open(ctx, name)
	if err != nil {
		return 0, err
	}
	return blob.Size(), blob.Close()
}
