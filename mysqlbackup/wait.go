package mysqlbackup

import (
	"context"
	"fmt"
	"time"
)

// pollEvery is how often a state is looked at that can't be waited for.
const pollEvery = 100 * time.Millisecond

// poll calls done until it returns true or an error, at most for timeout. what
// completes "wait for …" in the error.
func poll(ctx context.Context, what string, timeout time.Duration, done func(context.Context) (bool, error)) error {
	limited, cancel := context.WithTimeoutCause(ctx, timeout, &timeoutError{what, timeout})
	defer cancel()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		ok, err := done(limited)
		if err != nil && limited.Err() == nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if ok && err == nil {
			return nil
		}
		select {
		case <-limited.Done():
			return context.Cause(limited)
		case <-ticker.C:
		}
	}
}

// timeoutError says what did not happen in time.
type timeoutError struct {
	what    string
	timeout time.Duration
}

func (e *timeoutError) Error() string {
	return fmt.Sprintf("wait for %s: not within %s", e.what, e.timeout)
}
