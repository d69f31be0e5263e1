package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// run runs the program on the host.
func (h *host) run(ctx context.Context, rng *rand.Rand, in invocation) *result {
	in.config, in.shard = h.config, h.shard.name
	r := h.shard.world.run(ctx, rng, in)
	for _, b := range lines[listedBackup](r, "backup") {
		if r.command == "backup" {
			h.shard.know(h.shard.published, b.Name)
		}
	}
	return r
}

// know notes something of a backup.
func (s *shard) know(what map[string]bool, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what[name] = true
}

// first makes the shard's first backup, of which something is there from now on.
func (s *shard) first(ctx context.Context) {
	h := s.hosts[0]
	if r := h.run(ctx, s.world.rng("first"), invocation{args: []string{"backup", h.alias}}); r.code != 0 {
		s.world.must(fmt.Errorf("first backup: %s", r.stderr))
	}
}

// act is what happens on the host of a replica: backups, most of all, and what
// puts the server back after they were killed.
func (h *host) act(ctx context.Context) {
	rng := h.shard.world.rng(h.alias)
	for h.shard.world.acting(ctx) {
		switch n := rng.IntN(100); {
		case n < 60:
			h.run(ctx, rng, h.backup(rng))
		case n < 65:
			end := h.shard.world.disturb(twoAtOnce, h.shard.name)
			all(
				func() { h.run(ctx, rand.New(rand.NewPCG(1, 1)), invocation{args: h.backup(rng).args}) },
				func() { h.run(ctx, rand.New(rand.NewPCG(2, 2)), invocation{args: []string{"recover"}}) },
			)
			end()
		case n < 75:
			h.run(ctx, rng, h.hit(rng, invocation{args: []string{"recover"}}))
		case n < 85:
			h.run(ctx, rng, h.hit(rng, invocation{args: []string{"reindex"}}))
		case n < 90:
			h.run(ctx, rng, invocation{args: []string{"health"}})
		case n < 95:
			h.run(ctx, rng, invocation{args: []string{"status"}})
		default:
			h.spoilCache(rng)
		}
		h.mend(ctx, rng)
		pause(ctx, time.Duration(rng.ExpFloat64()*float64(2*time.Second)))
	}
}

// backup returns a backup of the server, in one of many ways.
func (h *host) backup(rng *rand.Rand) invocation {
	args := []string{"backup", h.alias}
	for _, flag := range []string{"--rehash", "--pre-copy", "--pre-copy=false", "--concurrency=1", "--concurrency=7", "--compression=default", "--upgrade-safe"} {
		if rng.IntN(6) == 0 && (flag != "--pre-copy=false" || !slices.Contains(args, "--pre-copy")) {
			args = append(args, flag)
		}
	}
	return h.hit(rng, invocation{args: args})
}

// hit adds a mishap, or none. Sometimes the server is killed with the run, as by
// a reboot.
func (h *host) hit(rng *rand.Rand, in invocation) invocation {
	in.mishap = []mishap{none, none, none, none, kill, kill, kill, stall, term, none}[rng.IntN(10)]
	if rng.IntN(3) == 0 {
		in.with = func() { h.fell() }
	}
	return in
}

// fell kills the server. Until it is mended runs may fail for that.
func (h *host) fell() {
	h.shard.mu.Lock()
	h.mended()
	h.mended = h.shard.world.disturb(serverDown, h.shard.name)
	h.shard.mu.Unlock()
	h.shard.slay(h.server)
}

// spoilCache makes the host's cache an empty one, or damages a file in it.
func (h *host) spoilCache(rng *rand.Rand) {
	h.shard.world.tally("cache spoiled")
	dir := filepath.Join(filepath.Dir(h.config), "cache")
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	h.shard.world.fail(err)
	for _, file := range files {
		info, err := os.Stat(file)
		switch {
		case err != nil, rng.IntN(2) == 0:
		case info.IsDir() || rng.IntN(2) == 0:
			h.shard.world.fail(os.RemoveAll(file))
		default:
			h.shard.world.fail(os.Truncate(file, rng.Int64N(info.Size()+1)))
		}
	}
}

