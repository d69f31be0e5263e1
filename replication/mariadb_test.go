package replication_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/shardseed/shardseed/replication"
)

func TestParseMariaDBPosition(t *testing.T) {
	tests := []struct{ name, text, want, newest string }{
		{"empty", "", "", ""},
		{"spaces only", " \n", "", ""},
		{"one", "0-1-100", "0-1-100", "0-1-100"},
		{"domains sorted", "3-1-5, 0-1-100,\n1-9-7", "0-1-100,1-9-7,3-1-5", "0-1-100,1-9-7,3-1-5"},
		{"binlog state, newest last", "0-1-7,0-2-5", "0-2-5,0-1-7", "0-1-7"},
		{"two domains, two servers", "1-2-9,0-1-7,1-1-4,0-2-8", "0-1-7,0-2-8,1-1-4,1-2-9", "0-2-8,1-2-9"},
		{"same number, two servers", "0-2-8,0-1-8", "0-1-8,0-2-8", "0-2-8"},
		{"same server, two domains", "0-1-8,1-1-8", "0-1-8,1-1-8", "0-1-8,1-1-8"},
		{"highest", "4294967295-4294967295-18446744073709551615", "4294967295-4294967295-18446744073709551615", "4294967295-4294967295-18446744073709551615"},
		{"zeros", "0-0-0", "0-0-0", "0-0-0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := mariaDB(t, test.text)
			if got := p.String(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if got := p.Newest().String(); got != test.newest {
				t.Errorf("newest: got %q, want %q", got, test.newest)
			}
			if got, want := p.IsEmpty(), test.want == ""; got != want {
				t.Errorf("IsEmpty: got %t, want %t", got, want)
			}
		})
	}
}

func TestParseMariaDBPositionErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"two numbers", "0-1", "is not domain-server-seq"},
		{"four numbers", "0-1-2-3", "is not domain-server-seq"},
		{"empty element", "0-1-2,,1-1-1", `"" is not domain-server-seq`},
		{"comma at the end", "0-1-2,", `"" is not domain-server-seq`},
		{"domain too high", "4294967296-1-1", "is not domain-server-seq"},
		{"server too high", "0-4294967296-1", "is not domain-server-seq"},
		{"number too high", "0-1-18446744073709551616", "is not domain-server-seq"},
		{"sign", "0-1-+2", "is not domain-server-seq"},
		{"inner space", "0 -1-2", "is not domain-server-seq"},
		{"same server twice", "0-1-2,1-1-1,0-1-3", "server 1 stands twice in domain 0"},
		{"MySQL", uuidA + ":1", "is not domain-server-seq"},
		{"too long", strings.Repeat(" ", 16<<20+1), "want at most"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := replication.ParseMariaDBPosition(test.text)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, %v, want an error with %q", p, err, test.want)
			}
		})
	}
}

func TestParseMariaDBGTIDList(t *testing.T) {
	for text, want := range map[string]string{"[]": "", "[0-12-6]": "0-12-6", "[0-1-5,\n0-2-3]": "0-2-3,0-1-5"} {
		p, err := replication.ParseMariaDBGTIDList(text)
		if got := p.String(); got != want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0-1-5", "[0-1-5", "0-1-5]", "[0-1]"} {
		if p, err := replication.ParseMariaDBGTIDList(text); err == nil {
			t.Errorf("%q: got %q, want an error", text, p)
		}
	}
}

func TestMariaDBPositionArithmetic(t *testing.T) {
	tests := []struct{ name, a, b, minus string }{
		{"empty", "", "", ""},
		{"same", "0-1-100", "0-1-100", ""},
		{"older", "0-1-99", "0-1-100", ""},
		{"newer", "0-1-101", "0-1-100", "0-1-101"},
		{"newer, other server", "0-2-101", "0-1-100", "0-2-101"},
		{"same number, other server: not seen", "0-2-100", "0-1-100", ""},
		{"unknown domain", "0-1-100,7-1-1", "0-1-100", "7-1-1"},
		{"number zero is nothing", "7-1-0", "", ""},
		{"one of two domains", "0-1-5,1-1-5", "0-1-5,1-1-4", "1-1-5"},
		{"state against state", "0-1-7,0-2-9", "0-3-8", "0-2-9"},
		{"state with an older, higher server", "0-1-9", "0-1-3,0-2-9", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, b := mariaDB(t, test.a), mariaDB(t, test.b)
			if got := a.Subtract(b).String(); got != test.minus {
				t.Errorf("a minus b: got %q, want %q", got, test.minus)
			}
			if got, want := b.Contains(a), test.minus == ""; got != want {
				t.Errorf("b contains a: got %t, want %t", got, want)
			}
		})
	}
}

