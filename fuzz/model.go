package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/shardseed/shardseed/fuzz/model"
)

// maxStates bounds a scope: about 5 GB of memory.
const maxStates = 80_000_000

// model explores every scope with all rules, then each mutant.
func (p *program) model() error {
	fmt.Fprintln(p.stdout, "| scope | what may happen | states | steps deep | s | outcome |\n|---|---|---|---|---|---|")
	var errs []error
	for _, sc := range append(model.Short(), model.Long()...) {
		errs = append(errs, p.explore(sc))
	}
	fmt.Fprintln(p.stdout, "\n| rules dropped | scope | states until then | steps to the loss | what is lost |\n|---|---|---|---|---|")
	for _, mutant := range model.Mutants() {
		errs = append(errs, p.mutant(mutant))
	}
	return errors.Join(errs...)
}

func (p *program) explore(sc model.Scope) error {
	began := p.now()
	result, err := model.Explore(sc, maxStates)
	outcome := "nothing lost"
	switch {
	case err != nil:
		outcome = "given up"
	case result.Wrong != "":
		outcome = result.Wrong
		err = fmt.Errorf("explore %s: %s:\n%s", sc.Name, result.Wrong, strings.Join(result.Trace, "\n"))
	}
	fmt.Fprintf(p.stdout, "| %s | %s | %s | %d | %.0f | %s |\n", sc.Name, sc.About, humanize.Comma(int64(result.States)), result.Depth, p.now().Sub(began).Round(time.Second).Seconds(), outcome)
	return err
}

func (p *program) mutant(mutant model.Mutant) error {
	sc, found := model.Find(mutant.Scope)
	if !found {
		return fmt.Errorf("no scope %q", mutant.Scope)
	}
	result, err := model.Explore(sc, maxStates, mutant.Drop...)
	if err == nil && result.Wrong == "" {
		err = fmt.Errorf("without %v, %s: nothing is lost", mutant.Drop, sc.Name)
	}
	var dropped []string
	for _, rule := range mutant.Drop {
		dropped = append(dropped, rule.String())
	}
	fmt.Fprintf(p.stdout, "| %s | %s | %s | %d | %s |\n", strings.Join(dropped, ", "), sc.Name, humanize.Comma(int64(result.States)), len(result.Trace), result.Wrong)
	return err
}
