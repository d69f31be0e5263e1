package retention_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
	"github.com/shardseed/shardseed/retention"
)

// parse reads a backup: "2026-11-23.043000 doubtful pinned @5", where @5 means
// that it has the transactions 1 to 5, @b5 those of another server.
func parse(t testing.TB, text string) retention.Backup {
	t.Helper()
	words := strings.Fields(text)
	name, err := manifest.ParseName(words[0] + ".zone1-101")
	if err != nil {
		t.Fatal(err)
	}
	b := retention.Backup{Name: name}
	for _, word := range words[1:] {
		switch {
		case word == "doubtful":
			b.State = retention.Doubtful
		case word == "unreadable":
			b.State = retention.Unreadable
		case word == "leaving":
			b.State = retention.Leaving
		case word == "pinned":
			b.Pinned = true
		case strings.HasPrefix(word, "@"):
			b.Position = position(t, word[1:])
		default:
			t.Fatalf("%q in %q", word, text)
		}
	}
	return b
}

func position(t testing.TB, numbers string) replication.Position {
	t.Helper()
	uuid := "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	if rest, ok := strings.CutPrefix(numbers, "b"); ok {
		uuid, numbers = "9b1f9a02-71ca-11e1-9e33-c80aa9429562", rest
	}
	p, err := replication.ParseGTIDs(replication.MySQL, uuid+":1-"+numbers)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func decide(t testing.TB, p retention.Policy, now time.Time, backups []string) []string {
	t.Helper()
	list := make([]retention.Backup, len(backups))
	for i, text := range backups {
		list[i] = parse(t, text)
	}
	slices.Reverse(list) // their order does not matter
	verdicts, err := retention.Decide(list, p, now)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]string, len(verdicts))
	for i, v := range verdicts {
		if v.Keep() != (len(v.Rules) > 0) || v.Name != parse(t, backups[i]).Name {
			t.Errorf("verdict %d: %+v", i, v)
		}
		got[i] = strings.Trim(fmt.Sprint(v.Rules), "[]")
	}
	return got
}