// mend sees to it that the server runs: as the machine's service manager, or by
// recover, which has to. A run that was killed may have left a server that starts,
// or one that stops.
func (h *host) mend(ctx context.Context, rng *rand.Rand) {
	w := h.shard.world
	for ctx.Err() == nil {
		pause(ctx, 300*time.Millisecond) // a process that was just made has its name then
		h.shard.mu.Lock()
		mended := h.mended // of what has come by now: the server may be killed at any time
		h.shard.mu.Unlock()
		switch {
		case h.server.Running():
			if h.server.DB().PingContext(ctx) == nil {
				mended()
				return
			}
		case rng.IntN(2) == 0:
			h.run(ctx, rng, invocation{args: []string{"recover"}})
		default:
			w.logf("%s: start server %d", h.alias, h.server.ServerID)
			w.tally("server started by its manager")
			w.fail(h.shard.start(ctx, h.server))
		}
	}
}

// vandal kills servers now and then. The primary is started again soon, replicas
// by whoever works on them or by their host.
func (s *shard) vandal(ctx context.Context) {
	rng := s.world.rng("vandal of " + s.name)
	for {
		left, cancel := s.world.timeLeft(ctx)
		pause(left, time.Duration(rng.ExpFloat64()*float64(25*time.Second)))
		cancel()
		if !s.world.acting(ctx) {
			return
		}
		if n := rng.IntN(len(s.hosts) + 1); n < len(s.hosts) {
			s.hosts[n].fell()
			continue
		}
		end := s.world.disturb(serverDown, s.name)
		s.slay(s.primary)
		pause(ctx, time.Duration(rng.Float64()*float64(3*time.Second)))
		s.world.fail(s.start(ctx, s.primary))
		pause(ctx, 3*time.Second) // replicas connect again
		end()
	}
}

// backups lists the shard's backups.
func (h *host) backups(ctx context.Context, rng *rand.Rand) []listedBackup {
	return lines[listedBackup](h.run(ctx, rng, invocation{args: []string{"list", h.shard.name}}), "backup")
}

// restore is what happens on the host that restores: it takes any backup, proves
// that what comes out of it is what its position says, and throws it away.
func (h *host) restore(ctx context.Context) {
	w := h.shard.world
	rng := w.rng(h.alias)
	for w.acting(ctx) {
		var args []string
		if listed := h.backups(ctx, rng); len(listed) > 0 && rng.IntN(2) == 0 {
			args = []string{"--backup", listed[rng.IntN(len(listed))].Name}
		}
		switch rng.IntN(4) {
		case 0:
			h.run(ctx, rng, h.strike(rng, append([]string{"verify", h.shard.name}, args...)))
		case 1, 2:
			w.must(h.tryFiles(ctx, rng, args))
		case 3:
			w.must(h.tryReplica(ctx, rng, args))
		}
		pause(ctx, time.Duration(rng.ExpFloat64()*float64(time.Second)))
	}
}

// strike is an invocation that is killed or stalled at times.
func (h *host) strike(rng *rand.Rand, args []string) invocation {
	return invocation{args: args, mishap: []mishap{none, none, none, kill, kill, stall}[rng.IntN(6)]}
}

// restored restores, and again until it has come to its end; false says that it
// cannot, since the backup is gone.
func (h *host) restored(ctx context.Context, rng *rand.Rand, args []string) bool {
	w := h.shard.world
	in := h.strike(rng, append([]string{"restore", h.shard.name}, args...))
	killed := false
	for range 20 {
		r := h.run(ctx, rng, in)
		switch {
		case r.code == 0, r.code == 6 && killed && !h.unfinished():
			return true
		case ctx.Err() != nil, r.code == 1:
			return false
		case r.code == -1 && !killed:
			killed = true
			defer w.disturb(again, h.shard.name)()
		}
		pause(ctx, time.Second)
		in.mishap, in.with = none, nil
		if rng.IntN(3) == 0 {
			in.mishap = kill
		}
		if in.mishap == kill && rng.IntN(2) == 0 {
			in.with = func() { h.shard.slay(h.server) }
		}
	}
	w.fail(fmt.Errorf("%s: restore %s does not come to its end", h.alias, strings.Join(args, " ")))
	return false
}

