package cas

import (
	"context"
	"errors"
	"fmt"
)

// outcome is what a session has come to.
type outcome uint8

const (
	open      outcome = iota // its register does not exist
	committed                // it is a backup, whether or not it can be read or was forgotten
	revoked                  // it never will be one
)

// revoke ends a session by creating its revocation. It returns what the register
// holds then: a commit may have been faster.
func (r *Repository) revoke(ctx context.Context, key Key, note string) (outcome, error) {
	err := r.putObject(ctx, manifestName(key), objectRevoked, []byte(note))
	if err == nil {
		return revoked, nil
	}
	if !errors.Is(err, ErrExists) {
		return open, err
	}
	now, err := r.outcome(ctx, key)
	if err == nil && now == open {
		err = fmt.Errorf("%s exists and cannot be found: a listing or a cache is stale", manifestName(key))
	}
	return now, err
}

// outcome reads what a session has come to from the head of its register.
func (r *Repository) outcome(ctx context.Context, key Key) (outcome, error) {
	isRevoked, err := r.revoked(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return open, nil
	case err != nil:
		return open, err
	case isRevoked:
		return revoked, nil
	}
	return committed, nil
}
