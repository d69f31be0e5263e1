package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"path/filepath"
	"strconv"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/local"
	"github.com/shardseed/shardseed/index"
)

// What is measured of an index, each in a process of its own, so that the peak
// of its memory is known.
const (
	caseLoad   = "load"   // make an index of all packs
	caseLookup = "lookup" // open it and look chunks up
	caseDay    = "day"    // bring it up to date with the packs of one more day
	casePlan   = "plan"   // what a restore does: read the packs, find every chunk
	caseWrite  = "write"  // store new chunks
)

// dayChunks are new with a day, about 200,000.
const dayChunks = 84 * packChunks

// lookups is how many chunks are looked up for a rate.
const lookups = 300_000

// figures are what a case has measured, by name.
type figures map[string]float64

// runCase measures one case and prints its figures. The arguments are the case,
// the number of chunks and a folder that the cases share.
func (b *bench) runCase(ctx context.Context, arguments []string) error {
	if len(arguments) != 3 {
		return fmt.Errorf("got arguments %q, want none; see newConfig for the settings", arguments)
	}
	chunks, err := strconv.Atoi(arguments[1])
	if err != nil {
		return fmt.Errorf("number of chunks: %w", err)
	}
	chunks -= chunks % packChunks // what is published does not change
	c := &indexCase{bench: b, chunks: chunks, dir: arguments[2], figures: figures{}}
	cases := map[string]func(context.Context) error{
		caseLoad: c.load, caseLookup: c.lookup, caseDay: c.day, casePlan: c.plan, caseWrite: c.write,
	}
	run, ok := cases[arguments[0]]
	if !ok {
		return fmt.Errorf("unknown case %q", arguments[0])
	}
	if err := run(ctx); err != nil {
		return fmt.Errorf("case %s: %w", arguments[0], err)
	}
	return json.NewEncoder(b.stdout).Encode(c.figures)
}

// indexCase is one case.
type indexCase struct {
	bench   *bench
	chunks  int
	dir     string
	figures figures
}

// time notes the seconds that fn takes.
func (c *indexCase) time(name string, fn func() error) error {
	start := c.bench.now()
	err := fn()
	c.figures[name] = c.bench.now().Sub(start).Seconds()
	return err
}

func (c *indexCase) load(ctx context.Context) error {
	var x *index.Index
	err := c.time("seconds", func() (err error) {
		x, err = index.Rebuild(ctx, c.dir, &synthetic{chunks: c.chunks})
		return err
	})
	if err != nil {
		return err
	}
	c.figures["bytes"] = float64(x.Stats().FileBytes)
	return errors.Join(c.wantAll(x.Stats(), c.chunks), x.Close())
}

func (c *indexCase) wantAll(got index.Stats, want int) error {
	if got.Chunks != int64(want) {
		return fmt.Errorf("the index has %d chunks, want %d", got.Chunks, want)
	}
	return nil
}

func (c *indexCase) lookup(ctx context.Context) error {
	var x *index.Index
	err := c.time("open", func() (err error) {
		x, err = index.Open(ctx, c.dir, &synthetic{chunks: c.chunks})
		return err
	})
	if err != nil {
		return err
	}
	rng := mathrand.New(mathrand.NewPCG(1, 2)) //nolint:gosec // the same chunks each time
	hit := func() error { return find(x, rng.IntN(c.chunks)) }
	miss := func() error {
		if _, err := x.Lookup(randomID(1<<62|rng.Uint64()>>3), cas.AnyDepth); !errors.Is(err, cas.ErrNotFound) {
			return fmt.Errorf("a chunk that is not there: %w", err)
		}
		return nil
	}
	for range lookups { // so that the file is in the page cache
		if err := hit(); err != nil {
			return err
		}
	}
	return errors.Join(c.rate("hits", hit), c.rate("misses", miss), x.Close())
}

// rate notes how often fn runs in a second.
func (c *indexCase) rate(name string, fn func() error) error {
	err := c.time(name, func() error {
		for range lookups {
			if err := fn(); err != nil {
				return err
			}
		}
		return nil
	})
	c.figures[name] = lookups / c.figures[name]
	return err
}

// find looks up a chunk, and makes sure that it is what the repository has.
func find(l cas.Locator, n int) error {
	chain, err := l.Lookup(randomID(uint64(n)), cas.AnyDepth)
	if err != nil {
		return err
	}
	if want := int(depth(n)) + 1; len(chain) != want || chain[0].Pack != randomID(saltPack|uint64(n/packChunks)) {
		return fmt.Errorf("chunk %d: got a chain of %d in pack %s, want %d in another", n, len(chain), chain[0].Pack.Short(), want)
	}
	return nil
}

func (c *indexCase) day(ctx context.Context) error {
	var x *index.Index
	err := c.time("seconds", func() (err error) {
		x, err = index.Open(ctx, c.dir, &synthetic{chunks: c.chunks + dayChunks})
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(c.wantAll(x.Stats(), c.chunks+dayChunks), x.Close())
}

func (c *indexCase) plan(ctx context.Context) error {
	repo := &synthetic{chunks: c.chunks}
	ids, err := repo.PackIDs(ctx)
	if err != nil {
		return err
	}
	var m *index.Memory
	err = c.time("seconds", func() (err error) {
		m, err = index.OfPacks(ctx, c.dir, repo, ids)
		return err
	})
	if err != nil {
		return err
	}
	err = c.time("lookups", func() error {
		for n := range c.chunks {
			if err := find(m, n); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, m.Close())
}

// plainSize is how long the chunks are that are written: the shorter, the more
// of what is measured is memory and the index.
const plainSize = 64

func (c *indexCase) write(ctx context.Context) error {
	backend, err := local.Create(filepath.Join(c.dir, "root"))
	if err != nil {
		return err
	}
	repo, err := cas.Create(ctx, backend, cas.Config{}, rand.Reader, c.bench.now)
	if err != nil {
		return err
	}
	session, err := repo.Begin(ctx, "bench/0/2026-01-01.000000.bench-0000000001", nil)
	if err != nil {
		return err
	}
	x, err := index.Open(ctx, c.dir, repo)
	if err != nil {
		return err
	}
	w := session.NewWriter(cas.WriterOptions{Known: x, Learn: x.Save})
	err = c.time("seconds", func() error { return c.store(ctx, w) })
	err = errors.Join(err, w.Close(), x.Save(ctx))
	if err == nil {
		err = c.wantAll(x.Stats(), c.chunks)
	}
	return errors.Join(err, x.Close())
}

func (c *indexCase) store(ctx context.Context, w *cas.Writer) error {
	var plain [plainSize]byte
	for n := range c.chunks {
		first, second := randomID(uint64(2*n)), randomID(uint64(2*n+1))
		copy(plain[copy(plain[:], first[:]):], second[:])
		if _, err := w.Put(ctx, cas.KindData, cas.Sum(plain[:]), plain[:]); err != nil {
			return err
		}
	}
	return w.Flush(ctx)
}