func TestMariaDBPositionShort(t *testing.T) {
	if got, want := mariaDB(t, "0-1-1,1-1-1").Short(), "0-1-1,1-1-1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var all []string
	for i := range 20 {
		all = append(all, fmt.Sprintf("%d-1-1", i))
	}
	want := "0-1-1,1-1-1,2-1-1,3-1-1,4-1-1,5-1-1,6-1-1,7-1-1,... (12 more GTIDs)"
	if got := mariaDB(t, strings.Join(all, ",")).Short(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMariaDBPositionGTIDsIsACopy(t *testing.T) {
	p := mariaDB(t, "0-1-7,1-2-3")
	got := p.GTIDs()
	want := []replication.MariaDBGTID{{Domain: 0, Server: 1, Seq: 7}, {Domain: 1, Server: 2, Seq: 3}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("GTIDs, want - got +:\n%s", diff)
	}
	if got, want := got[1].String(), "1-2-3"; got != want {
		t.Errorf("GTID: got %q, want %q", got, want)
	}
	got[0].Seq = 99
	if got, want := p.String(), "0-1-7,1-2-3"; got != want {
		t.Errorf("after a change of the copy: got %q, want %q", got, want)
	}
}

func drawMariaDB(t *rapid.T, label string) replication.MariaDBPosition {
	var elements []string
	seen := map[string]bool{}
	for range rapid.IntRange(0, 8).Draw(t, label+" GTIDs") {
		who := fmt.Sprintf("%d-%d", rapid.IntRange(0, 3).Draw(t, "domain"), rapid.IntRange(1, 3).Draw(t, "server"))
		if !seen[who] {
			seen[who] = true
			elements = append(elements, fmt.Sprintf("%s-%d", who, rapid.IntRange(1, 5).Draw(t, "seq")))
		}
	}
	p, err := replication.ParseMariaDBPosition(strings.Join(elements, " ,"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMariaDBPositionLaws(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b := drawMariaDB(rt, "a"), drawMariaDB(rt, "b")
		again := mariaDB(t, a.String())
		switch {
		case !again.Equal(a):
			rt.Errorf("%q doesn't read back", a)
		case !a.Contains(a) || !a.Newest().Contains(a) || !a.Contains(a.Newest()):
			rt.Errorf("%q doesn't contain itself", a)
		case a.Contains(b) != a.Newest().Contains(b.Newest()):
			rt.Errorf("%q contains %q: the newest of each domain say otherwise", a, b)
		case !a.Contains(a.Subtract(b)) || a.Equal(b) && !a.Contains(b):
			rt.Errorf("%q and %q: a part isn't contained", a, b)
		case !b.Contains(a) && a.Subtract(b).IsEmpty():
			rt.Errorf("%q and %q: nothing is missing, yet not contained", a, b)
		}
	})
}

func mariaDBReadsBack(t *testing.T, text string) {
	p, err := replication.ParseMariaDBPosition(text)
	if err != nil {
		return
	}
	again, err := replication.ParseMariaDBPosition(p.String())
	if err != nil || !again.Equal(p) {
		t.Errorf("%q is printed as %q and read as %q, %v", text, p, again, err)
	}
}

func TestParseMariaDBPositionDamaged(t *testing.T) {
	damaged("0-1-100,7-4294967295-18446744073709551615,\n0-2-101", func(text string) { mariaDBReadsBack(t, text) })
	damaged("[0-1-100,7-3-5]", func(text string) {
		if p, err := replication.ParseMariaDBGTIDList(text); err == nil {
			mariaDBReadsBack(t, p.String())
		}
	})
}

func TestMariaDBPositionText(t *testing.T) {
	var p replication.MariaDBPosition
	if err := p.UnmarshalText([]byte("1-1-1,0-1-5")); err != nil {
		t.Fatal(err)
	}
	text, err := p.MarshalText()
	if got, want := string(text), "0-1-5,1-1-1"; got != want || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if err := p.UnmarshalText([]byte("nonsense")); err == nil || p.String() != "0-1-5,1-1-1" {
		t.Errorf("nonsense: got %q, %v, want an error and the list as it was", p, err)
	}
}

func FuzzParseMariaDBPosition(f *testing.F) {
	f.Add("")
	f.Add("0-1-100,\n7-4294967295-18446744073709551615")
	f.Add("0-1-7,0-2-5")
	f.Fuzz(mariaDBReadsBack)
}
