package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// settle is the end of a soak: everybody has stopped working. Servers are put
// back and replicate, the repository is checked and pruned, every listed backup is
// restored and compared, and nothing is left once all are removed.
func (w *world) settle(ctx context.Context) {
	all(w.each(func(s *shard) { s.settle(ctx, w.rng("settle "+s.name)) })...)
	anyone := w.shards[0].target
	w.lean(ctx, anyone)
	w.mustRun(ctx, anyone, "check", "--read-data")
	all(w.each(func(s *shard) { s.restoreAll(ctx) })...)
	for _, s := range w.shards {
		for _, b := range s.target.backups(ctx, w.rng("remove all")) {
			w.mustRun(ctx, anyone, "rm", s.name, b.Name, "--force")
		}
	}
	w.lean(ctx, anyone)
	packs, err := filepath.Glob(filepath.Join(w.root, "packs", "*", "*"))
	w.must(err)
	if len(packs) > 0 {
		w.must(fmt.Errorf("all backups are removed, and %d packs are left: %q", len(packs), packs[0]))
	}
}

// each returns the actor for each shard.
func (w *world) each(act func(*shard)) []func() {
	var actors []func()
	for _, s := range w.shards {
		actors = append(actors, func() { act(s) })
	}
	return actors
}

// mustRun runs the program and fails the soak unless it is done.
func (w *world) mustRun(ctx context.Context, h *host, args ...string) *result {
	if ctx.Err() != nil {
		w.must(context.Cause(ctx))
	}
	r := w.run(ctx, rand.New(rand.NewPCG(1, 1)), invocation{config: h.config, args: args, haste: map[bool]int{true: hasty}[args[0] == "prune"]})
	if r.code != 0 {
		w.must(fmt.Errorf("at the end: run %d: %q ended with %d:\n%s", r.number, args, r.code, r.stderr))
	}
	return r
}

// lean prunes until nothing is left that no backup needs. Nobody works any more,
// so that there is no reason for patience.
func (w *world) lean(ctx context.Context, h *host) {
	w.mustRun(ctx, h, "prune", "--stale-after", "2m", "--max-unused", "0%")
	r := w.mustRun(ctx, h, "prune", "--stale-after", "2m", "--max-unused", "0%", "--dry-run")
	said := lines[prunedObject](r, "pruned")
	if len(said) != 1 || said[0].Packs != 0 || said[0].Unused != 0 || len(said[0].Waiting) != 0 {
		w.must(fmt.Errorf("at the end: something is left that no backup needs: %s", r.stdout))
	}
}

// settle puts the servers back: recover has to, whatever was killed.
func (s *shard) settle(ctx context.Context, rng *rand.Rand) {
	for _, h := range s.hosts {
		h.mend(ctx, rng)
		s.world.mustRun(ctx, h, "recover")
		if r := s.world.mustRun(ctx, h, "status"); len(lines[json.RawMessage](r, "activity")) > 0 {
			s.world.must(fmt.Errorf("%s: something is left to put back: %s", h.alias, r.stdout))
		}
	}
	for _, h := range s.hosts {
		s.world.must(h.replicates(ctx))
	}
	s.world.must(s.checkListed(s.target.backups(ctx, rng)))
}

// replicates waits until the replica has all that the primary has, and proves that
// it is as it was before the soak.
func (h *host) replicates(ctx context.Context) error {
	s := h.shard
	want, err := s.executed(ctx, s.primary.DB(), true)
	if err != nil {
		return err
	}
	const patience = 2 * time.Minute
	for began := time.Now(); ; pause(ctx, 100*time.Millisecond) {
		got, err := s.executed(ctx, h.server.DB(), false)
		if err != nil {
			return err
		}
		if got == want {
			break
		}
		if time.Since(began) > patience || ctx.Err() != nil {
			return fmt.Errorf("%s: has %s, the primary has %s", h.alias, got, want)
		}
	}
	if _, err := s.compare(ctx, h.server.DB(), false); err != nil {
		return fmt.Errorf("%s: %w", h.alias, err)
	}
	if r := s.world.mustRun(ctx, h, "health"); len(lines[json.RawMessage](r, "health")) != 1 {
		return fmt.Errorf("%s: health says %s", h.alias, r.stdout)
	}
	values, err := column(ctx, h.server.DB(), `SELECT CONCAT(@@GLOBAL.read_only, @@GLOBAL.innodb_fast_shutdown, @@GLOBAL.event_scheduler = 'ON')`)
	if err != nil {
		return err
	}
	if wants := map[bool]string{true: "ON10", false: "111"}[s.flavor == "mariadb"]; values[0] != wants {
		return fmt.Errorf("%s: read_only, innodb_fast_shutdown, event_scheduler are %s, want %s", h.alias, values[0], wants)
	}
	return nil
}

// restoreAll restores every backup that is listed and compares it with the model
// at its own position.
func (s *shard) restoreAll(ctx context.Context) {
	w, h := s.world, s.target
	listed := h.backups(ctx, w.rng("restore all"))
	if len(listed) == 0 {
		w.must(fmt.Errorf("%s has no backup left", s.name))
	}
	for _, b := range listed {
		h.clear(ctx)
		if len(b.Marks) > 0 {
			w.tally("marked backups at the end")
		}
		w.mustRun(ctx, h, "restore", s.name, "--files-only", "--backup", b.Name)
		if err := h.prove(ctx, b.Position.GTIDs()); err != nil {
			w.must(fmt.Errorf("backup %s: %w", b.Name, err))
		}
		w.tally("backups restored at the end")
	}
	h.clear(ctx)
	w.must(os.MkdirAll(h.server.Datadir, 0o750))
	w.mustRun(ctx, h, "restore", s.name)
	w.must(h.replicates(ctx))
	h.clear(ctx)
}
