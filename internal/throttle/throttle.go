// Package throttle keeps a run from taking processors, disks and the network for
// itself.
package throttle

import (
	"context"
	"sync"
	"time"
)

// Limiter lets bytes pass at a bounded rate. A nil Limiter lets all pass. Safe
// for concurrent use.
type Limiter struct {
	rate int64 // bytes per second
	now  func() time.Time

	mu   sync.Mutex // guards free
	free time.Time  // when what has passed so far is paid for
}

// New returns a limiter of so many bytes per second; nil for 0, which is no
// limit.
func New(rate int64, now func() time.Time) *Limiter {
	if rate == 0 {
		return nil
	}
	return &Limiter{rate: rate, now: now}
}

// Wait returns when n more bytes may pass: at once if those before are paid
// for. It returns the context's error if that ends first.
func (l *Limiter) Wait(ctx context.Context, n int) error {
	if l == nil {
		return nil
	}
	delay := l.reserve(n)
	if delay <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// reserve returns how long to wait for n more bytes.
func (l *Limiter) reserve(n int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if l.free.Before(now) {
		l.free = now
	}
	delay := l.free.Sub(now)
	l.free = l.free.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	return delay
}
