package replication_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/replication"
)

func TestParseVersion(t *testing.T) {
	my, maria := replication.MySQL, replication.MariaDB
	tests := []struct {
		version, comment string
		want             replication.Version
		text             string
	}{
		{"9.7.4", "MySQL Community Server - GPL", replication.Version{Flavor: my, Major: 9, Minor: 7, Patch: 4}, "MySQL 9.7.4"},
		{"9.7.4-2", "(Debian)", replication.Version{Flavor: my, Major: 9, Minor: 7, Patch: 4}, "MySQL 9.7.4"},
		{"8.0.36-28", "Percona Server (GPL), Release 28, Revision 47601f19", replication.Version{Flavor: my, Major: 8, Patch: 36}, "MySQL 8.0.36"},
		{"8.0.45-0ubuntu0.24.04.1", "(Ubuntu)", replication.Version{Flavor: my, Major: 8, Patch: 45}, "MySQL 8.0.45"},
		{"8.4.5", "", replication.Version{Flavor: my, Major: 8, Minor: 4, Patch: 5}, "MySQL 8.4.5"},
		{"26.7.0", "MySQL Community Server - GPL", replication.Version{Flavor: my, Major: 26, Minor: 7}, "MySQL 26.7.0"},
		{"5.7.44-log", "", replication.Version{Flavor: my, Major: 5, Minor: 7, Patch: 44}, "MySQL 5.7.44"},
		{"5.5.5-m3", "", replication.Version{Flavor: my, Major: 5, Minor: 5, Patch: 5}, "MySQL 5.5.5"},
		{"10.11.11-MariaDB-0+deb12u1-log", "Debian 12", replication.Version{Flavor: maria, Major: 10, Minor: 11, Patch: 11}, "MariaDB 10.11.11"},
		{"11.8.2-MariaDB", "", replication.Version{Flavor: maria, Major: 11, Minor: 8, Patch: 2}, "MariaDB 11.8.2"},
		{"10.11.5", "mariadb.org binary distribution", replication.Version{Flavor: maria, Major: 10, Minor: 11, Patch: 5}, "MariaDB 10.11.5"},
		{"10.6.14-9-MariaDB-enterprise", "MariaDB Enterprise Server", replication.Version{Flavor: maria, Major: 10, Minor: 6, Patch: 14}, "MariaDB 10.6.14"},
		{"5.5.5-MariaDB", "", replication.Version{Flavor: maria, Major: 5, Minor: 5, Patch: 5}, "MariaDB 5.5.5"},
		{"0.0.65535", "", replication.Version{Flavor: my, Patch: 65535}, "MySQL 0.0.65535"},
	}
	for _, test := range tests {
		t.Run(test.version, func(t *testing.T) {
			got := version(t, test.version, test.comment)
			test.want.Text = test.version
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("want - got +:\n%s", diff)
			}
			if got.String() != test.text {
				t.Errorf("got %q, want %q", got, test.text)
			}
		})
	}
}

func TestParseVersionOnTheWire(t *testing.T) {
	got := version(t, "5.5.5-10.11.11-MariaDB", "")
	want := replication.Version{Flavor: replication.MariaDB, Major: 10, Minor: 11, Patch: 11, Text: "10.11.11-MariaDB"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want - got +:\n%s", diff)
	}
}

