package faults

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/cas"
)

var (
	twice = flag.Int("twice", 3, "how many pairs of faults to try with each command")
	seed  = flag.Uint64("seed", 1, "of the pairs")
)

// strike is a fault at a call of a run, or at the first after it to which it can
// happen.
type strike struct {
	fault
	call int
	hit  *call
}

func (k *strike) String() string {
	if k.hit == nil {
		return k.name + " at no call"
	}
	return fmt.Sprintf("%s at call %d, %q", k.name, k.call, k.hit)
}

// TestTwice has two faults by chance: in one run, or in a run and in the one that
// finds what it has left.
func TestTwice(t *testing.T) {
	eachStage(t, func(t *testing.T, s *stage) {
		calls := len(s.record(t))
		all := faults()
		name := cas.Sum([]byte(s.name))
		chance := rand.New(rand.NewPCG(*seed, binary.LittleEndian.Uint64(name[:])))
		for range *twice {
			var pair [2]strike
			for k := range pair {
				pair[k] = strike{fault: all[chance.IntN(len(all))], call: 1 + chance.IntN(calls)}
			}
			s.strikeTwice(t, &pair, s.waits || chance.IntN(2) == 0)
		}
	})
}

// strikeTwice looks at what is left after both.
func (s *stage) strikeTwice(t *testing.T, pair *[2]strike, oneRun bool) {
	w := s.fresh(t)
	var first, last outcome
	if oneRun {
		last = s.strike(t, w, &pair[0], &pair[1])
	} else {
		first = s.strike(t, w, &pair[0])
		last = s.strike(t, w, &pair[1])
	}
	var wrong []string
	if !s.mayEnd(last) {
		wrong = append(wrong, "that is no exit code for it")
	}
	wrong = append(wrong, s.verify(t, w, last)...)
	if len(wrong) > 0 {
		t.Errorf("%s, and %s (seed %d, in one run: %t):\n\t%+v\n\t%+v\n\t%s", &pair[0], &pair[1], *seed, oneRun, first, last, strings.Join(wrong, "\n\t"))
	}
	s.drop(t, w)
}

// mayEnd tells whether a run may end like this: killed, with success, failed, or
// with nothing left to be done; and checks tell as damage what they can't read.
func (s *stage) mayEnd(o outcome) bool {
	return o.code <= 1 || s.already != "" && strings.Contains(o.stderr, s.already) || o.tellsPacks()
}

// strike runs the command with faults.
func (s *stage) strike(t *testing.T, w *world, strikes ...*strike) outcome {
	count := 0
	return s.trace(t, w, func(c *call) verdict {
		count++
		n := slices.IndexFunc(strikes, func(k *strike) bool { return k.hit == nil && count >= k.call && k.to(c) })
		if n < 0 {
			return verdict{}
		}
		strikes[n].hit = c
		return strikes[n].verdict
	})
}
