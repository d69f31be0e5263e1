package cas_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/cas/mem"
	"github.com/shardseed/shardseed/internal/hint"
)

// Records of these tests are the IDs of their chunks.

func recordOf(chunks [][]byte) []byte {
	var record []byte
	for _, chunk := range chunks {
		id := cas.Sum(chunk)
		record = append(record, id[:]...)
	}
	return record
}

func walkRecord(_ context.Context, key cas.Key, record []byte, _ *cas.Reader, visit func(cas.ID, bool) (bool, error)) error {
	if len(record)%32 != 0 {
		return fmt.Errorf("%s: record of %d bytes", key, len(record))
	}
	for id := range slices.Chunk(record, 32) {
		if _, err := visit(cas.ID(id), false); err != nil {
			return err
		}
	}
	return nil
}

// hooks is a progress that calls back.
type hooks struct {
	step  func(name string)
	warns []string
}

func (h *hooks) Step(name, _ string) {
	if h.step != nil {
		h.step(name)
	}
}
func (h *hooks) Warn(text string)    { h.warns = append(h.warns, text) }
func (h *hooks) Begin(string, int64) {}
func (h *hooks) Advance(int64)       {}
func (h *hooks) End()                {}

func pruneOptions(h *hooks) cas.PruneOptions {
	return cas.PruneOptions{Walk: walkRecord, Progress: h, Now: time.Now, Workers: 2, Wait: time.Hour, Note: "test"}
}

func mustPrune(t testing.TB, repo *cas.Repository, opts cas.PruneOptions) *cas.PruneResult {
	t.Helper()
	result, err := repo.Prune(t.Context(), opts)
	if err != nil {
		t.Fatalf("prune: %v", err)
	}
	return result
}

// backUp commits a backup of the chunks; each may be a delta of the one in likes.
func backUp(t testing.TB, repo *cas.Repository, k cas.Key, chunks, likes [][]byte) {
	t.Helper()
	session, err := repo.Begin(t.Context(), k, nil)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	if err := store(t, repo, session, chunks, likes, true); err != nil {
		t.Fatalf("back up %s: %v", k, err)
	}
}

func store(t testing.TB, repo *cas.Repository, session *cas.Session, chunks, likes [][]byte, commits bool) error {
	t.Helper()
	w := session.NewWriter(cas.WriterOptions{Known: castest.NewIndex(t, repo)})
	w.SetPackTarget(20000)
	var batch []cas.Chunk
	for i, chunk := range chunks {
		c := cas.Chunk{ID: cas.Sum(chunk), Plain: chunk}
		if i < len(likes) && likes[i] != nil {
			c.Like = cas.Sum(likes[i])
		}
		batch = append(batch, c)
	}
	_, err := w.PutAll(t.Context(), cas.KindData, batch)
	if err == nil {
		err = w.Flush(t.Context())
	}
	if err == nil && commits {
		err = session.Commit(t.Context(), w, recordOf(chunks))
	}
	return errors.Join(err, w.Close())
}

// checkModel proves that exactly the backups of the model are listed, and that
// every chunk of them can be read.
func checkModel(t testing.TB, repo *cas.Repository, model map[cas.Key][][]byte) {
	t.Helper()
	keys, err := repo.Keys(t.Context(), "ks", "-80")
	if err != nil {
		t.Fatalf("keys: %v", err)
	}
	if want := slices.Sorted(maps.Keys(model)); !slices.Equal(keys, want) {
		t.Fatalf("listed: got %v, want %v", keys, want)
	}
	everything := castest.Index{} // condemned packs too, which may yet be rescued
	ids, err := repo.PackIDs(t.Context())
	if err != nil {
		t.Fatalf("list packs: %v", err)
	}
	for _, id := range ids {
		pack, err := repo.Pack(t.Context(), id)
		if err != nil {
			t.Fatalf("read pack: %v", err)
		}
		everything.Add(pack)
	}
	reader := repo.NewReader(everything)
	for _, k := range keys {
		for _, want := range model[k] {
			got, err := reader.Chunk(t.Context(), cas.Sum(want), len(want))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("backup %s: %v", k, err)
			}
		}
	}
	if err := reader.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func packCount(t testing.TB, repo *cas.Repository) int {
	t.Helper()
	ids, err := repo.PackIDs(t.Context())
	if err != nil {
		t.Fatalf("list packs: %v", err)
	}
	return len(ids)
}

