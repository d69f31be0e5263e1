package throttle_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardseed/shardseed/internal/throttle"
)

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		limit := throttle.New(1000, time.Now)
		for n, want := range []time.Duration{0, 500 * time.Millisecond, time.Second} {
			if err := limit.Wait(t.Context(), 500); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(start); got != want {
				t.Errorf("wait %d ended after %v, want %v", n, got, want)
			}
		}
		<-time.After(time.Hour) // nothing is saved up
		start = time.Now()
		group, ctx := errgroup.WithContext(t.Context())
		for range 11 {
			group.Go(func() error { return limit.Wait(ctx, 100) })
		}
		if err := group.Wait(); err != nil || time.Since(start) != time.Second {
			t.Errorf("eleven at once: %v after %v, want 1s", err, time.Since(start))
		}
	})
}

func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := throttle.New(1, time.Now)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := limit.Wait(ctx, 1000); err != nil {
			t.Fatal(err)
		}
		if err := limit.Wait(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
	})
}

func TestNoLimit(t *testing.T) {
	limit := throttle.New(0, time.Now)
	if err := limit.Wait(t.Context(), 1<<30); err != nil {
		t.Error(err)
	}
}
