package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/replication"
)

const (
	writesPerSecond = 50 // on the primary, all the time
	toolPreCopy     = "shardseed, with pre-copy"
	toolNoPreCopy   = "shardseed, without pre-copy"
	mariadbBackup   = "mariadb-backup \\| zstd -1 -T2, sync"
)

// variant is a way to back up a running replica.
type variant struct {
	name  string
	flags []string
}

// variants returns those that this shardseed has.
func (b *bench) variants() []variant {
	if !b.preCopy {
		return []variant{{name: toolNoPreCopy}}
	}
	return []variant{{toolPreCopy, []string{"--pre-copy=true"}}, {toolNoPreCopy, []string{"--pre-copy=false"}}}
}

// knowsPreCopy asks shardseed itself.
func (b *bench) knowsPreCopy(ctx context.Context) (bool, error) {
	_, out, err := b.measure(ctx, command{argv: []string{b.config.program, "backup", "--help"}})
	return strings.Contains(string(out), "--pre-copy"), err
}

// liveRound returns the name under which results of running servers stand.
func liveRound(flavor replication.Flavor) string { return "live " + string(flavor) }

// pair is a primary that is written to and its replica.
type pair struct {
	primary, replica *server
	dir              string
}

// measureLive backs up a running replica while its primary is written to: a
// first backup with each variant, then an increment with each.
func (b *bench) measureLive(ctx context.Context, flavor replication.Flavor) (err error) {
	p, err := b.makePair(ctx, flavor)
	if err != nil {
		return fmt.Errorf("%s: make a replica: %w", flavor, err)
	}
	stop := b.writeOn(ctx, p.primary)
	defer func() { err = errors.Join(err, stop(), b.endPair(ctx, p)) }()
	for run := range b.config.runs {
		if err := b.liveRun(ctx, p, run); err != nil {
			return fmt.Errorf("%s: run %d: %w", flavor, run+1, err)
		}
	}
	return nil
}

func (b *bench) liveRun(ctx context.Context, p pair, run int) error {
	for _, v := range b.variants() {
		for _, dir := range []string{p.place(v).root, p.place(v).cache} {
			if err := emptyDir(dir); err != nil {
				return err
			}
		}
		if err := b.run(ctx, b.config.shardseedArgs(p.place(v), "init")...); err != nil {
			return err
		}
		if err := b.liveBackup(ctx, p, v, doRestart); err != nil {
			return err
		}
	}
	if err := b.transactions(ctx, p.primary, writes, "pareto", b.config.scale(10_000), 200+run); err != nil {
		return err
	}
	if err := p.replica.catchUp(ctx, p.primary); err != nil {
		return err
	}
	for _, v := range b.variants() {
		if err := b.liveBackup(ctx, p, v, doAgain); err != nil {
			return err
		}
	}
	if p.replica.flavor == replication.MariaDB {
		return b.streamBackup(ctx, p)
	}
	return nil
}

// place returns where the variant keeps its repository.
func (p pair) place(v variant) place {
	name := strings.ReplaceAll(v.name, " ", "-")
	return place{root: filepath.Join(p.dir, name, "root"), cache: filepath.Join(p.dir, name, "cache")}
}

// liveBackup measures one backup of the replica, from beginning to end: the
// replica has caught up again.
func (b *bench) liveBackup(ctx context.Context, p pair, v variant, what string) error {
	at := p.place(v)
	before, err := treeSize(at.root)
	if err != nil {
		return err
	}
	unix.Sync()
	secret := filepath.Join(p.dir, "password")
	argv := b.config.shardseedArgs(at, "backup", "bench-2", "--keyspace", "bench", "--shard", "0",
		"--defaults-file", p.replica.cnf(), "--mysqld", p.replica.program(), "--password-file", secret,
		"--replication-user", replUser, "--replication-password-file", secret, "--state-dir", filepath.Join(p.dir, "state"))
	u, out, err := b.measure(ctx, command{argv: append(argv, v.flags...)})
	if err != nil {
		return err
	}
	answers, err := parseAnswers(out)
	if err != nil {
		return err
	}
	if len(answers) != 1 {
		return fmt.Errorf("backup answered %q", out)
	}
	after, err := treeSize(at.root)
	s := sample{usage: u, bytes: after - before, downtime: answers[0].DowntimeSeconds}
	b.results.add(cell{liveRound(p.replica.flavor), v.name, what}, s)
	b.say("live: %s: %s: %s: %.2f s, downtime %.2f s", p.replica.flavor, v.name, what, s.seconds, s.downtime)
	return err
}

