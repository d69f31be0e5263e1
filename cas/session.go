package cas

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/shardseed/shardseed/internal/hint"
)

// Session is one backup being written, from the reservation of its name to the
// commit. A session that is not committed leaves nothing that is listed, and its
// name is never used again; it should be abandoned, so that garbage collection
// need not find out by itself that nobody works on it any more. While it works
// it should give signs of life: see [Session.Live].
type Session struct {
	repo   *Repository
	key    Key
	nonce  [16]byte
	marked marks // as they were after the name was reserved

	mu    sync.Mutex // held for the whole of Commit and Abandon; guards ended
	ended error      // why Commit cannot be called any more
	done  bool       // the register holds this session's commit
}

// Begin reserves the key for a new session. The note says for people who is
// writing. It returns ErrExists if the key was ever used: the caller takes
// another.
//
// The order matters to garbage collection: the session is visible before its
// lists are read, so a collection either sees the session or has been seen.
func (r *Repository) Begin(ctx context.Context, key Key, note []byte) (*Session, error) {
	if err := r.writable(); err != nil {
		return nil, err
	}
	if _, err := ParseKey(string(key)); err != nil {
		return nil, err
	}
	o, err := r.newObject(objectSession, note)
	if err != nil {
		return nil, fmt.Errorf("begin session %s: %w", key, err)
	}
	if err := put(ctx, r.backend, sessionName(key), o.encode()); err != nil {
		return nil, fmt.Errorf("begin session %s: %w", key, err)
	}
	for _, name := range []string{manifestName(key), forgottenName(key)} {
		taken, err := exists(ctx, r.backend, name)
		if err != nil {
			return nil, fmt.Errorf("begin session %s: %w", key, err)
		}
		if taken {
			return nil, fmt.Errorf("begin session %s: %s %w", key, name, ErrExists)
		}
	}
	marked, err := r.marks(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin session %s: %w", key, err)
	}
	return &Session{repo: r, key: key, nonce: o.nonce, marked: marked}, nil
}

// Key returns the session's key.
func (s *Session) Key() Key { return s.key }

// Commit seals what the writer has open, proves that every pack the backup
// relies on is there and undamaged, and publishes the record. It returns nil
// only if the record is durable and visible. It returns ErrRevoked if garbage
// collection has ended the session. If publishing itself fails with another
// error, the record may or may not be visible; what it relies on is complete in
// either case. A session commits once: called again, Commit fails, with the same
// error if it failed the first time.
func (s *Session) Commit(ctx context.Context, w *Writer, record []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return s.ended
	}
	if err := s.tryCommit(ctx, w, record); err != nil {
		s.ended = fmt.Errorf("commit %s: %w", s.key, err)
		return s.ended
	}
	s.done = true
	s.ended = fmt.Errorf("commit %s: it was committed already", s.key)
	return nil
}

// Abandon ends a session that will not be committed: it creates the revocation
// that garbage collection would create after having waited for signs of life.
// After a commit, also one whose reply was lost, Abandon does nothing; after it,
// Commit fails.
func (s *Session) Abandon(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return nil
	}
	if s.ended == nil {
		s.ended = fmt.Errorf("commit %s: the session was abandoned", s.key)
	}
	if _, err := s.repo.revoke(ctx, s.key, "abandoned by its writer"); err != nil {
		return fmt.Errorf("abandon session %s: %w", s.key, err)
	}
	return nil
}

// EndSession is [Session.Abandon] of a session of another process: of one that
// is known to be dead, because a session that is at work fails when it commits. A
// backup that was committed stays.
func (r *Repository) EndSession(ctx context.Context, key Key, note string) error {
	if err := r.writable(); err != nil {
		return err
	}
	if _, err := r.revoke(ctx, key, note); err != nil {
		return fmt.Errorf("end session %s: %w", key, err)
	}
	return nil
}

func (s *Session) tryCommit(ctx context.Context, w *Writer, record []byte) error {
	if w.session != s {
		panic("cas: internal error: commit of another session's writer")
	}
	if len(record) > maxPayload {
		return fmt.Errorf("record has %d bytes, at most %d fit", len(record), maxPayload)
	}
	if err := w.Flush(ctx); err != nil {
		return err
	}
	if err := s.checkPacks(ctx, w.Relied()); err != nil {
		if now, outcomeErr := s.repo.outcome(ctx, s.key); outcomeErr == nil && now == revoked {
			return ErrRevoked
		}
		return err
	}
	return s.publish(ctx, record)
}

// checkPacks proves that the packs are listed and that nothing speaks against
// them. A pack that was condemned is all right here: it was so after this session
// began, else the writer had not used it, and a collection that finds a session
// waits for it, then marks again.
func (s *Session) checkPacks(ctx context.Context, relied []ID) error {
	stored, err := s.repo.PackIDs(ctx)
	if err != nil {
		return err
	}
	now, err := s.repo.marks(ctx)
	if err != nil {
		return err
	}
	for _, id := range relied {
		if _, ok := slices.BinarySearchFunc(stored, id, ID.Compare); !ok {
			err = fmt.Errorf("pack %s, which the backup needs: %w", id.Short(), ErrNotFound)
		} else if now.has(id) {
			err = fmt.Errorf("pack %s, which the backup needs, has been condemned or found damaged", id.Short())
		}
		if err != nil {
			return hint.Wrap(err, "run the backup again: it stores anew what that pack held")
		}
	}
	return nil
}

// has tells whether the pack is finally condemned or damaged.
func (m marks) has(id ID) bool {
	_, final := m.final[id]
	_, damaged := m.damaged[id]
	return final || damaged
}

// dead tells whether anything spoke against the pack when the session began.
func (s *Session) dead(id ID) bool {
	_, condemned := s.marked.condemned[id]
	return condemned || s.marked.has(id)
}

// publish creates the register. If it is taken, by this very session (the
// reply to its success was lost) the commit stands; by a revocation it does not.
func (s *Session) publish(ctx context.Context, record []byte) error {
	name := manifestName(s.key)
	o := object{kind: objectCommit, nonce: s.nonce, payload: record}
	err := s.repo.backend.Put(ctx, name, o.encode())
	if !errors.Is(err, ErrExists) {
		return err
	}
	found, readErr := readObject(ctx, s.repo.backend, name, objectCommit, objectRevoked)
	switch {
	case readErr != nil:
		return errors.Join(err, readErr)
	case found.kind == objectRevoked:
		return ErrRevoked
	case found.nonce == s.nonce:
		return nil
	}
	return err
}
