package main

import "testing"

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{7}, 7},
		{[]float64{3, 1}, 2},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 100, 2}, 3},
	} {
		first := append([]float64(nil), test.values...)
		if got := median(test.values); got != test.want {
			t.Errorf("median(%v) = %v, want %v", test.values, got, test.want)
		}
		for i := range first {
			if first[i] != test.values[i] {
				t.Errorf("median changed its argument to %v, want %v", test.values, first)
			}
		}
	}
}

// took returns a sample of so many seconds, CPU seconds, bytes of memory and
// bytes stored.
func took(seconds, cpu float64, rss, bytes int64) sample {
	return sample{usage: usage{seconds: seconds, cpu: cpu, rss: rss}, bytes: bytes}
}

func TestResultsMedianOfEachValue(t *testing.T) {
	r := results{}
	r.add(cell{roundLoad, ours, doBackup}, took(1, 30, 200, 5))
	r.add(cell{roundLoad, ours, doBackup}, took(2, 10, 300, 6))
	r.add(cell{roundLoad, ours, doBackup}, sample{usage: usage{seconds: 3, cpu: 20, rss: 100}, bytes: 4, downtime: 9})
	got, ok := r.median(roundLoad, ours, doBackup)
	want := took(2, 20, 200, 5)
	if !ok || got != want {
		t.Errorf("got %+v, %v, want %+v", got, ok, want)
	}
	if got, ok := r.median(roundLoad, restic, doBackup); ok {
		t.Errorf("what was not measured is %+v, want nothing", got)
	}
}

func TestResultsPeak(t *testing.T) {
	r := results{}
	if got, ok := r.peak(); ok {
		t.Errorf("peak of nothing is %d, want none", got)
	}
	r.add(cell{roundLoad, ours, doBackup}, took(1, 1, 100, 0))
	r.add(cell{roundLoad, ours, doCold}, took(1, 1, 300, 0))
	r.add(cell{roundLoad, ours, doCold}, took(1, 1, 200, 0))
	r.add(cell{roundLoad, restic, doCold}, took(1, 1, 900, 0))
	if got, ok := r.peak(); got != 300 || !ok {
		t.Errorf("got %d, %v, want 300", got, ok)
	}
	r.add(cell{"live mysql", toolNoPreCopy, doAgain}, took(1, 1, 400, 0))
	if got, _ := r.peak(); got != 400 {
		t.Errorf("with a running server: got %d, want 400", got)
	}
}
