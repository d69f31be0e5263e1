package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/shardseed/shardseed/cas"
)

const (
	// A run is merged with what comes if it has at most mergeRatio times as many
	// entries: so there are few runs, and the large ones are written seldom.
	mergeRatio = 4
	// smallRun is how many entries what comes counts for at least.
	smallRun = 64 << 10
	// minGarbage is how many entries of vanished packs are kept at least; above
	// that all is written anew when they are the greater part.
	minGarbage = 100_000
)

// survey is what a repository holds now.
type survey struct {
	listed map[cas.ID]struct{}
	alive  map[cas.ID]struct{} // listed, and neither condemned nor damaged
}

func takeSurvey(ctx context.Context, repo Source) (survey, error) {
	dead, err := repo.Dead(ctx)
	if err != nil {
		return survey{}, err
	}
	ids, err := repo.PackIDs(ctx)
	if err != nil {
		return survey{}, err
	}
	now := survey{listed: make(map[cas.ID]struct{}, len(ids)), alive: make(map[cas.ID]struct{}, len(ids))}
	for _, id := range ids {
		now.listed[id] = struct{}{}
		if _, isDead := dead[id]; !isDead {
			now.alive[id] = struct{}{}
		}
	}
	return now, nil
}

func (s survey) isListed(id cas.ID) bool {
	_, found := s.listed[id]
	return found
}

// update is one attempt to make an index what the repository is now. Its runs
// are its own until they are installed.
type update struct {
	index    *Index
	now      survey
	void     map[string]bool // files that could not be read
	files    []*run          // in the folder
	bad      []string        // files to be removed
	overlay  []*run          // not in the folder
	unread   map[cas.ID]error
	problems []error
}

// refresh makes the index what the repository is now. held is the folder's lock,
// if the caller has it.
func (x *Index) refresh(ctx context.Context, held *os.File) error {
	x.saving.Lock()
	defer x.saving.Unlock()
	now, err := takeSurvey(ctx, x.repo)
	if err != nil {
		return err
	}
	u := &update{index: x, now: now, void: map[string]bool{}, unread: map[cas.ID]error{}}
	x.mu.RLock()
	for _, r := range x.damaged() {
		u.void[r.name] = true
	}
	for _, r := range x.overlay.runs() {
		if !r.bad.Load() {
			u.overlay = append(u.overlay, r)
		}
	}
	x.mu.RUnlock()
	if err := u.run(ctx, held); err != nil {
		return errors.Join(err, closeRuns(u.files), closeRuns(u.others()))
	}
	return u.install()
}

// others returns the runs outside the folder that the index does not have.
func (u *update) others() []*run {
	have := u.index.overlay.runs() // changed only by who holds saving
	return slices.DeleteFunc(slices.Clone(u.overlay), func(r *run) bool { return slices.Contains(have, r) })
}

// run brings the folder up to date if something is missing and nobody else is
// at it. What stays missing goes elsewhere. Only the context's end is an error.
func (u *update) run(ctx context.Context, held *os.File) error {
	u.scan()
	if held == nil && u.wanting() {
		locked, err := u.index.folder.lock(ctx)
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		if err != nil && !errors.Is(err, errBusy) {
			u.problem(err)
		}
		if err == nil {
			defer func() { _ = locked.Close() }() // it only ends the lock
			held = locked
			u.scan() // others may have written
		}
	}
	fresh, err := u.gather(ctx)
	if err != nil {
		return err
	}
	if held == nil {
		u.keep(fresh)
		return nil
	}
	err = u.write(fresh)
	if err != nil && u.avoidDamaged() { // without what could not be read it may work
		_ = closeRuns(fresh)
		if fresh, err = u.gather(ctx); err != nil {
			return err
		}
		err = u.write(fresh)
	}
	if err != nil {
		u.problem(err)
		u.keep(fresh)
	}
	return nil
}

// gather reads the packs that are missing.
func (u *update) gather(ctx context.Context) ([]*run, error) {
	return gather(ctx, u.index.repo, u.index.scratch, u.index.batch, u.missing(u.files, u.overlay), u.leaveOut)
}

// wanting tells whether the folder needs to be changed.
func (u *update) wanting() bool {
	isRun := func(name string) bool { return !strings.HasPrefix(name, ".") }
	return u.wasteful() || slices.ContainsFunc(u.bad, isRun) || len(u.missing(u.files)) > 0
}

// avoidDamaged leaves out the runs that could not be read; false if there are
// none.
func (u *update) avoidDamaged() bool {
	isBad := func(r *run) bool { return r.bad.Load() }
	found := slices.ContainsFunc(u.files, isBad) || slices.ContainsFunc(u.overlay, isBad)
	for _, r := range u.files {
		u.void[r.name] = u.void[r.name] || isBad(r)
	}
	u.overlay = slices.DeleteFunc(u.overlay, isBad)
	if found {
		u.scan()
	}
	return found
}

