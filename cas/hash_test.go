package cas_test

import (
	"math/rand/v2"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/shardseed/shardseed/cas"
)

// TestSumOtherwise compares with another implementation, at and around all sizes at which
// ours takes another way.
func TestSumOtherwise(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	plain := make([]byte, cas.MaxChunkSize+1)
	_, _ = random.Read(plain)
	for size := 1; size <= cas.MaxChunkSize; size *= 2 {
		for _, size := range []int{size - 1, size, size + 1, size + size/2} {
			if size = min(size, len(plain)); cas.Sum(plain[:size]) != blake3.Sum256(plain[:size]) {
				t.Errorf("%d bytes: other hash", size)
			}
		}
	}
}

func FuzzSum(f *testing.F) {
	f.Add([]byte("x"), uint(3))
	f.Fuzz(func(t *testing.T, seed []byte, doublings uint) {
		plain := append(seed, 0)
		size := 16 << 10 << (doublings % 6)
		for len(plain) < size {
			plain = append(plain, plain...)
		}
		if plain = plain[:size]; cas.Sum(plain) != blake3.Sum256(plain) {
			t.Errorf("%d bytes: other hash", size)
		}
	})
}

func BenchmarkSum(b *testing.B) {
	plain := make([]byte, cas.DefaultChunkSize)
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		cas.Sum(plain)
	}
}
