package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
)

// Entry is a listed backup with what the repository knows of it besides.
type Entry struct {
	Key      cas.Key
	Name     manifest.Name
	Manifest *manifest.Manifest // nil if Err says that it can't be read
	Pin      *Note              // nil: it is not pinned
	Removing bool               // its removal was begun
	Drill    *Drill             // the last one; nil: there was none
	Err      error              // nil: all could be read
}

// Good tells whether the backup is one to rely on: it is not marked, its last
// drill, if there was any, has passed, and nobody is removing it.
func (e *Entry) Good() bool { return e.sound() && !e.Removing }

// sound is Good, whatever is to become of the backup.
func (e *Entry) sound() bool {
	return e.Err == nil && e.Manifest.Good() && (e.Drill == nil || e.Drill.Passed())
}

// Catalog returns the listed backups of a shard, oldest first. What can't be
// read of one stands in its entry.
func Catalog(ctx context.Context, repo *cas.Repository, keyspace manifest.Keyspace, shard manifest.Shard) ([]Entry, error) {
	return catalog(ctx, repo, keyspace, shard, func(*Entry) {})
}

// catalog is Catalog with only that of each entry which trim leaves.
func catalog(ctx context.Context, repo *cas.Repository, keyspace manifest.Keyspace, shard manifest.Shard, trim func(*Entry)) ([]Entry, error) {
	keys, err := repo.Keys(ctx, string(keyspace), string(shard))
	if err != nil {
		return nil, err
	}
	known := map[string]bool{} // values: most backups have none
	for _, prefix := range []string{holdsOf(keyspace, shard), proofsOf(keyspace, shard)} {
		names, err := repo.ValueNames(ctx, prefix)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			known[prefix+"/"+name] = true
		}
	}
	var entries []Entry
	for _, key := range keys {
		entry := Entry{Key: key}
		err := entry.read(ctx, repo, known[holdName(key)], known[proofName(key)])
		if isGone(err) { // removed since it was listed
			continue
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		entry.Err = err
		trim(&entry)
		entries = append(entries, entry)
	}
	return entries, nil
}

// ReadEntry returns one backup. The error is that of the repository, or
// cas.ErrNotFound; what can't be read of the backup stands in the entry.
func ReadEntry(ctx context.Context, repo *cas.Repository, key cas.Key) (*Entry, error) {
	entry := &Entry{Key: key}
	err := entry.read(ctx, repo, true, true)
	var newer *manifest.VersionError
	if err != nil && !errors.Is(err, cas.ErrCorrupt) && !errors.As(err, &newer) {
		return nil, err
	}
	entry.Err = err
	return entry, nil
}

func (e *Entry) read(ctx context.Context, repo *cas.Repository, held, drilled bool) (err error) {
	_, name, _ := strings.Cut(string(e.Key), "/")
	_, name, _ = strings.Cut(name, "/")
	if e.Name, err = manifest.ParseName(name); err != nil {
		return fmt.Errorf("backup %s: %w", e.Key, &cas.CorruptError{Name: "manifests/" + string(e.Key), Reason: err.Error()})
	}
	var errs []error
	m, err := ReadManifest(ctx, repo, e.Key)
	if isGone(err) {
		return err
	}
	errs = append(errs, err)
	if held {
		h, _, err := readHold(ctx, repo, e.Key)
		errs = append(errs, err)
		e.Removing = h.State == holdRemoving
		if h.State == holdPinned {
			e.Pin = &h.Note
		}
	}
	if drilled {
		e.Drill, err = LastDrill(ctx, repo, e.Key)
		errs = append(errs, err)
	}
	e.Manifest = m
	return errors.Join(errs...)
}