func TestDecide(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC)
	tests := []struct {
		name    string
		policy  retention.Policy
		backups []string // oldest first
		want    []string // the rules that keep each
	}{
		{"none at all", retention.Policy{Last: 1}, nil, nil},
		{"last", retention.Policy{Last: 2}, []string{"2026-11-20.040000", "2026-11-21.040000", "2026-11-22.040000"}, []string{"", "last", "last last-good"}},
		{"more slots than backups", retention.Policy{Last: 9, Daily: 9}, []string{"2026-11-22.040000"}, []string{"last daily last-good"}},
		{
			"hourly: the newest of an hour, of the newest hours that have one",
			retention.Policy{Hourly: 2},
			[]string{"2026-11-22.015900", "2026-11-22.020000", "2026-11-22.025959", "2026-11-23.025900"},
			[]string{"", "", "hourly", "hourly last-good"},
		},
		{
			"daily ends at midnight UTC",
			retention.Policy{Daily: 2},
			[]string{"2026-11-20.235959", "2026-11-21.000000", "2026-11-21.235959", "2026-11-22.000000"},
			[]string{"", "", "daily", "daily last-good"},
		},
		{
			"weekly begins on Monday, also over New Year",
			retention.Policy{Weekly: 3},
			[]string{"2025-12-27.120000", "2025-12-28.120000", "2025-12-29.000000", "2026-01-04.235959", "2026-01-05.000000"},
			[]string{"", "weekly", "", "weekly", "weekly last-good"},
		},
		{
			"monthly and yearly",
			retention.Policy{Monthly: 2, Yearly: 3},
			[]string{"2023-12-31.000000", "2024-12-31.000000", "2025-11-30.000000", "2025-12-31.235959", "2026-01-01.000000"},
			[]string{"", "yearly", "", "monthly yearly", "monthly yearly last-good"},
		},
		{
			"the same hour of the next day is another hour",
			retention.Policy{Hourly: 2},
			[]string{"2026-11-21.040000", "2026-11-22.040000"},
			[]string{"hourly", "hourly last-good"},
		},
		{
			"within counts from the newest backup, to the second",
			retention.Policy{Within: day},
			[]string{"2025-01-01.035959", "2025-01-01.040000", "2025-01-02.040000"},
			[]string{"", "within", "within last-good"},
		},
		{
			"doubtful ones fill no slot, and go when a newer one is good",
			retention.Policy{Last: 2, Daily: 2},
			[]string{"2026-11-19.040000", "2026-11-20.040000", "2026-11-21.040000 doubtful", "2026-11-22.040000"},
			[]string{"", "last daily", "", "last daily last-good"},
		},
		{
			"but not within the time",
			retention.Policy{Within: 2 * day},
			[]string{"2026-11-19.040000 doubtful", "2026-11-20.040000 doubtful", "2026-11-22.040000"},
			[]string{"", "within", "within last-good"},
		},
		{
			"doubtful ones that are newer than the last good one are judged among themselves",
			retention.Policy{Last: 1, Within: 12 * time.Hour},
			[]string{"2026-10-01.120000", "2026-11-18.040000 doubtful", "2026-11-21.180000 doubtful", "2026-11-22.040000 doubtful"},
			[]string{"last within last-good", "", "within", "last within"},
		},
		{"none is good", retention.Policy{Last: 1}, []string{"2026-11-21.040000 doubtful", "2026-11-22.040000 doubtful"}, []string{"", "last"}},
		{"unreadable", retention.Policy{Last: 1}, []string{"2020-11-21.040000 unreadable", "2026-11-22.040000", "2026-11-23.040000 unreadable"}, []string{"unreadable", "last last-good", "unreadable"}},
		{"pinned, also if it is doubtful", retention.Policy{Last: 1}, []string{"2020-11-21.040000 pinned", "2020-11-21.040001 doubtful pinned", "2026-11-22.040000"}, []string{"pinned", "pinned", "last last-good"}},
		{"a removal that was begun is finished", retention.Policy{Last: 2}, []string{"2026-11-21.040000", "2026-11-22.040000", "2026-11-23.040000 leaving", "2026-11-23.050000 leaving pinned"}, []string{"last", "last last-good", "", ""}},
		{
			"a clock that was a year ahead: that backup is looked through",
			retention.Policy{Last: 1, Daily: 2, Within: day},
			[]string{"2026-11-20.040000", "2026-11-21.040000 doubtful", "2026-11-22.040000", "2027-11-22.040000"},
			[]string{"daily", "within", "last daily within last-good", "future"},
		},
		{"an hour ahead is nothing", retention.Policy{Last: 1}, []string{"2026-11-23.070000", "2026-11-23.080000"}, []string{"", "last last-good"}},
		{"more than an hour is", retention.Policy{Last: 1}, []string{"2026-11-23.070000", "2026-11-23.080001"}, []string{"last last-good", "future"}},
		{
			"a clock that was a year behind: the newest has the oldest name",
			retention.Policy{Last: 1},
			[]string{"2025-11-23.040000 @90", "2026-11-20.040000 @70", "2026-11-21.040000 @80"},
			[]string{"ahead behind", "", "last last-good"},
		},
		{
			"and stays with the one that it was made after",
			retention.Policy{Last: 2},
			[]string{"2025-11-22.040000 @75", "2026-11-20.040000 @70", "2026-11-21.040000 @80"},
			[]string{"behind", "last", "last last-good"},
		},
		{
			"a replica that is a month late is no clock",
			retention.Policy{Last: 2},
			[]string{"2026-10-22.040000 @75", "2026-11-20.040000 @70", "2026-11-21.040000 @80"},
			[]string{"", "last", "last last-good"},
		},
		{
			"and goes when it is overtaken",
			retention.Policy{Last: 1},
			[]string{"2025-11-23.040000 @90", "2026-11-20.040000 @70", "2026-11-23.040000 @90"},
			[]string{"", "", "last last-good"},
		},
		{
			"errant transactions of a tablet: the newest that has them",
			retention.Policy{Last: 1},
			[]string{"2026-11-19.040000 @b5", "2026-11-20.040000 @b5", "2026-11-20.050000 @b6 doubtful", "2026-11-21.040000 @80"},
			[]string{"", "ahead", "", "last last-good"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := decide(t, test.policy, now, test.backups)
			for i := range test.want {
				if got[i] != test.want[i] {
					t.Errorf("%s: kept for %q, want %q", test.backups[i], got[i], test.want[i])
				}
			}
		})
	}
}

