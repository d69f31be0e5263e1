package simulate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/index"
)

const (
	chunkSize  = 1024
	staleAfter = 15 * time.Minute
)

// writer makes backups of a file that changes in between.
func (w *world) writer(rng *rand.Rand, name string, backups int) func(*host) {
	return func(h *host) {
		file := newFile(rng)
		for i := range backups {
			time.Sleep(time.Duration(rng.IntN(240)) * time.Second)
			parent := slices.Clone(file)
			change(rng, file)
			key := cas.Key(fmt.Sprintf("ks/-80/%s.%d", name, i))
			if err := w.backUp(h, rng, key, parent, file); err != nil {
				w.logf("%s: backup %s: %v", h.name, key, err)
			}
			if h.dead {
				return
			}
		}
	}
}

// newFile returns a file of some pages that other writers begin from too.
func newFile(rng *rand.Rand) [][]byte {
	file := make([][]byte, 2+rng.IntN(5))
	for i := range file {
		file[i] = page(rng)
	}
	return file
}

// page returns one of a few pages.
func page(rng *rand.Rand) []byte {
	plain := make([]byte, chunkSize)
	_, _ = rand.NewChaCha8([32]byte{byte(rng.IntN(6))}).Read(plain)
	return plain
}

// change changes some of the pages a little, to what they may have been before.
func change(rng *rand.Rand, file [][]byte) {
	for range rng.IntN(4) {
		i := rng.IntN(len(file))
		file[i] = slices.Clone(file[i])
		file[i][rng.IntN(4)] = byte(rng.IntN(3))
		if rng.IntN(4) == 0 {
			file[i] = page(rng)
		}
	}
}

// backUp makes one backup. Sometimes the host dies, or gives up.
func (w *world) backUp(h *host, rng *rand.Rand, key cas.Key, parent, file [][]byte) (err error) {
	repo, err := cas.Open(w.ctx, h)
	if err != nil {
		return err
	}
	session, err := repo.Begin(w.ctx, key, nil)
	if err != nil {
		return err
	}
	end := session.Live(w.ctx, cas.BeatEvery)
	defer end()
	known, err := index.Open(w.ctx, "/dev/null/none", repo)
	if err != nil {
		return errors.Join(err, session.Abandon(w.ctx))
	}
	writer := session.NewWriter(cas.WriterOptions{Known: known})
	defer func() { err = errors.Join(err, writer.Close(), known.Close()) }()
	leaf, err := storeFile(w.ctx, rng, writer, parent, file)
	switch rng.IntN(10) {
	case 0:
		h.dead = true
		w.counts["writers died"]++
		return errDead
	case 1:
		w.counts["abandoned"]++
		err = errors.Join(err, errors.New("changed its mind"))
	}
	if err != nil {
		return errors.Join(err, session.Abandon(w.ctx))
	}
	chunks := slices.Clone(file)
	w.maybe[key] = chunks
	err = session.Commit(w.ctx, writer, record(leaf, len(file)))
	switch {
	case err == nil:
		w.counts["committed"]++
		w.model[key] = chunks
		w.order = append(w.order, key)
		delete(w.maybe, key)
	case errors.Is(err, cas.ErrRevoked):
		w.counts["revoked"]++
		delete(w.maybe, key)
	default:
		err = errors.Join(err, session.Abandon(w.ctx))
	}
	return err
}

// storeFile stores the file's chunks, in several packs at times, and its recipe.
func storeFile(ctx context.Context, rng *rand.Rand, writer *cas.Writer, parent, file [][]byte) (cas.ID, error) {
	ids := make([]cas.ID, len(file))
	for i, plain := range file {
		ids[i] = cas.Sum(plain)
		if _, err := writer.PutAll(ctx, cas.KindData, []cas.Chunk{{ID: ids[i], Plain: plain, Like: cas.Sum(parent[i])}}); err != nil {
			return cas.ID{}, err
		}
		if rng.IntN(3) == 0 {
			if err := writer.Flush(ctx); err != nil {
				return cas.ID{}, err
			}
		}
		if rng.IntN(3) == 0 {
			time.Sleep(time.Duration(rng.IntN(240)) * time.Second)
		}
	}
	leaf, _, err := writer.PutLeaf(ctx, ids)
	return leaf, err
}

// forgetter forgets backups now and then.
func (w *world) forgetter(rng *rand.Rand, times int) func(*host) {
	return func(h *host) {
		for range times {
			time.Sleep(time.Duration(rng.IntN(240)) * time.Second)
			repo, err := cas.Open(w.ctx, h)
			if err != nil {
				continue
			}
			for range 1 + rng.IntN(3) {
				key, found := w.choose(rng)
				if !found {
					break
				}
				w.forgotten[key] = true // whatever becomes of it: nobody may count on it
				if err := repo.Forget(w.ctx, key, nil); err == nil {
					w.counts["forgotten"]++
				}
			}
		}
	}
}

// listed returns the backups that everybody may count on, sorted.
func (w *world) listed() []cas.Key {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(w.model)), func(key cas.Key) bool { return w.forgotten[key] })
}

// choose returns a backup that everybody may count on, the newest more often: it
// is what the next backup relies on.
func (w *world) choose(rng *rand.Rand) (cas.Key, bool) {
	keys := slices.DeleteFunc(slices.Clone(w.order), func(key cas.Key) bool { return w.forgotten[key] })
	switch {
	case len(keys) == 0:
		return "", false
	case rng.IntN(2) == 0:
		return keys[len(keys)-1], true
	}
	return keys[rng.IntN(len(keys))], true
}