// unfinished tells whether a restore has left its marker.
func (h *host) unfinished() bool {
	_, err := os.Stat(filepath.Join(h.server.Datadir, ".shardseed-restore"))
	return err == nil
}

// tryFiles restores the files, starts a server on them and compares.
func (h *host) tryFiles(ctx context.Context, rng *rand.Rand, args []string) error {
	if !h.restored(ctx, rng, append([]string{"--files-only"}, h.how(rng, args)...)) {
		h.clear(ctx)
		return nil
	}
	err := h.prove(ctx, "")
	h.leave(ctx, rng)
	return err
}

// how adds --delta if there are old files, and at times if there are none.
func (h *host) how(rng *rand.Rand, args []string) []string {
	entries, _ := os.ReadDir(h.server.Datadir)
	if len(entries) > 0 || rng.IntN(4) == 0 {
		return append([]string{"--delta"}, args...)
	}
	return args
}

// prove starts a server that replicates from nowhere and compares it with the
// model, and its position with the one given.
func (h *host) prove(ctx context.Context, want string) error {
	s := h.shard
	defer s.end(ctx, h.server)
	skip := map[bool]string{true: "--skip-slave-start", false: "--skip-replica-start"}[s.flavor == "mariadb"]
	if err := s.start(ctx, h.server, skip); err != nil {
		return err
	}
	position, err := s.executed(ctx, h.server.DB(), false)
	if err != nil {
		return err
	}
	if want != "" && position != want {
		return fmt.Errorf("%s: restored server is at %s, the backup says %s", h.alias, position, want)
	}
	n, err := s.compare(ctx, h.server.DB(), false)
	if err != nil {
		return fmt.Errorf("%s: restored: %w", h.alias, err)
	}
	s.world.logf("%s: equal to the model after %d transactions", h.alias, n)
	s.world.tally("restored and equal to the model")
	return nil
}

// tryReplica seeds a replica, waits until it has gone on with the primary's
// transactions, and compares.
func (h *host) tryReplica(ctx context.Context, rng *rand.Rand, args []string) error {
	s := h.shard
	if !h.restored(ctx, rng, h.how(rng, args)) {
		h.clear(ctx)
		return nil
	}
	defer h.leave(ctx, rng)
	if !h.server.Running() { // it was killed together with the end of the restore
		if err := s.start(ctx, h.server); err != nil {
			return err
		}
	}
	stop := map[bool]string{true: "STOP SLAVE", false: "STOP REPLICA"}[s.flavor == "mariadb"]
	if _, err := h.server.DB().ExecContext(ctx, stop); err != nil {
		return fmt.Errorf("%s: stop the seeded replica: %w", h.alias, err)
	}
	n, err := s.compare(ctx, h.server.DB(), false)
	if err != nil {
		return fmt.Errorf("%s: seeded replica: %w", h.alias, err)
	}
	s.world.logf("%s: a replica, equal to the model after %d transactions", h.alias, n)
	s.world.tally("seeded and equal to the model")
	return nil
}

// clear ends the restored server and removes its files.
func (h *host) clear(ctx context.Context) {
	h.shard.end(ctx, h.server)
	h.shard.world.fail(os.RemoveAll(h.server.Datadir))
}

// leave does so at times; else there are files for the next restore to change.
func (h *host) leave(ctx context.Context, rng *rand.Rand) {
	h.shard.end(ctx, h.server)
	if rng.IntN(3) > 0 {
		h.clear(ctx)
	}
}
