package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/cas"
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

// unread collects the packs whose directories cannot be read, and why.
type unread map[cas.ID]error

func (u unread) add(id cas.ID, err error) error {
	u[id] = err
	return nil
}

// open makes a new index what the repository is now: what the file cannot take
// goes into memory.
func (x *Index) open(ctx context.Context) error {
	now, err := takeSurvey(ctx, x.repo)
	if err != nil {
		return err
	}
	bad := unread{}
	if err := x.refreshFile(ctx, now, bad); err != nil {
		return err
	}
	known := x.filePacks()
	var missing []cas.ID
	for id := range now.alive {
		if _, inFile := known[id]; !inFile && bad[id] == nil {
			missing = append(missing, id)
		}
	}
	if err := eachPack(ctx, x.repo, missing, x.overlay.add, bad.add); err != nil {
		return err
	}
	for id, err := range bad {
		x.problem("pack %s is left out of the index: %w", id.Short(), err)
	}
	return nil
}

// filePacks returns the packs in the file.
func (x *Index) filePacks() map[cas.ID]struct{} {
	known := map[cas.ID]struct{}{}
	if x.file != nil {
		for _, pack := range x.file.packs {
			known[pack.id] = struct{}{}
		}
	}
	return known
}

// refreshFile brings the file up to date, if it can, and says in live which of
// its packs count. Afterwards the file may lack packs, or there may be none;
// only the context's end is an error.
func (x *Index) refreshFile(ctx context.Context, now survey, bad unread) error {
	if x.seal == nil {
		return nil
	}
	if err := x.updateFile(ctx, now, bad); err != nil {
		if ctx.Err() != nil {
			return err
		}
		x.problem("index file is not used: %w", errors.Join(err, x.drop()))
	}
	x.live = map[uint32]cas.ID{}
	if x.file == nil {
		return nil
	}
	for ordinal, pack := range x.file.packs {
		if _, alive := now.alive[pack.id]; alive {
			x.live[ordinal] = pack.id
		}
	}
	return nil
}

// updateFile opens the file if it is good, and writes it if it is not or if
// packs are missing, unless another run uses it.
func (x *Index) updateFile(ctx context.Context, now survey, bad unread) error {
	if x.file == nil {
		if err := x.openSealed(); err != nil {
			return err
		}
	}
	if x.file != nil && !x.wanting(now) {
		return nil
	}
	err := x.seal.lock(unix.F_WRLCK)
	if errors.Is(err, errBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	if x.file == nil || x.wasteful(now) {
		if err := x.drop(); err != nil {
			return err
		}
	}
	if err := x.write(ctx, now, bad); err != nil {
		return err
	}
	if err := x.seal.lock(unix.F_RDLCK); err != nil {
		return err
	}
	x.file, err = openFile(x.path, x.repo.UUID(), reading)
	return err
}

// openSealed opens the file for reading if it is what its seal says. Else there
// is no file: that is no error, only the reason to make one.
func (x *Index) openSealed() error {
	want, err := x.seal.read()
	if err != nil || want == "" {
		return err
	}
	got, err := sealText(x.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || got != want {
		return err
	}
	f, err := openFile(x.path, x.repo.UUID(), reading)
	if errors.Is(err, errFile) {
		return nil
	}
	x.file = f
	return err
}

// wanting tells whether a living pack is not in the file, or too much that is
// not worth keeping is.
func (x *Index) wanting(now survey) bool {
	known := x.filePacks()
	for id := range now.alive {
		if _, inFile := known[id]; !inFile {
			return true
		}
	}
	return x.wasteful(now)
}

// wasteful tells whether the greater part of the file is about packs that are
// gone.
func (x *Index) wasteful(now survey) bool {
	var useful uint64
	for _, pack := range x.file.packs {
		if _, listed := now.listed[pack.id]; listed {
			useful += uint64(pack.frames)
		}
	}
	return x.file.header.entries > minGarbage+2*useful
}

// write adds to the file what is missing, removes what is gone, and seals it.
// The lock is exclusive. When the context ends, what was added so far is kept.
func (x *Index) write(ctx context.Context, now survey, bad unread) error {
	if err := errors.Join(x.file.close(), x.seal.clear()); err != nil {
		return err
	}
	x.file = nil
	f, err := openFile(x.path, x.repo.UUID(), writing)
	if err != nil {
		return err
	}
	var ended error
	err = f.guard(func() error {
		if err := f.forgetGone(now); err != nil {
			return err
		}
		err := f.addMissing(ctx, x.repo, now, bad)
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			ended = err
			return nil // batches are put whole: what is there is good
		}
		return err
	})
	if err := errors.Join(err, f.close()); err != nil {
		return err
	}
	text, err := sealText(x.path)
	if err != nil {
		return err
	}
	return errors.Join(x.seal.write(text), ended)
}

// forgetGone removes the packs that are not listed any more.
func (f *file) forgetGone(now survey) error {
	var gone []uint32
	for ordinal, pack := range f.packs {
		if _, listed := now.listed[pack.id]; !listed {
			gone = append(gone, ordinal)
		}
	}
	return f.forget(gone)
}

// addMissing reads the living packs that are not in the file and adds them.
func (f *file) addMissing(ctx context.Context, repo Source, now survey, bad unread) error {
	known := make(map[cas.ID]struct{}, len(f.packs))
	for _, pack := range f.packs {
		known[pack.id] = struct{}{}
	}
	var missing []cas.ID
	for id := range now.alive {
		if _, inFile := known[id]; !inFile {
			missing = append(missing, id)
		}
	}
	var b batch
	collect := func(pack *cas.Pack) error {
		b.packs = append(b.packs, pack)
		b.frames += len(pack.Frames)
		if b.frames < f.batch {
			return nil
		}
		full := b
		b = batch{}
		return f.put(full)
	}
	if err := eachPack(ctx, repo, missing, collect, bad.add); err != nil {
		return err
	}
	return f.put(b)
}

// drop removes the file, if nobody else uses it.
func (x *Index) drop() error {
	err := x.file.close()
	x.file = nil
	if lockErr := x.seal.lock(unix.F_WRLCK); lockErr != nil {
		if errors.Is(lockErr, errBusy) {
			return err
		}
		return errors.Join(err, lockErr)
	}
	err = errors.Join(err, x.seal.clear())
	if removeErr := os.Remove(x.path); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
		err = errors.Join(err, fmt.Errorf("drop index file: %w", removeErr))
	}
	return err
}
