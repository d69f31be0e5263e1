package cas_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
	"github.com/shardseed/shardseed/cas/mem"
	"github.com/shardseed/shardseed/internal/hint"
)

// random is a source of random bytes that a seed makes the same every time.
func random(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

func clock() time.Time { return time.Unix(1795406400, 0) }

// newRepo returns a repository in memory, which is checked when the test ends.
func newRepo(t testing.TB) (*cas.Repository, *mem.Backend) {
	t.Helper()
	repo, backend := newRepoUnchecked(t)
	t.Cleanup(func() { castest.Check(t, repo, backend) })
	return repo, backend
}

func newRepoUnchecked(t testing.TB) (*cas.Repository, *mem.Backend) {
	t.Helper()
	backend := new(mem.Backend)
	repo, err := cas.Create(t.Context(), backend, cas.Config{}, random(1), clock)
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	return repo, backend
}

func begin(t testing.TB, repo *cas.Repository, key cas.Key) *cas.Session {
	t.Helper()
	session, err := repo.Begin(t.Context(), key, []byte("test"))
	if err != nil {
		t.Fatalf("begin %s: %v", key, err)
	}
	return session
}

func newWriter(t testing.TB, session *cas.Session, opts cas.WriterOptions) *cas.Writer {
	t.Helper()
	w := session.NewWriter(opts)
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("close writer: %v", err)
		}
	})
	return w
}

// putOne stores a chunk and returns its ID.
func putOne(t testing.TB, w *cas.Writer, plain []byte) cas.ID {
	t.Helper()
	id := cas.Sum(plain)
	if _, err := w.Put(t.Context(), cas.KindData, id, plain); err != nil {
		t.Fatalf("put: %v", err)
	}
	return id
}

// commit makes a backup of some chunks, with the record "record of KEY".
func commit(t testing.TB, repo *cas.Repository, key cas.Key, opts cas.WriterOptions, chunks ...[]byte) *cas.Writer {
	t.Helper()
	session := begin(t, repo, key)
	w := newWriter(t, session, opts)
	for _, chunk := range chunks {
		putOne(t, w, chunk)
	}
	if err := session.Commit(t.Context(), w, []byte("record of "+key)); err != nil {
		t.Fatalf("commit %s: %v", key, err)
	}
	return w
}

func noise(seed uint64, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 77}).Read(data) // never fails
	return data
}

