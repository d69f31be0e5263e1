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
	partIndex = "index" // the index alone, of a synthetic repository
)

// config says how much is measured, and with which programs.
type config struct {
	gib     float64  // size of the tables, all together
	runs    int      // of everything; results are medians
	days    int      // backups in the daily part
	chunks  []int    // in the index, one case for each
	parts   []string // of partFiles, partDaily, partLive, partIndex
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
// BENCH_TOOLS, BENCH_ROUNDS, BENCH_CHUNKS (in millions); paths: BENCH_DIR, BENCH_RESULTS, BENCH_SHARDSEED.
func newConfig(getenv func(string) string) (config, error) {
	e := &environment{getenv: getenv}
	c := config{
		gib:     e.number("BENCH_GB", 2, 0.01, 1024),
		runs:    int(e.number("BENCH_RUNS", 3, 1, 100)),
		days:    int(e.number("BENCH_DAYS", 30, 2, 1000)),
		chunks:  e.millions("BENCH_CHUNKS", []int{1_000_000, 4_000_000, 17_000_000}),
		parts:   e.list("BENCH_PARTS", []string{partFiles, partDaily, partLive, partIndex}),
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

// needsDataset tells whether a part works on files of a server.
func (c config) needsDataset() bool {
	return slices.ContainsFunc(c.parts, func(part string) bool { return part != partIndex })
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

// millions returns a list of numbers that are given in millions.
func (e *environment) millions(name string, fallback []int) []int {
	words := fields(e.getenv(name))
	if len(words) == 0 {
		return fallback
	}
	var numbers []int
	for _, word := range words {
		n, err := strconv.ParseFloat(word, 64)
		if err != nil || !(n >= 0.01 && n <= 100) {
			e.errs = append(e.errs, fmt.Errorf("%s has %q, want numbers from 0.01 to 100", name, word))
		}
		numbers = append(numbers, int(n*1e6))
	}
	return numbers
}

// fields cuts a list at commas and blanks.
func fields(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// list returns those of all that the setting names, in the order of all.
func (e *environment) list(name string, all []string) []string {
	words := fields(e.getenv(name))
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
