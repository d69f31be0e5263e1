package cas

import (
	"runtime"
	"sync"

	"github.com/klauspost/cpuid/v2"
	"github.com/zeebo/blake3"
	"lukechampine.com/blake3/guts"
)

// Sum returns the BLAKE3-256 of plain. It does not look for runs of zero
// bytes: see AllZero.
func Sum(plain []byte) ID {
	if isWide(len(plain)) && hasWide() {
		return sumWide(plain)
	}
	return blake3.Sum256(plain)
}

// wideSize is how many bytes the widest processors hash at once.
const wideSize = guts.MaxSIMD * guts.ChunkSize

// isWide tells whether so many bytes are hashed as a tree of which all branches
// are of the same height and wideSize long.
func isWide(size int) bool { return size >= wideSize && size&(size-1) == 0 }

// hasWide tells whether this processor has AVX-512, and computes with it what it
// computes without.
var hasWide = sync.OnceValue(func() bool { //nolint:gochecknoglobals // asked once, for all chunks
	if !cpuid.CPU.Supports(cpuid.AVX512F) {
		return false
	}
	plain := make([]byte, 4*wideSize)
	for i := range plain {
		plain[i] = byte(i ^ i>>8)
	}
	return sumWide(plain) == blake3.Sum256(plain)
})

// sumWide is Sum for what isWide. It takes two thirds of the time.
func sumWide(plain []byte) ID {
	root := branch(plain, 0)
	root.Flags |= guts.FlagRoot
	sum := guts.WordsToBytes(guts.CompressNode(root))
	return ID(sum[:len(ID{})])
}

// branch returns the node of a part of what is hashed, before which there are so
// many of BLAKE3's own chunks.
func branch(part []byte, before uint64) guts.Node {
	if len(part) == wideSize {
		return guts.CompressBuffer((*[wideSize]byte)(part), wideSize, &guts.IV, before, 0)
	}
	if len(part) == nearSize {
		fetch(part)
	}
	half := len(part) / 2
	left := branch(part[:half], before)
	right := branch(part[half:], before+uint64(half)/guts.ChunkSize)
	return guts.ParentNode(guts.ChainingValue(left), guts.ChainingValue(right), &guts.IV, 0)
}

// nearSize is how much is brought into the processor's cache before it is hashed:
// what is read at sixteen places at once is not foreseen, and waited for.
const nearSize = 4 * wideSize

// fetch reads a byte of each line of the processor's cache.
func fetch(part []byte) {
	const line = 64
	var all byte
	for i := 0; i < len(part); i += line {
		all |= part[i]
	}
	runtime.KeepAlive(all)
}
