package replication_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/shardseed/shardseed/replication"
)

func TestParseGTIDSet(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"empty", "", ""},
		{"spaces only", " \n\t", ""},
		{"one", uuidB + ":1", uuidB + ":1"},
		{"range of one", uuidB + ":7-7", uuidB + ":7"},
		{"upper case", strings.ToUpper(uuidB) + ":1-5", uuidB + ":1-5"},
		{"as the server prints it", uuidA + ":1-6,\n" + uuidB + ":1-9:11:tag:3-5", uuidA + ":1-6," + uuidB + ":1-9:11:tag:3-5"},
		{"spaces everywhere", " " + uuidB + " : 1 - 5 : Tag_A : 7 :\n9 ", uuidB + ":1-5:tag_a:7:9"},
		{"order of UUIDs", uuidC + ":1," + uuidA + ":1," + uuidB + ":1", uuidA + ":1," + uuidB + ":1," + uuidC + ":1"},
		{"order of intervals", uuidA + ":9:5:1", uuidA + ":1:5:9"},
		{"touching", uuidA + ":1-3:4:5-6", uuidA + ":1-6"},
		{"touching backwards", uuidA + ":5-6:4:1-3", uuidA + ":1-6"},
		{"overlapping", uuidA + ":1-10:2-3:8-12", uuidA + ":1-12"},
		{"gap of one", uuidA + ":1-3:5", uuidA + ":1-3:5"},
		{"same UUID twice", uuidA + ":1," + uuidA + ":2", uuidA + ":1-2"},
		{"tags sorted, untagged first", uuidA + ":b:1:a:2:3," + uuidA + ":1:B:2-3", uuidA + ":1:a:2-3:b:1-3"},
		{"tag only", uuidA + ":_x:1", uuidA + ":_x:1"},
		{"same tag, other UUID", uuidA + ":x:1," + uuidB + ":x:1", uuidA + ":x:1," + uuidB + ":x:1"},
		{"longest tag", uuidA + ":" + strings.Repeat("t", 32) + ":1", uuidA + ":" + strings.Repeat("t", 32) + ":1"},
		{"leading zeros", uuidA + ":007-009", uuidA + ":7-9"},
		{"highest number", uuidA + ":9223372036854775806", uuidA + ":9223372036854775806"},
		{"everything", uuidA + ":1-9223372036854775806", uuidA + ":1-9223372036854775806"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := gtidSet(t, test.text)
			if got := s.String(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if got, want := s.IsEmpty(), test.want == ""; got != want {
				t.Errorf("IsEmpty: got %t, want %t", got, want)
			}
			if !gtidSet(t, s.String()).Equal(s) {
				t.Errorf("%q doesn't read back", s)
			}
		})
	}
}

func TestParseGTIDSetErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"no interval", uuidA, "no interval at its end"},
		{"empty interval", uuidA + ":", "no sequence number"},
		{"empty element", uuidA + ":1,," + uuidB + ":1", "is no UUID"},
		{"comma at the end", uuidA + ":1,", "is no UUID"},
		{"zero", uuidA + ":0", "no sequence number"},
		{"zero to one", uuidA + ":0-1", "no sequence number"},
		{"backwards", uuidA + ":5-3", "runs backwards"},
		{"negative", uuidA + ":-3", "neither an interval nor a tag"},
		{"plus", uuidA + ":+3", "neither an interval nor a tag"},
		{"open range", uuidA + ":3-", "no sequence number"},
		{"two ranges", uuidA + ":1-2-3", "no sequence number"},
		{"too high", uuidA + ":9223372036854775807", "no sequence number"},
		{"far too high", uuidA + ":1-99999999999999999999", "no sequence number"},
		{"hex", uuidA + ":0x1", "no sequence number"},
		{"underscore", uuidA + ":1_0", "no sequence number"},
		{"tag without interval", uuidA + ":tag", "no interval at its end"},
		{"tag, colon, nothing", uuidA + ":tag:", "no sequence number"},
		{"two tags", uuidA + ":a:b:1", `tag "a" has no interval`},
		{"long tag", uuidA + ":" + strings.Repeat("t", 33) + ":1", "want at most 32"},
		{"tag with a dash", uuidA + ":a-b:1", "neither an interval nor a tag"},
		{"tag with @", uuidA + ":@:1", "neither an interval nor a tag"},
		{"tag with a letter that isn't ASCII", uuidA + ":\u212a:1", "neither an interval nor a tag"},
		{"short UUID", uuidA[1:] + ":1", "is no UUID"},
		{"UUID without dashes", strings.ReplaceAll(uuidA, "-", "") + ":1", "is no UUID"},
		{"UUID with a letter", "g" + uuidA[1:] + ":1", "is no UUID"},
		{"MariaDB", "0-1-100", "is no UUID"},
		{"too long", strings.Repeat(" ", 16<<20+1), "want at most"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := replication.ParseGTIDSet(test.text)
			if err == nil {
				t.Fatalf("got %q, want an error with %q", s, test.want)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want an error with %q", err, test.want)
			}
			if len(err.Error()) > 300 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestGTIDSetArithmetic(t *testing.T) {
	tests := []struct{ name, a, b, minus, union string }{
		{"empty", "", "", "", ""},
		{"minus nothing", uuidA + ":1-5", "", uuidA + ":1-5", uuidA + ":1-5"},
		{"nothing minus", "", uuidA + ":1-5", "", uuidA + ":1-5"},
		{"same", uuidA + ":1-5", uuidA + ":1-5", "", uuidA + ":1-5"},
		{"hole", uuidA + ":1-9", uuidA + ":4-6", uuidA + ":1-3:7-9", uuidA + ":1-9"},
		{"left end", uuidA + ":1-9", uuidA + ":1-6", uuidA + ":7-9", uuidA + ":1-9"},
		{"right end", uuidA + ":1-9", uuidA + ":6-9", uuidA + ":1-5", uuidA + ":1-9"},
		{"beyond both ends", uuidA + ":5-9", uuidA + ":1-20", "", uuidA + ":1-20"},
		{"many holes", uuidA + ":1-9", uuidA + ":1:3:5:7:9", uuidA + ":2:4:6:8", uuidA + ":1-9"},
		{"one hole in many", uuidA + ":1:3:5:7:9", uuidA + ":2-8", uuidA + ":1:9", uuidA + ":1-9"},
		{"touching", uuidA + ":1-3", uuidA + ":4-6", uuidA + ":1-3", uuidA + ":1-6"},
		{"other UUID", uuidA + ":1", uuidB + ":1", uuidA + ":1", uuidA + ":1," + uuidB + ":1"},
		{"other tag", uuidA + ":1:x:1", uuidA + ":1:y:1", uuidA + ":x:1", uuidA + ":1:x:1:y:1"},
		{"up to the highest", uuidA + ":1-9223372036854775806", uuidA + ":2-9223372036854775806", uuidA + ":1", uuidA + ":1-9223372036854775806"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, b := gtidSet(t, test.a), gtidSet(t, test.b)
			if got := a.Subtract(b).String(); got != test.minus {
				t.Errorf("a minus b: got %q, want %q", got, test.minus)
			}
			if got := a.Union(b).String(); got != test.union {
				t.Errorf("a and b: got %q, want %q", got, test.union)
			}
			if got, want := b.Contains(a), test.minus == ""; got != want {
				t.Errorf("b contains a: got %t, want %t", got, want)
			}
			if a.String() != test.a || b.String() != test.b {
				t.Errorf("operands changed to %q and %q", a, b)
			}
		})
	}
}

// model is a set of GTIDs one by one: "uuid:tag:number".
type model map[string]bool

