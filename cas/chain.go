package cas

import "fmt"

// Chain is a copy of a chunk with all that it takes to decode it: the copy
// itself, after each delta a copy of its base, and last a frame that stands
// alone. Depths fall from one to the next, plain sizes are the same. Cut at the
// front, a chain is the chain of what is first then.
type Chain []Location

// Locator finds chunks. The index is one. Safe for concurrent use.
type Locator interface {
	// Lookup returns a copy of the chunk whose depth is less than below
	// (AnyDepth: any copy), and ErrNotFound if there is none. A copy counts
	// only if its pack is neither condemned, damaged nor missing and if the
	// same holds, at strictly falling depth, for its whole chain of bases.
	// The caller owns the chain.
	Lookup(id ID, below uint8) (Chain, error)
}

// Chooser is a Locator that can do without some copies. A Reader that meets a
// damaged frame asks it for another way to the chunk.
type Chooser interface {
	Locator
	// LookupWithout is Lookup among the copies that skip does not return true
	// for.
	LookupWithout(id ID, below uint8, skip func(Location) bool) (Chain, error)
}

// check refuses a chain that cannot be right.
func (c Chain) check(id ID, below uint8, plainSize int) error {
	for _, loc := range c {
		switch {
		case loc.ID != id:
			return corrupt(loc, ID{}, fmt.Sprintf("found in place of chunk %s", id.Short()))
		case int64(loc.PlainSize) != int64(plainSize):
			return corrupt(loc, ID{}, fmt.Sprintf("has %d plain bytes, want %d", loc.PlainSize, plainSize))
		case loc.Depth >= below:
			return corrupt(loc, ID{}, fmt.Sprintf("has depth %d, want less than %d", loc.Depth, below))
		}
		id, below = loc.Base, loc.Depth
	}
	if !id.IsZero() || len(c) == 0 {
		return &CorruptError{Want: id, Reason: "no base was found for a delta"}
	}
	return nil
}

// root returns the chain of the frame that stands alone.
func (c Chain) root() Chain { return c[len(c)-1:] }

// with adds what c was made for to an error about one of its frames.
func (c Chain) with(loc *Location, err error) error {
	if loc.ID == c[0].ID {
		return err
	}
	return fmt.Errorf("chunk %s in pack %s: base: %w", c[0].ID.Short(), c[0].Pack.Short(), err)
}