func TestCreateAndOpen(t *testing.T) {
	for _, size := range []int{0, cas.MinChunkSize, cas.DefaultChunkSize, cas.MaxChunkSize} {
		backend := new(mem.Backend)
		created, err := cas.Create(t.Context(), backend, cas.Config{ChunkSize: size}, random(1), clock)
		if err != nil {
			t.Fatalf("create with chunk size %d: %v", size, err)
		}
		opened, err := cas.Open(t.Context(), backend)
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		want := size
		if size == 0 {
			want = cas.DefaultChunkSize
		}
		if opened.UUID() != created.UUID() || opened.ChunkSize() != want || created.ChunkSize() != want {
			t.Errorf("got %s with chunk size %d, want %s with %d", opened.UUID(), opened.ChunkSize(), created.UUID(), want)
		}
		if got, want := backend.Names(), []string{"FORMAT", "config/0000000001"}; !slices.Equal(got, want) {
			t.Errorf("blobs: got %v, want %v", got, want)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	for _, size := range []int{-1, 1, cas.MinChunkSize - 1, cas.MinChunkSize / 2, cas.MinChunkSize + 1, 3 * cas.MinChunkSize, 2 * cas.MaxChunkSize} {
		backend := new(mem.Backend)
		if _, err := cas.Create(t.Context(), backend, cas.Config{ChunkSize: size}, random(1), clock); err == nil {
			t.Errorf("chunk size %d: no error", size)
		}
		if got := backend.Names(); len(got) > 0 {
			t.Errorf("chunk size %d: left %v", size, got)
		}
	}
	_, backend := newRepo(t)
	if _, err := cas.Create(t.Context(), backend, cas.Config{}, random(2), clock); !errors.Is(err, cas.ErrExists) {
		t.Errorf("create again: got %v, want ErrExists", err)
	}
	other := new(mem.Backend)
	other.Overwrite("holiday.jpg", nil)
	if _, err := cas.Create(t.Context(), other, cas.Config{}, random(2), clock); err == nil || !strings.Contains(err.Error(), "holiday.jpg") {
		t.Errorf("create beside other files: got %v", err)
	}
	empty := bytes.NewReader(nil)
	if _, err := cas.Create(t.Context(), new(mem.Backend), cas.Config{}, empty, clock); err == nil {
		t.Error("create without random bytes: no error")
	}
}

// TestCreateRace has several creators with parameters of their own: one wins,
// and the repository has the winner's parameters.
func TestCreateRace(t *testing.T) {
	for round := range 20 {
		backend := new(mem.Backend)
		repos := make([]*cas.Repository, 4)
		var group sync.WaitGroup
		for n := range repos {
			group.Go(func() {
				config := cas.Config{ChunkSize: cas.MinChunkSize << n}
				repo, err := cas.Create(t.Context(), backend, config, random(byte(round*10+n)), clock)
				if err != nil && !errors.Is(err, cas.ErrExists) {
					t.Errorf("create: %v", err)
				}
				repos[n] = repo
			})
		}
		group.Wait()
		opened, err := cas.Open(t.Context(), backend)
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		won := 0
		for n, repo := range repos {
			if repo != nil {
				won++
				if opened.UUID() != repo.UUID() || opened.ChunkSize() != cas.MinChunkSize<<n {
					t.Errorf("got %s with chunk size %d, want creator %d's", opened.UUID(), opened.ChunkSize(), n)
				}
			}
		}
		if won != 1 {
			t.Errorf("%d creators won, want 1", won)
		}
	}
}

// TestCreateFaults fails every operation of Create: what is left is a whole
// repository or none, and none can be created again.
func TestCreateFaults(t *testing.T) {
	for _, when := range []castest.When{castest.Before, castest.After} {
		for n := 1; ; n++ {
			backend := new(mem.Backend)
			faulty := castest.NewFaulty(backend)
			faulty.FailAt(n, when)
			_, err := cas.Create(t.Context(), faulty, cas.Config{}, random(1), clock)
			if faulty.Ops() < n {
				break
			}
			if !errors.Is(err, castest.ErrInjected) {
				t.Errorf("operation %d: got %v, want the injected error", n, err)
			}
			_, err = cas.Open(t.Context(), backend)
			if errors.Is(err, cas.ErrNoRepository) {
				_, err = cas.Create(t.Context(), backend, cas.Config{ChunkSize: 8192}, random(2), clock)
			}
			if err != nil {
				t.Errorf("after operation %d failed: %v", n, err)
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	_, err := cas.Open(t.Context(), new(mem.Backend))
	if !errors.Is(err, cas.ErrNoRepository) {
		t.Errorf("empty backend: got %v, want ErrNoRepository", err)
	}
	tests := []struct {
		name   string
		damage func(*mem.Backend)
		want   string
	}{
		{"not a repository", func(b *mem.Backend) { b.Overwrite("FORMAT", []byte("x")) }, "FORMAT: first line"},
		{"FORMAT too long", func(b *mem.Backend) { b.Overwrite("FORMAT", make([]byte, 5000)) }, "5000 bytes long"},
		{"no configuration", func(b *mem.Backend) { b.Drop("config/0000000001") }, "no configuration"},
		{"torn configuration", func(b *mem.Backend) { b.Overwrite("config/0000000001", []byte("SS")) }, "config/0000000001: 2 bytes long"},
		{"short configuration", func(b *mem.Backend) {
			b.Overwrite("config/0000000002", cas.EncodeObject(cas.ObjectConfig, make([]byte, 47)))
		}, "configuration of 47 bytes"},
		{"reserved field", func(b *mem.Backend) {
			body := b.Bytes("config/0000000001")
			body = body[32 : len(body)-32]
			body[20] = 1
			b.Overwrite("config/0000000002", cas.EncodeObject(cas.ObjectConfig, body))
		}, "reserved field is 0x1"},
		{"another kind", func(b *mem.Backend) {
			b.Overwrite("config/0000000002", cas.EncodeObject(cas.ObjectCommit, nil))
		}, "object of kind 1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, backend := newRepoUnchecked(t)
			test.damage(backend)
			_, err := cas.Open(t.Context(), backend)
			if !errors.Is(err, cas.ErrCorrupt) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want ErrCorrupt with %q", err, test.want)
			}
		})
	}
}

func TestOpenNewerFormat(t *testing.T) {
	_, backend := newRepoUnchecked(t)
	text := strings.Replace(string(backend.Bytes("FORMAT")), "version 1", "version 3", 1)
	backend.Overwrite("FORMAT", []byte(text))
	_, err := cas.Open(t.Context(), backend)
	var tooNew *cas.VersionError
	if !errors.As(err, &tooNew) || tooNew.Found != 3 || tooNew.Known != 1 {
		t.Errorf("got %v, want a VersionError that names 3 and 1", err)
	}
	if len(hint.Of(err)) == 0 {
		t.Error("no hint")
	}
}

func TestFeatureFlags(t *testing.T) {
	config := cas.Config{ChunkSize: 8192}
	open := func(incompat, readOnly, compat uint64) (*cas.Repository, error) {
		repo, backend := newRepoUnchecked(t)
		body := cas.EncodeConfigFlags(repo.UUID(), config, incompat, readOnly, compat)
		body = append(body, "more of a later version"...)
		backend.Overwrite("config/0000000002", cas.EncodeObject(cas.ObjectConfig, body))
		return cas.Open(t.Context(), backend)
	}
	var tooNew *cas.VersionError
	if _, err := open(1<<63, 0, 0); !errors.As(err, &tooNew) || tooNew.Features != 1<<63 {
		t.Errorf("unknown feature: got %v", err)
	}
	repo, err := open(0, 0, 5)
	if err != nil || repo.ChunkSize() != 8192 {
		t.Fatalf("compatible feature: got %v", err)
	}
	if _, err := repo.SetValue(t.Context(), "x", nil); err != nil {
		t.Errorf("write with a compatible feature: %v", err)
	}
	repo, err = open(0, 2, 0)
	if err != nil {
		t.Fatalf("feature that forbids writing: %v", err)
	}
	_, beginErr := repo.Begin(t.Context(), "k/s/n", nil)
	_, setErr := repo.SetValue(t.Context(), "x", nil)
	for call, err := range map[string]error{"begin": beginErr, "set value": setErr, "forget": repo.Forget(t.Context(), "k/s/n", nil)} {
		if !errors.As(err, &tooNew) || tooNew.Features != 2 {
			t.Errorf("%s: got %v, want a VersionError", call, err)
		}
	}
}

func TestPackIDsIgnoresForeignNames(t *testing.T) {
	repo, backend := newRepoUnchecked(t)
	commit(t, repo, "k/s/1", cas.WriterOptions{}, noise(1, 1000))
	want, err := repo.PackIDs(t.Context())
	if err != nil || len(want) != 1 {
		t.Fatalf("got %v, %v, want one pack", want, err)
	}
	name := want[0].String()
	for _, foreign := range []string{"packs/README", "packs/zz/" + name, "packs/" + name, "packs/ab/x.tmp", "packs/abc/" + name} {
		backend.Overwrite(foreign, nil)
	}
	got, err := repo.PackIDs(t.Context())
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestPackErrors(t *testing.T) {
	repo, backend := newRepoUnchecked(t)
	if _, err := repo.Pack(t.Context(), cas.ID{1}); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("missing pack: got %v, want ErrNotFound", err)
	}
	backend.Overwrite(cas.PackName(cas.ID{1}), make([]byte, 1000))
	if _, err := repo.Pack(t.Context(), cas.ID{1}); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("damaged pack: got %v, want ErrCorrupt", err)
	}
}

func TestValues(t *testing.T) {
	repo, backend := newRepo(t)
	const name = "shards/ks/-80/primary"
	if _, _, err := repo.Value(t.Context(), name); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("value never set: got %v, want ErrNotFound", err)
	}
	for want := uint64(1); want <= 12; want++ {
		value := fmt.Appendf(nil, "host%d:3306", want)
		gen, err := repo.SetValue(t.Context(), name, value)
		if err != nil || gen != want {
			t.Fatalf("set: got generation %d, %v, want %d", gen, err, want)
		}
		got, gen, err := repo.Value(t.Context(), name)
		if err != nil || gen != want || !bytes.Equal(got, value) {
			t.Errorf("got %q of generation %d, %v, want %q of %d", got, gen, err, value, want)
		}
	}
	if got := backend.Names(); !slices.Contains(got, "values/shards/ks/-80/primary/0000000012") {
		t.Errorf("blobs are %v", got)
	}
	if _, _, err := repo.Value(t.Context(), "shards/ks/-80"); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("folder of a value: got %v, want ErrNotFound", err)
	}
	for _, bad := range []string{"", "/", "a//b", "../x", "a/.b", "a b"} {
		if _, err := repo.SetValue(t.Context(), bad, nil); err == nil {
			t.Errorf("set value %q: no error", bad)
		}
		if _, _, err := repo.Value(t.Context(), bad); err == nil {
			t.Errorf("value %q: no error", bad)
		}
	}
}

