package cas

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// generationDigits is the fixed width of a generation's name, so that names
// sort as numbers.
const generationDigits = 10

func generationName(dir string, gen uint64) string {
	return fmt.Sprintf("%s/%0*d", dir, generationDigits, gen)
}

func parseGeneration(name string) (uint64, bool) {
	gen, err := strconv.ParseUint(name, 10, 64)
	return gen, err == nil && gen > 0 && len(name) == generationDigits
}

// generations returns the generations in a folder, ascending. Other names are
// ignored.
func (r *Repository) generations(ctx context.Context, dir string) ([]uint64, error) {
	entries, err := r.backend.List(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var gens []uint64
	for _, entry := range entries {
		if gen, ok := parseGeneration(entry.Name); ok && !entry.Dir {
			gens = append(gens, gen)
		}
	}
	return gens, nil
}

// putGeneration creates the next generation in a folder; if another writer
// takes the number, the one after it.
func (r *Repository) putGeneration(ctx context.Context, dir string, kind objectKind, payload []byte) (uint64, error) {
	gens, err := r.generations(ctx, dir)
	if err != nil {
		return 0, err
	}
	gen := uint64(1)
	if len(gens) > 0 {
		gen = slices.Max(gens) + 1
	}
	for ; ; gen++ {
		name := generationName(dir, gen)
		if _, ok := parseGeneration(name[len(dir)+1:]); !ok {
			return 0, fmt.Errorf("write %s: no generation is left", dir)
		}
		err := r.putObject(ctx, name, kind, payload)
		if err == nil {
			return gen, nil
		}
		if !errors.Is(err, ErrExists) {
			return 0, fmt.Errorf("write %s: %w", name, err)
		}
	}
}

// valueDir returns the folder of a value's generations. A name has parts like a
// key's, separated by slashes.
func valueDir(name string) (string, error) {
	for part := range strings.SplitSeq(name, "/") {
		if err := CheckPart(part); err != nil {
			return "", fmt.Errorf("value name %q: %w", name, err)
		}
	}
	return "values/" + name, nil
}

// maxValue bounds a value, in bytes: what JSON makes of it takes up to sixty times
// as much memory.
const maxValue = 1 << 20

func checkValue(name string, size int) error {
	if size > maxValue {
		return &CorruptError{Name: "values/" + name, Reason: fmt.Sprintf("%d bytes long, at most %d are allowed", size, maxValue)}
	}
	return nil
}

// SetValue sets a small value, of at most 1 MiB: it writes a new generation, which hides the
// earlier ones, and returns its number, counted from 1. Of two writers at once
// the later generation wins.
func (r *Repository) SetValue(ctx context.Context, name string, value []byte) (uint64, error) {
	if err := errors.Join(r.writable(), checkValue(name, len(value))); err != nil {
		return 0, err
	}
	dir, err := valueDir(name)
	if err != nil {
		return 0, err
	}
	return r.putGeneration(ctx, dir, objectValue, value)
}

// Value returns the newest generation of a value and its number. It returns
// ErrNotFound and 0 if the value was never set. The number also comes with a
// *CorruptError or *VersionError, so that the next generation can hide it.
func (r *Repository) Value(ctx context.Context, name string) ([]byte, uint64, error) {
	dir, err := valueDir(name)
	if err != nil {
		return nil, 0, err
	}
	gens, err := r.generations(ctx, dir)
	if err != nil {
		return nil, 0, err
	}
	if len(gens) == 0 {
		return nil, 0, fmt.Errorf("value %s: %w", name, ErrNotFound)
	}
	gen := gens[len(gens)-1]
	o, err := readObject(ctx, r.backend, generationName(dir, gen), objectValue)
	if err == nil {
		err = checkValue(name, len(o.payload))
	}
	if err != nil {
		return nil, gen, fmt.Errorf("read value %s: %w", name, err)
	}
	return o.payload, gen, nil
}

// SetValueAfter sets a value if its newest generation still is gen, as [Repository.Value]
// returned it; 0: it was never set. It returns ErrExists if somebody else was
// first: read the value again.
func (r *Repository) SetValueAfter(ctx context.Context, name string, gen uint64, value []byte) error {
	if err := errors.Join(r.writable(), checkValue(name, len(value))); err != nil {
		return err
	}
	dir, err := valueDir(name)
	if err != nil {
		return err
	}
	next := generationName(dir, gen+1)
	if _, ok := parseGeneration(next[len(dir)+1:]); !ok {
		return fmt.Errorf("write %s: no generation is left", dir)
	}
	if err := r.putObject(ctx, next, objectValue, value); err != nil {
		return fmt.Errorf("write %s: %w", next, err)
	}
	return nil
}

// ValueNames returns the last parts of the names of the values directly below a
// prefix, sorted. Of one that nobody has come to set, Value returns ErrNotFound.
func (r *Repository) ValueNames(ctx context.Context, prefix string) ([]string, error) {
	dir, err := valueDir(prefix)
	if err != nil {
		return nil, err
	}
	entries, err := r.backend.List(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var names []string
	for _, entry := range entries {
		if entry.Dir && CheckPart(entry.Name) == nil {
			names = append(names, entry.Name)
		}
	}
	return names, nil
}
