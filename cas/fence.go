package cas

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// maxPoll is how often signs of life are looked for at the least.
const maxPoll = 5 * time.Second

// watched is a session without a register, or a reader.
type watched struct {
	dir, name string // of its signs of life: in dir, under name and a generation
	key       Key
	newest    uint64    // generation seen last
	changed   time.Time // when it was seen first, by this run's own clock
	alive     bool      // a new one was seen
	over      bool      // it has ended
}

// watch looks at sessions and readers until each has ended, or until enough says
// that the rest need not be waited for. Those that are silent for too long are
// ended. Only time that passed in this run counts: clocks are compared with
// nobody's.
func (p *pruner) watch(ctx context.Context, all []*watched, enough func(left []*watched, waited time.Duration) bool) error {
	begun := p.Now()
	for _, w := range all {
		w.changed = begun
	}
	for first := true; ; first = false {
		left := slices.DeleteFunc(slices.Clone(all), func(w *watched) bool { return w.over })
		if err := p.look(ctx, left, first); err != nil {
			return err
		}
		left = slices.DeleteFunc(left, func(w *watched) bool { return w.over })
		if len(left) == 0 || enough(left, p.Now().Sub(begun)) {
			return nil
		}
		if err := p.sleep(ctx, min(maxPoll, p.StaleAfter/20)); err != nil {
			return err
		}
	}
}

// look takes one look at each.
func (p *pruner) look(ctx context.Context, left []*watched, first bool) error {
	folders := map[string]signs{}
	for _, w := range left {
		if w.isSession() {
			now, err := p.outcome(ctx, w.key)
			if err != nil {
				return err
			}
			if w.over = now != open; w.over {
				continue
			}
		}
		if folders[w.dir] == nil {
			found, err := p.repo.signs(ctx, w.dir)
			if err != nil {
				return fmt.Errorf("look for signs of life: %w", err)
			}
			folders[w.dir] = found
		}
		if err := p.note(ctx, w, folders[w.dir], first); err != nil {
			return err
		}
	}
	return nil
}

func (w *watched) isSession() bool { return strings.HasPrefix(w.dir, "beats/") }

// note takes down what was seen of one, and ends it if it has been silent for too
// long.
func (p *pruner) note(ctx context.Context, w *watched, seen signs, first bool) error {
	newest, any := seen[w.name]
	if any && newest == 0 {
		w.over = true
		return nil
	}
	if newest != w.newest {
		w.newest, w.changed, w.alive = newest, p.Now(), !first
	}
	silent := p.Now().Sub(w.changed)
	if silent < p.StaleAfter {
		return nil
	}
	w.over = true
	why := fmt.Sprintf("no sign of life for %s; ended by %s", silent.Round(time.Second), p.Note)
	if !w.isSession() {
		err := p.repo.putObject(ctx, w.dir+"/"+w.name+readerEnd, objectBeat, []byte(why))
		if errors.Is(err, ErrExists) {
			err = nil
		}
		return err
	}
	now, err := p.repo.revoke(ctx, w.key, why)
	if err != nil {
		return fmt.Errorf("end session %s: %w", w.key, err)
	}
	p.decide(w.key, now)
	if now == revoked {
		p.result.Revoked = append(p.result.Revoked, w.key)
		p.Progress.Warn(fmt.Sprintf("backup %s gave no sign of life for %s: nobody can finish it any more", w.key, silent.Round(time.Second)))
	}
	return nil
}

// newWatched returns what is to be watched of sessions.
func newWatched(sessions []Key) []*watched {
	var all []*watched
	for _, key := range sessions {
		all = append(all, &watched{dir: "beats/" + key.Shard(), name: key.Name(), key: key})
	}
	return all
}

// judge tells sessions and readers that are at work from those whose process is
// gone, and ends these: what only they need is free then. Of readers only those
// matter that read what was forgotten.
func (p *pruner) judge(ctx context.Context) error {
	if err := p.listSessions(ctx); err != nil {
		return err
	}
	sessions, err := p.unfinished(ctx)
	if err != nil {
		return err
	}
	all := newWatched(sessions)
	err = p.repo.eachPin(ctx, func(dir, name string, key Key) {
		if p.forgotten[key] {
			all = append(all, &watched{dir: dir, name: name, key: key})
		}
	})
	if err != nil || p.DryRun || len(all) == 0 {
		return err
	}
	p.Progress.Step("wait", fmt.Sprintf("for a sign of life of %d unfinished backups and restores, at most %s", len(all), p.StaleAfter))
	return p.watch(ctx, all, func(left []*watched, _ time.Duration) bool {
		return !slices.ContainsFunc(left, func(w *watched) bool { return !w.alive })
	})
}

// fence waits until each session has a register. It returns those that are still
// at work when the time is over.
func (p *pruner) fence(ctx context.Context, sessions []Key) ([]Key, error) {
	all := newWatched(sessions)
	for _, w := range all {
		p.Progress.Step("wait", fmt.Sprintf("until backup %s has ended, at most %s", w.key, p.Wait))
	}
	err := p.watch(ctx, all, func(left []*watched, waited time.Duration) bool {
		return waited >= p.Wait && !slices.ContainsFunc(left, func(w *watched) bool { return !w.alive })
	})
	var left []Key
	for _, w := range all {
		switch {
		case !w.over:
			left = append(left, w.key)
		case !slices.Contains(p.result.Revoked, w.key):
			p.result.Waited = append(p.result.Waited, w.key)
		}
	}
	return left, err
}

// eachPin calls fn for each reader that has not ended.
func (r *Repository) eachPin(ctx context.Context, fn func(dir, name string, key Key)) error {
	return r.eachShard(ctx, "readers", func(folder string, _ []Entry) error {
		found, err := r.signs(ctx, "readers/"+folder)
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(found)) {
			at := strings.LastIndexByte(name, '.')
			if found[name] == 0 || at < 1 {
				continue
			}
			if key, err := ParseKey(folder + "/" + name[:at]); err == nil {
				fn("readers/"+folder, name, key)
			}
		}
		return nil
	})
}

// listPins finds out what is being read.
func (p *pruner) listPins(ctx context.Context) error {
	return p.repo.eachPin(ctx, func(_, _ string, key Key) { p.pinned[key] = true })
}

// sleep waits by this run's own clock.
func (p *pruner) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
