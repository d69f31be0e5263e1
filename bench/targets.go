package main

import "fmt"

// target is one line of what shardseed is to reach. A ratio is measured as
// value ÷ base and passes up to most.
type target struct {
	what     string
	want     string
	measured string // empty: not measured
	passed   bool
}

// targets compares the results with the targets of the project.
func (r results) targets(days int) []target {
	both := []string{roundSkewed, roundUniform}
	increments := []string{roundSkewed, roundUniform, roundInserts}
	load := []string{roundLoad}
	last := []string{roundInserts}
	nothing := []string{roundNothing}
	var list []target
	ratio := func(what string, most float64, want string, value, base measured) {
		list = append(list, compare(what, most, want, value, base))
	}
	for _, peer := range []struct {
		tool string
		most float64
		want string
	}{{restic, 1. / 18, "1/18"}, {borg, 1. / 18, "1/18"}, {borgFixed, 1. / 5, "1/5"}} {
		ratio("bytes of both increments, to "+peer.tool, peer.most, peer.want, r.bytes(ours, both), r.bytes(peer.tool, both))
	}
	ratio("bytes of the inserts, to restic", 1./3, "1/3", r.bytes(ours, last), r.bytes(restic, last))
	ratio("first backup, to restic", 1./2, "1/2", r.seconds(ours, doBackup, load), r.seconds(restic, doBackup, load))
	ratio("first backup, to tar \\| zstd", 1.6, "1.6", r.seconds(ours, doBackup, load), r.seconds(tarZstd, doBackup, load))
	ratio("increments, to restic", 1./5, "1/5", r.seconds(ours, doBackup, increments), r.seconds(restic, doBackup, increments))
	ratio("increments, to borg-fixed", 1./3, "1/3", r.seconds(ours, doBackup, increments), r.seconds(borgFixed, doBackup, increments))
	list = append(list, below("nothing changed, same files", 1, "< 1 s", " s", r.seconds(ours, doBackup, []string{roundUntouched})))
	ratio("nothing changed, copied files, to reading them", 1.3, "1.3", r.seconds(ours, doBackup, nothing), r.seconds(reading, doBackup, nothing))
	for _, at := range []struct {
		name   string
		rounds []string
	}{{"first", load}, {"after all increments", last}} {
		for _, what := range []string{doCold, doWarm} {
			ratio(what+", "+at.name+", to restic", 1./2, "1/2", r.seconds(ours, what, at.rounds), r.seconds(restic, what, at.rounds))
		}
		ratio(doCold+", "+at.name+", to cp -a", 1.3, "1.3", r.seconds(ours, doCold, at.rounds), r.seconds(copying, doCold, at.rounds))
		ratio(doWarm+", "+at.name+", to cp -a", 2.5, "2.5", r.seconds(ours, doWarm, at.rounds), r.seconds(copying, doWarm, at.rounds))
		ratio(doFresh+", "+at.name+", to cold", 1.2, "1.2", r.seconds(ours, doFresh, at.rounds), r.seconds(ours, doCold, at.rounds))
	}
	daily := []string{roundDaily}
	ratio(fmt.Sprintf("restore of backup %d, to the first", days), 1.5, "1.5", r.seconds(ours, doLast, daily), r.seconds(ours, doFirst, daily))
	peak, ok := r.peak()
	return append(list, below("peak RSS of backup and restore", 200, "<= 200 MiB", " MiB", measured{float64(peak) / mib, ok}))
}

// measured is a value, if there is one.
type measured struct {
	value float64
	ok    bool
}

// bytes returns the MiB that the tool newly stored in the rounds together.
func (r results) bytes(tool string, rounds []string) measured {
	return r.sum(tool, doBackup, rounds, func(s sample) float64 { return float64(s.bytes) / mib })
}

// seconds returns the wall clock time of the rounds together.
func (r results) seconds(tool, what string, rounds []string) measured {
	return r.sum(tool, what, rounds, func(s sample) float64 { return s.seconds })
}

func (r results) sum(tool, what string, rounds []string, value func(sample) float64) measured {
	total := 0.0
	for _, round := range rounds {
		s, ok := r.median(round, tool, what)
		if !ok {
			return measured{}
		}
		total += value(s)
	}
	return measured{total, true}
}

// compare makes the target that value is at most so many times base. Below 1,
// the ratio is shown as a fraction, as in the target.
func compare(what string, most float64, want string, value, base measured) target {
	t := target{what: what, want: "<= " + want + " x"}
	if !value.ok || !base.ok || base.value <= 0 {
		return t
	}
	ratio := value.value / base.value
	shown := number(ratio) + " x"
	if most < 1 && ratio < 1 && ratio > 0 {
		shown = "1/" + number(1/ratio) + " x"
	}
	t.measured = fmt.Sprintf("%s (%s / %s)", shown, number(value.value), number(base.value))
	t.passed = ratio <= most
	return t
}

// below makes the target that a value is at most this.
func below(what string, most float64, want, unit string, value measured) target {
	t := target{what: what, want: want}
	if value.ok {
		t.measured = number(value.value) + unit
		t.passed = value.value <= most
	}
	return t
}

// verdict is the last column of the table of targets.
func (t target) verdict() string {
	switch {
	case t.measured == "":
		return "not measured"
	case t.passed:
		return "pass"
	}
	return "FAIL"
}