// modelOf lists a canonical text.
func modelOf(t testing.TB, s replication.GTIDSet) model {
	t.Helper()
	m := model{}
	if s.IsEmpty() {
		return m
	}
	for element := range strings.SplitSeq(s.String(), ",") {
		parts := strings.Split(element, ":")
		tag := ""
		for _, part := range parts[1:] {
			var first, last int
			switch n, _ := fmt.Sscanf(part, "%d-%d", &first, &last); n {
			case 0:
				tag = part
			case 1:
				last = first
				fallthrough
			default:
				for i := first; i <= last; i++ {
					m[fmt.Sprintf("%s:%s:%d", parts[0], tag, i)] = true
				}
			}
		}
	}
	return m
}

// drawGTIDSet draws a set as text, in no particular order or spelling, and the
// model of it.
func drawGTIDSet(t *rapid.T, label string) (string, model) {
	m := model{}
	var elements []string
	for range rapid.IntRange(0, 6).Draw(t, label+" elements") {
		uuid := rapid.SampledFrom([]string{uuidA, uuidB, uuidC}).Draw(t, "uuid")
		text := rapid.SampledFrom([]string{uuid, strings.ToUpper(uuid), "\n" + uuid + " "}).Draw(t, "spelling")
		for range rapid.IntRange(1, 3).Draw(t, "runs") {
			tag := rapid.SampledFrom([]string{"", "a", "b_2"}).Draw(t, "tag")
			if tag != "" {
				text += ":" + tag
			} else if len(text) > 40 {
				break // untagged only right behind the UUID
			}
			for range rapid.IntRange(1, 3).Draw(t, "intervals") {
				first := rapid.IntRange(1, 20).Draw(t, "first")
				last := first + rapid.IntRange(0, 6).Draw(t, "more")
				text += fmt.Sprintf(":%d-%d", first, last)
				for i := first; i <= last; i++ {
					m[fmt.Sprintf("%s:%s:%d", uuid, tag, i)] = true
				}
			}
		}
		elements = append(elements, text)
	}
	return strings.Join(elements, ","), m
}

func TestGTIDSetAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		textA, a := drawGTIDSet(rt, "a")
		textB, b := drawGTIDSet(rt, "b")
		setA, setB := gtidSet(t, textA), gtidSet(t, textB)
		wantMinus, wantUnion, contains := model{}, model{}, true
		for g := range a {
			wantUnion[g] = true
			if !b[g] {
				wantMinus[g] = true
			}
		}
		for g := range b {
			wantUnion[g] = true
			contains = contains && a[g]
		}
		requireModel(rt, "a", modelOf(t, setA), a)
		requireModel(rt, "a minus b", modelOf(t, setA.Subtract(setB)), wantMinus)
		requireModel(rt, "a and b", modelOf(t, setA.Union(setB)), wantUnion)
		if got := setA.Contains(setB); got != contains {
			rt.Errorf("%q contains %q: got %t, want %t", setA, setB, got, contains)
		}
		if got, want := setA.Equal(setB), len(wantMinus) == 0 && contains; got != want {
			rt.Errorf("%q equals %q: got %t, want %t", setA, setB, got, want)
		}
	})
}

func requireModel(t *rapid.T, what string, got, want model) {
	for g := range want {
		if !got[g] {
			t.Errorf("%s lacks %s", what, g)
		}
	}
	for g := range got {
		if !want[g] {
			t.Errorf("%s has %s", what, g)
		}
	}
}

func TestGTIDSetLaws(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		textA, _ := drawGTIDSet(rt, "a")
		textB, _ := drawGTIDSet(rt, "b")
		a, b := gtidSet(t, textA), gtidSet(t, textB)
		union, rest := a.Union(b), a.Subtract(b)
		switch {
		case !gtidSet(t, a.String()).Equal(a):
			rt.Errorf("%q doesn't read back", a)
		case union.String() != b.Union(a).String():
			rt.Errorf("%q and %q: the union depends on the order", a, b)
		case !union.Contains(a) || !union.Contains(b) || !a.Contains(rest):
			rt.Errorf("%q and %q: a part isn't contained", a, b)
		case !rest.Union(b).Equal(union):
			rt.Errorf("%q and %q: (a minus b) and b isn't a and b", a, b)
		case !rest.Subtract(b).Equal(rest) || !a.Subtract(a).IsEmpty():
			rt.Errorf("%q and %q: subtracting again changes something", a, b)
		}
	})
}

