package cas_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/cas/mem"
)

// history is a repository and what it should list.
type history struct {
	t       *testing.T
	rt      *rapid.T
	backend *mem.Backend
	repo    *cas.Repository
	model   map[cas.Key][][]byte
	pool    [][]byte
	open    []*writing
	count   int
	nested  int
}

// writing is a session that has not come to its end.
type writing struct {
	session *cas.Session
	writer  *cas.Writer
	chunks  [][]byte
}

// TestPruneHistories makes random histories of backups that commit, crash or
// stall, that are forgotten, and of collections that are interrupted at any
// operation, or between whose steps all that, and other collections, happens.
// Whatever is listed in the end can be read; whatever committed and was not
// forgotten is listed.
func TestPruneHistories(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) {
			repo, backend := newRepoUnchecked(t)
			h := &history{t: t, rt: rt, backend: backend, repo: repo, model: map[cas.Key][][]byte{}}
			for range rapid.IntRange(1, 25).Draw(rt, "events") {
				h.event()
			}
			for _, w := range h.open {
				h.finish(w)
			}
			opts := pruneOptions(&hooks{})
			if _, err := repo.Prune(t.Context(), opts); err != nil {
				rt.Fatalf("prune: %v", err)
			}
			checkModel(t, repo, h.model)
			castest.Check(t, repo, backend)
			h.checkFreed(opts)
		})
	})
}

// checkFreed forgets everything: nothing is left then.
func (h *history) checkFreed(opts cas.PruneOptions) {
	for k := range h.model {
		if err := h.repo.Forget(h.t.Context(), k, nil); err != nil {
			h.rt.Fatalf("forget: %v", err)
		}
	}
	if _, err := h.repo.Prune(h.t.Context(), opts); err != nil {
		h.rt.Fatalf("prune all: %v", err)
	}
	if n := packCount(h.t, h.repo); n != 0 {
		h.rt.Fatalf("everything is forgotten, and %d packs are left", n)
	}
}

func (h *history) event() {
	switch rapid.IntRange(0, 8).Draw(h.rt, "event") {
	case 0, 1:
		h.begin()
	case 2, 3:
		if w := h.take(); w != nil {
			h.finish(w)
		}
	case 4:
		if w := h.take(); w != nil { // killed: no sign of life any more
			_ = w.writer.Close()
		}
	case 5:
		h.forget()
	default:
		h.prune()
	}
}

func (h *history) take() *writing {
	if len(h.open) == 0 {
		return nil
	}
	i := rapid.IntRange(0, len(h.open)-1).Draw(h.rt, "session")
	w := h.open[i]
	h.open = slices.Delete(h.open, i, i+1)
	return w
}

// begin begins a session and stores chunks, of which some are in earlier backups,
// forgotten ones too, and some resemble those.
func (h *history) begin() {
	h.count++
	session, err := h.repo.Begin(h.t.Context(), cas.Key(fmt.Sprintf("ks/-80/%04d", h.count)), nil)
	if err != nil {
		h.rt.Fatalf("begin: %v", err)
	}
	w := &writing{session: session, writer: session.NewWriter(cas.WriterOptions{Known: castest.NewIndex(h.t, h.repo)})}
	w.writer.SetPackTarget(int64(rapid.IntRange(1, 20000).Draw(h.rt, "pack target")))
	var batch []cas.Chunk
	for range rapid.IntRange(0, 8).Draw(h.rt, "chunks") {
		chunk := drawChunk(h.rt, &h.pool)
		base := h.pool[rapid.IntRange(0, len(h.pool)-1).Draw(h.rt, "base")]
		batch = append(batch, cas.Chunk{ID: cas.Sum(chunk), Plain: chunk, Like: cas.Sum(base)})
		w.chunks = append(w.chunks, chunk)
	}
	if _, err := w.writer.PutAll(h.t.Context(), cas.KindData, batch); err != nil {
		h.rt.Fatalf("put: %v", err)
	}
	if rapid.Bool().Draw(h.rt, "flush") {
		if err := w.writer.Flush(h.t.Context()); err != nil {
			h.rt.Fatalf("flush: %v", err)
		}
	}
	h.open = append(h.open, w)
}

// finish commits; that a collection has revoked the session is all right.
func (h *history) finish(w *writing) {
	err := w.session.Commit(h.t.Context(), w.writer, recordOf(w.chunks))
	switch {
	case err == nil:
		h.model[w.session.Key()] = w.chunks
	case !errors.Is(err, cas.ErrRevoked):
		h.rt.Fatalf("commit: %v", err)
	}
	if err := w.writer.Close(); err != nil {
		h.rt.Fatalf("close: %v", err)
	}
}

func (h *history) forget() {
	keys := slices.Sorted(maps.Keys(h.model))
	if len(keys) == 0 {
		return
	}
	k := rapid.SampledFrom(keys).Draw(h.rt, "forgotten")
	if err := h.repo.Forget(h.t.Context(), k, nil); err != nil {
		h.rt.Fatalf("forget: %v", err)
	}
	delete(h.model, k)
}

// prune collects garbage: with a fault, canceled, or with other things in between.
func (h *history) prune() {
	h.nested++
	defer func() { h.nested-- }()
	ctx, cancel := context.WithCancel(h.t.Context())
	defer cancel()
	faulty := castest.NewFaulty(h.backend)
	repo, err := cas.Open(ctx, faulty)
	if err != nil {
		h.rt.Fatalf("open: %v", err)
	}
	opts := pruneOptions(&hooks{step: func(name string) {
		for h.nested < 3 && rapid.IntRange(0, 2).Draw(h.rt, "at "+name) == 0 {
			h.event()
		}
	}})
	opts.MaxUnused = rapid.SampledFrom([]float64{-1, 0, 0.1, 0.5}).Draw(h.rt, "max unused")
	opts.Wait = time.Duration(rapid.IntRange(0, 2).Draw(h.rt, "wait")) * time.Minute
	opts.StaleAfter = rapid.SampledFrom([]time.Duration{time.Second, time.Hour}).Draw(h.rt, "stale after")
	if opts.StaleAfter == time.Hour { // sessions are alive
		for _, w := range h.open {
			defer w.session.Live(ctx, time.Minute)()
		}
	}
	opts.Visibility = rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(h.rt, "visibility")
	if rapid.Bool().Draw(h.rt, "fails") {
		faulty.FailAt(rapid.IntRange(1, 150).Draw(h.rt, "operation"), castest.When(rapid.IntRange(0, 1).Draw(h.rt, "moment")))
	}
	_, err = repo.Prune(ctx, opts)
	if err != nil && !errors.Is(err, castest.ErrInjected) {
		h.rt.Fatalf("prune: %v", err)
	}
	checkModel(h.t, h.repo, h.model)
}
