package main

import (
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	for _, test := range []struct {
		name           string
		most           float64
		value, base    measured
		shown, verdict string
	}{
		{"reached", 1. / 18, measured{10, true}, measured{200, true}, "1/20.0 x (10.0 / 200)", "pass"},
		{"just reached", 1. / 2, measured{1, true}, measured{2, true}, "1/2.0 x (1.0 / 2.0)", "pass"},
		{"missed", 1. / 3, measured{1, true}, measured{2, true}, "1/2.0 x (1.0 / 2.0)", "FAIL"},
		{"worse than the other", 1. / 3, measured{4, true}, measured{2, true}, "2.0 x (4.0 / 2.0)", "FAIL"},
		{"above 1, reached", 1.6, measured{3, true}, measured{2, true}, "1.5 x (3.0 / 2.0)", "pass"},
		{"above 1, faster", 1.6, measured{1, true}, measured{2, true}, "0.50 x (1.0 / 2.0)", "pass"},
		{"above 1, missed", 1.6, measured{4, true}, measured{2, true}, "2.0 x (4.0 / 2.0)", "FAIL"},
		{"nothing stored", 1. / 3, measured{0, true}, measured{2, true}, "0.00 x (0.00 / 2.0)", "pass"},
		{"ours is missing", 1, measured{}, measured{2, true}, "", "not measured"},
		{"the other is missing", 1, measured{2, true}, measured{}, "", "not measured"},
		{"the other is nothing", 1, measured{2, true}, measured{0, true}, "", "not measured"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := compare("x", test.most, "1/18", test.value, test.base)
			if got.measured != test.shown || got.verdict() != test.verdict {
				t.Errorf("got %q, %s, want %q, %s", got.measured, got.verdict(), test.shown, test.verdict)
			}
		})
	}
}

func TestBelow(t *testing.T) {
	for _, test := range []struct {
		value   measured
		verdict string
	}{{measured{200, true}, "pass"}, {measured{200.5, true}, "FAIL"}, {measured{}, "not measured"}} {
		if got := below("x", 200, "<= 200 MiB", " MiB", test.value).verdict(); got != test.verdict {
			t.Errorf("below(%v): got %s, want %s", test.value, got, test.verdict)
		}
	}
}

func TestTargets(t *testing.T) {
	r := results{}
	for _, target := range r.targets(30) {
		if target.verdict() != "not measured" {
			t.Errorf("%s: got %s of no results", target.what, target.verdict())
		}
	}
	for _, round := range roundNames() {
		r.add(cell{round, ours, doBackup}, took(1, 1, 100*mib, 10*mib))
		for _, peer := range toolNames()[1:] {
			r.add(cell{round, peer, doBackup}, took(6, 1, 900*mib, 200*mib))
		}
	}
	for _, round := range whole() {
		for _, what := range []string{doCold, doWarm, doFresh} {
			r.add(cell{round, ours, what}, took(1, 1, 150*mib, 0))
			r.add(cell{round, restic, what}, took(3, 1, 900*mib, 0))
			r.add(cell{round, copying, what}, took(1, 1, mib, 0))
		}
	}
	r.add(cell{roundDaily, ours, doFirst}, took(1, 1, mib, 0))
	r.add(cell{roundDaily, ours, doLast}, took(2, 1, mib, 0))
	for _, target := range r.targets(30) {
		want := "pass"
		if strings.HasPrefix(target.what, "restore of backup 30") {
			want = "FAIL" // twice as long
		}
		if target.verdict() != want {
			t.Errorf("%s: want %s, got %s: %s", target.what, want, target.measured, target.verdict())
		}
	}
}

func TestSumNeedsEveryRound(t *testing.T) {
	r := results{}
	r.add(cell{roundSkewed, ours, doBackup}, took(1, 1, 1, 3*mib))
	if got := r.bytes(ours, []string{roundSkewed, roundUniform}); got.ok {
		t.Errorf("got %v without one of the rounds, want none", got)
	}
	r.add(cell{roundUniform, ours, doBackup}, took(2, 1, 1, 4*mib))
	if got := r.bytes(ours, []string{roundSkewed, roundUniform}); got != (measured{7, true}) {
		t.Errorf("got %v, want 7 MiB", got)
	}
	if got := r.seconds(ours, doBackup, []string{roundSkewed, roundUniform}); got != (measured{3, true}) {
		t.Errorf("got %v, want 3 s", got)
	}
}