func TestDecideRefuses(t *testing.T) {
	if _, err := retention.Decide(nil, retention.Policy{}, time.Time{}); !errors.Is(err, retention.ErrNoRule) {
		t.Errorf("no rule: got %v", err)
	}
	for _, p := range []retention.Policy{{Last: -1}, {Hourly: -1}, {Daily: -1}, {Weekly: -1}, {Monthly: -1}, {Yearly: -1}, {Last: 1, Within: -1}} {
		if _, err := retention.Decide(nil, p, time.Time{}); err == nil {
			t.Errorf("%+v: no error", p)
		}
	}
}

// genBackups draws backups of distinct names, some hours to some years apart.
func genBackups(t *rapid.T) []retention.Backup {
	at := time.Date(2023, 12, 28, 20, 0, 0, 0, time.UTC)
	var list []retention.Backup
	for range rapid.IntRange(0, 40).Draw(t, "backups") {
		step := rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour, 24 * time.Hour, 24 * 20 * time.Hour}).Draw(t, "step")
		at = at.Add(time.Duration(rapid.IntRange(1, 30).Draw(t, "steps")) * step)
		b := retention.Backup{
			Name:   manifest.NewName(at, manifest.TabletAlias{Cell: "zone1", UID: 101}),
			State:  rapid.SampledFrom([]retention.State{retention.Good, retention.Good, retention.Good, retention.Doubtful, retention.Unreadable, retention.Leaving}).Draw(t, "state"),
			Pinned: rapid.IntRange(0, 9).Draw(t, "pinned") == 0,
		}
		if n := rapid.IntRange(0, 20).Draw(t, "position"); n > 0 {
			b.Position, _ = replication.ParseGTIDs(replication.MySQL, fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa942956%d:1-%d", n%3, n))
		}
		list = append(list, b)
	}
	return list
}

func genPolicy(t *rapid.T) retention.Policy {
	count := rapid.IntRange(0, 5)
	return retention.Policy{
		Last: 1 + count.Draw(t, "last"), Hourly: count.Draw(t, "hourly"), Daily: count.Draw(t, "daily"), Weekly: count.Draw(t, "weekly"),
		Monthly: count.Draw(t, "monthly"), Yearly: count.Draw(t, "yearly"), Within: time.Duration(rapid.IntRange(0, 100).Draw(t, "within")) * time.Hour,
	}
}

func genNow(t *rapid.T) time.Time {
	return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, rapid.IntRange(-800, 1600).Draw(t, "now"))
}

// kept returns the backups that are kept, by name.
func kept(t *rapid.T, list []retention.Backup, p retention.Policy, now time.Time) map[string]bool {
	verdicts, err := retention.Decide(list, p, now)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, v := range verdicts {
		if v.Keep() {
			names[v.Name.String()] = true
		}
	}
	return names
}

func checkSubset(t *rapid.T, why string, small, large map[string]bool) {
	for name := range small {
		if !large[name] {
			t.Errorf("%s: %s is not kept any more", why, name)
		}
	}
}

// Whatever the rules and the clock are, the newest good backup stays, and so do
// pinned and unreadable ones, and the transactions of the good ones.
func TestNeverLosesTheGood(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list, policy, now := genBackups(t), genPolicy(t), genNow(t)
		names := kept(t, list, policy, now)
		newest, all, left := "", replication.GTIDSet{}, replication.GTIDSet{}
		for _, b := range list {
			name := b.Name.String()
			if b.State == retention.Good {
				newest, all = name, all.Union(b.Position.Executed)
				if names[name] {
					left = left.Union(b.Position.Executed)
				}
			}
			if (b.Pinned && b.State != retention.Leaving || b.State == retention.Unreadable) && !names[name] {
				t.Errorf("%s is forgotten: %+v", name, b)
			}
		}
		if newest != "" && !names[newest] {
			t.Errorf("the newest good backup %s is forgotten", newest)
		}
		if !left.Contains(all) {
			t.Errorf("transactions %s are in no good backup any more", all.Subtract(left))
		}
	})
}

