package mysqlbackup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/index"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/walk"
)

// Usage is what the files of one backup, or of several, take in the repository.
// What several of them share counts once in the usage of all and in that of each.
type Usage struct {
	Plain  int64 // bytes of all files
	Unique int64 // plain bytes of distinct chunks; zeros are none
	Chunks int64 // distinct
	Stored int64 // bytes of all frames that are needed, those of bases and of metadata too
	Meta   int64 // of these, bytes for recipes and lists of files
	Codecs [cas.CodecDelta + 1]CodecUsage
	Depths [cas.AnyDepth]int64 // chunks by the depth of their frame
}

// CodecUsage is the part of a usage that is stored by one codec.
type CodecUsage struct {
	Frames int64
	Plain  int64 // bytes
	Stored int64 // bytes
}

// addFrame counts a frame that is needed.
func (u *Usage) addFrame(f *cas.Frame, meta bool) {
	u.Stored += f.Size()
	if meta {
		u.Meta += f.Size()
	}
	c := &u.Codecs[f.Codec]
	c.Frames++
	c.Plain += int64(f.PlainSize)
	c.Stored += f.Size()
}

// meter walks the recipes of backups, one after the other.
type meter struct {
	chunks *index.Memory
	reader *cas.Reader
	backup uint32 // number of the present one, from 1
	seen   map[uint64]sighting
	walked map[cas.ID]uint32 // node → number of the last backup of which what is below was counted
	one    Usage             // the present backup
	all    Usage
}

// sighting is what is known of a chunk. Chunks are told apart by the first
// eight bytes of their IDs.
type sighting struct {
	needed  uint32 // number of the last backup that needs the chunk's frame
	counted uint32 // number of the last backup one of whose files has the chunk
}

// Stats measures what backups take: each by itself, in their order, and all
// together. It reads recipes and directories of packs, not the data. It takes
// about 50 bytes of memory for each chunk.
func Stats(ctx context.Context, repo *cas.Repository, backups []*manifest.Manifest) (each []Usage, all Usage, err error) {
	var packs []cas.ID
	for _, m := range backups {
		packs = append(packs, m.Packs...)
	}
	chunks, err := index.OfBackup(ctx, "", repo, packs)
	if err != nil {
		return nil, Usage{}, err
	}
	m := &meter{chunks: chunks, reader: repo.NewReader(chunks), seen: map[uint64]sighting{}, walked: map[cas.ID]uint32{}}
	defer func() { err = errors.Join(err, m.reader.Close(), chunks.Close()) }()
	for _, backup := range backups {
		m.backup++
		m.one = Usage{Plain: backup.Totals.Plain}
		if err := walk.Backup(ctx, m.reader, backup, m); err != nil {
			return nil, Usage{}, damagedStore(fmt.Errorf("measure backup %s: %w", backup.Key(), err))
		}
		m.all.Plain += m.one.Plain
		each = append(each, m.one)
	}
	return each, m.all, nil
}

// Visit implements walk.Visitor: it counts the chunk.
func (m *meter) Visit(p walk.Piece) (bool, error) {
	err := m.count(p)
	if err != nil && p.File != nil {
		err = fmt.Errorf("%s: %w", p.File.Path, err)
	}
	if p.Kind != walk.Node || err != nil {
		return true, err
	}
	known := m.walked[p.ID] == m.backup // a few nodes can stand for any size
	m.walked[p.ID] = m.backup
	return !known, nil
}

// Lost implements walk.Visitor: what cannot be read cannot be measured.
func (m *meter) Lost(p walk.Piece, err error) error {
	if p.File != nil {
		return fmt.Errorf("%s: %w", p.File.Path, err)
	}
	return err
}

func (m *meter) count(p walk.Piece) error {
	if p.Kind == walk.Data {
		return m.chunk(p.ID)
	}
	return m.meta(p.ID)
}

// meta counts the frames of a chunk of metadata.
func (m *meter) meta(id cas.ID) error {
	chain, err := m.chunks.Lookup(id, cas.AnyDepth)
	if err != nil {
		return err
	}
	m.need(chain, true)
	return nil
}

// chunk counts a chunk of a file and the frames that it takes.
func (m *meter) chunk(id cas.ID) error {
	key := binary.LittleEndian.Uint64(id[:])
	seen := m.seen[key]
	if seen.counted == m.backup {
		return nil
	}
	chain, err := m.chunks.Lookup(id, cas.AnyDepth)
	if err != nil {
		return err
	}
	m.one.count(&chain[0].Frame)
	if seen.counted == 0 {
		m.all.count(&chain[0].Frame)
	}
	seen.counted = m.backup
	m.seen[key] = seen
	m.need(chain, false)
	return nil
}

func (u *Usage) count(f *cas.Frame) {
	u.Chunks++
	u.Unique += int64(f.PlainSize)
	u.Depths[f.Depth]++
}

// need counts the frames of a chain that have not been counted.
func (m *meter) need(chain cas.Chain, meta bool) {
	for i := range chain {
		key := binary.LittleEndian.Uint64(chain[i].ID[:])
		seen := m.seen[key]
		if seen.needed == m.backup {
			continue
		}
		m.one.addFrame(&chain[i].Frame, meta)
		if seen.needed == 0 {
			m.all.addFrame(&chain[i].Frame, meta)
		}
		seen.needed = m.backup
		m.seen[key] = seen
	}
}
