package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shardseed/shardseed/cas"
)

// Kind is what an entry of the file list is.
type Kind string

// The kinds. Sockets, devices and pipes are not backed up.
const (
	KindFile    Kind = "file"
	KindDir     Kind = "dir"
	KindSymlink Kind = "symlink"
)

// shared returns the constant of a valid kind, which takes no memory of its own.
func (k Kind) shared() Kind {
	for _, known := range []Kind{KindFile, KindDir, KindSymlink} {
		if k == known {
			return known
		}
	}
	return k
}

const (
	maxBadPages = 100 // bad pages listed for one file; the count goes on
	maxWhy      = 256 // bytes of what is wrong with a page
)

// File is one entry of a backup's file list.
type File struct {
	Root      string     `json:"root"` // name of one of the manifest's roots
	Path      Path       `json:"path"` // relative to the root, slashes, clean
	Kind      Kind       `json:"kind"`
	Size      int64      `json:"size_bytes"`                 // 0 unless Kind is file
	ChunkSize int        `json:"chunk_size_bytes,omitempty"` // of Recipe; 0 unless Kind is file
	Mode      uint32     `json:"mode"`                       // permission bits, with setuid, setgid and sticky: at most 07777
	ModTime   time.Time  `json:"mod_time,omitzero"`          // UTC; zero = not recorded
	Sparse    bool       `json:"sparse,omitempty"`           // the file had holes: zero chunks may become holes again
	LSN       uint64     `json:"lsn,omitempty"`              // highest page LSN found; 0 = none, or not a tablespace
	Pages     *FilePages `json:"pages,omitempty"`            // result of the page check; nil = not a tablespace
	Recipe    cas.ID     `json:"recipe,omitzero"`            // root of the chunk list; zero for zeros only, and for what is no file
	Target    Path       `json:"target,omitempty"`           // of a symlink, as read: not necessarily relative, clean or existing
}

// FilePages is the result of checking the pages of one file.
type FilePages struct {
	Pages
	BadPages []BadPage `json:"bad_pages,omitempty"` // by number, each once, at most 100 of Bad
}

// NewFilePages returns counts with the list of bad pages put in order, each
// page once, and cut to what a file list takes. bad is not changed.
func NewFilePages(counts Pages, bad []BadPage) *FilePages {
	sorted := slices.SortedFunc(slices.Values(bad), func(a, b BadPage) int { return cmp.Compare(a.Number, b.Number) })
	sorted = slices.CompactFunc(sorted, func(a, b BadPage) bool { return a.Number == b.Number })
	sorted = sorted[:min(len(sorted), int(max(0, min(counts.Bad, maxBadPages))))]
	for i := range sorted {
		why := sorted[i].Why
		sorted[i].Why = strings.ToValidUTF8(why[:min(len(why), maxWhy)], "")
	}
	return &FilePages{Pages: counts, BadPages: sorted}
}

// BadPage is a page that failed its check. It was copied as it is.
type BadPage struct {
	Number uint32 `json:"number"`
	Why    string `json:"why"`
}

// Pages counts InnoDB pages by the result of their check.
type Pages struct {
	Checked   int64 `json:"checked"`   // checksum verified, and right
	Unchecked int64 `json:"unchecked"` // without a checksum that could be verified
	Zero      int64 `json:"zero"`      // all zeros
	Bad       int64 `json:"bad"`
	Encrypted int64 `json:"encrypted,omitempty"` // among Checked and Unchecked: readable with a key only
}

// Add returns the sums of both.
func (p Pages) Add(other Pages) Pages {
	return Pages{
		Checked:   p.Checked + other.Checked,
		Unchecked: p.Unchecked + other.Unchecked,
		Zero:      p.Zero + other.Zero,
		Bad:       p.Bad + other.Bad,
		Encrypted: p.Encrypted + other.Encrypted,
	}
}

func (p Pages) check() error {
	if p.Checked < 0 || p.Unchecked < 0 || p.Zero < 0 || p.Bad < 0 || p.Encrypted < 0 {
		return fmt.Errorf("a page count is negative: %+v", p)
	}
	return nil
}

// Compare orders files by root, then by path, byte by byte.
func (f *File) Compare(other *File) int {
	if c := strings.Compare(f.Root, other.Root); c != 0 {
		return c
	}
	return strings.Compare(string(f.Path), string(other.Path))
}

// Validate returns what is wrong with the entry by itself, nil if nothing is.
// Whether its root exists is for the manifest to say.
func (f *File) Validate() error {
	problems := []error{checkRootName(f.Root), checkRelative(f.Path), f.checkKind()}
	if f.Mode > 0o7777 {
		problems = append(problems, fmt.Errorf("mode %#o has other than permission bits", f.Mode))
	}
	if f.Pages != nil {
		problems = append(problems, f.Pages.check())
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("file %q in root %q: %w", f.Path, f.Root, err)
	}
	return nil
}

// checkKind refuses facts that do not belong to the entry's kind.
func (f *File) checkKind() error {
	switch f.Kind {
	case KindFile:
		return f.checkContent()
	case KindDir, KindSymlink:
		if f.Size != 0 || f.ChunkSize != 0 || !f.Recipe.IsZero() || f.Sparse || f.Pages != nil || f.LSN != 0 {
			return fmt.Errorf("a %s has no content", f.Kind)
		}
	default:
		return fmt.Errorf("unknown kind %q", f.Kind)
	}
	if f.Kind == KindSymlink {
		if f.Target == "" || len(f.Target) > maxPath || strings.ContainsRune(string(f.Target), 0) {
			return fmt.Errorf("%q cannot be a symlink's target", f.Target)
		}
		return nil
	}
	return f.checkNoTarget()
}

func (f *File) checkContent() error {
	if f.Size < 0 {
		return fmt.Errorf("size %d is negative", f.Size)
	}
	if f.Size == 0 && !f.Recipe.IsZero() {
		return errors.New("an empty file has no recipe")
	}
	if err := checkChunkSize(f.ChunkSize); err != nil {
		return err
	}
	return f.checkNoTarget()
}

func (f *File) checkNoTarget() error {
	if f.Target != "" {
		return fmt.Errorf("a %s has no target", f.Kind)
	}
	return nil
}

func (p *FilePages) check() error {
	if err := p.Pages.check(); err != nil {
		return err
	}
	if len(p.BadPages) > maxBadPages || int64(len(p.BadPages)) > p.Bad {
		return fmt.Errorf("%d bad pages are listed of %d; at most %d may be", len(p.BadPages), p.Bad, maxBadPages)
	}
	for i, bad := range p.BadPages {
		if i > 0 && p.BadPages[i-1].Number >= bad.Number {
			return fmt.Errorf("bad pages %d and %d are out of order", p.BadPages[i-1].Number, bad.Number)
		}
		if len(bad.Why) > maxWhy {
			return fmt.Errorf("bad page %d: a reason of %d bytes is longer than %d", bad.Number, len(bad.Why), maxWhy)
		}
	}
	return nil
}

// checkChunkSize refuses what is no chunk size.
func checkChunkSize(size int) error {
	if size < cas.MinChunkSize || size > cas.MaxChunkSize || size&(size-1) != 0 {
		return fmt.Errorf("chunk size %d is not a power of two from %d to %d", size, cas.MinChunkSize, cas.MaxChunkSize)
	}
	return nil
}