// Forgetting twice changes nothing.
func TestIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list, policy, now := genBackups(t), genPolicy(t), genNow(t)
		first := kept(t, list, policy, now)
		rest := slices.DeleteFunc(slices.Clone(list), func(b retention.Backup) bool { return !first[b.Name.String()] })
		if diff := cmp.Diff(first, kept(t, rest, policy, now)); diff != "" {
			t.Errorf("first - second +:\n%s", diff)
		}
	})
}

// More rules, larger numbers and more pins never forget more, and neither does
// a clock that is behind.
func TestMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list, policy, more, now := genBackups(t), genPolicy(t), genPolicy(t), genNow(t)
		before := kept(t, list, policy, now)
		larger := retention.Policy{
			Last: max(policy.Last, more.Last), Hourly: max(policy.Hourly, more.Hourly), Daily: max(policy.Daily, more.Daily), Weekly: max(policy.Weekly, more.Weekly),
			Monthly: max(policy.Monthly, more.Monthly), Yearly: max(policy.Yearly, more.Yearly), Within: max(policy.Within, more.Within),
		}
		checkSubset(t, "larger numbers", before, kept(t, list, larger, now))
		if len(list) > 0 {
			pinned := slices.Clone(list)
			pinned[rapid.IntRange(0, len(list)-1).Draw(t, "which")].Pinned = true
			checkSubset(t, "one more pin", before, kept(t, pinned, policy, now))
		}
	})
}

// genShifted draws backups of one server, each with more transactions than the one
// before, and the same with the clocks of some hosts a year or more off: the
// names of the future are of the future, and the first is right.
func genShifted(t *rapid.T) (now time.Time, right, shifted []retention.Backup) {
	now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	at := now.AddDate(0, 0, -300)
	for n := range uint32(rapid.IntRange(1, 40).Draw(t, "backups")) {
		at = at.Add(time.Duration(1+rapid.IntRange(0, 180).Draw(t, "hours"))*time.Hour + time.Second)
		b := retention.Backup{State: rapid.SampledFrom([]retention.State{retention.Good, retention.Good, retention.Good, retention.Doubtful}).Draw(t, "state")}
		b.Position, _ = replication.ParseGTIDs(replication.MySQL, fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa9429561:1-%d", n+1))
		days := 0
		if n == 0 {
			b.State = retention.Good
		} else {
			days = rapid.SampledFrom([]int{0, 0, -365, -500, 365, 1000}).Draw(t, "days")
		}
		alias := manifest.TabletAlias{Cell: "zone1", UID: n}
		b.Name = manifest.NewName(at, alias)
		right = append(right, b)
		b.Name = manifest.NewName(at.AddDate(0, 0, days), alias)
		shifted = append(shifted, b)
	}
	return now, right, shifted
}

// What right clocks would keep is kept, whichever hosts' clocks were a year off.
func TestClocksAYearOff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now, right, shifted := genShifted(t)
		policy := genPolicy(t)
		policy.Within *= 24
		want, got := kept(t, right, policy, now), kept(t, shifted, policy, now)
		for i := range right {
			if want[right[i].Name.String()] && !got[shifted[i].Name.String()] {
				t.Errorf("%s, named %s, is not kept any more", right[i].Name, shifted[i].Name)
			}
		}
	})
}

// A clock that is behind takes some good backups for such of the future, and
// keeps more. The other hosts' clocks are right.
func TestClockBehind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list, policy, now := genBackups(t), genPolicy(t), genNow(t)
		for i := range list {
			if list[i].State == retention.Doubtful {
				list[i].State = retention.Good
			}
			list[i].Position, _ = replication.ParseGTIDs(replication.MySQL, fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa9429561:1-%d", i/2+1))
		}
		behind := now.AddDate(0, 0, -rapid.IntRange(1, 1000).Draw(t, "days"))
		checkSubset(t, "clock behind", kept(t, list, policy, now), kept(t, list, policy, behind))
	})
}
