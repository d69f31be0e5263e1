package check

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/shardseed/shardseed/cas"
)

// RepairOptions are the choices of a repair. Options.Findings is told of what is
// found before anything is changed.
type RepairOptions struct {
	Options
	Host   string   // for the names of sessions: letters, digits, dots and dashes
	Random []byte   // at least 8 bytes, for the same
	Note   []byte   // what the marks say, for people
	After  Findings // is told of what is still damaged afterwards
	DryRun bool     // change nothing
}

// Repaired is what a repair has done, or would do.
type Repaired struct {
	Before   Summary
	After    Summary  // with DryRun: as it would be
	Aside    []string // names of damaged parts of the ledger, which have been set aside
	Marked   []cas.ID // packs, sorted
	Salvaged int      // chunks that were copied
	Bytes    int64    // plain bytes of these
	Unsaved  int      // frames of damaged packs that cannot be read and are nowhere else
	NewPacks []cas.ID
	Whole    []cas.Key // backups that were damaged and can be restored in full now
}

// maxSession is how many times a name for the session is tried.
const maxSession = 16

// Repair marks damaged packs, so that no backup relies on them any more and the
// next one stores anew what they held, and copies what can still be read of them
// into new packs, unless it is in another pack too. Nothing is ever removed. A
// pack is marked only if this very run has read it and found it to be damaged.
// What garbage collection has moved in the meantime is looked for again.
func Repair(ctx context.Context, opts RepairOptions) (*Repaired, error) {
	opts.Mute = opts.Mute || opts.DryRun
	before := &told{Findings: opts.Findings}
	var result *Repaired
	for try := 0; ; try++ {
		x, err := repairOnce(ctx, opts, before, try < maxTries)
		if err != nil {
			return nil, err
		}
		result = x.result.after(result)
		if !x.moved {
			result.Whole = slices.DeleteFunc(before.backups, func(key cas.Key) bool { return slices.Contains(x.left, key) })
			return result, nil
		}
		opts.Progress.Step("again", "packs have been deleted meanwhile, or can be read now")
		before.mute = true
	}
}

// repairOnce tells nothing of what is left, and that something has moved, if packs
// have been deleted that held what is needed.
func repairOnce(ctx context.Context, opts RepairOptions, before *told, again bool) (_ *repair, err error) {
	r, err := look(ctx, opts.Options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.reader.Close()) }()
	r.Findings = before
	if err := r.report(ctx); err != nil {
		return nil, err
	}
	x := &repair{run: r, opts: opts, result: Repaired{Before: r.summary}}
	if err := x.mendLedger(ctx); err != nil {
		return nil, err
	}
	if err := x.markDamaged(ctx); err != nil {
		return nil, err
	}
	if err := x.salvage(ctx); err != nil {
		return nil, err
	}
	return x, x.finish(ctx, again)
}

// after returns what both have done, one after the other; the earlier may be nil.
func (r Repaired) after(earlier *Repaired) *Repaired {
	if earlier == nil {
		return &r
	}
	r.Before = earlier.Before
	r.Aside = append(earlier.Aside, r.Aside...)
	r.Marked = append(earlier.Marked, r.Marked...)
	slices.SortFunc(r.Marked, cas.ID.Compare)
	r.Salvaged += earlier.Salvaged
	r.Bytes += earlier.Bytes
	r.NewPacks = append(earlier.NewPacks, r.NewPacks...)
	return &r
}

// told remembers which backups were told.
type told struct {
	Findings
	mute    bool // all was told before
	backups []cas.Key
}

// Object implements Findings.
func (t *told) Object(o Object) {
	if !t.mute {
		t.Findings.Object(o)
	}
}

// Pack implements Findings.
func (t *told) Pack(p Pack) {
	if !t.mute {
		t.Findings.Pack(p)
	}
}

// Range implements Findings.
func (t *told) Range(r Range) {
	if !t.mute {
		t.Findings.Range(r)
	}
}

// Backup implements Findings.
func (t *told) Backup(b Backup) {
	if t.mute {
		return
	}
	if key, err := cas.NewKey(b.Keyspace, b.Shard, b.Name); err == nil {
		t.backups = append(t.backups, key)
	}
	t.Findings.Backup(b)
}

// repair is one run of Repair.
type repair struct {
	*run
	opts    RepairOptions
	result  Repaired
	session *cas.Session
	silence func() // ends the session's signs of life
	writer  *cas.Writer
	missed  bool      // a pack was deleted from which something was to be copied, or can be read by now
	moved   bool      // packs were deleted that held what is needed
	left    []cas.Key // backups that are still damaged
}