func TestParseVersionErrors(t *testing.T) {
	tests := []struct{ version, comment, want string }{
		{"", "", "no major.minor.patch"},
		{"8", "", "no major.minor.patch"},
		{"8.0", "", "no major.minor.patch"},
		{"8.0.", "", "no major.minor.patch"},
		{"8.0.x", "", "no major.minor.patch"},
		{"8.0-rc.1", "", "no major.minor.patch"},
		{"v8.0.1", "", "no major.minor.patch"},
		{"-8.0.1", "", "no major.minor.patch"},
		{"8.0.65536", "", "no major.minor.patch"},
		{"8.0.11-TiDB-v7.5.0", "", "this is TiDB"},
		{"8.0.40-Vitess", "", "this is Vitess"},
		{"8.0.mysql_aurora.3.04.0", "", "this is Aurora"},
		{"8.0.30", "Vitess", "this is Vitess"},
		{strings.Repeat("x", 1000), "", "no major.minor.patch"},
	}
	for _, test := range tests {
		t.Run(test.version, func(t *testing.T) {
			v, err := replication.ParseVersion(test.version, test.comment)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, %v, want an error with %q", v, err, test.want)
			}
			if len(err.Error()) > 200 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestSupported(t *testing.T) {
	tests := []struct{ version, want string }{
		{"5.7.44", "MySQL 5.7.44 is not supported: MySQL 8.0 or later is needed"},
		{"8.0.0", ""},
		{"8.0.36-28", ""},
		{"9.7.0", ""},
		{"10.0.0", ""}, // MySQL: no word of MariaDB
		{"26.10.1", ""},
		{"10.10.7-MariaDB", "MariaDB 10.10.7 is not supported: MariaDB 10.11 or later is needed"},
		{"10.11.0-MariaDB", ""},
		{"11.0.2-MariaDB", ""},
		{"12.3.1-MariaDB", ""},
		{"8.4.0-MariaDB", "MariaDB 8.4.0 is not supported: MariaDB 10.11 or later is needed"},
	}
	for _, test := range tests {
		t.Run(test.version, func(t *testing.T) {
			v := version(t, test.version, "")
			got := ""
			if err := v.Supported(); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if _, err := replication.DialectFor(v); (err == nil) != (test.want == "") {
				t.Errorf("DialectFor: got %v", err)
			}
		})
	}
	if err := (replication.Version{}).Supported(); err == nil {
		t.Error("the zero version is supported")
	}
}

func TestVersionOrder(t *testing.T) {
	ascending := []string{"5.7.44", "8.0.0", "8.0.22", "8.4.0", "9.7.4", "10.0.0", "26.7.0"}
	for i, a := range ascending {
		for j, b := range ascending {
			va, vb := version(t, a, ""), version(t, b, "")
			want := min(1, max(-1, i-j))
			if got := va.Compare(vb); got != want {
				t.Errorf("%s against %s: got %d, want %d", a, b, got, want)
			}
			if got := va.AtLeast(vb.Major, vb.Minor, vb.Patch); got != (want >= 0) {
				t.Errorf("%s at least %s: got %t", a, b, got)
			}
		}
	}
}

func TestParseVersionDamaged(t *testing.T) {
	damaged("5.5.5-10.11.11-MariaDB-0+deb12u1-log", func(text string) { checkVersion(t, text, "Debian 12") })
}

// checkVersion checks that what is accepted has numbers that are in the text.
func checkVersion(t *testing.T, text, comment string) {
	v, err := replication.ParseVersion(text, comment)
	if err != nil {
		return
	}
	again, err := replication.ParseVersion(v.Text, string(v.Flavor))
	if err != nil || again.Compare(v) != 0 {
		t.Errorf("%q is read as %v, its text %q as %v, %v", text, v, v.Text, again, err)
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add("9.7.4-2", "(Debian)")
	f.Add("5.5.5-10.11.11-MariaDB", "mariadb.org binary distribution")
	f.Add("5.5.5-5.5.5-10.11.11", "MariaDB")
	f.Fuzz(checkVersion)
}

func TestParseFlavor(t *testing.T) {
	for _, want := range []replication.Flavor{replication.MySQL, replication.MariaDB} {
		if got, err := replication.ParseFlavor(string(want)); got != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	for _, text := range []string{"", "MySQL", "percona", strings.Repeat("m", 1000)} {
		if got, err := replication.ParseFlavor(text); err == nil {
			t.Errorf("%q: got %q, want an error", text, got)
		}
	}
}