func noises(from, to uint64, size int) [][]byte {
	var chunks [][]byte
	for n := from; n < to; n++ {
		chunks = append(chunks, noise(n, size))
	}
	return chunks
}

// stored sums up the bytes of all packs.
func stored(backend *mem.Backend) (total int64) {
	for _, name := range backend.Names() {
		if strings.HasPrefix(name, "packs/") {
			total += int64(len(backend.Bytes(name)))
		}
	}
	return total
}

func TestPruneFrees(t *testing.T) {
	repo, backend := newRepo(t)
	first, second := noises(0, 20, 5000), noises(10, 30, 5000)
	backUp(t, repo, key+"-1", first, nil)
	backUp(t, repo, key+"-2", second, nil)
	opts := pruneOptions(&hooks{})
	if r := mustPrune(t, repo, opts); r.Packs != 0 || r.Backups != 2 || r.Unused != 0 {
		t.Errorf("nothing to free: got %+v", r)
	}
	if names := backend.Names(); slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "gc/") }) {
		t.Errorf("nothing to free, and there are lists: %v", names)
	}
	if err := repo.Forget(t.Context(), key+"-1", nil); err != nil {
		t.Fatal(err)
	}
	before := stored(backend)
	opts.DryRun = true
	names := backend.Names()
	dry := mustPrune(t, repo, opts)
	if !slices.Equal(names, backend.Names()) {
		t.Error("a dry run has changed something")
	}
	opts.DryRun = false
	r := mustPrune(t, repo, opts)
	if r.Packs == 0 || r.Deleted < 9*5000 || r.Freed() != before-stored(backend) || r.Stored != stored(backend) {
		t.Errorf("got %+v, freed %d", r, before-stored(backend))
	}
	if dry.Packs != r.Packs || dry.Deleted != r.Deleted || dry.Repacked != r.Repacked || dry.Unused != r.Unused || dry.Backups != r.Backups {
		t.Errorf("dry run said %+v, the run %+v", dry, r)
	}
	if diff := dry.Written - r.Written; diff < -2000 || diff > 2000 {
		t.Errorf("dry run said %d bytes would be written, the run wrote %d", dry.Written, r.Written)
	}
	if r.Unused*10 > r.Stored {
		t.Errorf("%d of %d bytes are left unused", r.Unused, r.Stored)
	}
	checkModel(t, repo, map[cas.Key][][]byte{key + "-2": second})
	if r := mustPrune(t, repo, opts); r.Packs != 0 || r.Written != 0 {
		t.Errorf("again: got %+v", r)
	}
	shards, err := repo.Shards(t.Context())
	if err != nil || !slices.Equal(shards, []string{"ks/-80"}) {
		t.Errorf("shards: got %v, %v", shards, err)
	}
}

// changed returns chunks with a byte of each changed.
func changedChunks(chunks [][]byte, n int) [][]byte {
	var all [][]byte
	for _, chunk := range chunks {
		chunk = bytes.Clone(chunk)
		chunk[n%len(chunk)] ^= byte(n + 1)
		all = append(all, chunk)
	}
	return all
}

// TestPruneCollapses forgets all but the last of a chain of backups: what is left
// stands alone, and takes what one backup takes.
func TestPruneCollapses(t *testing.T) {
	repo, backend := newRepo(t)
	base := noises(0, 20, 5000)
	model := map[cas.Key][][]byte{}
	chunks := base
	for n := range 6 {
		var likes [][]byte
		if n > 0 {
			likes, chunks = chunks, changedChunks(chunks, n)
		}
		k := cas.Key(fmt.Sprintf("%s-%d", key, n))
		backUp(t, repo, k, chunks, likes)
		model[k] = chunks
	}
	for n := range 5 {
		k := cas.Key(fmt.Sprintf("%s-%d", key, n))
		if err := repo.Forget(t.Context(), k, nil); err != nil {
			t.Fatal(err)
		}
		delete(model, k)
	}
	opts := pruneOptions(&hooks{})
	if r := mustPrune(t, repo, opts); r.Unused != 0 {
		t.Errorf("bases are needed: got %+v", r)
	}
	checkModel(t, repo, model)
	backUp(t, repo, key+"-9", append(noises(100, 120, 5000), chunks[:1]...), nil)
	if err := repo.Forget(t.Context(), key+"-5", nil); err != nil {
		t.Fatal(err)
	}
	r := mustPrune(t, repo, opts)
	checkModel(t, repo, map[cas.Key][][]byte{key + "-9": append(noises(100, 120, 5000), chunks[0])})
	chain, err := castest.NewIndex(t, repo).Lookup(cas.Sum(chunks[0]), cas.AnyDepth)
	if err != nil || len(chain) != 1 {
		t.Errorf("chain of %d, %v; result %+v", len(chain), err, r)
	}
	if size := stored(backend); size > 21*5300 {
		t.Errorf("21 chunks of 5000 bytes take %d: %+v", size, r)
	}
}

