package hostile

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/local"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// What follows writes the repository's format by itself, from docs/format.md, so
// that it can also write what our code refuses to.

const (
	backupName = "2026-11-23.040000.zone1-0000000101"
	backupKey  = "commerce/-80/" + backupName
)

// repository is a folder that somebody hostile may write to.
type repository struct {
	t    testing.TB
	root string
	repo *cas.Repository
	key  cas.Key // of the session that packs are of, and of the backup that is published
}

func newRepository(t testing.TB) *repository {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	backend, err := local.Create(root)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := cas.Create(t.Context(), backend, cas.Config{}, rand.Reader, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return &repository{t, root, repo, backupKey}
}

// write makes a file below the root, with what is above it.
func (r *repository) write(name string, data []byte) {
	r.t.Helper()
	path := r.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, data, 0o440)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *repository) path(name string) string { return filepath.Join(r.root, filepath.FromSlash(name)) }

// The kinds of objects.
const (
	kindCommit   = 1
	kindSession  = 3
	kindValue    = 6
	kindPackList = 7
	kindLedger   = 9
)

// object writes an object with a right checksum.
func (r *repository) object(name string, kind byte, payload []byte) {
	r.t.Helper()
	buf := append([]byte("SSOBJ\r\n\x1a\x01\x00"), kind, 0)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(payload)))
	buf = append(buf, rand.Text()[:16]...)
	buf = append(buf, payload...)
	sum := blake3.Sum256(buf)
	r.write(name, append(buf, sum[:]...))
}

// frame is one of a pack, whose fields may say anything.
type frame struct {
	id, base     cas.ID
	codec, depth byte
	plain        uint32
	payload      []byte
	stored       uint32 // if not 0: what it claims in place of the payload's length
}

func crc(data []byte) uint32 { return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)) }

func (f *frame) storedSize() uint32 {
	if f.stored != 0 {
		return f.stored
	}
	return uint32(len(f.payload))
}

func (f *frame) header() []byte {
	buf := append([]byte("SSFR"), f.codec, f.depth, 0, 0)
	buf = binary.LittleEndian.AppendUint32(buf, f.storedSize())
	buf = binary.LittleEndian.AppendUint32(buf, f.plain)
	buf = append(append(buf, f.id[:]...), f.base[:]...)
	return binary.LittleEndian.AppendUint32(buf, crc(buf))
}

func (f *frame) entry(offset int64) []byte {
	buf := append(append([]byte{}, f.id[:]...), f.base[:]...)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(offset))
	buf = binary.LittleEndian.AppendUint32(buf, f.storedSize())
	buf = binary.LittleEndian.AppendUint32(buf, f.plain)
	return append(buf, f.codec, f.depth, 0, 0)
}

// pack stores frames and returns the pack's ID.
func (r *repository) pack(kind byte, frames ...*frame) cas.ID {
	r.t.Helper()
	data := r.packHeader(kind)
	var table []byte
	for _, f := range frames {
		table = append(table, f.entry(int64(len(data)))...)
		data = append(append(data, f.header()...), f.payload...)
	}
	return r.packOf(kind, data, table, uint32(len(frames)))
}

// packOf stores a pack of a start and a table, which claims to have count entries.
func (r *repository) packOf(kind byte, data, table []byte, count uint32) cas.ID {
	r.t.Helper()
	footer := zip(table)
	for len(footer) < 32*int(min(count, 1<<20)) { // what a reader wants at least: a frame of zstd that is skipped
		padding := 32*int(count) - len(footer)
		footer = binary.LittleEndian.AppendUint32(append(footer, 0x50, 0x2a, 0x4d, 0x18), uint32(padding))
		footer = append(footer, make([]byte, padding)...)
	}
	trailer := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	trailer = binary.LittleEndian.AppendUint32(trailer, uint32(len(footer)))
	trailer = binary.LittleEndian.AppendUint32(trailer, count*84)
	trailer = binary.LittleEndian.AppendUint32(trailer, count)
	trailer = append(trailer, 1, 0, kind, 0)
	trailer = binary.LittleEndian.AppendUint64(trailer, uint64(len(data)+len(footer)+80))
	sum := blake3.Sum256(footer)
	trailer = append(trailer, sum[:]...)
	trailer = binary.LittleEndian.AppendUint32(trailer, crc(trailer))
	trailer = append(trailer, 0, 0, 0, 0)
	trailer = append(trailer, "SSPKEND\n"...)
	data = append(append(data, footer...), trailer...)
	id := cas.Sum(data)
	r.write(packName(id), data)
	return id
}

func packName(id cas.ID) string { return fmt.Sprintf("packs/%s/%s", id.String()[:2], id) }