func TestGTIDSetShort(t *testing.T) {
	tests := []struct {
		name string
		set  replication.GTIDSet
		want string
	}{
		{"empty", replication.GTIDSet{}, ""},
		{"few", gtidSet(t, uuidA+":1-48,"+uuidB+":x:3"), uuidA + ":1-48," + uuidB + ":x:3"},
		{"eight", manyIntervals(t, 8), uuidA + ":1:3:5:7:9:11:13:15"},
		{"nine", manyIntervals(t, 9), uuidA + ":1:3:5:7:9:11:13:15,... (1 more interval)"},
		{"many", manyIntervals(t, 320), uuidA + ":1:3:5:7:9:11:13:15,... (312 more intervals)"},
		{"left out at a tag", gtidSet(t, manyIntervals(t, 8).String()+":x:1:3"), uuidA + ":1:3:5:7:9:11:13:15,... (2 more intervals)"},
		{"left out at a UUID", manyIntervals(t, 8).Union(gtidSet(t, uuidB+":1")), uuidA + ":1:3:5:7:9:11:13:15,... (1 more interval)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.set.Short(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestGTIDSetLarge would not end in time if an operation were quadratic: there
// are 400,000 intervals on each side.
func TestGTIDSetLarge(t *testing.T) {
	var odd, even strings.Builder
	for u := range 400 {
		uuid := fmt.Sprintf(",%08x-0000-0000-0000-000000000000", u)
		odd.WriteString(uuid)
		even.WriteString(uuid)
		for i := range 1000 {
			fmt.Fprintf(&odd, ":%d", 4*i+1)
			fmt.Fprintf(&even, ":%d", 4*i+3)
		}
	}
	a, b := gtidSet(t, odd.String()[1:]), gtidSet(t, even.String()[1:])
	union := a.Union(b)
	if !union.Contains(a) || !union.Contains(b) || a.Contains(b) {
		t.Error("the union doesn't contain its parts")
	}
	if !union.Subtract(b).Equal(a) || !a.Subtract(b).Equal(a) {
		t.Error("subtracting what was united doesn't give back the rest")
	}
	if !gtidSet(t, union.String()).Equal(union) {
		t.Error("the union doesn't read back")
	}
}

func TestGTIDSetText(t *testing.T) {
	var s replication.GTIDSet
	if err := s.UnmarshalText([]byte(uuidB + ":2:1")); err != nil {
		t.Fatal(err)
	}
	text, err := s.MarshalText()
	if got, want := string(text), uuidB+":1-2"; got != want || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if err := s.UnmarshalText([]byte("nonsense")); err == nil || s.String() != uuidB+":1-2" {
		t.Errorf("nonsense: got %q, %v, want an error and the set as it was", s, err)
	}
}

// readsBack checks that what is accepted is printed in a form that is read as
// the same set.
func readsBack(t *testing.T, text string) {
	s, err := replication.ParseGTIDSet(text)
	if err != nil {
		return
	}
	again, err := replication.ParseGTIDSet(s.String())
	if err != nil || !again.Equal(s) || again.String() != s.String() {
		t.Errorf("%q is printed as %q and read as %q, %v", text, s, again, err)
	}
}

func TestParseGTIDSetDamaged(t *testing.T) {
	damaged(uuidA+":1-6:9,\n"+uuidB+":1-9:11:tag_1:3-5", func(text string) { readsBack(t, text) })
}

func FuzzParseGTIDSet(f *testing.F) {
	f.Add("")
	f.Add(uuidA + ":1-6,\n" + uuidB + ":1-9:11:tag:3-5")
	f.Add(uuidA + ":9223372036854775806:1:b:2:a:1-3," + uuidA + ":2")
	f.Fuzz(readsBack)
}