// TestPruneWaits has a session at work: it is waited for, what it commits is kept.
func TestPruneWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		repo, _ := newRepo(t)
		old := noises(0, 10, 5000)
		backUp(t, repo, key+"-1", old, nil)
		session := begin(t, repo, key+"-2")
		end := session.Live(t.Context(), cas.BeatEvery)
		w := session.NewWriter(cas.WriterOptions{Known: castest.NewIndex(t, repo)})
		for _, chunk := range old[:5] {
			putOne(t, w, chunk)
		}
		if err := repo.Forget(t.Context(), key+"-1", nil); err != nil {
			t.Fatal(err)
		}
		opts := pruneOptions(&hooks{})
		opts.Wait = 30 * time.Minute
		r := mustPrune(t, repo, opts)
		if len(r.Waiting) != 1 || r.Packs != 0 {
			t.Errorf("while a session is at work: got %+v", r)
		}
		later := begin(t, repo, key+"-3") // has seen the list: need not be waited for
		endLater := later.Live(t.Context(), cas.BeatEvery)
		defer endLater()
		go func() {
			time.Sleep(20 * time.Minute)
			if err := session.Commit(t.Context(), w, recordOf(old[:5])); err != nil {
				t.Errorf("commit: %v", err)
			}
			end()
		}()
		r = mustPrune(t, repo, opts)
		if !slices.Equal(r.Waited, []cas.Key{key + "-2"}) || len(r.Revoked) > 0 {
			t.Errorf("got %+v", r)
		}
		synctest.Wait()
		checkModel(t, repo, map[cas.Key][][]byte{key + "-2": old[:5]})
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if err := later.Abandon(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestPruneRevokes has a session that was killed, and one that is stalled for
// longer than prune waits.
func TestPruneRevokes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		repo, backend := newRepo(t)
		session := begin(t, repo, key)
		session.Live(t.Context(), cas.BeatEvery)()
		if err := store(t, repo, session, noises(0, 10, 5000), nil, false); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		r := mustPrune(t, repo, pruneOptions(&hooks{}))
		if !slices.Equal(r.Revoked, []cas.Key{key}) || packCount(t, repo) != 0 {
			t.Errorf("got %+v, %d packs left", r, packCount(t, repo))
		}
		if waited := time.Since(begun); waited < cas.DefaultStaleAfter || waited > cas.DefaultStaleAfter+time.Minute {
			t.Errorf("waited %s", waited)
		}
		w := session.NewWriter(cas.WriterOptions{})
		if err := session.Commit(t.Context(), w, nil); !errors.Is(err, cas.ErrRevoked) {
			t.Errorf("commit: got %v, want ErrRevoked", err)
		}
		for _, name := range backend.Names() {
			if strings.HasPrefix(name, "beats/") {
				t.Errorf("%s is left", name)
			}
		}
		checkModel(t, repo, nil)
	})
}

