package simulate

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"

	"github.com/shardseed/shardseed/cas"
)

var (
	firstSeed = flag.Uint64("seed", 1, "of the first run; the next has the next")
	runs      = flag.Int("runs", 60, "how many")
)

// TestSimulate runs worlds. In each, whatever was committed and not forgotten
// can be read after every removal of a pack and at the end, nothing else is
// listed, restores with a pin get what was backed up, and once everything is
// forgotten no pack is left.
func TestSimulate(t *testing.T) {
	total := map[string]int{}
	for i := range *runs {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			for name, n := range simulate(t, seed).counts {
				total[name] += n
			}
		})
	}
	for _, name := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%s: %d", name, total[name])
	}
	if *runs < 60 {
		return
	}
	for _, name := range []string{"committed", "abandoned", "writers died", "revoked", "forgotten", "restored", "looked again", "pruned", "packs deleted", "repacked"} {
		if total[name] == 0 {
			t.Errorf("%s: never, in %d runs", name, *runs)
		}
	}
}

// TestSameSeed: the same seed takes the same steps.
func TestSameSeed(t *testing.T) {
	var hashes []uint64
	for range 2 {
		t.Run("", func(t *testing.T) { hashes = append(hashes, simulate(t, *firstSeed).hash()) })
	}
	if len(hashes) == 2 && hashes[0] != hashes[1] {
		t.Errorf("got steps that hash to %x, then to %x", hashes[0], hashes[1])
	}
}

func simulate(t *testing.T, seed uint64) *world {
	var w *world
	cryptotest.SetGlobalRandom(t, seed)
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, seed)
		w.populate()
		w.run()
		err := w.failed
		if err == nil {
			err = w.atEnd()
		}
		if err != nil || testing.Verbose() && *runs == 1 {
			t.Logf("seed %d, delay %v, faults %v; its steps:\n%s", seed, w.delay, w.faults, strings.Join(w.steps, "\n"))
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	})
	return w
}

func (w *world) populate() {
	own := func() *rand.Rand { return rand.New(rand.NewPCG(w.rng.Uint64(), 2)) }
	for i := range 1 + w.rng.IntN(3) {
		name := fmt.Sprintf("writer%d", i)
		w.spawn(name, true, w.writer(own(), name, 1+w.rng.IntN(8)))
	}
	for i := range 1 + w.rng.IntN(3) {
		w.spawn(fmt.Sprintf("collector%d", i), true, w.collector(own(), 1+w.rng.IntN(6)))
	}
	w.spawn("forgetter", true, w.forgetter(own(), w.rng.IntN(12)))
	w.spawn("restorer", false, w.restorer(own(), 1+w.rng.IntN(8)))
}

// atEnd proves that what is listed is what was committed and not forgotten, and
// that nothing is left when all of that is forgotten too.
func (w *world) atEnd() error {
	repo, err := cas.Open(w.ctx, w.store)
	if err != nil {
		return err
	}
	if err := w.settle(repo); err != nil {
		return err
	}
	if err := w.check("at the end"); err != nil {
		return err
	}
	keys, err := repo.Keys(w.ctx, "ks", "-80")
	if err != nil {
		return err
	}
	for _, key := range w.listed() {
		if !slices.Contains(keys, key) {
			return fmt.Errorf("%s is not listed", key)
		}
	}
	for _, key := range keys {
		if w.model[key] == nil {
			return fmt.Errorf("%s is listed and was not committed", key)
		}
		if err := repo.Forget(w.ctx, key, nil); err != nil {
			return err
		}
		w.forgotten[key] = true
	}
	if _, err := repo.Prune(w.ctx, w.pruneOptions(-1, 0)); err != nil {
		return fmt.Errorf("prune at the end: %w", err)
	}
	packs, err := repo.PackIDs(w.ctx)
	if err == nil && len(packs) > 0 {
		err = fmt.Errorf("everything is forgotten, and %d packs are left", len(packs))
	}
	return err
}
