package cas

import (
	"errors"
	"fmt"
)

// The errors that callers act on. All are matched with errors.Is.
var (
	// ErrNotFound: no blob, chunk, record or value has that name.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name is taken. Nothing was written.
	ErrExists = errors.New("exists already")
	// ErrRevoked: garbage collection has ended the session; its name is never
	// used again and nothing of it is listed.
	ErrRevoked = errors.New("session was revoked by garbage collection")
	// ErrNoRepository: the backend holds no repository.
	ErrNoRepository = errors.New("no repository")
	// ErrCorrupt: stored bytes are not what was written. The error is a
	// *CorruptError.
	ErrCorrupt = errors.New("corrupt")
)

// CorruptError says which stored bytes are not what they should be. It matches
// ErrCorrupt.
type CorruptError struct {
	Name   string // blob in the repository; empty if Pack is set
	Pack   ID     // pack, or zero
	Offset int64  // of the frame in the pack, bytes
	Want   ID     // the chunk that was looked for, or zero
	Got    ID     // what the content hashes to; zero if it could not be decoded
	Reason string // what is wrong, unless Got says it
}

func (e *CorruptError) Error() string {
	reason := e.Reason
	if !e.Got.IsZero() {
		reason = "content hashes to " + e.Got.Short()
	}
	switch {
	case e.Pack.IsZero():
		return fmt.Sprintf("%s: %s", e.Name, reason)
	case e.Want.IsZero():
		return fmt.Sprintf("pack %s: %s", e.Pack.Short(), reason)
	}
	return fmt.Sprintf("chunk %s in pack %s at byte %d: %s", e.Want.Short(), e.Pack.Short(), e.Offset, reason)
}

// Is matches ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// ChunkError says which chunk of a list could not be given. Its message is its
// cause's.
type ChunkError struct {
	Index int // in the list
	ID    ID
	Err   error
}

func (e *ChunkError) Error() string { return e.Err.Error() }
func (e *ChunkError) Unwrap() error { return e.Err }

// VersionError says that an object was written by a newer program than this.
type VersionError struct {
	What     string // the object, for example "format" or "pack 51c0d2aa"
	Found    uint16 // version found
	Known    uint16 // newest version that this program reads
	Features uint64 // feature flags found that this program does not know; if not 0, the versions are not the reason
}

func (e *VersionError) Error() string {
	if e.Features != 0 {
		return fmt.Sprintf("%s needs features %#x, which this program does not know", e.What, e.Features)
	}
	return fmt.Sprintf("%s version %d is newer than this program (reads up to %d)", e.What, e.Found, e.Known)
}
