package cas

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/shardseed/shardseed/internal/hint"
)

// condemn decides which packs are to go, stores elsewhere what is needed of
// them, and publishes the list. It returns false if there is nothing to condemn.
func (p *pruner) condemn(ctx context.Context) (bool, error) {
	err := p.repackPoor(ctx)
	if err == nil {
		err = p.verifySurvivors(ctx)
	}
	if errors.Is(err, ErrCorrupt) {
		err = hint.Wrap(err, "nothing is deleted: run \"shardseed check --read-data\", then \"shardseed repair\"")
	}
	if err != nil {
		return false, err
	}
	list := packList{packs: p.free(), keys: p.newKeys()}
	if len(list.packs) == 0 {
		return false, nil
	}
	p.Progress.Step("condemn", fmt.Sprintf("%d packs", len(list.packs)))
	list, err = p.repo.putPackList(ctx, listName(p.lists.gen, listCondemned), list)
	if err != nil {
		return false, fmt.Errorf("condemn packs: %w", err)
	}
	p.adopt(list)
	return true, nil
}

// repackPoor plans and repacks until there is nothing more to repack: what is
// stored again may stand alone then, so that its base is of no use any more, and
// then in turn that of the base.
func (p *pruner) repackPoor(ctx context.Context) error {
	for range MaxDepth + 1 {
		chosen, err := p.plan(ctx)
		if err != nil {
			return err
		}
		if err := p.repack(ctx, chosen); err != nil || len(chosen) == 0 {
			return err
		}
	}
	return nil
}

// adopt makes the list what this generation is about.
func (p *pruner) adopt(list packList) {
	p.lists.condemned = &list
	p.lists.learn(list)
	clear(p.doomed)
	for _, id := range list.packs {
		p.doomed[id] = struct{}{}
	}
}