// TestPrunePins has readers of a forgotten backup: it is kept as long as one
// gives signs of life.
// A reader that begins when a backup has been removed and deleted does not look
// like damage. What another backup shares with that one stays.
func TestPruneLatePin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		repo, _ := newRepo(t)
		shared := noises(0, 5, 5000)
		backUp(t, repo, key, append(slices.Clone(shared), noises(100, 110, 5000)...), nil)
		if err := repo.Forget(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
		opts := pruneOptions(&hooks{})
		mustPrune(t, repo, opts)
		backUp(t, repo, key+"-2", shared, nil)
		pin, err := repo.Pin(t.Context(), key, cas.BeatEvery)
		if err != nil {
			t.Fatal(err)
		}
		hooks := &hooks{}
		if r := mustPrune(t, repo, pruneOptions(hooks)); r.Backups != 1 || len(hooks.warns) != 1 {
			t.Errorf("got %+v, %q", r, hooks.warns)
		}
		checkModel(t, repo, map[cas.Key][][]byte{key + "-2": shared})
		if err := pin.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestPrunePins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		repo, backend := newRepo(t)
		backUp(t, repo, key, noises(0, 10, 5000), nil)
		pin, err := repo.Pin(t.Context(), key, cas.BeatEvery)
		if err != nil {
			t.Fatal(err)
		}
		if err := repo.Forget(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
		opts := pruneOptions(&hooks{})
		if r := mustPrune(t, repo, opts); r.Packs != 0 || r.Backups != 1 {
			t.Errorf("pinned: got %+v", r)
		}
		for range 2 {
			if err := pin.Close(t.Context()); err != nil {
				t.Errorf("close: %v", err)
			}
		}
		if r := mustPrune(t, repo, opts); packCount(t, repo) != 0 {
			t.Errorf("no longer pinned: got %+v", r)
		}
		backUp(t, repo, key+"-2", noises(0, 10, 5000), nil)
		killed, err := repo.Pin(t.Context(), key+"-2", 1000*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		defer func() {
			if err := killed.Close(t.Context()); err != nil {
				t.Errorf("close: %v", err)
			}
		}()
		if err := repo.Forget(t.Context(), key+"-2", nil); err != nil {
			t.Fatal(err)
		}
		if r := mustPrune(t, repo, opts); packCount(t, repo) != 0 {
			t.Errorf("pinned by a reader that was killed: got %+v", r)
		}
		mustPrune(t, repo, opts)
		for _, name := range backend.Names() {
			if strings.HasPrefix(name, "readers/") && !strings.HasSuffix(name, ".end") {
				t.Errorf("%s is left", name)
			}
		}
	})
}

// TestPruneFollowsBases: a delta that is repacked stands alone then, and its base,
// in a pack of which all was needed before, is of no use any more. That pack is
// repacked in the same run.
func TestPruneFollowsBases(t *testing.T) {
	repo, backend := newRepo(t)
	base := noises(0, 2, 5000)
	changed := changedChunks(base[:1], 3)
	backUp(t, repo, key+"-1", base, nil)
	backUp(t, repo, key+"-2", append(changed, noises(10, 12, 5000)...), base[:1])
	kept := [][]byte{changed[0], base[1]}
	backUp(t, repo, key+"-3", kept, nil)
	for _, k := range []cas.Key{key + "-1", key + "-2"} {
		if err := repo.Forget(t.Context(), k, nil); err != nil {
			t.Fatal(err)
		}
	}
	opts := pruneOptions(&hooks{})
	r := mustPrune(t, repo, opts)
	if size := stored(backend); r.Unused != 0 || size > 2*5400 || r.Stored != size || r.Freed() < 5000 {
		t.Errorf("two chunks of 5000 bytes are needed and take %d: %+v", size, r)
	}
	checkModel(t, repo, map[cas.Key][][]byte{key + "-3": kept})
	if r := mustPrune(t, repo, opts); r.Packs != 0 || r.Written != 0 {
		t.Errorf("again: got %+v", r)
	}
}

// TestPruneDamaged: a chunk that must be stored elsewhere cannot be read. Nothing is
// deleted, and it says what to do.
func TestPruneDamaged(t *testing.T) {
	repo, backend := newRepoUnchecked(t)
	first, second := noises(0, 20, 5000), noises(10, 30, 5000)
	backUp(t, repo, key+"-1", first, nil)
	backUp(t, repo, key+"-2", second, nil)
	if err := repo.Forget(t.Context(), key+"-1", nil); err != nil {
		t.Fatal(err)
	}
	chain, err := castest.NewIndex(t, repo).Lookup(cas.Sum(second[0]), cas.AnyDepth)
	if err != nil {
		t.Fatal(err)
	}
	name := cas.PackName(chain[0].Pack)
	damaged := bytes.Clone(backend.Bytes(name))
	damaged[chain[0].Offset+cas.FrameOverhead+100] ^= 1
	backend.Overwrite(name, damaged)
	before, err := repo.PackIDs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = repo.Prune(t.Context(), pruneOptions(&hooks{}))
	if hints := hint.Of(err); !errors.Is(err, cas.ErrCorrupt) || len(hints) == 0 || !strings.Contains(hints[0], "shardseed repair") {
		t.Errorf("got %v with hints %q, want ErrCorrupt and what to do", err, hints)
	}
	after, err := repo.PackIDs(t.Context())
	if err != nil || !isSubset(before, after) {
		t.Errorf("packs were %v and are %v, %v", before, after, err)
	}
}

func isSubset(some, all []cas.ID) bool {
	return !slices.ContainsFunc(some, func(id cas.ID) bool { return !slices.Contains(all, id) })
}
