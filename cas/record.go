package cas

import (
	"context"
	"errors"
	"fmt"
)

func manifestName(key Key) string  { return "manifests/" + string(key) }
func sessionName(key Key) string   { return "sessions/" + string(key) }
func forgottenName(key Key) string { return "forgotten/" + string(key) }

// Record returns what Commit published under the key. It returns ErrNotFound
// if there is nothing or it was forgotten, ErrRevoked if garbage collection
// ended the session first, a *CorruptError or a *VersionError.
func (r *Repository) Record(ctx context.Context, key Key) ([]byte, error) {
	if _, err := ParseKey(string(key)); err != nil {
		return nil, err
	}
	o, err := r.register(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read record %s: %w", key, err)
	}
	if err := r.checkNotForgotten(ctx, key); err != nil {
		return nil, fmt.Errorf("read record %s: %w", key, err)
	}
	return o.payload, nil
}

// register reads a register that holds a commit.
func (r *Repository) register(ctx context.Context, key Key) (object, error) {
	o, err := readObject(ctx, r.backend, manifestName(key), objectCommit, objectRevoked)
	if err == nil && o.kind == objectRevoked {
		return object{}, ErrRevoked
	}
	return o, err
}

func (r *Repository) checkNotForgotten(ctx context.Context, key Key) error {
	forgotten, err := exists(ctx, r.backend, forgottenName(key))
	if err != nil {
		return err
	}
	if forgotten {
		return fmt.Errorf("it was removed: %w", ErrNotFound)
	}
	return nil
}

// HadBackups tells whether a backup of the shard was ever removed: then it had
// some, also if none is listed now. Sessions that failed do not count.
func (r *Repository) HadBackups(ctx context.Context, keyspace, shard string) (bool, error) {
	if _, err := NewKey(keyspace, shard, "x"); err != nil {
		return false, err
	}
	marks, err := r.backend.List(ctx, "forgotten/"+keyspace+"/"+shard)
	if err != nil {
		return false, fmt.Errorf("list removed backups of %s/%s: %w", keyspace, shard, err)
	}
	return len(marks) > 0, nil
}

// Began tells whether a backup of the shard was ever begun, whatever became of it:
// nobody removes reservations.
func (r *Repository) Began(ctx context.Context, keyspace, shard string) (bool, error) {
	if _, err := NewKey(keyspace, shard, "x"); err != nil {
		return false, err
	}
	reserved, err := r.backend.List(ctx, "sessions/"+keyspace+"/"+shard)
	if err != nil {
		return false, fmt.Errorf("list backups of %s/%s that were begun: %w", keyspace, shard, err)
	}
	return len(reserved) > 0, nil
}

// Keys returns the backups of a shard: committed, not revoked, not forgotten;
// sorted by name, which is by time. A damaged register is listed, so that
// whoever reads it learns of the damage.
func (r *Repository) Keys(ctx context.Context, keyspace, shard string) ([]Key, error) {
	if _, err := NewKey(keyspace, shard, "x"); err != nil {
		return nil, err
	}
	folder := keyspace + "/" + shard
	entries, err := r.backend.List(ctx, "manifests/"+folder)
	if err != nil {
		return nil, fmt.Errorf("list backups of %s: %w", folder, err)
	}
	marks, err := r.backend.List(ctx, "forgotten/"+folder)
	if err != nil {
		return nil, fmt.Errorf("list removed backups of %s: %w", folder, err)
	}
	forgotten := map[string]bool{}
	for _, mark := range marks {
		forgotten[mark.Name] = true
	}
	var keys []Key
	for _, entry := range entries {
		key, err := NewKey(keyspace, shard, entry.Name)
		if err != nil || entry.Dir || forgotten[entry.Name] {
			continue
		}
		revoked, err := r.revoked(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("list backups of %s: %w", folder, err)
		}
		if !revoked {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// revoked tells by the head of a register whether it holds a revocation.
func (r *Repository) revoked(ctx context.Context, key Key) (revoked bool, err error) {
	blob, err := r.backend.Open(ctx, manifestName(key))
	if errors.Is(err, ErrCorrupt) {
		return false, nil // Record says so
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	if blob.Size() < objectHeaderSize {
		return false, nil // damaged: Record says so
	}
	head := make([]byte, objectHeaderSize)
	if err := readFull(blob, head, 0); err != nil {
		return false, fmt.Errorf("read %s: %w", manifestName(key), err)
	}
	o, _, err := decodeObjectHeader(manifestName(key), head)
	if err != nil {
		return false, nil // damaged or too new: Record says so
	}
	return o.kind == objectRevoked, nil
}

// Shards returns "keyspace/shard" of every shard that ever had a backup,
// sorted. Keyspaces that begin with a dash are the program's own.
func (r *Repository) Shards(ctx context.Context) ([]string, error) {
	keyspaces, err := r.backend.List(ctx, "manifests")
	if err != nil {
		return nil, fmt.Errorf("list keyspaces: %w", err)
	}
	var shards []string
	for _, keyspace := range keyspaces {
		if !keyspace.Dir || CheckPart(keyspace.Name) != nil || keyspace.Name[0] == '-' {
			continue
		}
		entries, err := r.backend.List(ctx, "manifests/"+keyspace.Name)
		if err != nil {
			return nil, fmt.Errorf("list shards: %w", err)
		}
		for _, entry := range entries {
			if entry.Dir && CheckPart(entry.Name) == nil {
				shards = append(shards, keyspace.Name+"/"+entry.Name)
			}
		}
	}
	return shards, nil
}

// Forget removes a backup from the list for good; its space is freed later, by
// garbage collection. The note says who and why. It returns ErrNotFound if
// there is no such backup, also if it has been forgotten already. A damaged
// backup can be forgotten.
func (r *Repository) Forget(ctx context.Context, key Key, note []byte) error {
	if err := r.writable(); err != nil {
		return err
	}
	if _, err := ParseKey(string(key)); err != nil {
		return err
	}
	_, err := r.register(ctx, key)
	if errors.Is(err, ErrRevoked) {
		err = fmt.Errorf("it was never finished: %w", ErrNotFound)
	}
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("remove %s: %w", key, err)
	}
	err = r.putObject(ctx, forgottenName(key), objectForgotten, note)
	if errors.Is(err, ErrExists) {
		err = fmt.Errorf("it was removed already: %w", ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", key, err)
	}
	return nil
}