func TestValueRace(t *testing.T) {
	repo, _ := newRepo(t)
	const writers = 8
	gens := make([]uint64, writers)
	var group sync.WaitGroup
	for n := range writers {
		group.Go(func() {
			gen, err := repo.SetValue(t.Context(), "v", fmt.Append(nil, n))
			if err != nil {
				t.Errorf("set: %v", err)
			}
			gens[n] = gen
		})
	}
	group.Wait()
	got, gen, err := repo.Value(t.Context(), "v")
	if err != nil || gen != writers || string(got) != fmt.Sprint(slices.Index(gens, writers)) {
		t.Errorf("got %q of generation %d, %v; writers got %v", got, gen, err, gens)
	}
	slices.Sort(gens)
	if len(slices.Compact(gens)) != writers {
		t.Errorf("two writers got one generation: %v", gens)
	}
}

func TestValueDamage(t *testing.T) {
	repo, backend := newRepo(t)
	if _, err := repo.SetValue(t.Context(), "v", []byte("x")); err != nil {
		t.Fatalf("set: %v", err)
	}
	backend.Overwrite("values/v/0000000002", []byte("torn"))
	if _, gen, err := repo.Value(t.Context(), "v"); !errors.Is(err, cas.ErrCorrupt) || gen != 2 {
		t.Errorf("got generation %d, %v, want 2 and ErrCorrupt", gen, err)
	}
	backend.Overwrite("values/v/9999999999", cas.EncodeObject(cas.ObjectCommit, nil))
	if _, err := repo.SetValue(t.Context(), "v", nil); err == nil {
		t.Error("no generation is left: no error")
	}
}

