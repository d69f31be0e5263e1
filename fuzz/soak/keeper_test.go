package soak

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// keeper forgets, prunes, checks and repairs, for all shards. Several may work at
// once, each on a host of its own.
type keeper struct {
	host *host // whose server it does not touch
	pins bool  // only one keeper pins
}

func (k *keeper) act(ctx context.Context) {
	w := k.host.shard.world
	rng := w.rng("keeper " + k.host.alias)
	for w.acting(ctx) {
		s := w.shards[rng.IntN(len(w.shards))]
		switch n := rng.IntN(100); {
		case n < 15:
			k.forget(ctx, rng, s)
		case n < 25:
			k.remove(ctx, rng, s)
		case n < 35:
			if k.pins {
				k.pin(ctx, rng, s)
			}
		case n < 75:
			k.prune(ctx, rng)
		default:
			k.look(ctx, rng, s)
		}
		pause(ctx, time.Duration(rng.ExpFloat64()*float64(2*time.Second)))
	}
}

func (k *keeper) run(ctx context.Context, rng *rand.Rand, s *shard, in invocation) *result {
	in.config = k.host.config
	if s != nil {
		in.shard = s.name
	}
	if in.mishap == none && rng.IntN(4) == 0 {
		in.mishap = []mishap{kill, kill, stall, term}[rng.IntN(4)]
	}
	return k.host.shard.world.run(ctx, rng, in)
}

// look reads, and repairs what there is nothing of.
func (k *keeper) look(ctx context.Context, rng *rand.Rand, s *shard) {
	left, cancel := k.host.shard.world.timeLeft(ctx)
	defer cancel()
	args := [][]string{
		{"check"}, {"check", "--read-data-subset", "20%"}, {"check", "--read-data"}, {"check", s.name}, {"repair"}, {"stats", s.name}, {"list", s.name}, {"reindex"},
	}[rng.IntN(8)]
	k.run(ctx, rng, s, invocation{args: args, until: left})
}

// prune frees space: with the patience that is the default's, or with a clock that
// goes so fast that others seem to be dead.
func (k *keeper) prune(ctx context.Context, rng *rand.Rand) {
	w := k.host.shard.world
	left, cancel := w.timeLeft(ctx)
	defer cancel()
	in := invocation{until: left, args: []string{
		"prune", "--stale-after", "2m", "--max-unused", []string{"0%", "10%", "50%", "unlimited"}[rng.IntN(4)], "--wait", []string{"0s", "30s", "5m"}[rng.IntN(3)],
	}}
	if rng.IntN(3) > 0 {
		in.haste = hasty
		defer w.disturb(impatient, "")()
	}
	for _, p := range lines[prunedObject](k.run(ctx, rng, nil, in), "pruned") {
		w.add("packs deleted", p.Packs)
		w.add("bytes repacked", int(p.Repacked))
		w.add("bytes freed", int(p.Deleted-p.Written))
		w.add("sessions ended by prune", len(p.Revoked))
	}
}

// prunedObject is what prune says.
type prunedObject struct {
	Backups  int      `json:"backups"`
	Packs    int      `json:"packs_deleted"`
	Deleted  int64    `json:"deleted_bytes"`
	Repacked int64    `json:"repacked_bytes"`
	Written  int64    `json:"written_bytes"`
	Unused   int64    `json:"unused_bytes"`
	Revoked  []string `json:"sessions_revoked"`
	Waiting  []string `json:"sessions_waiting"`
}

// forget removes what rules do not keep. If it does not tell what it did, any
// backup that was there may have been removed.
func (k *keeper) forget(ctx context.Context, rng *rand.Rand, s *shard) {
	defer s.world.disturb(removed, s.name)()
	r := k.run(ctx, rng, s, invocation{args: []string{"forget", s.name, "--keep-last", strconv.Itoa(2 + rng.IntN(4))}})
	if r.code != 0 {
		s.mu.Lock()
		s.doubted = max(s.doubted, r.ended.UTC().Format(nameTime))
		s.mu.Unlock()
		return
	}
	for _, v := range lines[struct {
		Name    string `json:"name"`
		Removed bool   `json:"removed"`
	}](r, "verdict") {
		if v.Removed {
			s.world.tally("backups forgotten")
			s.know(s.gone, v.Name)
		}
	}
}

// choose returns one of the shard's backups, "" if there are none.
func (k *keeper) choose(ctx context.Context, rng *rand.Rand, s *shard) string {
	listed := lines[listedBackup](k.run(ctx, rng, s, invocation{args: []string{"list", s.name}}), "backup")
	if len(listed) == 0 {
		return ""
	}
	return listed[rng.IntN(len(listed))].Name
}

func (k *keeper) remove(ctx context.Context, rng *rand.Rand, s *shard) {
	name := k.choose(ctx, rng, s)
	if name == "" {
		return
	}
	defer s.world.disturb(removed, s.name)()
	switch r := k.run(ctx, rng, s, invocation{args: []string{"rm", s.name, name}}); r.code {
	case 0:
		s.know(s.gone, name)
	case 6:
	default:
		s.know(s.maybeGone, name)
	}
}

// pin pins a backup, and at times another is let go.
func (k *keeper) pin(ctx context.Context, rng *rand.Rand, s *shard) {
	for _, name := range s.pins() {
		if rng.IntN(2) == 0 {
			s.mu.Lock()
			delete(s.pinned, name)
			s.mu.Unlock()
			k.run(ctx, rng, s, invocation{args: []string{"unpin", s.name, name}})
		}
	}
	name := k.choose(ctx, rng, s)
	if name == "" {
		return
	}
	if r := k.run(ctx, rng, s, invocation{args: []string{"pin", s.name, name, "--reason", "soak"}}); r.code == 0 {
		s.know(s.pinned, name)
	}
}

func (s *shard) pins() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.pinned))
}

// checkListed proves that what is listed is what was published and not removed.
func (s *shard) checkListed(listed []listedBackup) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	there := map[string]bool{}
	for _, b := range listed {
		there[b.Name] = true
		if s.gone[b.Name] {
			return fmt.Errorf("%s/%s was removed and is listed", s.name, b.Name)
		}
	}
	for name := range s.published {
		if !there[name] && !s.gone[name] && !s.maybeGone[name] && name > s.doubted {
			return fmt.Errorf("%s/%s was published, never removed, and is not listed", s.name, name)
		}
	}
	for name := range s.pinned {
		if !there[name] {
			return fmt.Errorf("%s/%s is pinned and not listed", s.name, name)
		}
	}
	return nil
}