// problem notes why the folder is not used as it should be; what follows from the
// first reason is not noted.
func (u *update) problem(err error) {
	if len(u.problems) == 0 {
		u.problems = append(u.problems, fmt.Errorf("index files are not used: %w", err))
	}
}

func (u *update) leaveOut(id cas.ID, err error) error {
	u.unread[id] = err
	return nil
}

// scan opens the files in the folder, anew.
func (u *update) scan() {
	_ = closeRuns(u.files) // they were only read
	var err error
	if u.files, u.bad, err = u.index.folder.open(u.void); err != nil {
		u.problem(err)
	}
}

// missing returns the living packs that are in none of the runs, sorted.
func (u *update) missing(have ...[]*run) []cas.ID {
	known := map[cas.ID]struct{}{}
	for _, runs := range have {
		for _, r := range runs {
			for _, pack := range r.packs {
				known[pack.id] = struct{}{}
			}
		}
	}
	var missing []cas.ID
	for id := range u.now.alive {
		if _, found := known[id]; !found {
			missing = append(missing, id)
		}
	}
	slices.SortFunc(missing, cas.ID.Compare)
	return missing
}

// wasteful tells whether the greater part of the files is about packs that are
// gone.
func (u *update) wasteful() bool {
	var all, useful uint64
	for _, r := range u.files {
		all += r.entries
		for _, pack := range r.packs {
			if u.now.isListed(pack.id) {
				useful += uint64(pack.frames)
			}
		}
	}
	return all > minGarbage+2*useful
}

// victims returns the runs to be merged with new ones.
func victims(runs, fresh []*run) []*run {
	var coming uint64
	for _, r := range fresh {
		coming += r.entries
	}
	runs = slices.Clone(runs)
	slices.SortFunc(runs, func(a, b *run) int { return cmp.Compare(a.entries, b.entries) })
	for i, r := range runs {
		if r.entries > mergeRatio*max(coming, smallRun) {
			return runs[:i]
		}
		coming += r.entries
	}
	return runs
}

// write puts the new runs, and those that are elsewhere, into the folder. With an
// error it has changed nothing.
func (u *update) write(fresh []*run) error {
	coming := slices.Concat(u.overlay, fresh)
	var old []*run
	switch {
	case u.wasteful():
		old = u.files
	case len(coming) > 0:
		old = victims(u.files, coming)
	}
	m := merge{repo: u.index.folder.repo, sources: slices.Concat(old, coming), keep: u.now.isListed}
	packs, _ := m.tables()
	var made []*run
	if len(packs) > 0 {
		r, err := u.index.folder.publish(m.write)
		if err != nil {
			return err
		}
		made = append(made, r)
	}
	for _, r := range old {
		u.bad = append(u.bad, r.name)
	}
	if err := u.index.folder.remove(u.bad); err != nil {
		u.problem(err)
	}
	u.files = append(subtract(u.files, old), made...)
	_, _ = closeRuns(old), closeRuns(fresh) // they were only read
	u.overlay = nil
	return nil
}

func subtract(runs, gone []*run) []*run {
	return slices.DeleteFunc(slices.Clone(runs), func(r *run) bool { return slices.Contains(gone, r) })
}

// keep takes the new runs outside the folder.
func (u *update) keep(fresh []*run) {
	if len(fresh) == 0 {
		return
	}
	old := victims(u.overlay, fresh)
	m := merge{repo: u.index.folder.repo, sources: slices.Concat(old, fresh), keep: u.now.isListed}
	r, err := u.index.scratch.make(m.repo, m.write)
	if err != nil { // what cannot be merged is searched one by one
		u.overlay = slices.Concat(u.overlay, fresh)
		return
	}
	_ = closeRuns(fresh) // they were only read
	u.overlay = append(subtract(u.overlay, old), r)
}

// install lets lookups see what the update has made.
func (u *update) install() error {
	x := u.index
	slices.SortFunc(u.files, func(a, b *run) int { return cmp.Compare(b.entries, a.entries) })
	counted := map[cas.ID]struct{}{}
	alive := func(id cas.ID) bool {
		_, alive := u.now.alive[id]
		_, twice := counted[id]
		counted[id] = struct{}{}
		return alive && !twice
	}
	var files, overlay parts
	for _, r := range u.files {
		files.add(r, alive)
	}
	for _, r := range u.overlay {
		overlay.add(r, alive)
	}
	for id, err := range u.unread {
		if errors.Is(err, cas.ErrNotFound) {
			continue // it was deleted after it had been listed
		}
		u.problems = append(u.problems, fmt.Errorf("pack %s is left out of the index: %w", id.Short(), err))
	}
	x.mu.Lock()
	gone := append(x.files.runs(), subtract(x.overlay.runs(), u.overlay)...)
	x.files, x.overlay = files, overlay
	x.problems = u.problems
	x.mu.Unlock()
	return closeRuns(gone)
}
