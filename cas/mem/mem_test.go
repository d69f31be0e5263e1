package mem_test

import (
	"slices"
	"testing"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/cas/mem"
)

func TestBackend(t *testing.T) {
	castest.TestBackend(t, func(testing.TB) cas.Backend { return new(mem.Backend) })
}

func TestDamage(t *testing.T) {
	b := new(mem.Backend)
	data := []byte("abc")
	b.Overwrite("b", data)
	b.Overwrite("a", nil)
	data[0] = 'x' // the backend has a copy
	if got := string(b.Bytes("b")); got != "abc" {
		t.Errorf("got %q, want abc", got)
	}
	b.Bytes("b")[0] = 'x' // so has the caller
	if got := string(b.Bytes("b")); got != "abc" {
		t.Errorf("got %q, want abc", got)
	}
	b.Drop("a")
	if got := b.Names(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("names: got %v, want b", got)
	}
}
