package cas

import (
	"context"
	"encoding/binary"
	"slices"
)

// What tests of package cas_test need of the inside.

const (
	ObjectCommit   = objectCommit
	ObjectRevoked  = objectRevoked
	ObjectPackList = objectPackList
	ObjectConfig   = objectConfig
	FrameOverhead  = frameHeaderSize
	MaxOpenPacks   = maxOpenPacks
)

// SetPackTarget sets the size at which w seals a pack.
func (w *Writer) SetPackTarget(bytes int64) { w.target = bytes }

// OpenPacks returns the number of packs that r keeps open.
func (r *Reader) OpenPacks() int {
	r.packs.mu.Lock()
	defer r.packs.mu.Unlock()
	return len(r.packs.files)
}

// EncodeObject returns an object with a fixed nonce.
func EncodeObject(kind objectKind, payload []byte) []byte {
	return object{kind: kind, nonce: [16]byte{9}, payload: payload}.encode()
}

// EncodeIDs returns the payload of a list of packs.
func EncodeIDs(ids []ID) []byte {
	buf := binary.LittleEndian.AppendUint32(nil, uint32(len(ids)))
	for _, id := range ids {
		buf = append(buf, id[:]...)
	}
	return buf
}

// PackName returns the blob's name of a pack.
func PackName(id ID) string { return packName(id) }

// EncodeConfigFlags returns a configuration with feature flags.
func EncodeConfigFlags(uuid UUID, config Config, incompat, readOnly, compat uint64) []byte {
	body := encodeConfig(uuid, config)
	binary.LittleEndian.PutUint64(body[24:], incompat)
	binary.LittleEndian.PutUint64(body[32:], readOnly)
	binary.LittleEndian.PutUint64(body[40:], compat)
	return body
}

// SetRemember sets how many chunks a writer remembers before it learns.
func (w *Writer) SetRemember(chunks int) { w.remember = chunks }

// Remembered returns how many chunks a writer remembers.
func (w *Writer) Remembered() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.own)
}

// Inspect is InspectAll of one pack.
func (r *Repository) Inspect(ctx context.Context, id ID) (*Pack, error) {
	var pack *Pack
	var problem error
	err := r.InspectAll(ctx, []ID{id}, 1, func(_ ID, found *Pack, err error) error {
		if problem = err; found != nil {
			found.Frames = slices.Clone(found.Frames)
		}
		pack = found
		return nil
	})
	if err != nil {
		return nil, err
	}
	return pack, problem
}