// streamBackup measures mariadb-backup on the running replica.
func (b *bench) streamBackup(ctx context.Context, p pair) error {
	temp, file := filepath.Join(p.dir, "stream"), filepath.Join(p.dir, "stream.mb.zst")
	if err := emptyDir(temp); err != nil {
		return err
	}
	unix.Sync()
	u, _, err := b.measure(ctx, command{
		argv: shell(`"$1" --defaults-file="$2" --backup --stream=mbstream --user=root --password="$3" --socket="$4" --target-dir="$5" | zstd -1 -T2 -q -f -o "$6"`,
			filepath.Join(b.config.servers, "bin", "mariadb-backup"), p.replica.cnf(), password, p.replica.path("sock"), temp, file),
		sync: p.dir,
	})
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	b.results.add(cell{liveRound(p.replica.flavor), mariadbBackup, doRestart}, sample{usage: u, bytes: info.Size()})
	b.say("live: mariadb-backup: %.2f s", u.seconds)
	return os.Remove(file)
}

// makePair starts a primary with the dataset and a replica with a copy of it.
func (b *bench) makePair(ctx context.Context, flavor replication.Flavor) (pair, error) {
	p := pair{dir: filepath.Join(b.dir, string(flavor))}
	var err error
	if p.primary, err = b.newServer(ctx, flavor, filepath.Join(p.dir, "primary"), false); err != nil {
		return p, err
	}
	if p.replica, err = b.newServer(ctx, flavor, filepath.Join(p.dir, "replica"), true); err != nil {
		return p, err
	}
	if err := b.fill(ctx, p.primary); err != nil {
		return p, err
	}
	if err := p.primary.configure(true); err != nil { // what happened until now is in both
		return p, err
	}
	if err := b.run(ctx, "cp", "-aT", "--reflink=never", p.primary.datadir(), p.replica.datadir()); err != nil {
		return p, err
	}
	if err := os.RemoveAll(filepath.Join(p.replica.datadir(), "auto.cnf")); err != nil {
		return p, err
	}
	if err := durable.OS().Replace(filepath.Join(p.dir, "password"), []byte(password+"\n"), 0o600); err != nil {
		return p, err
	}
	for _, s := range []*server{p.primary, p.replica} {
		if err := s.start(ctx); err != nil {
			return p, err
		}
	}
	return p, p.replica.follow(ctx, p.primary)
}

// fill gives a server that does not run the dataset: MySQL the one that there
// is, MariaDB one of its own.
func (b *bench) fill(ctx context.Context, s *server) error {
	if s.flavor == replication.MySQL {
		return b.run(ctx, "cp", "-aT", "--reflink=never", b.state(roundLoad), s.datadir())
	}
	if err := b.initialize(ctx, s); err != nil {
		return err
	}
	if err := b.prepare(ctx, s); err != nil {
		return err
	}
	return s.stop(ctx)
}

// writeOn writes to the server, a little all the time. The returned function
// ends that and returns the error by which it had ended before.
func (b *bench) writeOn(ctx context.Context, s *server) (stop func() error) {
	writing, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		argv := append(b.sysbench(s, writes, 300), "--threads=1", "--time=0", "--events=0", fmt.Sprintf("--rate=%d", writesPerSecond), "run")
		err := b.run(writing, argv...)
		if writing.Err() != nil {
			err = nil // it was ended
		}
		ended <- err
	}()
	return func() error {
		cancel()
		return <-ended
	}
}

func (b *bench) endPair(ctx context.Context, p pair) error {
	if err := errors.Join(p.replica.stop(ctx), p.primary.stop(ctx)); err != nil {
		return err
	}
	return os.RemoveAll(p.dir)
}