// mendLedger sets damaged parts of the ledger aside.
func (x *repair) mendLedger(ctx context.Context) error {
	if !x.ledger.Damaged() {
		return nil
	}
	if !x.opts.DryRun {
		if err := x.Repo.SummarizeLedger(ctx, x.ledger, x.catalog.ids()); err != nil {
			return err
		}
		l, err := x.Repo.Ledger(ctx)
		if err != nil || l.Damaged() {
			return err // other parts may be readable later, and are waited for
		}
		for _, p := range x.catalog.packs {
			if p.verified == nil {
				p.last = l.Last(p.id)
			}
		}
	}
	x.objects = slices.DeleteFunc(x.objects, func(o Object) bool {
		if isLedger(&o) {
			x.result.Aside = append(x.result.Aside, o.Name)
		}
		return isLedger(&o)
	})
	return nil
}

func isLedger(o *Object) bool { return strings.HasPrefix(o.Name, "verified/") }

// markDamaged marks the packs in which this run has found something wrong.
func (x *repair) markDamaged(ctx context.Context) error {
	x.Progress.Step("mark", "")
	for _, p := range x.catalog.packs {
		if err := x.readAgain(ctx, p); err != nil {
			return err
		}
		if len(p.problems) == 0 || p.marked {
			continue
		}
		x.result.Marked = append(x.result.Marked, p.id)
		p.marked = true
		if x.opts.DryRun {
			continue
		}
		if err := x.Repo.MarkDamaged(ctx, p.id, x.opts.Note); err != nil && !errors.Is(err, cas.ErrExists) {
			return err
		}
	}
	slices.SortFunc(x.result.Marked, cas.ID.Compare)
	x.catalog.resolve()
	return nil
}

// readAgain reads a pack once more of which it is only known that it could not be
// read: if it can now and is right, nothing is wrong with it.
func (x *repair) readAgain(ctx context.Context, p *packState) error {
	if len(p.problems) == 0 || p.marked || slices.ContainsFunc(p.problems, func(problem Problem) bool { return problem.Kind != KindRead }) {
		return nil
	}
	pack, err := x.Repo.Pack(ctx, p.id)
	if err != nil {
		return ctx.Err()
	}
	found, err := x.reader.Verify(ctx, pack, x.Wait)
	if err != nil || !found.Good() {
		return err
	}
	x.Progress.Warn(fmt.Sprintf("pack %s could not be read, and then it could: %s", p.id.Short(), p.problems[0].Reason))
	p.problems = nil
	x.missed = x.missed || p.scanned != nil // the scan may not have found all its frames
	return nil
}

// item is a frame to be copied.
type item struct {
	pack  *packState
	frame int // number in the pack
}

// salvage copies what is readable in packs that are not trusted, and in no other.
// Bases go first, so that deltas stay deltas.
func (x *repair) salvage(ctx context.Context) (err error) {
	x.Progress.Step("salvage", "")
	defer func() { err = errors.Join(err, x.end(ctx)) }()
	for depth := uint8(0); depth <= cas.MaxDepth; depth++ {
		items := x.items(depth)
		if len(items) == 0 {
			continue
		}
		if err := x.copyAll(ctx, items); err != nil {
			return err
		}
		if err := x.publish(ctx); err != nil {
			return err
		}
	}
	for _, p := range x.catalog.packs {
		if !p.trusted() {
			x.result.Unsaved += x.unsaved(p)
		}
	}
	return nil
}

// items returns the frames of a depth that are to be copied: one of each chunk.
func (x *repair) items(depth uint8) []item {
	var items []item
	for copies := range x.catalog.keys.Groups() {
		all, best, least := state(0), uint32(0), uint8(cas.AnyDepth)
		for _, copy := range copies {
			s := x.catalog.state(copy.frame)
			all |= s
			if s&readable != 0 && s.depth() < least {
				best, least = copy.frame, s.depth()
			}
		}
		if all&present == 0 && least == depth {
			p := x.catalog.packOf(best)
			items = append(items, item{p, int(best - p.first)})
		}
	}
	slices.SortFunc(items, func(a, b item) int {
		return cmp.Or(a.pack.id.Compare(b.pack.id), cmp.Compare(a.frame, b.frame))
	})
	return items
}

// unsaved counts the frames that cannot be read.
func (x *repair) unsaved(p *packState) int {
	total := 0
	for n := p.first; n < p.first+p.count; n++ {
		if x.catalog.state(n)&readable == 0 {
			total++
		}
	}
	return total
}

// copyAll copies chunks.
func (x *repair) copyAll(ctx context.Context, items []item) error {
	source := &locator{ctx: ctx, repo: x.Repo, catalog: x.catalog, flag: readable}
	for len(items) > 0 {
		end := 1
		for end < len(items) && items[end].pack == items[0].pack && end < cas.NodeFanout {
			end++
		}
		if err := x.copySome(ctx, source, items[:end]); err != nil {
			return err
		}
		items = items[end:]
	}
	return nil
}

