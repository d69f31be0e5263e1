package mysqlbackup

import (
	"context"
	"fmt"
	"slices"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/retention"
	"github.com/shardseed/shardseed/walk"
)

// parent is the backup that a new one is compared with, chunk by chunk at the
// same places of the same files: what has changed becomes a delta. A nil parent
// resembles nothing. Safe for concurrent use.
type parent struct {
	manifest *manifest.Manifest
	reader   *cas.Reader
	files    map[fileKey]*manifest.File // those with content
}

// fileKey is where a file lies, as a manifest says it.
type fileKey struct{ root, path string }

// findParent looks for the newest backup of the same tablet, else of the same
// shard: a replica that was seeded has the bytes of its seed. Marked ones are as
// good. If that backup cannot be read there is no parent, and a warning.
func (b *backupRun) findParent(ctx context.Context) *parent {
	key, err := b.parentKey(ctx)
	if key == "" && err == nil {
		return nil
	}
	var p *parent
	if err == nil {
		p, err = b.readParent(ctx, key)
	}
	if err != nil {
		b.Progress.Warn(fmt.Sprintf("nothing is stored as a delta: %v", err))
		return nil
	}
	return p
}

// parentKey returns "" if the shard has no backup. One that is dated in the future
// would stay the newest for long: it is taken for want of others.
func (b *backupRun) parentKey(ctx context.Context) (cas.Key, error) {
	keys, err := b.Store.Repo.Keys(ctx, string(b.Keyspace), string(b.Shard))
	var best cas.Key
	rank := 0
	for _, key := range slices.Backward(keys) {
		name, err := manifest.ParseName(key.Name())
		if err != nil {
			continue
		}
		own, present := 1, 1
		if name.Alias == b.Alias {
			own = 3
		}
		if !retention.IsFuture(name, b.Now()) {
			present = 2
		}
		if own+present > rank {
			best, rank = key, own+present
		}
	}
	return best, err
}

func (b *backupRun) readParent(ctx context.Context, key cas.Key) (*parent, error) {
	m, err := ReadManifest(ctx, b.Store.Repo, key)
	if err != nil {
		return nil, err
	}
	files, err := walk.Files(ctx, b.reader, m.Files)
	if err != nil {
		return nil, fmt.Errorf("read backup %s: %w", m.Name, err)
	}
	p := &parent{manifest: m, reader: b.reader, files: map[fileKey]*manifest.File{}}
	for i := range files {
		if f := &files[i]; f.Kind == manifest.KindFile && !f.Recipe.IsZero() {
			p.files[fileKey{f.Root, string(f.Path)}] = f
		}
	}
	return p, nil
}

// like is an earlier version of a file.
type like struct {
	reader    *cas.Reader
	size      int64
	chunkSize int
	leaves    []cas.ID
}

// leaf returns the chunks of one range; none if the file was shorter.
func (l *like) leaf(ctx context.Context, n int) ([]cas.ID, error) {
	if n >= len(l.leaves) || l.leaves[n].IsZero() {
		return nil, nil
	}
	return l.reader.Leaf(ctx, l.leaves[n], cas.LeafChunks(l.size, l.chunkSize, n))
}

// entry returns the parent's entry of a file, nil if it has none that is cut
// into chunks of that size.
func (p *parent) entry(key fileKey, chunkSize int) *manifest.File {
	if p == nil {
		return nil
	}
	if entry := p.files[key]; entry != nil && entry.ChunkSize == chunkSize {
		return entry
	}
	return nil
}

// file returns the parent's version of a file, nil if it has none that is cut
// into chunks of that size.
func (p *parent) file(ctx context.Context, key fileKey, chunkSize int) (*like, error) {
	entry := p.entry(key, chunkSize)
	if entry == nil {
		return nil, nil
	}
	leaves, err := p.reader.LeafIDs(ctx, entry.Recipe, entry.Size, chunkSize)
	if err != nil {
		return nil, fmt.Errorf("compare with backup %s: %w", p.manifest.Name, err)
	}
	return &like{p.reader, entry.Size, chunkSize, leaves}, nil
}

// likes returns the versions of a file that it is compared with: the parent's,
// and after a pre-copy what that has stored.
func (c *copier) likes(ctx context.Context, src *sourceFile) []*like {
	var all []*like
	old, err := c.parent.file(ctx, src.key(), c.chunkSize)
	if err != nil {
		c.problem(err)
	}
	if old != nil {
		all = append(all, old)
	}
	if early := c.early[src.key()]; early != nil {
		all = append(all, &like{c.reader, early.src.stat.Size, c.chunkSize, early.leaves})
	}
	return all
}

// before returns the chunks of a range in the first version that has it.
func (c *copier) before(ctx context.Context, versions []*like, leaf int) []cas.ID {
	for _, version := range versions {
		ids, err := version.leaf(ctx, leaf)
		if err != nil {
			c.problem(err)
		}
		if len(ids) > 0 {
			return ids
		}
	}
	return nil
}