// restorer restores backups. If it looks as soon as it has pinned one and that is
// not forgotten, it must get what was backed up, unless it was slow itself.
func (w *world) restorer(rng *rand.Rand, times int) func(*host) {
	return func(h *host) {
		for range times {
			time.Sleep(time.Duration(rng.IntN(600)) * time.Second)
			key, found := w.choose(rng)
			if !found {
				continue
			}
			want := w.model[key]
			h.worst = 0
			err := w.restore(h, rng, key, want)
			switch {
			case err == nil:
				w.counts["restored"]++
			case h.worst > staleAfter/3:
				w.counts["restored too slowly"]++
			case errors.Is(err, errGone):
				w.counts["forgotten before it was pinned"]++
			default:
				_ = w.fail(fmt.Errorf("%s: restore %s with a pin: %w", h.name, key, err))
			}
		}
	}
}

var errGone = errors.New("it is forgotten")

func (w *world) restore(h *host, rng *rand.Rand, key cas.Key, want [][]byte) (err error) {
	repo, err := cas.Open(w.ctx, h)
	if err != nil {
		return err
	}
	pin, err := repo.Pin(w.ctx, key, cas.BeatEvery)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pin.Close(w.ctx)) }()
	data, err := repo.Record(w.ctx, key)
	for errors.Is(err, cas.ErrNotFound) && !w.forgotten[key] { // committed a moment ago
		time.Sleep(max(w.delay, time.Second))
		data, err = repo.Record(w.ctx, key)
	}
	if errors.Is(err, cas.ErrNotFound) {
		return errGone
	}
	if err != nil {
		return err
	}
	leaf, count, err := parseRecord(data)
	if err != nil {
		return err
	}
	if rng.IntN(2) == 0 { // now that the pin counts
		w.forgotten[key] = true
		if err := repo.Forget(w.ctx, key, nil); err != nil && !errors.Is(err, cas.ErrNotFound) {
			return err
		}
	}
	next := 0
	for try := 0; ; try++ {
		err := w.restoreFrom(h, repo, rng, leaf, count, want, &next)
		if err == nil || !errors.Is(err, cas.ErrNotFound) || try == 5 {
			return err
		}
		w.counts["looked again"]++
		time.Sleep(w.delay) // repacked: look where it is now
	}
}

// restoreFrom restores the chunks from the next on, out of the packs there are.
func (w *world) restoreFrom(h *host, repo *cas.Repository, rng *rand.Rand, leaf cas.ID, count int, want [][]byte, next *int) (err error) {
	x, err := allPacks(w.ctx, repo)
	if err != nil {
		return err
	}
	reader := repo.NewReader(x)
	defer func() { err = errors.Join(err, reader.Close()) }()
	ids, err := reader.Leaf(w.ctx, leaf, count)
	if err != nil {
		return err
	}
	for ; *next < count; *next++ {
		if rng.IntN(3) == 0 {
			time.Sleep(time.Duration(rng.IntN(600)) * time.Second)
		}
		got, err := reader.Chunk(w.ctx, ids[*next], chunkSize)
		if err != nil {
			return err
		}
		if string(got) != string(want[*next]) {
			return fmt.Errorf("chunk %d is another", *next)
		}
	}
	return nil
}

// silent is progress that nobody watches.
type silent struct{}

func (silent) Step(string, string) {}
func (silent) Warn(string)         {}
func (silent) Begin(string, int64) {}
func (silent) Advance(int64)       {}
func (silent) End()                {}

// walk calls visit for the chunks of a record.
func walk(ctx context.Context, _ cas.Key, data []byte, reader *cas.Reader, visit func(cas.ID, bool) (bool, error)) error {
	leaf, count, err := parseRecord(data)
	if err != nil {
		return err
	}
	if below, err := visit(leaf, true); err != nil || !below {
		return err
	}
	ids, err := reader.Leaf(ctx, leaf, count)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := visit(id, false); err != nil {
			return err
		}
	}
	return nil
}

// collector prunes; sometimes it dies in the middle.
func (w *world) collector(rng *rand.Rand, times int) func(*host) {
	return func(h *host) {
		for range times {
			time.Sleep(time.Duration(rng.IntN(120)) * time.Second)
			if err := w.prune(h, rng); err != nil {
				w.counts["prune failed"]++
				w.logf("%s: prune: %v", h.name, err)
				if w.faults == 0 && w.delay == 0 && !h.dead {
					_ = w.fail(fmt.Errorf("%s: %w", h.name, err))
				}
			}
			h.dead = false
		}
	}
}

func (w *world) prune(h *host, rng *rand.Rand) error {
	repo, err := cas.Open(w.ctx, h)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	if rng.IntN(4) == 0 {
		timer := time.AfterFunc(time.Duration(rng.IntN(1800))*time.Second, func() {
			h.dead = true
			cancel()
		})
		defer timer.Stop()
	}
	result, err := repo.Prune(ctx, w.pruneOptions([]float64{-1, 0, 0.1, 0.5}[rng.IntN(4)], time.Duration(rng.IntN(3))*30*time.Minute))
	if err != nil {
		return err
	}
	w.counts["pruned"]++
	w.counts["packs deleted"] += result.Packs
	if result.Written > 0 {
		w.counts["repacked"]++
	}
	return nil
}

func (w *world) pruneOptions(maxUnused float64, wait time.Duration) cas.PruneOptions {
	return cas.PruneOptions{
		Walk: walk, MaxUnused: maxUnused, Wait: wait, StaleAfter: staleAfter, Visibility: w.delay, Workers: 1,
		Note: "simulation", Progress: silent{}, Now: time.Now,
	}
}
