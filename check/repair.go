package check

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

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
//
// What garbage collection moves meanwhile is looked for again.
func Repair(ctx context.Context, opts RepairOptions) (*Repaired, error) {
	opts.Mute = opts.Mute || opts.DryRun
	x := &repair{opts: opts, before: &told{Findings: opts.Findings}, again: true}
	for try := range maxTries + 1 {
		if try > 0 {
			opts.Progress.Step("again", "packs have been deleted meanwhile")
		}
		x.again = try < maxTries
		moved, err := x.try(ctx)
		if err != nil {
			return nil, err
		}
		if !moved {
			break
		}
	}
	return &x.result, nil
}

// try returns true if packs have been deleted that held what is needed: it is
// elsewhere now, and all that was found may be wrong.
func (x *repair) try(ctx context.Context) (moved bool, err error) {
	r, err := newRun(ctx, x.opts.Options)
	if err != nil {
		return false, err
	}
	x.run = r
	defer func() { err = errors.Join(err, r.reader.Close()) }()
	if err := r.check(ctx); err != nil {
		return false, err
	}
	if moved, err := x.hasMoved(ctx); err != nil || moved {
		return moved, err
	}
	if err := x.report(ctx); err != nil {
		return false, err
	}
	if err := x.markDamaged(ctx); err != nil {
		return false, err
	}
	if err := x.salvage(ctx); err != nil {
		return false, err
	}
	return x.finish(ctx)
}

// hasMoved is that of the run, as long as it may be tried again.
func (x *repair) hasMoved(ctx context.Context) (bool, error) {
	if !x.again || x.summary.DamagedObjects > 0 {
		return false, nil
	}
	return x.run.hasMoved(ctx)
}

// report tells what was found before anything is changed, once. What a dry run
// would have done by then it has not.
func (x *repair) report(ctx context.Context) error {
	if x.opts.DryRun {
		x.result = Repaired{Before: x.result.Before}
	}
	if x.reported {
		return nil
	}
	x.reported = true
	x.Findings = x.before
	if err := x.run.report(ctx); err != nil {
		return err
	}
	x.result.Before = x.summary
	return nil
}

// told remembers which backups were told.
type told struct {
	Findings
	backups []cas.Key
}

// Backup implements Findings.
func (t *told) Backup(b Backup) {
	if key, err := cas.NewKey(b.Keyspace, b.Shard, b.Name); err == nil {
		t.backups = append(t.backups, key)
	}
	t.Findings.Backup(b)
}

// repair is one run of Repair.
type repair struct {
	*run     // of this try
	opts     RepairOptions
	before   *told // what was found before anything was changed
	reported bool
	again    bool // it may be tried again
	result   Repaired
	session  *cas.Session
	silence  func()      // ends the session's signs of life
	writer   *cas.Writer // nil: nothing was written in this try
}

// markDamaged marks the packs in which this run has found something wrong.
func (x *repair) markDamaged(ctx context.Context) error {
	x.Progress.Step("mark", "")
	for _, p := range x.catalog.packs {
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
	for _, part := range x.catalog.keys {
		for first := 0; first < len(part); {
			end, all := first, state(0)
			best := -1
			for ; end < len(part) && part[end].compareID(part[first]) == 0; end++ {
				s := x.catalog.states[part[end].frame]
				all |= s
				if s&readable != 0 && (best < 0 || s.depth() < x.catalog.states[part[best].frame].depth()) {
					best = end
				}
			}
			if all&present == 0 && best >= 0 && x.catalog.states[part[best].frame].depth() == depth {
				p := x.catalog.packOf(part[best].frame)
				items = append(items, item{p, int(part[best].frame - p.first)})
			}
			first = end
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
	for _, s := range x.catalog.states[p.first : p.first+p.count] {
		if s&readable == 0 {
			total++
		}
	}
	return total
}

// copyAll copies chunks.
func (x *repair) copyAll(ctx context.Context, items []item) error {
	source := &locator{ctx: ctx, repo: x.Repo, catalog: &x.catalog, flag: readable}
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
	if err != nil {
		return err
	}
	for _, it := range items {
		f := &pack.Frames[it.frame]
		plain, err := x.reader.Chunk(ctx, f.ID, int(f.PlainSize))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			x.Progress.Warn(fmt.Sprintf("chunk %s is not salvaged: %v", f.ID.Short(), err))
			x.catalog.states[it.pack.first+uint32(it.frame)] |= bad
			continue
		}
		x.result.Salvaged++
		x.result.Bytes += int64(f.PlainSize)
		if x.opts.DryRun {
			x.catalog.states[it.pack.first+uint32(it.frame)] |= copied
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
		known := &locator{ctx: ctx, repo: x.Repo, catalog: &x.catalog, flag: present}
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
	err := errors.Join(x.writer.Close(), x.session.Abandon(context.WithoutCancel(ctx)))
	x.writer = nil
	return err
}

// finish checks again what hangs on damage, and tells what is whole now.
func (x *repair) finish(ctx context.Context) (moved bool, err error) {
	after := &told{Findings: x.opts.After}
	x.Findings = after
	x.summary = Summary{DamagedObjects: x.summary.DamagedObjects, ReadPacks: x.summary.ReadPacks, ReadBytes: x.summary.ReadBytes, Errors: x.summary.Errors}
	clear(x.missing)
	x.lost = false
	if err := x.walkAll(ctx); err != nil {
		return false, err
	}
	if moved, err := x.hasMoved(ctx); err != nil || moved {
		return moved, err
	}
	if err := x.run.report(ctx); err != nil {
		return false, err
	}
	for _, key := range x.before.backups {
		if !slices.Contains(after.backups, key) {
			x.result.Whole = append(x.result.Whole, key)
		}
	}
	x.result.After = x.summary
	return false, nil
}
