package model_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/fuzz/model"
)

// shortLimit bounds the states of a short scope.
const shortLimit = 2_000_000

func explore(t *testing.T, sc model.Scope, dropped ...model.Rule) model.Result {
	t.Helper()
	result, err := model.Explore(sc, shortLimit, dropped...)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// With all rules nothing is lost, and all that can happen does.
func TestNothingIsLost(t *testing.T) {
	kinds := map[string]int{}
	for _, sc := range model.Short() {
		result := explore(t, sc)
		if result.Wrong != "" {
			t.Errorf("%s: %s:\n%s", sc.Name, result.Wrong, strings.Join(result.Trace, "\n"))
		}
		t.Logf("%s (%s): %d states, %d steps deep", sc.Name, sc.About, result.States, result.Depth)
		for kind, n := range result.Kinds {
			kinds[kind] += n
		}
	}
	for _, kind := range model.Kinds() {
		happens := kinds[kind] > 0
		if want := kind != "leaves a session alone"; happens != want { // only if Fence is dropped
			t.Errorf("step %q: happens %v, want %v", kind, happens, want)
		}
	}
}

// A collection can get to its end from wherever it is, unless a listing stays
// wrong: that stops it for good.
func TestSomethingCanBeFreed(t *testing.T) {
	for _, sc := range model.Short() {
		stuck, trace, err := model.Free(sc, shortLimit)
		if err != nil {
			t.Fatal(err)
		}
		if stuck > 0 != sc.Vanish {
			t.Errorf("%s: from %d states nothing can be freed, the first is:\n%s", sc.Name, stuck, strings.Join(trace, "\n"))
		}
	}
}

// Each rule dropped loses data, with others that stand behind it if need be.
func TestRulesAreNeeded(t *testing.T) {
	tried := map[model.Rule]bool{}
	for _, mutant := range model.Mutants() {
		sc, found := model.Find(mutant.Scope)
		if !found {
			t.Fatalf("no scope %q", mutant.Scope)
		}
		result := explore(t, sc, mutant.Drop...)
		if result.Wrong == "" || len(result.Trace) != mutant.Steps {
			t.Errorf("without %v, %s: %q after %d steps, want a loss after %d:\n%s", mutant.Drop, sc.Name, result.Wrong, len(result.Trace), mutant.Steps, strings.Join(result.Trace, "\n"))
		}
		for i, rule := range mutant.Drop {
			tried[rule] = true
			if len(mutant.Drop) == 1 {
				continue
			}
			others := slices.Delete(slices.Clone(mutant.Drop), i, i+1)
			if result := explore(t, sc, others...); result.Wrong != "" {
				t.Errorf("without %v, %s: %s already", others, sc.Name, result.Wrong)
			}
		}
	}
	for _, rule := range model.Rules() {
		if tried[rule] == rule.Habit() {
			t.Errorf("%v: tried %v, not needed for safety %v", rule, tried[rule], rule.Habit())
		}
	}
}

// What docs/design.md says is not needed for safety is not, here.
func TestHabitsAreNotNeeded(t *testing.T) {
	scopes := map[model.Rule][]string{
		model.DamageFirst: {"damage"},
		model.CheckListed: {"generations", "delay"},
		model.OneByOne:    {"generations", "repack"},
		model.PacksFirst:  {"generations", "delay"},
		model.PacksLast:   {"deltas", "late deltas"},
	}
	for _, rule := range model.Rules() {
		if rule.Habit() && len(scopes[rule]) == 0 {
			t.Errorf("%v: no scope", rule)
		}
		for _, name := range scopes[rule] {
			sc, _ := model.Find(name)
			if result := explore(t, sc, rule); result.Wrong != "" {
				t.Errorf("without %v, %s: %s:\n%s", rule, name, result.Wrong, strings.Join(result.Trace, "\n"))
			}
		}
	}
}

// A bound on states is an error, never a result.
func TestLimit(t *testing.T) {
	if result, err := model.Explore(model.Short()[0], 1000); err == nil {
		t.Errorf("got %d states without an error", result.States)
	}
}
