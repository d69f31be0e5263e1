package main

import (
	"slices"
	"strings"
)

// What is measured of a tool in a round.
const (
	doBackup  = "backup"             // from files that are not in the page cache
	doCold    = "restore, cold"      // from a repository that is not in the page cache
	doWarm    = "restore, warm"      // from one that is
	doFresh   = "restore, new host"  // cold, and without the host's own index or cache
	doRestart = "backup, first time" // of a running server
	doAgain   = "backup, increment"  // of a running server
)

// cell names what is measured: in which round, with which tool, what.
type cell struct{ round, tool, what string }

// sample is one measurement.
type sample struct {
	usage
	bytes    int64   // added below the root, of a backup
	downtime float64 // seconds, of the server
}

// results are the samples of each cell, one for each run.
type results map[cell][]sample

func (r results) add(c cell, s sample) {
	r[c] = append(r[c], s)
}

// median returns the medians of the cell, each value by itself, and whether it
// was measured at all.
func (r results) median(round, tool, what string) (sample, bool) {
	samples := r[cell{round, tool, what}]
	if len(samples) == 0 {
		return sample{}, false
	}
	return sample{
		usage: usage{
			seconds: medianOf(samples, func(s sample) float64 { return s.seconds }),
			cpu:     medianOf(samples, func(s sample) float64 { return s.cpu }),
			rss:     int64(medianOf(samples, func(s sample) float64 { return float64(s.rss) })),
		},
		bytes:    int64(medianOf(samples, func(s sample) float64 { return float64(s.bytes) })),
		downtime: medianOf(samples, func(s sample) float64 { return s.downtime }),
	}, true
}

// peak returns the largest memory, in bytes, that shardseed needed in any
// sample, also of running servers, and whether there is one.
func (r results) peak() (most int64, ok bool) {
	for c, samples := range r {
		if !strings.HasPrefix(c.tool, ours) { // its variants begin so
			continue
		}
		for _, s := range samples {
			most, ok = max(most, s.rss), true
		}
	}
	return most, ok
}

func medianOf(samples []sample, value func(sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = value(s)
	}
	return median(values)
}

// median returns the middle value, or the mean of the two in the middle; of no
// values it is 0. The slice is left as it is.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
