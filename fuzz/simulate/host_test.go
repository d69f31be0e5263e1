package simulate

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shardseed/shardseed/cas"
)

var (
	errInjected = errors.New("injected fault")
	errDead     = errors.New("the host is dead")
)

// host is the store as one actor sees it. What others have created or removed
// less than the world's delay ago it may not see.
type host struct {
	world  *world
	name   string
	faulty bool          // its operations may fail
	dead   bool          // nothing it does reaches the store any more
	worst  time.Duration // the longest that an operation took
	until  time.Time     // before that it stalls
}

var _ cas.Backend = (*host)(nil)

// operation is a call that waits to be picked.
type operation struct {
	host *host
	text string
	run  func() error
	came time.Time
	err  error
	done chan struct{}
}

// do hands an operation to the scheduler and waits until it was picked.
func (h *host) do(text string, run func() error) error {
	if h.dead {
		return errDead
	}
	op := &operation{host: h, text: text, run: run, came: time.Now(), done: make(chan struct{})}
	h.world.ops <- op
	<-op.done
	return op.err
}

// perform is the scheduler's: it does an operation, or not, and fails it, or not.
func (op *operation) perform(w *world) {
	defer close(op.done)
	h := op.host
	h.worst = max(h.worst, time.Since(op.came))
	fault := 1.0
	if h.faulty {
		fault = w.rng.Float64()
	}
	switch {
	case h.dead && w.rng.IntN(2) == 0:
		op.err = errDead
	case fault < w.faults:
		op.err = errInjected
	case fault < 2*w.faults:
		if err := op.run(); err != nil {
			op.err = err
			break
		}
		op.err = errInjected
		if strings.HasPrefix(op.text, "put ") && w.rng.IntN(2) == 0 {
			op.err = fmt.Errorf("its own reply was lost: %w", cas.ErrExists)
		}
	default:
		op.err = op.run()
	}
	w.logf("%s: %s: %v", h.name, op.text, op.err)
}

// Put implements cas.Backend.
func (h *host) Put(ctx context.Context, name string, data []byte) error {
	return cmp.Or(ctx.Err(), h.do("put "+name, func() error { return h.create(name, data) }))
}

// create runs in the scheduler.
func (h *host) create(name string, data []byte) error {
	err := h.world.store.Put(h.world.ctx, name, data)
	if err == nil {
		h.world.created[name] = stamp{time.Now(), h}
	}
	return err
}

type staged struct {
	bytes.Buffer
	host *host
}

// Stage implements cas.Backend.
func (h *host) Stage(ctx context.Context) (cas.Blob, error) {
	return &staged{host: h}, ctx.Err()
}

// Publish implements cas.Blob.
func (b *staged) Publish(ctx context.Context, name string) error {
	return cmp.Or(ctx.Err(), b.host.do("publish "+name, func() error { return b.host.create(name, b.Bytes()) }))
}

// Discard implements cas.Blob.
func (b *staged) Discard() error {
	b.Reset()
	return nil
}

// Open implements cas.Backend.
func (h *host) Open(ctx context.Context, name string) (blob cas.BlobReader, err error) {
	err = h.do("open "+name, func() error {
		if h.isHidden(name, 0.2) {
			return fmt.Errorf("%s: %w", name, cas.ErrNotFound)
		}
		blob, err = h.world.store.Open(h.world.ctx, name)
		return err
	})
	return &open{blob, h, name}, cmp.Or(ctx.Err(), err)
}

// open is a blob that is open.
type open struct {
	cas.BlobReader
	host *host
	name string
}

// ReadAt implements io.ReaderAt.
func (b *open) ReadAt(buf []byte, offset int64) (int, error) {
	w := b.host.world
	if _, removed := w.removed[b.name]; removed && w.remote { // a failure has its turn: who else goes on depends on it
		return 0, b.host.do("read "+b.name, func() error { return fmt.Errorf("%s: %w", b.name, cas.ErrNotFound) })
	}
	return b.BlobReader.ReadAt(buf, offset)
}

// isHidden tells, by chance, whether the host does not see a new name yet.
func (h *host) isHidden(name string, chance float64) bool {
	at, known := h.world.created[name]
	return known && h.isLate(at) && h.world.rng.Float64() < chance
}

func (h *host) isLate(at stamp) bool {
	return at.host != h && time.Since(at.time) < h.world.delay
}

// List implements cas.Backend.
func (h *host) List(ctx context.Context, dir string) (entries []cas.Entry, err error) {
	err = h.do("list "+dir, func() error {
		entries = h.list(dir + "/")
		return nil
	})
	if err != nil {
		return nil, err
	}
	return entries, ctx.Err()
}

// list runs in the scheduler.
func (h *host) list(prefix string) []cas.Entry {
	names := h.world.store.Names()
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) || h.isHidden(name, h.world.late) })
	for _, name := range h.world.removedNames() {
		if strings.HasPrefix(name, prefix) && h.isLate(h.world.removed[name]) && h.world.rng.IntN(2) == 0 {
			names = append(names, name)
		}
	}
	var entries []cas.Entry
	for _, name := range names {
		first, _, deeper := strings.Cut(name[len(prefix):], "/")
		entries = append(entries, cas.Entry{Name: first, Dir: deeper})
	}
	slices.SortFunc(entries, func(a, b cas.Entry) int { return strings.Compare(a.Name, b.Name) })
	return slices.Compact(entries)
}

// Remove implements cas.Backend.
func (h *host) Remove(ctx context.Context, name string) error {
	return cmp.Or(ctx.Err(), h.do("remove "+name, func() error {
		err := h.world.store.Remove(h.world.ctx, name)
		h.world.removed[name] = stamp{time.Now(), h}
		return cmp.Or(err, h.world.check("after the removal of "+name))
	}))
}