// newKeys returns the backups that no earlier list names, sorted.
func (p *pruner) newKeys() []Key {
	var keys []Key
	for key := range p.walked {
		if !p.lists.known[key] {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// plan dooms the packs that hold nothing that is needed, and those of which so
// little is needed that they are repacked, which it returns. Packs of sessions
// that are still at work are left alone.
func (p *pruner) plan(ctx context.Context) ([]uint32, error) {
	busy, err := p.busyPacks(ctx)
	if err != nil {
		return nil, err
	}
	var poor []uint32
	var used, unused int64
	for i := range p.census.packs {
		pack := &p.census.packs[i]
		switch {
		case pack.tier == tierGone || busy[pack.id]:
		case pack.used == 0:
			p.doomed[pack.id] = struct{}{}
		default:
			used, unused = used+pack.used, unused+pack.all-pack.used
			if pack.tier == tierKeep && pack.used < pack.all {
				poor = append(poor, uint32(i))
			}
		}
	}
	slices.SortFunc(poor, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(p.census.usedShare(a), p.census.usedShare(b)), cmp.Compare(a, b))
	})
	n := 0
	for ; n < len(poor) && p.MaxUnused >= 0 && float64(unused) > p.MaxUnused*float64(used+unused); n++ {
		pack := &p.census.packs[poor[n]]
		unused -= pack.all - pack.used
		p.doomed[pack.id] = struct{}{}
	}
	p.assign()
	p.census.resolve()
	p.census.choose() // what is stored twice may be had from a pack that stays
	return poor[:n], nil
}

// usedShare is the part of a pack that is chosen.
func (c *census) usedShare(pack uint32) float64 {
	return float64(c.packs[pack].used) / float64(max(c.packs[pack].all, 1))
}

// busyPacks returns the packs of sessions that have no register. To condemn them
// would be safe: they are decided about when the session has ended. But until then
// nobody else could use them.
func (p *pruner) busyPacks(ctx context.Context) (map[ID]bool, error) {
	sessions, err := p.unfinished(ctx)
	if err != nil || len(sessions) == 0 {
		return nil, err
	}
	busy := map[ID]bool{}
	for i := range p.census.packs {
		pack := &p.census.packs[i]
		if pack.tier == tierGone || pack.used == pack.all {
			continue
		}
		owner, known := p.owners[pack.id]
		if !known {
			if owner, err = p.repo.packSession(ctx, pack.id); err != nil && !errors.Is(err, ErrCorrupt) {
				return nil, err
			}
			p.owners[pack.id] = owner
		}
		busy[pack.id] = slices.Contains(sessions, owner)
	}
	return busy, nil
}

// packSession returns the key of the session that made a pack.
func (r *Repository) packSession(ctx context.Context, id ID) (_ Key, err error) {
	blob, err := r.backend.Open(ctx, packName(id))
	if err != nil {
		return "", fmt.Errorf("open pack %s: %w", id.Short(), err)
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	head := make([]byte, min(blob.Size(), packHeaderSize+3*(maxPart+1)+4))
	if n, err := blob.ReadAt(head, 0); n < len(head) && err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read pack %s: %w", id.Short(), err)
	}
	key, err := parsePackSession(head)
	if err != nil {
		return "", packError(id, err)
	}
	return key, nil
}

// repack stores again what is needed of packs, and abandons its session: what
// comes of the copies is decided by what backups need, as with all others.
func (p *pruner) repack(ctx context.Context, chosen []uint32) (err error) {
	if len(chosen) > 0 {
		if err := p.copyPacks(ctx, chosen); err != nil {
			return fmt.Errorf("repack: %w", err)
		}
	}
	p.assign()
	p.census.resolve()
	p.census.choose()
	return nil
}

func (p *pruner) copyPacks(ctx context.Context, chosen []uint32) (err error) {
	var total int64
	for _, pack := range chosen {
		total += p.census.packs[pack].wanted
	}
	p.result.Repacked += total
	p.Progress.Step("repack", fmt.Sprintf("%d packs", len(chosen)))
	session, err := p.beginRepack(ctx)
	if err != nil {
		return err
	}
	end := session.Live(ctx, BeatEvery)
	p.Progress.Begin("repack", total)
	defer func() {
		p.Progress.End()
		end()
		abandoned := session.Abandon(context.WithoutCancel(ctx))
		if abandoned == nil {
			p.decide(session.key, revoked)
		}
		err = errors.Join(err, abandoned)
	}()
	for len(chosen) > 0 {
		n, frames := 0, uint32(0)
		for n < len(chosen) && (n == 0 || frames+p.census.packs[chosen[n]].copies <= repackFrames) {
			frames += p.census.packs[chosen[n]].copies
			n++
		}
		if err := p.copyBatch(ctx, session, chosen[:n]); err != nil {
			return err
		}
		chosen = chosen[n:]
	}
	return nil
}

// repackFrames bounds the frames that one Writer is given, for it takes some 160 bytes
// for each: 21 MB. A multiple of those of a pack, so that few packs are small.
const repackFrames = 4 * packFrames

// repackKeyspace is no backup's: keyspaces do not begin with a dash.
const repackKeyspace = "-prune"

func (p *pruner) beginRepack(ctx context.Context) (*Session, error) {
	var nonce [8]byte
	if err := p.repo.random(nonce[:]); err != nil {
		return nil, err
	}
	key, err := NewKey(repackKeyspace, "repack", fmt.Sprintf("%s.%x", p.Now().UTC().Format("2006-01-02.150405"), nonce))
	if err != nil {
		return nil, err
	}
	return p.repo.Begin(ctx, key, []byte(p.Note))
}

// copyBatch stores again what is needed of some packs.
func (p *pruner) copyBatch(ctx context.Context, session *Session, chosen []uint32) (err error) {
	w := session.NewWriter(WriterOptions{})
	c := &copier{pruner: p, writer: w, chunks: p.repo.NewReader(p.found), others: p.repo.NewReader(p.found)}
	defer func() { err = errors.Join(err, w.Close(), c.chunks.Close(), c.others.Close()) }()
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(p.Workers)
	for _, pack := range chosen {
		group.Go(func() error { return c.pack(running, pack) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := w.Flush(ctx); err != nil {
		return err
	}
	for _, made := range w.Packs() {
		pack, err := p.repo.Pack(ctx, made.ID)
		if err != nil {
			return err
		}
		p.stored[pack.ID] = true
		p.result.Written += pack.Size
		p.census.reserve(pack.ID) // counts when all is copied
		if err := p.census.add(pack); err != nil {
			return err
		}
	}
	p.census.sort()
	return nil
}

// copier copies chunks into new packs.
type copier struct {
	*pruner
	writer *Writer
	chunks *Reader
	others *Reader // for what is needed while chunks is in use
}

// pack copies what is chosen of a pack. Every chunk is decoded, whole chain and
// all, and hashed before it is copied.
func (c *copier) pack(ctx context.Context, number uint32) error {
	pack, err := c.repo.Pack(ctx, c.census.packs[number].id)
	if err != nil {
		return err
	}
	var frames []Frame
	var ids []ID
	for _, f := range pack.Frames {
		if c.census.isChosen(number, &f) && c.census.isWanted(f.ID) {
			frames, ids = append(frames, f), append(ids, f.ID)
		}
	}
	size := func(i int) int { return int(frames[i].PlainSize) }
	return c.chunks.Chunks(ctx, ids, size, func(i int, plain []byte) error {
		c.Progress.Advance(frames[i].Size())
		return c.copy(ctx, pack, frames[i], plain)
	})
}

// entryOf returns the entry of a frame in a pack.
func (c *census) entryOf(pack uint32, f *Frame) *entry {
	copies := c.find(short(f.ID))
	for i := range copies {
		if e := &copies[i]; e.pack == pack && e.depth == f.Depth && int64(e.size) == f.Size() && c.baseOf(e) == short(f.Base) {
			return e
		}
	}
	return nil
}

func (c *census) isChosen(pack uint32, f *Frame) bool {
	e := c.entryOf(pack, f)
	return e != nil && e.chosen()
}

// copy stores one chunk again: as it is, unless it is a delta whose base nobody
// else needs. Then it becomes a delta of the next chunk down the chain that is
// needed anyway, or stands alone, and the bases between are free.
func (c *copier) copy(ctx context.Context, pack *Pack, f Frame, plain []byte) error {
	chunk := Chunk{ID: f.ID, Plain: plain}
	if f.Codec != CodecDelta || c.census.isWanted(f.Base) {
		stored, err := c.others.read(ctx, nil, Location{pack.ID, f}, f.Size())
		if err != nil {
			return err
		}
		return c.writer.copyFrame(ctx, pack.Kind, f, stored[frameHeaderSize:])
	}
	chain, err := c.found.Lookup(f.ID, AnyDepth)
	if err != nil {
		return err
	}
	for n := 1; n < len(chain); n++ {
		if !c.census.isWanted(chain[n].ID) {
			continue
		}
		base, err := c.others.Chunk(ctx, chain[n].ID, len(plain))
		if err != nil {
			return err
		}
		_, err = c.writer.put(ctx, pack.Kind, chunk, chain[n:], base)
		return err
	}
	_, err = c.writer.put(ctx, pack.Kind, chunk, nil, nil)
	return err
}

// isWanted tells whether a chunk is needed but for the sake of a single delta
// that is repacked.
func (c *census) isWanted(id ID) bool {
	copies := c.find(short(id))
	return copies != nil && copies[0].isWanted()
}

// verifySurvivors reads what is needed of the doomed packs where it is kept. What
// cannot be read there is kept in the doomed pack.
func (p *pruner) verifySurvivors(ctx context.Context) error {
	var total int64
	for i := range p.census.packs {
		if pack := &p.census.packs[i]; pack.tier == tierDoomed && pack.used == 0 {
			total += pack.twice
		}
	}
	if total == 0 {
		return nil
	}
	p.Progress.Step("verify", "what is stored twice, before one copy is given up")
	p.Progress.Begin("verify", total)
	defer p.Progress.End()
	for i := 0; i < len(p.census.packs); i++ {
		pack := &p.census.packs[i]
		if pack.tier != tierDoomed || pack.used > 0 || pack.twice == 0 {
			continue
		}
		bad, err := p.verifyOthers(ctx, pack.id)
		if err != nil {
			return err
		}
		if bad.IsZero() {
			p.Progress.Advance(pack.twice)
			continue
		}
		p.suspect[bad] = struct{}{}
		p.assign()
		p.census.resolve()
		p.census.choose()
		i = -1 // other copies are kept now
	}
	return nil
}

// verifyOthers reads the copies that are kept of what a doomed pack holds. It
// returns the pack of one that is damaged, or the zero ID.
func (p *pruner) verifyOthers(ctx context.Context, doomed ID) (ID, error) {
	pack, err := p.repo.Pack(ctx, doomed)
	if errors.Is(err, ErrCorrupt) { // marked, and nothing is known of it
		return ID{}, nil
	}
	if err != nil {
		return ID{}, err
	}
	var ids []ID
	var sizes []int
	for _, f := range pack.Frames {
		if copies := p.census.find(short(f.ID)); copies != nil && copies[0].isKept() {
			ids, sizes = append(ids, f.ID), append(sizes, int(f.PlainSize))
		}
	}
	err = p.reader.Chunks(ctx, ids, func(i int) int { return sizes[i] }, func(int, []byte) error { return nil })
	var corrupt *CorruptError
	if errors.As(err, &corrupt) && !corrupt.Pack.IsZero() && corrupt.Pack != doomed {
		if _, again := p.suspect[corrupt.Pack]; !again {
			p.Progress.Warn(fmt.Sprintf("%v: the other copy is kept; run \"shardseed check --read-data\"", err))
			return corrupt.Pack, nil
		}
	}
	return ID{}, err
}

// free returns the doomed packs that nothing needs, sorted.
func (p *pruner) free() []ID {
	var ids []ID
	for id := range p.doomed {
		if number, known := p.census.ordinal[id]; !known || p.census.packs[number].used == 0 {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, ID.Compare)
	return ids
}

// settle turns the condemned list into the final one. It returns false if
// sessions are at work that may need what is condemned.
func (p *pruner) settle(ctx context.Context) (bool, error) {
	if err := p.sleep(ctx, 2*p.Visibility); err != nil {
		return false, err
	}
	if err := p.listSessions(ctx); err != nil {
		return false, err
	}
	if err := p.listRegisters(ctx); err != nil { // a register that was lost would be revoked now
		return false, err
	}
	waitFor, err := p.unfinished(ctx)
	if err != nil {
		return false, err
	}
	if waitFor, err = p.agreeOnWaiting(ctx, waitFor); err != nil {
		return false, err
	}
	left, err := p.fence(ctx, waitFor)
	if err != nil || len(left) > 0 {
		p.result.Waiting = left
		return false, err
	}
	if err := p.markAgain(ctx); err != nil {
		return false, err
	}
	list := packList{packs: p.free()}
	if rescued := len(p.lists.condemned.packs) - len(list.packs); rescued > 0 {
		p.Progress.Step("rescue", fmt.Sprintf("%d packs that are needed now", rescued))
	}
	if list, err = p.repo.putPackList(ctx, listName(p.lists.gen, listFinal), list); err != nil {
		return false, fmt.Errorf("publish what is to be deleted: %w", err)
	}
	for _, id := range list.packs {
		p.lists.final[id] = struct{}{}
	}
	return true, nil
}

// agreeOnWaiting returns which sessions must have ended before the condemned
// packs go: those that the first collection found which looked after the list was
// visible everywhere. All that came later have seen the list. Without this, a
// collection that gives up waiting would never end where some backup always runs.
func (p *pruner) agreeOnWaiting(ctx context.Context, unfinished []Key) ([]Key, error) {
	if p.lists.waiting == nil {
		if len(unfinished) == 0 {
			return nil, nil
		}
		keys, err := p.repo.putKeyList(ctx, listName(p.lists.gen, listWaiting), unfinished)
		if err != nil {
			return nil, fmt.Errorf("note who is waited for: %w", err)
		}
		p.lists.waiting = map[Key]bool{}
		for _, key := range keys {
			p.lists.waiting[key] = true
		}
	}
	return slices.DeleteFunc(unfinished, func(key Key) bool { return !p.lists.waiting[key] }), nil
}

// markAgain finds out what backups need that have come since: registers first,
// then the packs that they may need.
func (p *pruner) markAgain(ctx context.Context) error {
	p.Progress.Step("mark", "again")
	// This wait is needed for safety, also if nobody was waited for: a session that
	// another collection found finished, and so did not note in the list of those
	// to wait for, has a register that this host may not see yet.
	if err := p.sleep(ctx, p.Visibility); err != nil {
		return err
	}
	if err := p.listSessions(ctx); err != nil {
		return err
	}
	if err := p.listRegisters(ctx); err != nil {
		return err
	}
	if _, err := p.unfinished(ctx); err != nil { // looks for registers that are not listed yet
		return err
	}
	err := p.readMore(ctx)
	var lacking *lackError
	if errors.As(err, &lacking) { // a register may be seen before its packs are
		if err := p.sleep(ctx, p.Visibility); err != nil {
			return err
		}
		err = p.walkAnew(ctx)
	}
	return err
}

// walkAnew is readMore after a walk that lacked something. It begins again with
// every backup: others may have left to that walk what they share with it. A
// removed backup that lacks something again is left out: a pin in time would have
// kept all, so its reader came too late and will find that out.
func (p *pruner) walkAnew(ctx context.Context) error {
	for {
		p.census.unwalk()
		clear(p.walked)
		err := p.readMore(ctx)
		var lacking *lackError
		if !errors.As(err, &lacking) || !p.forgotten[lacking.key] {
			return err
		}
		p.late[lacking.key] = true
		p.Progress.Warn(fmt.Sprintf("backup %s was removed, and what it needs deleted, before somebody began to read it", lacking.key))
	}
}

// readMore lists the packs again, walks what is new and chooses again.
func (p *pruner) readMore(ctx context.Context) error {
	stored, err := p.repo.PackIDs(ctx)
	if err != nil {
		return err
	}
	if err := p.load(ctx, stored); err != nil {
		return err
	}
	p.census.resolve()
	if err := p.walk(ctx); err != nil {
		return err
	}
	p.census.choose()
	return p.census.checkNeeded()
}

// checkNeeded makes sure that all that is needed can be had.
func (c *census) checkNeeded() error {
	for copies := range c.entries.Groups() {
		if copies[0].marks&markNeeded != 0 && copies[0].best[tierDamaged] == 0 {
			pack := c.packs[copies[0].pack].id
			return fmt.Errorf("a chunk of pack %s: %w", pack.Short(), &CorruptError{Name: "packs", Reason: "its last copy has gone while packs were collected"})
		}
	}
	return nil
}

// sweep deletes the packs that final lists name, and signs of life that have
// served.
func (p *pruner) sweep(ctx context.Context) error {
	stored, err := p.repo.PackIDs(ctx)
	if err != nil {
		return err
	}
	gone := slices.DeleteFunc(stored, func(id ID) bool {
		_, final := p.lists.final[id]
		return !final
	})
	if err := p.deletePacks(ctx, gone); err != nil {
		return err
	}
	return p.tidy(ctx)
}

func (p *pruner) deletePacks(ctx context.Context, ids []ID) error {
	if len(ids) == 0 {
		return nil
	}
	sizes := make([]int64, len(ids))
	var total int64
	for i, id := range ids {
		size, err := p.repo.blobSize(ctx, packName(id))
		if errors.Is(err, ErrNotFound) {
			continue // another collection was faster
		}
		if err != nil {
			return fmt.Errorf("delete pack %s: %w", id.Short(), err)
		}
		sizes[i] = size
		total += size
	}
	p.Progress.Step("delete", fmt.Sprintf("%d packs", len(ids)))
	p.Progress.Begin("delete", total)
	defer p.Progress.End()
	for i, id := range ids {
		if err := p.repo.remove(ctx, packName(id)); err != nil {
			return fmt.Errorf("delete pack %s: %w", id.Short(), err)
		}
		p.Progress.Advance(sizes[i])
		if sizes[i] > 0 {
			p.result.Packs++
			p.result.Deleted += sizes[i]
		}
	}
	return nil
}

// remove removes a blob. Registers, sessions, marks and lists are for ever.
func (r *Repository) remove(ctx context.Context, name string) error {
	if !slices.ContainsFunc([]string{"packs/", "beats/", "readers/"}, func(dir string) bool { return strings.HasPrefix(name, dir) }) {
		panic("cas: internal error: remove " + name)
	}
	return r.backend.Remove(ctx, name)
}

// tidy removes the signs of life of sessions that have a register, and of
// readers that have ended.
func (p *pruner) tidy(ctx context.Context) error {
	err := p.repo.eachShard(ctx, "beats", func(folder string, entries []Entry) error {
		for _, entry := range entries {
			name, _, ok := cutGeneration(entry.Name)
			if !ok || !p.registers[Key(folder+"/"+name)] {
				continue
			}
			if err := p.repo.remove(ctx, "beats/"+folder+"/"+entry.Name); err != nil {
				return fmt.Errorf("remove signs of life: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.repo.eachShard(ctx, "readers", func(folder string, entries []Entry) error {
		return p.tidyReaders(ctx, "readers/"+folder, entries)
	})
}

// tidyReaders removes the beats of readers that have ended, and then, in another
// run, their ends: a reader whose end is gone must have no beats left.
func (p *pruner) tidyReaders(ctx context.Context, dir string, entries []Entry) error {
	ended, beating := map[string]bool{}, map[string]bool{}
	for _, entry := range entries {
		if name, ok := strings.CutSuffix(entry.Name, readerEnd); ok {
			ended[name] = true
		} else if name, _, ok := cutGeneration(entry.Name); ok {
			beating[name] = true
		}
	}
	for _, entry := range entries {
		name, isEnd := strings.CutSuffix(entry.Name, readerEnd)
		if !isEnd {
			name, _, _ = cutGeneration(entry.Name)
		}
		if !ended[name] || isEnd && beating[name] {
			continue
		}
		if err := p.repo.remove(ctx, dir+"/"+entry.Name); err != nil {
			return fmt.Errorf("remove signs of life: %w", err)
		}
	}
	return nil
}

// account sums up what is left.
func (p *pruner) account(ctx context.Context) error {
	stored, err := p.repo.PackIDs(ctx)
	if err != nil {
		return err
	}
	r := p.result
	r.Backups, r.Stored, r.Unused = len(p.walked), 0, 0
	for _, id := range stored {
		number, known := p.census.ordinal[id]
		if !known {
			continue
		}
		pack := &p.census.packs[number]
		r.Stored += pack.size
		r.Unused += pack.all - pack.used
	}
	return nil
}

// rehearse says what a run would do, as far as can be told without doing it.
func (p *pruner) rehearse(ctx context.Context) error {
	r := p.result
	for id := range p.lists.final { // that a crash has left
		if size, err := p.repo.blobSize(ctx, packName(id)); err == nil {
			r.Packs++
			r.Deleted += size
		}
	}
	chosen, err := p.plan(ctx)
	if err != nil {
		return err
	}
	var frames int64
	for _, number := range chosen {
		pack := &p.census.packs[number]
		r.Repacked += pack.wanted
		frames += int64(pack.copies)
	}
	if r.Repacked > 0 {
		r.Written = r.Repacked + frames*footerEstimate
	}
	going := map[ID]bool{}
	for _, id := range p.free() {
		going[id] = true
	}
	for _, number := range chosen {
		going[p.census.packs[number].id] = true
	}
	for i := range p.census.packs {
		switch pack := &p.census.packs[i]; {
		case going[pack.id]:
			r.Packs++
			r.Deleted += pack.size
		case pack.tier != tierGone:
			r.Stored += pack.size
			r.Unused += pack.all - pack.used
		}
	}
	r.Stored += r.Written
	r.Backups = len(p.walked)
	r.Waiting, err = p.unfinished(ctx)
	return err
}

// footerEstimate is what an entry of a footer takes, bytes.
const footerEstimate = 48
