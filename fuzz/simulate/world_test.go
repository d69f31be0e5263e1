package simulate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/mem"
)

// stamp says who did something when.
type stamp struct {
	time time.Time
	host *host
}

// world is a store, the actors at it, and what should be in it. Its fields are
// used by one goroutine at a time: actors run only between two picks.
type world struct {
	t     *testing.T
	ctx   context.Context
	rng   *rand.Rand
	delay time.Duration // how late names are seen at most
	// faults is the part of a faulty host's operations that fail before their
	// effect, and as many fail after it.
	faults float64
	late   float64 // how often a listing leaves out what it may
	remote bool    // what was removed cannot be read any more, though it is open

	store   *mem.Backend
	created map[string]stamp
	removed map[string]stamp
	ops     chan *operation
	ended   chan *host
	actors  int
	steps   []string
	failed  error

	order     []cas.Key            // of model: as they were committed
	model     map[cas.Key][][]byte // what was committed, for all that its writer knows
	maybe     map[cas.Key][][]byte // what may have been: its writer never learned
	forgotten map[cas.Key]bool
	counts    map[string]int // what has happened
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, ctx: t.Context(), rng: rand.New(rand.NewPCG(seed, 1)), store: &mem.Backend{},
		created: map[string]stamp{}, removed: map[string]stamp{},
		ops: make(chan *operation), ended: make(chan *host),
		model: map[cas.Key][][]byte{}, maybe: map[cas.Key][][]byte{}, forgotten: map[cas.Key]bool{}, counts: map[string]int{},
	}
	if w.rng.IntN(2) == 0 {
		w.delay = time.Minute
		w.late = []float64{0.5, 0.9}[w.rng.IntN(2)]
	}
	w.remote = w.rng.IntN(2) == 0
	if w.rng.IntN(2) == 0 {
		w.faults = []float64{0.001, 0.01}[w.rng.IntN(2)]
	}
	if _, err := cas.Create(w.ctx, w.store, cas.Config{ChunkSize: 4096}, rand.NewChaCha8([32]byte{byte(seed)}), time.Now); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) logf(format string, args ...any) {
	w.steps = append(w.steps, time.Now().Format("15:04:05 ")+fmt.Sprintf(format, args...))
}

// hash is of all steps: two runs that take the same have the same.
func (w *world) hash() uint64 {
	h := fnv.New64a()
	for _, s := range w.steps {
		_, _ = h.Write([]byte(s))
	}
	return h.Sum64()
}

func (w *world) removedNames() []string { return slices.Sorted(maps.Keys(w.removed)) }

// spawn starts an actor on a host of its own.
func (w *world) spawn(name string, faulty bool, act func(*host)) {
	h := &host{world: w, name: name, faulty: faulty}
	w.actors++
	go func() {
		act(h)
		w.ended <- h
	}()
}

// run picks operations until all actors have ended.
func (w *world) run() {
	var pending []*operation
	for {
		synctest.Wait()
		for more := true; more; {
			select {
			case op := <-w.ops:
				pending = append(pending, op)
			case <-w.ended:
				w.actors--
			default:
				more = false
			}
		}
		awake := slices.DeleteFunc(slices.Clone(pending), func(op *operation) bool { return time.Now().Before(op.host.until) })
		switch {
		case w.actors == 0 && len(pending) == 0:
			return
		case len(awake) == 0:
			select { // of what comes next, something comes first: time goes on
			case op := <-w.ops:
				pending = append(pending, op)
			case <-w.ended:
				w.actors--
			case <-w.wake(pending):
			}
		case w.rng.IntN(50) == 0:
			time.Sleep(w.pause())
		default:
			picked := w.pick(awake)
			pending = slices.DeleteFunc(pending, func(op *operation) bool { return op == picked })
		}
	}
}

// wake returns when the next of the stalled hosts goes on.
func (w *world) wake(pending []*operation) <-chan time.Time {
	if len(pending) == 0 {
		return nil
	}
	next := slices.MinFunc(pending, func(a, b *operation) int { return a.host.until.Compare(b.host.until) })
	return time.After(time.Until(next.host.until))
}

// pause is how long everything stalls.
func (w *world) pause() time.Duration {
	return time.Duration(float64(time.Minute) * w.rng.ExpFloat64())
}

