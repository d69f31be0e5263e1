package cas

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// maxSealing bounds the packs of one Writer that are synced and published at a
// time.
const maxSealing = 2

var errWriterClosed = errors.New("writer is closed")

// lane is where the packs of one kind are filled, one after the other.
type lane struct {
	kind Kind
	mu   sync.Mutex   // guards open; held while appending
	open *packBuilder // may be nil
}

// append adds a frame to the open pack and returns that pack's number, and the
// pack itself if it is full now and no longer the open one.
func (w *Writer) append(ctx context.Context, kind Kind, f *Frame, payload []byte) (number uint32, full *packBuilder, err error) {
	l, err := w.lane(kind)
	if err != nil {
		return 0, nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		if l.open, err = w.session.newPack(ctx, kind); err != nil {
			return 0, nil, err
		}
		l.open.number = w.started.Add(1)
	}
	number = l.open.number
	if err := l.open.append(f, payload); err != nil {
		return 0, nil, fmt.Errorf("write pack: %w", err)
	}
	if l.open.full(w.target) {
		full = l.take()
	}
	return number, full, nil
}

func (w *Writer) lane(kind Kind) (*lane, error) {
	switch kind {
	case KindData:
		return &w.data, nil
	case KindMeta:
		return &w.meta, nil
	}
	return nil, fmt.Errorf("no pack holds chunks of %s", kind)
}

// take returns the open pack, which is no longer open then. The caller holds
// mu.
func (l *lane) take() *packBuilder {
	open := l.open
	l.open = nil
	return open
}

// seal starts to sync and publish a pack, waiting for its turn if too many are
// under way. Flush and Close wait for the end. The caller's context ends only
// the waiting: it may be that of a group that is done before the pack is.
func (w *Writer) seal(ctx context.Context, b *packBuilder) error {
	select {
	case w.sealing <- struct{}{}:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), b.blob.Discard())
	}
	go func() {
		defer func() { <-w.sealing }()
		pack, err := b.seal(context.WithoutCancel(ctx), w.session.repo)
		if err != nil {
			_ = w.fail(fmt.Errorf("seal pack: %w", err)) // returned by Flush
			return
		}
		if w.noteSealed(pack, b.number) {
			w.forget(context.WithoutCancel(ctx))
		}
	}()
	return nil
}

// noteSealed takes a sealed pack down. It returns true if there is too much to
// remember.
func (w *Writer) noteSealed(pack *Pack, number uint32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.learn != nil {
		pack.Frames = nil // known finds them
	}
	w.packs = append(w.packs, pack)
	w.sealed = append(w.sealed, number)
	return w.learn != nil && len(w.own) >= w.remember
}

// forget makes known find what is sealed, and forgets it. If that fails now, it is
// tried again with the next pack: until then the writer remembers more.
func (w *Writer) forget(ctx context.Context) {
	if !w.learnMu.TryLock() {
		return // the other call is at it
	}
	defer w.learnMu.Unlock()
	w.mu.Lock()
	learned := make(map[uint32]struct{}, len(w.sealed))
	for _, number := range w.sealed {
		learned[number] = struct{}{}
	}
	w.mu.Unlock()
	if err := w.learn(ctx); err != nil {
		return
	}
	isLearned := func(number uint32) bool { _, found := learned[number]; return found }
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sealed = slices.DeleteFunc(w.sealed, isLearned)
	maps.DeleteFunc(w.own, func(_ ID, number uint32) bool { return isLearned(number) })
}

// drain waits until no pack is being sealed.
func (w *Writer) drain(ctx context.Context) error {
	w.drainMu.Lock()
	defer w.drainMu.Unlock()
	for taken := range maxSealing {
		select {
		case w.sealing <- struct{}{}:
		case <-ctx.Done():
			w.release(taken)
			return ctx.Err()
		}
	}
	w.release(maxSealing)
	return nil
}

func (w *Writer) release(tokens int) {
	for range tokens {
		<-w.sealing
	}
}

// Flush seals the open packs. When it returns nil, every chunk whose Put has
// returned is stored durably.
func (w *Writer) Flush(ctx context.Context) error {
	for _, l := range []*lane{&w.data, &w.meta} {
		l.mu.Lock()
		open := l.take()
		l.mu.Unlock()
		if open == nil {
			continue
		}
		if err := w.seal(ctx, open); err != nil {
			return w.fail(fmt.Errorf("seal pack: %w", err))
		}
	}
	if err := w.drain(ctx); err != nil {
		return w.fail(fmt.Errorf("wait for packs: %w", err))
	}
	return w.failed()
}

// Close drops what is not sealed, waits for the packs being sealed and makes
// further calls fail. After Flush it drops nothing. No other call may be
// running; Close itself may be called twice.
func (w *Writer) Close() error {
	_ = w.fail(errWriterClosed) // an earlier error stays the first
	var errs []error
	for _, l := range []*lane{&w.data, &w.meta} {
		l.mu.Lock()
		if open := l.take(); open != nil {
			errs = append(errs, open.blob.Discard())
		}
		l.mu.Unlock()
	}
	w.drainMu.Lock()
	defer w.drainMu.Unlock()
	for range maxSealing {
		w.sealing <- struct{}{}
	}
	w.release(maxSealing)
	return errors.Join(errs...)
}
