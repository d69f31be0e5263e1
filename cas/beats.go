package cas

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// BeatEvery is how often a session, or a reader, that is at work should give a
// sign of life. Garbage collection gives up on one that has been silent for many
// times that long.
const BeatEvery = time.Minute

// A sign of life is a new blob: the next generation of a name. What it holds
// means nothing.

func beatName(key Key) string   { return "beats/" + string(key) }
func readerName(key Key) string { return "readers/" + string(key) }

// readerEnd ends the name of the blob that says that a reader has ended.
const readerEnd = ".end"

// beat creates the generation of the sign of life.
func (r *Repository) beat(ctx context.Context, name string, gen uint64) error {
	err := r.putObject(ctx, fmt.Sprintf("%s.%0*d", name, generationDigits, gen), objectBeat, nil)
	if errors.Is(err, ErrExists) {
		return nil
	}
	return err
}

// live gives signs of life under the name until the function it returns is
// called, which waits for the last one to end. That one cannot be given is no
// error: the worst that comes of it is a revocation.
func (r *Repository) live(ctx context.Context, name string, first uint64, every time.Duration) (end func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var done sync.WaitGroup
	done.Go(func() {
		ticks := time.NewTicker(every)
		defer ticks.Stop()
		for gen := first; ; gen++ {
			_ = r.beat(ctx, name, gen) // the next will come through, or the session is revoked
			select {
			case <-ticks.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

// Live makes the session give signs of life, at once and then each interval,
// until the function it returns is called. The end of ctx does not end them: a
// run that was canceled still has things to put in order.
func (s *Session) Live(ctx context.Context, every time.Duration) (end func()) {
	return s.repo.live(ctx, beatName(s.key), 1, every)
}

// Pin is a reader's word that it is reading a backup: garbage collection keeps
// the backup's chunks also if it is forgotten meanwhile, as long as the reader
// gives signs of life.
type Pin struct {
	repo *Repository
	name string // in readers/
	end  func()
}

// Pin announces a reader of the backup, which gives signs of life each interval
// until [Pin.Close]. It must come before the record is read: garbage collection
// then either sees the pin, or the reader that the backup is forgotten. A root
// that cannot be written is an error; the reader may go on without a pin.
func (r *Repository) Pin(ctx context.Context, key Key, every time.Duration) (*Pin, error) {
	if err := r.writable(); err != nil {
		return nil, err
	}
	if _, err := ParseKey(string(key)); err != nil {
		return nil, err
	}
	var nonce [8]byte
	if err := r.random(nonce[:]); err != nil {
		return nil, err
	}
	p := &Pin{repo: r, name: readerName(key) + "." + hex.EncodeToString(nonce[:])}
	if err := r.beat(ctx, p.name, 1); err != nil {
		return nil, fmt.Errorf("pin backup %s: %w", key, err)
	}
	p.end = r.live(ctx, p.name, 2, every)
	return p, nil
}

// Close ends the pin. Called again, or of a nil pin, it does nothing.
func (p *Pin) Close(ctx context.Context) error {
	if p == nil || p.end == nil {
		return nil
	}
	p.end()
	p.end = nil
	err := p.repo.putObject(ctx, p.name+readerEnd, objectBeat, nil)
	if err != nil && !errors.Is(err, ErrExists) {
		return fmt.Errorf("end pin: %w", err)
	}
	return nil
}

// signs are the newest signs of life in a folder of beats/ or readers/: the
// generation of each name, 0 if the reader of that name has ended.
type signs map[string]uint64

// signs lists a folder of beats/ or readers/.
func (r *Repository) signs(ctx context.Context, dir string) (signs, error) {
	entries, err := r.backend.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	newest := signs{}
	ended := map[string]bool{}
	for _, entry := range entries {
		if name, ok := strings.CutSuffix(entry.Name, readerEnd); ok {
			ended[name] = true
			newest[name] = 0
			continue
		}
		name, gen, ok := cutGeneration(entry.Name)
		if ok && !entry.Dir && !ended[name] {
			newest[name] = max(newest[name], gen)
		}
	}
	for name := range ended {
		newest[name] = 0
	}
	return newest, nil
}

// cutGeneration splits "<name>.<generation>".
func cutGeneration(s string) (name string, gen uint64, ok bool) {
	at := strings.LastIndexByte(s, '.')
	if at < 1 {
		return "", 0, false
	}
	gen, ok = parseGeneration(s[at+1:])
	return s[:at], gen, ok
}