// pick performs one operation, or lets its host stall for long. Sorted by what
// they do, not by when they came: that is up to the runtime.
func (w *world) pick(pending []*operation) (performed *operation) {
	slices.SortStableFunc(pending, func(a, b *operation) int {
		return cmp.Or(strings.Compare(a.host.name, b.host.name), strings.Compare(a.text, b.text))
	})
	op := pending[w.rng.IntN(len(pending))]
	if w.rng.IntN(300) == 0 {
		op.host.until = time.Now().Add(time.Duration(w.rng.IntN(180)) * time.Minute)
		w.logf("%s stalls until %s", op.host.name, op.host.until.Format("15:04:05"))
		return nil
	}
	op.perform(w)
	return op
}

// fail notes the first thing that went wrong.
func (w *world) fail(err error) error {
	if w.failed == nil && err != nil {
		w.failed = err
		w.logf("FAILED: %v", err)
	}
	return err
}

// check proves that every backup that is committed and not forgotten can be
// read. It looks at the store itself, not as a host sees it.
func (w *world) check(when string) error {
	repo, err := cas.Open(w.ctx, w.store)
	if err != nil {
		return w.fail(err)
	}
	x, err := allPacks(w.ctx, repo)
	if err != nil {
		return w.fail(fmt.Errorf("%s: %w", when, err))
	}
	for _, key := range slices.Sorted(maps.Keys(w.model)) {
		if w.forgotten[key] {
			continue
		}
		if err := readBackup(w.ctx, repo, x, key, w.model[key]); err != nil {
			return w.fail(fmt.Errorf("%s: %w", when, err))
		}
	}
	return nil
}

// settle finds out what became of commits whose writers never learned it.
func (w *world) settle(repo *cas.Repository) error {
	for key, chunks := range w.maybe {
		_, err := repo.Record(w.ctx, key)
		if err == nil {
			w.model[key] = chunks
			continue
		}
		if !errors.Is(err, cas.ErrNotFound) && !errors.Is(err, cas.ErrRevoked) {
			return err
		}
	}
	return nil
}

// locator finds chunks in all packs that there are.
type locator map[cas.ID][]cas.Location

// Lookup implements cas.Locator.
func (x locator) Lookup(id cas.ID, below uint8) (cas.Chain, error) {
	for _, loc := range x[id] {
		if loc.Depth >= below {
			continue
		}
		if loc.Codec != cas.CodecDelta {
			return cas.Chain{loc}, nil
		}
		if base, err := x.Lookup(loc.Base, loc.Depth); err == nil {
			return append(cas.Chain{loc}, base...), nil
		}
	}
	return nil, fmt.Errorf("chunk %s: %w", id.Short(), cas.ErrNotFound)
}

// allPacks reads the directories of the packs that are there. One that goes
// meanwhile is left out.
func allPacks(ctx context.Context, repo *cas.Repository) (locator, error) {
	ids, err := repo.PackIDs(ctx)
	if err != nil {
		return nil, err
	}
	x := locator{}
	for _, id := range ids {
		pack, err := repo.Pack(ctx, id)
		if errors.Is(err, cas.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, f := range pack.Frames {
			x[f.ID] = append(x[f.ID], cas.Location{Pack: id, Frame: f})
		}
	}
	return x, nil
}

// record is what a backup of these chunks is published as: the leaf of its
// recipe and their number.
func record(leaf cas.ID, chunks int) []byte {
	return binary.LittleEndian.AppendUint32(leaf[:], uint32(chunks))
}

func parseRecord(data []byte) (leaf cas.ID, chunks int, err error) {
	if len(data) != 36 {
		return cas.ID{}, 0, fmt.Errorf("record of %d bytes", len(data))
	}
	return cas.ID(data[:32]), int(binary.LittleEndian.Uint32(data[32:])), nil
}

// readBackup proves that a backup holds these chunks.
func readBackup(ctx context.Context, repo *cas.Repository, x cas.Locator, key cas.Key, want [][]byte) (err error) {
	data, err := repo.Record(ctx, key)
	if err != nil {
		return err
	}
	leaf, count, err := parseRecord(data)
	if err != nil || count != len(want) {
		return fmt.Errorf("backup %s: %d chunks, want %d: %w", key, count, len(want), err)
	}
	reader := repo.NewReader(x)
	defer func() { err = errors.Join(err, reader.Close()) }()
	ids, err := reader.Leaf(ctx, leaf, count)
	if err != nil {
		return fmt.Errorf("backup %s: %w", key, err)
	}
	for i, id := range ids {
		got, err := reader.Chunk(ctx, id, len(want[i]))
		if err != nil {
			return fmt.Errorf("backup %s: chunk %d: %w", key, i, err)
		}
		if !bytes.Equal(got, want[i]) {
			return fmt.Errorf("backup %s: chunk %d is another", key, i)
		}
	}
	return nil
}
