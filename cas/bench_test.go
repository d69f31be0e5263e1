package cas_test

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/local"
)

// benchChunk fills page n: noise, or text of random digits, which zstd halves.
func benchChunk(chunk []byte, n int, text bool) {
	random := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16), 5})
	_, _ = random.Read(chunk) // never fails
	if text {
		for i, b := range chunk {
			chunk[i] = '0' + b%10
		}
	}
}

// BenchmarkPut stores new chunks in a folder from two goroutines.
func BenchmarkPut(b *testing.B) {
	for _, text := range []bool{false, true} {
		b.Run(map[bool]string{false: "noise", true: "digits"}[text], func(b *testing.B) { benchmarkPut(b, text) })
	}
}

func benchmarkPut(b *testing.B, text bool) {
	backend, err := local.New(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	repo, err := cas.Create(b.Context(), backend, cas.Config{}, random(1), clock)
	if err != nil {
		b.Fatal(err)
	}
	w := newWriter(b, begin(b, repo, key), cas.WriterOptions{})
	const workers = 2
	chunks := make([][]byte, b.N)
	for n := range chunks {
		chunks[n] = make([]byte, cas.DefaultChunkSize)
		benchChunk(chunks[n], n, text)
	}
	b.SetBytes(cas.DefaultChunkSize)
	b.ResetTimer()
	group, ctx := errgroup.WithContext(b.Context())
	for worker := range workers {
		group.Go(func() error {
			for n := worker; n < b.N; n += workers {
				if _, err := w.Put(ctx, cas.KindData, cas.Sum(chunks[n]), chunks[n]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	if err := w.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}
