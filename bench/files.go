package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/replication"
)

// source is where every tool finds the files, whatever the round: tools know
// files by their path.
func (b *bench) source() string { return filepath.Join(b.dir, "datadir") }

// place returns where the tool works. The repository is not there yet.
func (b *bench) place(tool string) place {
	dir := filepath.Join(b.dir, "tools", tool)
	return place{
		source: b.source(),
		root:   filepath.Join(dir, "root"),
		cache:  filepath.Join(dir, "cache"),
		target: filepath.Join(dir, "target", "data"),
		cnf:    filepath.Join(dir, "target", "my.cnf"),
	}
}

// measureFiles takes every tool through all rounds, as often as there are
// runs. Within a round the tools take turns, and each run begins with another.
func (b *bench) measureFiles(ctx context.Context) error {
	for run := range b.config.runs {
		tools := b.config.chosenTools()
		for _, t := range tools {
			if err := b.open(ctx, t); err != nil {
				return err
			}
		}
		for _, r := range b.config.chosenRounds() {
			if err := b.show(r); err != nil {
				return err
			}
			for i := range tools {
				t := tools[(i+run)%len(tools)]
				if err := b.measureTool(ctx, t, r, run); err != nil {
					return fmt.Errorf("run %d: %s: %s: %w", run+1, r.name, t.name, err)
				}
			}
		}
		if err := b.hide(); err != nil {
			return err
		}
		if err := os.RemoveAll(filepath.Join(b.dir, "tools")); err != nil {
			return err
		}
	}
	return nil
}

// show puts the round's files to where the tools find them, unless they are
// there already.
func (b *bench) show(r round) error {
	if !r.copied || b.shown == r.name {
		return nil
	}
	if err := b.hide(); err != nil {
		return err
	}
	b.shown = r.name
	return unix.Rename(b.state(r.name), b.source())
}

// hide puts the files back to the other rounds'.
func (b *bench) hide() error {
	if b.shown == "" {
		return nil
	}
	name := b.shown
	b.shown = ""
	return unix.Rename(b.source(), b.state(name))
}

// open makes the tool's repository.
func (b *bench) open(ctx context.Context, t tool) error {
	p := b.place(t.name)
	for _, dir := range []string{p.root, p.cache, filepath.Dir(p.cnf)} {
		if err := emptyDir(dir); err != nil {
			return err
		}
	}
	target := &server{flavor: replication.MySQL, servers: b.config.servers, dir: filepath.Dir(p.cnf)}
	if err := target.configure(false); err != nil {
		return err
	}
	for _, c := range t.create(p) {
		if _, _, err := b.measure(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) measureTool(ctx context.Context, t tool, r round, run int) error {
	if !t.in(r.name) {
		return nil
	}
	s, err := b.backup(ctx, t, b.place(t.name), r.name)
	if err != nil {
		return err
	}
	b.results.add(cell{r.name, t.name, doBackup}, s)
	b.say("run %d/%d: %s: %s: %.2f s, %.1f MiB", run+1, b.config.runs, r.name, t.name, s.seconds, float64(s.bytes)/mib)
	if !r.restored || t.restore == nil {
		return nil
	}
	for _, what := range []string{doCold, doWarm, doFresh} {
		if what == doFresh && t.name != ours {
			continue
		}
		u, err := b.restore(ctx, t, b.place(t.name), r.name, what)
		if err != nil {
			return err
		}
		if err := b.compare(t, run, what); err != nil {
			return err
		}
		if err := os.RemoveAll(b.place(t.name).target); err != nil {
			return err
		}
		b.results.add(cell{r.name, t.name, what}, sample{usage: u})
		b.say("run %d/%d: %s: %s: %s: %.2f s", run+1, b.config.runs, r.name, t.name, what, u.seconds)
	}
	return nil
}

// backup measures one backup from files that are not in the page cache.
func (b *bench) backup(ctx context.Context, t tool, p place, round string) (sample, error) {
	before, err := treeSize(p.root)
	if err != nil {
		return sample{}, err
	}
	if err := b.settle(ctx, t); err != nil {
		return sample{}, err
	}
	u, _, err := b.measure(ctx, t.backup(p, round))
	if err != nil {
		return sample{}, err
	}
	after, err := treeSize(p.root)
	return sample{usage: u, bytes: after - before}, err
}

// restore measures a restore of the newest backup into the tool's target.
func (b *bench) restore(ctx context.Context, t tool, p place, round, what string) (usage, error) {
	if err := emptyDir(p.target); err != nil {
		return usage{}, err
	}
	if what == doFresh {
		p.cache += "-new" // the backups go on with theirs
		if err := emptyDir(p.cache); err != nil {
			return usage{}, err
		}
	}
	if err := b.settle(ctx, t); err != nil {
		return usage{}, err
	}
	if what == doWarm {
		if err := b.run(ctx, shell(`find "$@" -type f -exec cat {} + >/dev/null`, p.root, p.cache)...); err != nil {
			return usage{}, err
		}
	}
	u, _, err := b.measure(ctx, t.restore(p, round))
	return u, err
}

// compare compares what the tool restored with the source, byte by byte, the
// first time.
func (b *bench) compare(t tool, run int, what string) error {
	if run > 0 || what == doWarm {
		return nil
	}
	p := b.place(t.name)
	if err := sameTree(p.source, p.target); err != nil {
		return fmt.Errorf("compare the restored files: %w", err)
	}
	return nil
}

// settle empties the page cache of all but the tool's own programs.
func (b *bench) settle(ctx context.Context, t tool) error {
	if err := b.quiet(); err != nil {
		return err
	}
	for _, argv := range t.wake {
		if err := b.run(ctx, argv...); err != nil {
			return err
		}
	}
	return nil
}
