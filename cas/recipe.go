package cas

import (
	"context"
	"encoding/binary"
	"fmt"
)

// A recipe is the list of a file's chunks, kept as a tree. Its leaves list the
// chunks of NodeFanout chunk sizes of file each; a node above lists up to
// NodeFanout nodes below. Nodes are chunks themselves. A node of one entry is
// that entry, so that a small file's recipe is its chunk; a node of zero IDs
// only is the zero ID, however large. The shape follows from the file's size
// alone.

// The node; see docs/format.md, "Recipe node".
const (
	nodeMagic      = "SSND"
	nodeHeaderSize = 8
	maxLeaves      = 4 << 20 // of one file: 256 TiB in chunks of 64 KiB
)

// MaxLevel is the highest level of a node: leaves have level 0.
const MaxLevel = 3

// Leaves returns the number of leaves of a file's recipe.
func Leaves(size int64, chunkSize int) int {
	chunks := ceilDiv(size, int64(chunkSize))
	return int(ceilDiv(chunks, NodeFanout))
}

// LeafChunks returns the number of chunks that a leaf of the file lists.
func LeafChunks(size int64, chunkSize, leaf int) int {
	chunks := ceilDiv(size, int64(chunkSize)) - int64(leaf)*NodeFanout
	return int(min(chunks, NodeFanout))
}

func ceilDiv(n, d int64) int64 {
	if n <= 0 {
		return 0
	}
	return (n-1)/d + 1
}

func encodeNode(level uint8, ids []ID) []byte {
	buf := append(make([]byte, 0, nodeHeaderSize+len(ids)*len(ID{})), nodeMagic...)
	buf = append(buf, version, level)
	buf = binary.LittleEndian.AppendUint16(buf, uint16(len(ids)))
	for _, id := range ids {
		buf = append(buf, id[:]...)
	}
	return buf
}

// parseNode reads a node of that level and number of entries.
func parseNode(data []byte, level uint8, count int) ([]ID, error) {
	if len(data) < nodeHeaderSize || string(data[:4]) != nodeMagic {
		return nil, nodeError("magic is missing")
	}
	if data[4] != version {
		return nil, versionError("recipe node", uint16(data[4]))
	}
	if data[5] != level {
		return nil, nodeError("has level %d, want %d", data[5], level)
	}
	if got := int(binary.LittleEndian.Uint16(data[6:])); got != count {
		return nil, nodeError("has %d entries, want %d", got, count)
	}
	if len(data) != NodeSize(count) {
		return nil, nodeError("has %d bytes, want %d", len(data), NodeSize(count))
	}
	ids := make([]ID, count)
	for i := range ids {
		ids[i] = ID(data[nodeHeaderSize+i*len(ID{}):])
	}
	return ids, nil
}

// nodeError says that a chunk whose hash is right is no node, or not the one
// that the file's size asks for.
func nodeError(format string, args ...any) error {
	return &CorruptError{Name: "recipe node", Reason: fmt.Sprintf(format, args...)}
}

// NodeSize returns the length of a node of so many entries, in bytes.
func NodeSize(count int) int { return nodeHeaderSize + count*len(ID{}) }

// PutLeaf stores a leaf: the IDs of 1 to NodeFanout consecutive chunks of a
// file. All leaves of a file but the last are full.
func (w *Writer) PutLeaf(ctx context.Context, ids []ID) (ID, Put, error) {
	return w.putNode(ctx, 0, ids)
}

// PutRoot stores what is above the leaves of a file and returns the root of its
// recipe. A file without leaves has the zero root.
func (w *Writer) PutRoot(ctx context.Context, leaves []ID) (ID, Put, error) {
	if len(leaves) == 0 {
		return ID{}, Put{}, nil
	}
	var total Put
	nodes := leaves
	for level := uint8(1); len(nodes) > 1; level++ {
		above := make([]ID, 0, ceilDiv(int64(len(nodes)), NodeFanout))
		for start := 0; start < len(nodes); start += NodeFanout {
			id, put, err := w.putNode(ctx, level, nodes[start:min(start+NodeFanout, len(nodes))])
			if err != nil {
				return ID{}, Put{}, err
			}
			total.New = total.New || put.New
			total.Stored += put.Stored
			above = append(above, id)
		}
		nodes = above
	}
	return nodes[0], total, nil
}

func (w *Writer) putNode(ctx context.Context, level uint8, ids []ID) (ID, Put, error) {
	if len(ids) == 0 || len(ids) > NodeFanout {
		return ID{}, Put{}, w.fail(fmt.Errorf("store recipe node: %d entries, want 1 to %d", len(ids), NodeFanout))
	}
	if len(ids) == 1 {
		return ids[0], Put{}, nil
	}
	if allZeroIDs(ids) {
		return ID{}, Put{}, nil
	}
	data := encodeNode(level, ids)
	id := Sum(data)
	put, err := w.Put(ctx, KindMeta, id, data)
	return id, put, err
}

func allZeroIDs(ids []ID) bool {
	for _, id := range ids {
		if !id.IsZero() {
			return false
		}
	}
	return true
}

// LeafIDs returns the leaves of a file's recipe, in order. Errors are those of
// Chunk.
func (r *Reader) LeafIDs(ctx context.Context, root ID, size int64, chunkSize int) ([]ID, error) {
	leaves := Leaves(size, chunkSize)
	if leaves > maxLeaves {
		return nil, fmt.Errorf("read recipe %s: file of %d bytes is too large", root.Short(), size)
	}
	if leaves == 0 {
		return nil, nil
	}
	counts := []int{leaves} // nodes on each level, from the leaves up
	for counts[len(counts)-1] > 1 {
		counts = append(counts, int(ceilDiv(int64(counts[len(counts)-1]), NodeFanout)))
	}
	nodes := []ID{root}
	for level := len(counts) - 1; level > 0; level-- {
		below := make([]ID, 0, counts[level-1])
		for _, node := range nodes {
			count := min(counts[level-1]-len(below), NodeFanout)
			ids, err := r.node(ctx, node, uint8(level), count)
			if err != nil {
				return nil, err
			}
			below = append(below, ids...)
		}
		nodes = below
	}
	return nodes, nil
}

// Leaf returns the chunk IDs that a leaf lists: count of them, see LeafChunks.
func (r *Reader) Leaf(ctx context.Context, leaf ID, count int) ([]ID, error) {
	if count < 1 || count > NodeFanout {
		return nil, fmt.Errorf("read recipe leaf %s: %d entries, want 1 to %d", leaf.Short(), count, NodeFanout)
	}
	return r.node(ctx, leaf, 0, count)
}

// Node returns the entries of a node of any level; see Leaf. A file's size says
// how many there are.
func (r *Reader) Node(ctx context.Context, id ID, level uint8, count int) ([]ID, error) {
	if count < 1 || count > NodeFanout || level > MaxLevel {
		return nil, fmt.Errorf("read recipe node %s: level %d, %d entries", id.Short(), level, count)
	}
	return r.node(ctx, id, level, count)
}

func (r *Reader) node(ctx context.Context, id ID, level uint8, count int) ([]ID, error) {
	if count == 1 {
		return []ID{id}, nil
	}
	if id.IsZero() {
		return make([]ID, count), nil
	}
	data, err := r.Chunk(ctx, id, NodeSize(count))
	if err != nil {
		return nil, fmt.Errorf("read recipe: %w", err)
	}
	ids, err := parseNode(data, level, count)
	if err != nil {
		return nil, fmt.Errorf("read recipe: chunk %s: %w", id.Short(), err)
	}
	return ids, nil
}
