package walk

import (
	"context"
	"fmt"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
)

// Written returns how many bytes of a file are in chunks that are not zeros: what a
// file with holes takes at the most. Each node is read once, however often a recipe
// has it: a few of them can stand for any size.
func Written(ctx context.Context, reader *cas.Reader, f *manifest.File) (int64, error) {
	chunks := ceilDiv(f.Size, int64(f.ChunkSize))
	level, span := uint8(0), int64(cas.NodeFanout)
	for span < chunks {
		if level++; level > cas.MaxLevel {
			return 0, fmt.Errorf("file of %d bytes is too large", f.Size)
		}
		span *= cas.NodeFanout
	}
	w := written{reader: reader, known: map[part]int64{}}
	found, err := w.count(ctx, part{f.Recipe, level, chunks}, span)
	return min(found*int64(f.ChunkSize), f.Size), err
}

// written counts chunks.
type written struct {
	reader *cas.Reader
	known  map[part]int64
}

// part is what a node of a level stands for in a file.
type part struct {
	id     cas.ID
	level  uint8
	chunks int64
}

// count returns how many chunks of a part are not zeros. span is how many a node of
// its level has room for.
func (w *written) count(ctx context.Context, p part, span int64) (int64, error) {
	each := span / cas.NodeFanout
	entries := int(ceilDiv(p.chunks, each))
	if p.id.IsZero() || entries == 0 {
		return 0, nil
	}
	if found, known := w.known[p]; known {
		return found, nil
	}
	ids, err := w.reader.Node(ctx, p.id, p.level, entries)
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for i, id := range ids {
		found := int64(1)
		switch {
		case p.level > 0:
			found, err = w.count(ctx, part{id, p.level - 1, min(each, p.chunks-int64(i)*each)}, each)
		case id.IsZero():
			found = 0
		}
		if err != nil {
			return 0, err
		}
		total += found
	}
	w.known[p] = total
	return total, nil
}