// Of several who set a value after the same generation, one wins.
func TestSetValueAfter(t *testing.T) {
	repo, _ := newRepo(t)
	const writers = 8
	for gen := range uint64(3) {
		var won atomic.Int32
		var group sync.WaitGroup
		for n := range writers {
			group.Go(func() {
				err := repo.SetValueAfter(t.Context(), "v", gen, fmt.Append(nil, n))
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, cas.ErrExists):
					t.Errorf("set: %v", err)
				}
			})
		}
		group.Wait()
		if _, newest, err := repo.Value(t.Context(), "v"); won.Load() != 1 || newest != gen+1 || err != nil {
			t.Errorf("%d writers won, generation %d, %v; want one and %d", won.Load(), newest, err, gen+1)
		}
	}
	if err := repo.SetValueAfter(t.Context(), "v", 0, nil); !errors.Is(err, cas.ErrExists) {
		t.Errorf("as if it were never set: got %v, want ErrExists", err)
	}
	if err := repo.SetValueAfter(t.Context(), "a//b", 0, nil); err == nil {
		t.Error("bad name: no error")
	}
	if err := repo.SetValueAfter(t.Context(), "v", 9999999999, nil); err == nil || errors.Is(err, cas.ErrExists) {
		t.Errorf("no generation is left: got %v", err)
	}
}

func TestValueNames(t *testing.T) {
	repo, backend := newRepo(t)
	if names, err := repo.ValueNames(t.Context(), "pins/ks/-80"); err != nil || len(names) > 0 {
		t.Errorf("got %q, %v, want none", names, err)
	}
	for _, name := range []string{"pins/ks/-80/b", "pins/ks/-80/a", "pins/ks/80-/c", "pins/ks/-80/b"} {
		if _, err := repo.SetValue(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	backend.Overwrite("values/pins/ks/-80/0000000001", nil)
	if names, err := repo.ValueNames(t.Context(), "pins/ks/-80"); err != nil || !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("got %q, %v, want a and b", names, err)
	}
	if _, err := repo.ValueNames(t.Context(), "../x"); err == nil {
		t.Error("bad prefix: no error")
	}
}
