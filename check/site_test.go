package check_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/cas/mem"
	"github.com/shardseed/shardseed/check"
	"github.com/shardseed/shardseed/index"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
	"github.com/shardseed/shardseed/walk"
)

const chunkSize = cas.MinChunkSize

// site is a repository in memory with backups of files.
type site struct {
	backend *mem.Backend
	repo    *cas.Repository
	rng     *rand.ChaCha8
	now     time.Time
	made    []*manifest.Manifest
	files   []map[string][]byte // of each backup
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{backend: new(mem.Backend), rng: rand.NewChaCha8([32]byte{1}), now: time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)}
	var err error
	s.repo, err = cas.Create(t.Context(), s.backend, cas.Config{ChunkSize: chunkSize}, s.rng, s.clock)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) clock() time.Time { return s.now }

func (s *site) noise(size int) []byte {
	data := make([]byte, size)
	_, _ = s.rng.Read(data)
	return data
}

// changed returns data with a few other bytes in each of its chunks.
func changed(data []byte) []byte {
	out := bytes.Clone(data)
	for n := 7; n < len(out); n += chunkSize {
		out[n] += 3
	}
	return out
}

// backup stores files as a backup that comes a day after the one before; chunks
// become deltas of those at the same place of the backup before.
func (s *site) backup(t testing.TB, shard string, files map[string][]byte) *manifest.Manifest {
	t.Helper()
	s.now = s.now.Add(24 * time.Hour)
	keyspace, name, err := manifest.ParseKeyspaceShard(shard)
	if err != nil {
		t.Fatal(err)
	}
	m := record(t, keyspace, name, s.now)
	session, err := s.repo.Begin(t.Context(), m.Key(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := session.NewWriter(cas.WriterOptions{Known: castest.NewIndex(t, s.repo)})
	var like map[string][]byte
	if len(s.files) > 0 {
		like = s.files[len(s.files)-1]
	}
	var entries []manifest.File
	for path, data := range files {
		recipe := s.store(t, w, cas.KindData, data, like[path])
		entries = append(entries, manifest.File{
			Root: "datadir", Path: manifest.Path(path), Kind: manifest.KindFile, Size: int64(len(data)), ChunkSize: chunkSize, Recipe: recipe,
		})
	}
	var list bytes.Buffer
	if err := manifest.WriteFiles(&list, entries); err != nil {
		t.Fatal(err)
	}
	m.Files = manifest.FileList{Count: int64(len(entries)), Size: int64(list.Len()), ChunkSize: chunkSize, Root: s.store(t, w, cas.KindMeta, list.Bytes(), nil)}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Packs = w.Relied()
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(session.Commit(t.Context(), w, data), w.Close()); err != nil {
		t.Fatal(err)
	}
	s.made, s.files = append(s.made, m), append(s.files, files)
	return m
}

// store stores bytes and returns the root of their recipe.
func (s *site) store(t testing.TB, w *cas.Writer, kind cas.Kind, data, like []byte) cas.ID {
	t.Helper()
	var ids, leaves []cas.ID
	for start := 0; start < len(data); start += chunkSize {
		plain := data[start:min(start+chunkSize, len(data))]
		chunk := cas.Chunk{Plain: plain}
		if !cas.AllZero(plain) {
			chunk.ID = cas.Sum(plain)
		}
		if end := start + len(plain); end <= len(like) {
			chunk.Like = cas.Sum(like[start:end])
		}
		if _, err := w.PutAll(t.Context(), kind, []cas.Chunk{chunk}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, chunk.ID)
	}
	for leaf := range slices.Chunk(ids, cas.NodeFanout) {
		id, _, err := w.PutLeaf(t.Context(), leaf)
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, id)
	}
	root, _, err := w.PutRoot(t.Context(), leaves)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func record(t testing.TB, keyspace manifest.Keyspace, shard manifest.Shard, at time.Time) *manifest.Manifest {
	t.Helper()
	alias := manifest.TabletAlias{Cell: "zone1", UID: 101}
	return &manifest.Manifest{
		Keyspace: keyspace, Shard: shard, Name: manifest.NewName(at, alias), TabletAlias: alias,
		Host: "db-07", ToolVersion: "0.1.0", Engine: manifest.EngineStopped,
		Server:  manifest.Server{Flavor: replication.MySQL, Version: "9.7.4", DataDir: "/var/lib/mysql", PageSize: 16384, InnoDBDataFilePath: "ibdata1:12M"},
		Started: at, Finished: at, Position: replication.Position{Flavor: replication.MySQL},
		Roots: []manifest.Root{{Name: "datadir", Path: "/var/lib/mysql"}},
	}
}

// restore reads the files of a backup as a restore does, and returns the first
// error.
func (s *site) restore(ctx context.Context, m *manifest.Manifest) (map[string][]byte, error) {
	chunks, err := index.OfBackup(ctx, "", s.repo, m.Packs)
	if err != nil {
		return nil, err
	}
	reader := s.repo.NewReader(chunks)
	entries, err := walk.Files(ctx, reader, m.Files)
	if err != nil {
		return nil, errors.Join(err, reader.Close(), chunks.Close())
	}
	files := map[string][]byte{}
	for _, f := range entries {
		content, err := walk.Open(ctx, reader, manifest.FileList{Size: f.Size, ChunkSize: f.ChunkSize, Root: f.Recipe})
		if err != nil {
			return nil, errors.Join(err, reader.Close(), chunks.Close())
		}
		data, err := io.ReadAll(content)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", f.Path, err), reader.Close(), chunks.Close())
		}
		files[string(f.Path)] = data
	}
	return files, errors.Join(reader.Close(), chunks.Close())
}

// wantRestore restores a backup and compares it.
func (s *site) wantRestore(t testing.TB, n int) {
	t.Helper()
	got, err := s.restore(t.Context(), s.made[n])
	if err != nil {
		t.Errorf("restore backup %d: %v", n, err)
		return
	}
	for path, want := range s.files[n] {
		if !bytes.Equal(got[path], want) {
			t.Errorf("backup %d: %s differs", n, path)
		}
	}
}

// found collects findings as lines.
type found struct {
	objects []check.Object
	packs   []check.Pack
	ranges  []check.Range
	backups []check.Backup
	steps   []string
	warned  []string
}

func (f *found) Object(o check.Object)    { f.objects = append(f.objects, o) }
func (f *found) Pack(p check.Pack)        { f.packs = append(f.packs, p) }
func (f *found) Range(r check.Range)      { f.ranges = append(f.ranges, r) }
func (f *found) Backup(b check.Backup)    { f.backups = append(f.backups, b) }
func (f *found) Step(name, detail string) { f.steps = append(f.steps, name+" "+detail) }
func (f *found) Warn(text string)         { f.warned = append(f.warned, text) }
func (*found) Begin(string, int64)        {}
func (*found) Advance(int64)              {}
func (*found) End()                       {}
func (f *found) any() bool                { return len(f.objects)+len(f.packs)+len(f.ranges)+len(f.backups) > 0 }

func (f *found) String() string {
	var text strings.Builder
	for _, o := range f.objects {
		fmt.Fprintf(&text, "object %s: %s\n", o.Name, o.Reason)
	}
	for _, p := range f.packs {
		fmt.Fprintf(&text, "pack %s %v: %s, %d of %d bad, %d needed, marked %v\n", p.ID.Short(), p.Kinds, p.Reason, p.Bad, p.Frames, p.Needed, p.Marked)
	}
	for _, r := range f.ranges {
		fmt.Fprintf(&text, "range %s %s %s %s: %d+%d %s %v\n", r.Name, r.Part, r.Path, r.Table, r.Offset, r.Length, r.State, r.Packs)
	}
	for _, b := range f.backups {
		fmt.Fprintf(&text, "backup %s/%s/%s %s: %s, %d files, %d lost, %d to be salvaged, %v\n", b.Keyspace, b.Shard, b.Name, b.State, b.Reason, b.Files, b.Lost, b.Rescue, b.Tables)
	}
	return text.String()
}

func (s *site) options(f *found) check.Options {
	return check.Options{Repo: s.repo, Workers: 2, Findings: f, Progress: f, Now: s.clock}
}

// check runs a check; with data it reads all.
func (s *site) check(t testing.TB, data bool) (*found, *check.Summary) {
	t.Helper()
	f := new(found)
	opts := s.options(f)
	if data {
		all := check.All()
		opts.Read = &all
	}
	summary, err := check.Check(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if summary.Whole() == f.any() {
		t.Errorf("whole: %v, but found\n%s", summary.Whole(), f)
	}
	return f, summary
}

func (s *site) repair(t testing.TB, dry bool) (*check.Repaired, *found, *found) {
	t.Helper()
	before, after := new(found), new(found)
	result, err := check.Repair(t.Context(), check.RepairOptions{
		Options: s.options(before), Random: s.noise(8), Note: []byte("test"), After: after, DryRun: dry,
	})
	if err != nil {
		t.Fatal(err)
	}
	return result, before, after
}

// packs returns all packs' directories of a kind.
func (s *site) packs(t testing.TB, kind cas.Kind) []*cas.Pack {
	t.Helper()
	ids, err := s.repo.PackIDs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var packs []*cas.Pack
	for _, id := range ids {
		if pack, err := s.repo.Pack(t.Context(), id); err == nil && pack.Kind == kind {
			packs = append(packs, pack)
		}
	}
	return packs
}

// own returns the pack of a kind that only backup n relies on first.
func (s *site) own(t testing.TB, n int, kind cas.Kind) *cas.Pack {
	t.Helper()
	for _, pack := range s.packs(t, kind) {
		earlier := slices.ContainsFunc(s.made[:n], func(m *manifest.Manifest) bool { return slices.Contains(m.Packs, pack.ID) })
		if !earlier && slices.Contains(s.made[n].Packs, pack.ID) {
			return pack
		}
	}
	t.Fatalf("backup %d has no %s pack of its own", n, kind)
	return nil
}

func name(id cas.ID) string { return "packs/" + id.String()[:2] + "/" + id.String() }

// flip turns a bit of a blob.
func (s *site) flip(blob string, at int64) {
	data := s.backend.Bytes(blob)
	data[at] ^= 1
	s.backend.Overwrite(blob, data)
}

const frameHeader = 84

// flipFrame turns a bit in the payload of a frame.
func (s *site) flipFrame(pack *cas.Pack, frame int) {
	f := pack.Frames[frame]
	s.flip(name(pack.ID), f.Offset+frameHeader+int64(f.StoredSize)/2)
}

// newBackend returns a backend with these blobs.
func newBackend(blobs map[string][]byte) *mem.Backend {
	b := new(mem.Backend)
	for blob, data := range blobs {
		b.Overwrite(blob, data)
	}
	return b
}
