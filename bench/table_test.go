package main

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	table := table{head: []string{"tool", "s"}}
	table.add("shardseed", "1.2")
	table.add("Köln", "100")
	var out strings.Builder
	table.writeTo(&out, 1)
	want := "" +
		"| tool      |   s |\n" +
		"| --------- | --: |\n" +
		"| shardseed | 1.2 |\n" +
		"| Köln      | 100 |\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestNumber(t *testing.T) {
	for _, test := range []struct {
		value float64
		want  string
	}{
		{0, "0.00"}, {0.004, "0.00"}, {0.994, "0.99"}, {0.996, "1.0"}, {1, "1.0"}, {12.34, "12.3"}, {99.4, "99.4"}, {99.6, "100"}, {12345.6, "12346"},
	} {
		if got := number(test.value); got != test.want {
			t.Errorf("number(%v) = %q, want %q", test.value, got, test.want)
		}
	}
}

func TestTimes(t *testing.T) {
	for _, test := range []struct {
		value, base float64
		want        string
	}{{3, 2, "1.5"}, {1, 4, "0.25"}, {1, 0, ""}, {0, 1, ""}} {
		if got := times(test.value, test.base); got != test.want {
			t.Errorf("times(%v, %v) = %q, want %q", test.value, test.base, got, test.want)
		}
	}
	if got := mebibytes(3 << 19); got != "1.5" {
		t.Errorf("mebibytes = %q, want 1.5", got)
	}
}
