package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The parts of a benchmark.
const (
	partFiles = "files" // backup and restore of the files of a stopped server
	partDaily = "daily" // many backups in a row
	partLive  = "live"  // backups of running servers
)

// config says how much is measured, and with which programs.
type config struct {
	gib     float64  // size of the tables, all together
	runs    int      // of everything; results are medians
	days    int      // backups in the daily part
	parts   []string // of partFiles, partDaily, partLive
	tools   []string // names of tools; shardseed is always among them
	rounds  []string // names of rounds; load is always among them
	dir     string   // folder in which the temporary folder is made
	results string   // file that is written
	program string   // shardseed, as an absolute path
	servers string   // folder of make servers, absolute
	peers   string   // folder of scripts/bench-tools.sh, absolute
}

// newConfig reads the environment through getenv; what is not set has its
// default. All that is wrong is told at once. Sizes and counts:
// BENCH_GB, BENCH_RUNS, BENCH_DAYS; lists with commas or blanks: BENCH_PARTS,
// BENCH_TOOLS, BENCH_ROUNDS; paths: BENCH_DIR, BENCH_RESULTS, BENCH_SHARDSEED.
func newConfig(getenv func(string) string) (config, error) {
	e := &environment{getenv: getenv}
	c := config{
		gib:     e.number("BENCH_GB", 2, 0.01, 1024),
		runs:    int(e.number("BENCH_RUNS", 3, 1, 100)),
		days:    int(e.number("BENCH_DAYS", 30, 2, 1000)),
		parts:   e.list("BENCH_PARTS", []string{partFiles, partDaily, partLive}),
		tools:   e.list("BENCH_TOOLS", toolNames()),
		rounds:  e.list("BENCH_ROUNDS", roundNames()),
		dir:     e.path("BENCH_DIR", os.TempDir()),
		results: e.path("BENCH_RESULTS", "bench/results.md"),
		program: e.path("BENCH_SHARDSEED", "bin/shardseed"),
		servers: e.path("SHARDSEED_SERVERS", ".servers"),
		peers:   e.path("SHARDSEED_BENCH_TOOLS", ".tools/bench"),
	}
	if !slices.Contains(c.tools, ours) {
		c.tools = append([]string{ours}, c.tools...)
	}
	if !slices.Contains(c.rounds, roundLoad) {
		c.rounds = append([]string{roundLoad}, c.rounds...)
	}
	return c, errors.Join(e.errs...)
}

// measures tells whether the part is asked for.
func (c config) measures(part string) bool {
	return slices.Contains(c.parts, part)
}

// small is the share of the transactions that a dataset below 2 GiB gets, so
// that the share of its pages that change stays the same.
func (c config) small() float64 {
	return min(1, c.gib/2)
}

// scale returns the number of transactions in place of n.
func (c config) scale(n int) int {
	return max(1, int(math.Round(float64(n)*c.small())))
}

// environment reads settings and keeps what is wrong with them.
type environment struct {
	getenv func(string) string
	errs   []error
}

func (e *environment) number(name string, fallback, least, most float64) float64 {
	text := e.getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= least && n <= most) {
		e.errs = append(e.errs, fmt.Errorf("%s is %q, want a number from %g to %g", name, text, least, most))
	}
	return n
}

// list returns those of all that the setting names, in the order of all.
func (e *environment) list(name string, all []string) []string {
	words := strings.FieldsFunc(e.getenv(name), func(r rune) bool { return r == ',' || r == ' ' })
	if len(words) == 0 {
		return all
	}
	for _, word := range words {
		if !slices.Contains(all, word) {
			e.errs = append(e.errs, fmt.Errorf("%s has %q, want some of %s", name, word, strings.Join(all, ",")))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return !slices.Contains(words, s) })
}

func (e *environment) path(name, fallback string) string {
	path := e.getenv(name)
	if path == "" {
		path = fallback
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		e.errs = append(e.errs, fmt.Errorf("%s: %w", name, err))
	}
	return absolute
}
