package walk

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
)

// Kind says what a chunk holds.
type Kind uint8

// The kinds.
const (
	List Kind = iota // a part of the list of files
	Node             // a node of a recipe, of any level
	Data             // a part of a file
)

// Piece is a chunk that a backup needs, and what of the backup hangs on it.
type Piece struct {
	ID     cas.ID // never zero: zeros are not stored
	Size   int    // plain bytes of the chunk
	Kind   Kind
	File   *manifest.File // whose bytes hang on it; nil: the list of files itself
	Offset int64          // of the first byte of the file, or of the list, that hangs on it
	Length int64          // bytes of the file, or of the list
}

// Visitor is told what a backup needs.
type Visitor interface {
	// Visit is called for each chunk, for a node before those below it. If it
	// returns false for a node, those below are left out: a node that many
	// backups share need be read only once. A chunk of data may have the ID of
	// a node.
	Visit(p Piece) (below bool, err error)

	// Lost is called for a node, or for the whole list of files, that cannot
	// be read; what is below it is not visited. If it returns nil, the walk
	// goes on.
	Lost(p Piece, err error) error
}

// Backup tells the visitor of all chunks that a backup needs: those of its list
// of files, then those of each file, in the order of the list. Bases of deltas
// are not among them. Errors are the visitor's and the context's.
func Backup(ctx context.Context, reader *cas.Reader, m *manifest.Manifest, v Visitor) error {
	w := walker{reader: reader, visitor: v}
	if err := w.tree(ctx, tree{root: m.Files.Root, size: m.Files.Size, chunkSize: m.Files.ChunkSize}); err != nil {
		return err
	}
	var stopped error // by the visitor or the context
	content, err := Open(ctx, reader, m.Files)
	if err == nil {
		err = manifest.EachFile(content, m.Files.Count, func(f *manifest.File) error {
			if f.Kind == manifest.KindFile {
				stopped = w.tree(ctx, tree{file: f, root: f.Recipe, size: f.Size, chunkSize: f.ChunkSize})
			}
			return stopped
		})
	}
	if stopped != nil || err == nil {
		return stopped
	}
	return w.lost(ctx, Piece{ID: m.Files.Root, Kind: List, Length: m.Files.Size}, err)
}

type walker struct {
	reader  *cas.Reader
	visitor Visitor
}

// tree is the recipe of a file, or of the list of files.
type tree struct {
	file      *manifest.File // nil: the list
	root      cas.ID
	size      int64 // of the file, bytes
	chunkSize int
}

// chunks returns the number of chunks.
func (t *tree) chunks() int64 { return ceilDiv(t.size, int64(t.chunkSize)) }

// piece returns what hangs on the chunk, or on the node of that level, whose
// first chunk is the one with the number start.
func (t *tree) piece(id cas.ID, kind Kind, start, chunks int64) Piece {
	offset := start * int64(t.chunkSize)
	length := min(chunks*int64(t.chunkSize), t.size-offset)
	return Piece{ID: id, Size: int(length), Kind: kind, File: t.file, Offset: offset, Length: length}
}

func (w *walker) tree(ctx context.Context, t tree) error {
	level, span := uint8(0), int64(cas.NodeFanout) // chunks below a full node of the level
	for span < t.chunks() {
		if level++; level > cas.MaxLevel {
			return w.lost(ctx, t.piece(t.root, Node, 0, t.chunks()), fmt.Errorf("file of %d bytes is too large", t.size))
		}
		span *= cas.NodeFanout
	}
	return w.node(ctx, &t, t.root, level, span, 0)
}

// node visits a node of that level, which has room for span chunks and begins
// with the chunk of number start.
func (w *walker) node(ctx context.Context, t *tree, id cas.ID, level uint8, span, start int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	each := span / cas.NodeFanout // chunks below an entry
	chunks := min(span, t.chunks()-start)
	count := int(ceilDiv(chunks, each))
	ids := []cas.ID{id} // a node of one entry is that entry
	if id.IsZero() || count == 0 {
		return nil
	}
	if count > 1 {
		p := t.piece(id, Node, start, chunks)
		p.Size = cas.NodeSize(count)
		below, err := w.visitor.Visit(p)
		if err != nil || !below {
			return err
		}
		if ids, err = w.reader.Node(ctx, id, level, count); err != nil {
			return w.lost(ctx, p, err)
		}
	}
	for i, id := range ids {
		if err := w.entry(ctx, t, id, level, each, start+int64(i)*each); err != nil {
			return err
		}
	}
	return nil
}

// entry visits what an entry of a node of that level stands for.
func (w *walker) entry(ctx context.Context, t *tree, id cas.ID, level uint8, span, start int64) error {
	if level > 0 {
		return w.node(ctx, t, id, level-1, span, start)
	}
	if id.IsZero() {
		return nil
	}
	kind := Data
	if t.file == nil {
		kind = List
	}
	_, err := w.visitor.Visit(t.piece(id, kind, start, 1))
	return err
}

// lost tells the visitor, unless it is the context that has ended.
func (w *walker) lost(ctx context.Context, p Piece, err error) error {
	if ctxErr := ctx.Err(); ctxErr != nil && errors.Is(err, ctxErr) {
		return err
	}
	return w.visitor.Lost(p, err)
}

func ceilDiv(n, d int64) int64 {
	if n <= 0 {
		return 0
	}
	return (n-1)/d + 1
}
