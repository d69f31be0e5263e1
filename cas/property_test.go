package cas_test

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
)

// TestHistories makes random backups of random chunks, some of them known,
// some resembling others, some forgotten: all that is listed reads back.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		repo, backend := newRepoUnchecked(t)
		var pool [][]byte
		backups := map[cas.Key][][]byte{}
		for n := range rapid.IntRange(1, 5).Draw(rt, "backups") {
			k := cas.Key(fmt.Sprintf("ks/-80/%04d", n))
			session, err := repo.Begin(t.Context(), k, nil)
			if err != nil {
				rt.Fatalf("begin: %v", err)
			}
			w := session.NewWriter(cas.WriterOptions{Known: castest.NewIndex(t, repo), Compression: cas.Level(n % 4)})
			w.SetPackTarget(int64(rapid.IntRange(1, 50000).Draw(rt, "pack target")))
			var batch []cas.Chunk
			for range rapid.IntRange(0, 20).Draw(rt, "chunks") {
				chunk := drawChunk(rt, &pool)
				base := pool[rapid.IntRange(0, len(pool)-1).Draw(rt, "base")]
				batch = append(batch, cas.Chunk{ID: cas.Sum(chunk), Plain: chunk, Like: cas.Sum(base)})
				backups[k] = append(backups[k], chunk)
			}
			if _, err := w.PutAll(t.Context(), cas.KindData, batch); err != nil {
				rt.Fatalf("put: %v", err)
			}
			if rapid.IntRange(0, 4).Draw(rt, "gives up") == 0 {
				delete(backups, k)
			} else if err := session.Commit(t.Context(), w, []byte(k)); err != nil {
				rt.Fatalf("commit: %v", err)
			} else if rapid.IntRange(0, 4).Draw(rt, "is forgotten") == 0 {
				delete(backups, k)
				if err := repo.Forget(t.Context(), k, nil); err != nil {
					rt.Fatalf("forget: %v", err)
				}
			} else if len(backups[k]) == 0 {
				backups[k] = nil
			}
			if err := w.Close(); err != nil {
				rt.Fatalf("close: %v", err)
			}
		}
		castest.Check(t, repo, backend)
		checkBackups(t, rt, repo, backups)
	})
}

// drawChunk returns a new chunk, a known one, or a known one changed a little.
func drawChunk(rt *rapid.T, pool *[][]byte) []byte {
	choice := rapid.IntRange(0, 2).Draw(rt, "chunk is")
	if len(*pool) == 0 || choice == 0 {
		chunk := noise(rapid.Uint64Range(0, 1<<20).Draw(rt, "noise"), rapid.IntRange(1, 9000).Draw(rt, "size"))
		*pool = append(*pool, chunk)
		return chunk
	}
	chunk := (*pool)[rapid.IntRange(0, len(*pool)-1).Draw(rt, "of")]
	if choice == 1 {
		return chunk
	}
	chunk = bytes.Clone(chunk)
	chunk[rapid.IntRange(0, len(chunk)-1).Draw(rt, "byte")]++
	*pool = append(*pool, chunk)
	return chunk
}

func checkBackups(t *testing.T, rt *rapid.T, repo *cas.Repository, want map[cas.Key][][]byte) {
	keys, err := repo.Keys(t.Context(), "ks", "-80")
	if err != nil || len(keys) != len(want) {
		rt.Fatalf("keys: got %v, %v, want %d", keys, err, len(want))
	}
	reader := repo.NewReader(castest.NewIndex(t, repo))
	for _, k := range keys {
		chunks, found := want[k]
		record, err := repo.Record(t.Context(), k)
		if !found || err != nil || string(record) != string(k) {
			rt.Fatalf("record of %s: got %q, %v", k, record, err)
		}
		ids := make([]cas.ID, len(chunks))
		for n, chunk := range chunks {
			ids[n] = cas.Sum(chunk)
		}
		delivered := 0
		err = reader.Chunks(t.Context(), ids, func(i int) int { return len(chunks[i]) }, func(i int, plain []byte) error {
			delivered++
			if !bytes.Equal(plain, chunks[i]) {
				return fmt.Errorf("chunk %d of %s differs", i, k)
			}
			return nil
		})
		if err != nil || delivered != len(chunks) {
			rt.Fatalf("%d of %d chunks: %v", delivered, len(chunks), err)
		}
	}
	if err := reader.Close(); err != nil {
		rt.Fatalf("close: %v", err)
	}
}