// copySome copies chunks of one pack. One that turns out not to be readable is
// left out.
func (x *repair) copySome(ctx context.Context, source *locator, items []item) error {
	pack, err := source.directory(items[0].pack)
	if errors.Is(err, cas.ErrNotFound) {
		x.miss(items)
		return nil
	}
	if err != nil {
		return err
	}
	for _, it := range items {
		f := &pack.Frames[it.frame]
		plain, err := x.reader.Chunk(ctx, f.ID, int(f.PlainSize))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, cas.ErrNotFound) {
			x.miss([]item{it})
			continue
		}
		if err != nil {
			x.Progress.Warn(fmt.Sprintf("chunk %s is not salvaged: %v", f.ID.Short(), err))
			x.catalog.set(it.pack.first+uint32(it.frame), bad)
			continue
		}
		x.result.Salvaged++
		x.result.Bytes += int64(f.PlainSize)
		if x.opts.DryRun {
			x.catalog.set(it.pack.first+uint32(it.frame), copied)
			continue
		}
		if err := x.begin(ctx); err != nil {
			return err
		}
		chunk := cas.Chunk{ID: f.ID, Plain: plain, Like: f.Base}
		if _, err := x.writer.PutAll(ctx, it.pack.kind, []cas.Chunk{chunk}); err != nil {
			return err
		}
	}
	return nil
}

// miss notes that frames cannot be copied, since a pack has been deleted.
func (x *repair) miss(items []item) {
	x.missed = true
	for _, it := range items {
		x.catalog.set(it.pack.first+uint32(it.frame), bad)
	}
}

// begin opens the session, once there is something to write. Its key is in a
// keyspace that no backup can have, and it is never committed: what it stores
// counts because chunks are found wherever they are.
func (x *repair) begin(ctx context.Context) error {
	if x.writer != nil {
		return nil
	}
	for try := range maxSession {
		name := fmt.Sprintf("%s.%s.%d", x.Now().UTC().Format("2006-01-02.150405"), hex.EncodeToString(x.opts.Random), try)
		key, err := cas.NewKey("-repair", cmp.Or(x.opts.Host, "host"), name)
		if err != nil {
			return err
		}
		x.session, err = x.Repo.Begin(ctx, key, x.opts.Note)
		if errors.Is(err, cas.ErrExists) {
			continue
		}
		if err != nil {
			return err
		}
		x.silence = x.session.Live(ctx, cas.BeatEvery)
		known := &locator{ctx: ctx, repo: x.Repo, catalog: x.catalog, flag: present}
		x.writer = x.session.NewWriter(cas.WriterOptions{Known: known, Wait: x.Wait})
		return nil
	}
	return errors.New("no name for the session is free")
}

// publish makes what was copied durable and takes it into the catalog.
func (x *repair) publish(ctx context.Context) error {
	if x.writer == nil {
		x.catalog.resolve()
		return nil
	}
	if err := x.writer.Flush(ctx); err != nil {
		return err
	}
	for _, sealed := range x.writer.Packs() {
		if slices.Contains(x.result.NewPacks, sealed.ID) {
			continue
		}
		pack, err := x.Repo.Pack(ctx, sealed.ID)
		if err != nil {
			return fmt.Errorf("read back what was salvaged: %w", err)
		}
		x.result.NewPacks = append(x.result.NewPacks, pack.ID)
		if err := x.catalog.add(&packState{id: pack.ID, kind: pack.Kind, size: pack.Size}, pack.Frames); err != nil {
			return err
		}
	}
	x.catalog.seal()
	x.catalog.resolve()
	return nil
}

// end ends the session.
func (x *repair) end(ctx context.Context) error {
	if x.writer == nil {
		return nil
	}
	x.silence()
	return errors.Join(x.writer.Close(), x.session.Abandon(context.WithoutCancel(ctx)))
}

// finish checks again what hangs on damage, and tells what is left.
func (x *repair) finish(ctx context.Context, again bool) error {
	after := &told{Findings: x.opts.After}
	x.Findings, x.Read = after, nil
	x.summary = Summary{ReadPacks: x.summary.ReadPacks, ReadBytes: x.summary.ReadBytes}
	clear(x.missing)
	x.lost = false
	if err := x.check(ctx); err != nil {
		return err
	}
	moved, err := x.hasMoved(ctx)
	if err != nil {
		return err
	}
	if x.moved = again && (moved || x.missed); x.moved {
		return nil
	}
	if err := x.report(ctx); err != nil {
		return err
	}
	x.left, x.result.After = after.backups, x.summary
	return nil
}