func (r *repository) packHeader(kind byte) []byte {
	uuid := r.repo.UUID()
	data := append([]byte("SSPACK\r\n\x01\x00"), kind, 0)
	data = binary.LittleEndian.AppendUint16(data, uint16(len(r.key)))
	data = append(append(data, 0, 0), uuid[:]...)
	data = append(append(data, []byte(rand.Text() + rand.Text())[:32]...), r.key...)
	return binary.LittleEndian.AppendUint32(data, crc(data))
}

func zip(data []byte) []byte {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		panic(err)
	}
	return z.EncodeAll(data, nil)
}

// plainFrame stores a chunk as it should be.
func plainFrame(plain []byte) *frame {
	f := &frame{id: cas.Sum(plain), plain: uint32(len(plain))}
	if f.payload, f.codec = zip(plain), 1; len(f.payload) >= len(plain) {
		f.payload, f.codec = plain, 0
	}
	return f
}

// node is a recipe node of a level.
func node(level byte, ids ...cas.ID) []byte {
	buf := binary.LittleEndian.AppendUint16(append([]byte("SSND\x01"), level), uint16(len(ids)))
	for _, id := range ids {
		buf = append(buf, id[:]...)
	}
	return buf
}

// same is a node of a level all of whose entries are the same.
func same(level byte, id cas.ID, count int) []byte {
	ids := make([]cas.ID, count)
	for i := range ids {
		ids[i] = id
	}
	return node(level, ids...)
}

// record is a manifest that nothing is wrong with.
func record(flavor replication.Flavor) *manifest.Manifest {
	name, err := manifest.ParseName(backupName)
	if err != nil {
		panic(err)
	}
	version := "9.7.0"
	if flavor == replication.MariaDB {
		version = "10.11.6-MariaDB"
	}
	at := time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)
	return &manifest.Manifest{
		Keyspace: "commerce", Shard: "-80", Name: name, TabletAlias: name.Alias, Host: "db", ToolVersion: "1", Engine: manifest.EngineStopped,
		Server: manifest.Server{
			Flavor: flavor, Version: version, PageSize: 16384, InnoDBDataFilePath: "ibdata1:12M:autoextend", DataDir: "/src",
		},
		Started: at, Finished: at, Roots: []manifest.Root{{Name: "datadir", Path: "/src"}},
		Files: manifest.FileList{ChunkSize: 64 << 10},
	}
}

// list stores a list of files given as lines, and notes it in the record.
func (r *repository) list(m *manifest.Manifest, lines ...string) {
	r.t.Helper()
	var text bytes.Buffer
	fmt.Fprintf(&text, `{"format":"shardseed-files","version":1,"count":%d}`+"\n", len(lines))
	for _, line := range lines {
		text.WriteString(line + "\n")
	}
	m.Files.Count, m.Files.Size = int64(len(lines)), int64(text.Len())
	r.listText(m, &text)
}

// listText stores the text of a list of files, as chunks of the record's size.
func (r *repository) listText(m *manifest.Manifest, text *bytes.Buffer) {
	r.t.Helper()
	ids := []cas.ID{}
	var frames []*frame
	for text.Len() > 0 {
		f := plainFrame(bytes.Clone(text.Next(m.Files.ChunkSize)))
		frames, ids = append(frames, f), append(ids, f.id)
	}
	for level := byte(0); len(ids) > 1; level++ {
		var above []cas.ID
		for len(ids) > 0 {
			n := min(len(ids), 1024)
			if n == 1 {
				above = append(above, ids[0])
			} else {
				f := plainFrame(node(level, ids[:n]...))
				frames, above = append(frames, f), append(above, f.id)
			}
			ids = ids[n:]
		}
		ids = above
	}
	m.Files.Root = ids[0]
	m.Packs = append(m.Packs, r.pack(2, frames...))
}

// publish publishes a record as it is.
func (r *repository) publish(m *manifest.Manifest) {
	r.t.Helper()
	m.Packs = sorted(m.Packs)
	data, err := m.Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	r.publishText(data)
}

func (r *repository) publishText(data []byte) {
	r.t.Helper()
	r.object("sessions/"+string(r.key), kindSession, nil)
	r.object("manifests/"+string(r.key), kindCommit, data)
}

// fileLine is a line of a list of files.
func fileLine(path string, size int64, root cas.ID, more string) string {
	return fmt.Sprintf(`{"root":"datadir","path":%q,"kind":"file","size_bytes":%d,"chunk_size_bytes":65536,"mode":416,"recipe":%q%s}`, path, size, root, more)
}

// sorted returns each ID once, in order.
func sorted(ids []cas.ID) []cas.ID {
	return slices.Compact(slices.SortedFunc(slices.Values(ids), cas.ID.Compare))
}
