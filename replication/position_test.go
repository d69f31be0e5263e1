package replication_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/replication"
)

func TestParsePosition(t *testing.T) {
	tests := []struct{ name, text, want, short string }{
		{"unknown", "", "", "nothing"},
		{"nothing executed", "mysql:", "mysql:", "nothing"},
		{"MySQL", "mysql:" + strings.ToUpper(uuidB) + ":1-48", "mysql:" + uuidB + ":1-48", uuidB + ":1-48"},
		{"MySQL with tags", "mysql:" + uuidA + ":1:x:2," + uuidB + ":7", "mysql:" + uuidA + ":1:x:2," + uuidB + ":7", uuidA + ":1:x:2," + uuidB + ":7"},
		{"MariaDB", "mariadb:1-1-5,0-1-100", "mariadb:0-1-100,1-1-5", "0-1-100,1-1-5"},
		{"MariaDB, nothing", "mariadb:", "mariadb:", "nothing"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := position(t, test.text)
			if got := p.String(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if got := p.Short(); got != test.short {
				t.Errorf("short: got %q, want %q", got, test.short)
			}
			if got, want := p.IsZero(), test.text == ""; got != want {
				t.Errorf("IsZero: got %t, want %t", got, want)
			}
			if got, want := p.IsEmpty(), test.short == "nothing"; got != want {
				t.Errorf("IsEmpty: got %t, want %t", got, want)
			}
			if !position(t, p.String()).Equal(p) {
				t.Errorf("%q doesn't read back", p)
			}
		})
	}
}

func TestParsePositionErrors(t *testing.T) {
	tests := []struct{ text, want string }{
		{"mysql", "want flavor:gtids"},
		{uuidA + ":1", "parse flavor"},
		{"MySQL:" + uuidA + ":1", "parse flavor"},
		{"mysql:0-1-100", "is no UUID"},
		{"mariadb:" + uuidA + ":1", "is not domain-server-seq"},
		{"mariadb:0-1-5,0-2-6", "domain 0 stands twice"},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			p, err := replication.ParsePosition(test.text)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, %v, want an error with %q", p, err, test.want)
			}
		})
	}
}

func TestPositionArithmetic(t *testing.T) {
	tests := []struct{ name, a, b, minus string }{
		{"same", "mysql:" + uuidA + ":1-5", "mysql:" + uuidA + ":1-5", "mysql:"},
		{"ahead", "mysql:" + uuidA + ":1-5", "mysql:" + uuidA + ":1-3", "mysql:" + uuidA + ":4-5"},
		{"behind", "mariadb:0-1-5", "mariadb:0-2-6", "mariadb:"},
		{"ahead in one domain", "mariadb:0-1-5,1-1-7", "mariadb:0-2-6", "mariadb:1-1-7"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, b := position(t, test.a), position(t, test.b)
			if got := a.Subtract(b).String(); got != test.minus {
				t.Errorf("a minus b: got %q, want %q", got, test.minus)
			}
			if got, want := b.Contains(a), a.Subtract(b).IsEmpty(); got != want {
				t.Errorf("b contains a: got %t, want %t", got, want)
			}
			if got, want := a.Equal(b), test.a == test.b; got != want {
				t.Errorf("equal: got %t, want %t", got, want)
			}
		})
	}
	my, maria := position(t, "mysql:"), position(t, "mariadb:")
	if my.Contains(maria) || maria.Contains(my) || my.Equal(maria) {
		t.Error("positions of different flavors compare as equal")
	}
}

// samePosition compares all fields; Equal looks at the GTID part only.
func samePosition(a, b replication.Position) bool {
	return a.Equal(b) && a.Purged.Equal(b.Purged) && a.BinlogState.Equal(b.BinlogState) &&
		a.BinlogFile == b.BinlogFile && a.BinlogOffset == b.BinlogOffset &&
		a.SourceFile == b.SourceFile && a.SourceOffset == b.SourceOffset
}

// positions are one of each kind with their JSON.
func positions(t testing.TB) map[string]replication.Position {
	t.Helper()
	mysql := position(t, "mysql:"+uuidA+":1-48:tag:3")
	mysql.Purged = gtidSet(t, uuidA+":1-5")
	mysql.BinlogFile, mysql.BinlogOffset = "binlog.000004", 198
	mysql.SourceFile, mysql.SourceOffset = "binlog.000009", 1<<63
	maria := position(t, "mariadb:0-1-100,1-2-3")
	maria.BinlogState = mariaDB(t, "0-1-99,0-2-100")
	maria.BinlogFile = "mysql-bin.000001"
	return map[string]replication.Position{
		`{}`: {},
		`{"flavor":"mysql","executed":"` + uuidA + `:1-48:tag:3","purged":"` + uuidA + `:1-5","binlog_file":"binlog.000004",` +
			`"binlog_offset":198,"source_file":"binlog.000009","source_offset":9223372036854775808}`: mysql,
		`{"flavor":"mariadb","executed":"0-1-100,1-2-3","binlog_state":"0-1-99,0-2-100","binlog_file":"mysql-bin.000001"}`: maria,
		`{"flavor":"mariadb"}`: {Flavor: replication.MariaDB},
	}
}

func TestPositionJSON(t *testing.T) {
	for text, p := range positions(t) {
		t.Run(text, func(t *testing.T) {
			got, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(text, string(got)); diff != "" {
				t.Errorf("encoded, want - got +:\n%s", diff)
			}
			var again replication.Position
			if err := json.Unmarshal(got, &again); err != nil {
				t.Fatal(err)
			}
			if !samePosition(again, p) {
				t.Errorf("decoded: got %+v, want %+v", again, p)
			}
			if got, want := p.IsZero(), text == "{}"; got != want {
				t.Errorf("IsZero: got %t, want %t", got, want)
			}
		})
	}
}

// TestPositionJSONCoversAllFields fails when a field is added to Position and
// samePosition, or the JSON form, isn't told.
func TestPositionJSONCoversAllFields(t *testing.T) {
	if got, want := reflect.TypeFor[replication.Position]().NumField(), 9; got != want {
		t.Errorf("Position has %d fields, want %d", got, want)
	}
}

func TestPositionOmitZero(t *testing.T) {
	type record struct {
		Position replication.Position `json:"position,omitzero"`
	}
	got, err := json.Marshal(record{})
	if string(got) != "{}" || err != nil {
		t.Errorf("got %s, %v, want {}", got, err)
	}
}

func TestPositionJSONErrors(t *testing.T) {
	tests := []struct{ text, want string }{
		{`{"flavor":"mysql","gtids":""}`, "unknown field"},
		{`{"flavor":"percona"}`, "parse flavor"},
		{`{"executed":"0-1-100"}`, "parse flavor"},
		{`{"binlog_offset":4}`, "parse flavor"},
		{`{"flavor":"mysql","executed":"0-1-100"}`, "is no UUID"},
		{`{"flavor":"mysql","purged":"x"}`, "is no UUID"},
		{`{"flavor":"mariadb","executed":"x"}`, "is not domain-server-seq"},
		{`{"flavor":"mariadb","binlog_state":"x"}`, "is not domain-server-seq"},
		{`{"flavor":"mariadb","executed":"0-1-1,0-2-2"}`, "stands twice"},
		{`{"flavor":"mariadb","purged":"` + uuidA + `:1"}`, "field of the other flavor"},
		{`{"flavor":"mysql","binlog_state":"0-1-1"}`, "field of the other flavor"},
		{`{"flavor":"mysql","binlog_offset":-1}`, "cannot unmarshal"},
		{`"mysql:"`, "cannot unmarshal"},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			p := replication.Position{Flavor: replication.MySQL}
			err := json.Unmarshal([]byte(test.text), &p)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, %v, want an error with %q", p, err, test.want)
			}
			if p.String() != "mysql:" {
				t.Errorf("the position became %v", p)
			}
		})
	}
	var p replication.Position
	if err := p.UnmarshalJSON([]byte(`{} {}`)); err == nil {
		t.Error("two values: no error")
	}
}

// jsonReadsBack checks that what is accepted is the same after a round trip.
func jsonReadsBack(t *testing.T, text string) {
	var p, again replication.Position
	if json.Unmarshal([]byte(text), &p) != nil {
		return
	}
	encoded, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(encoded, &again); err != nil || !samePosition(p, again) {
		t.Errorf("%q is encoded as %q and read as %+v, %v", text, encoded, again, err)
	}
}

func positionReadsBack(t *testing.T, text string) {
	p, err := replication.ParsePosition(text)
	if err != nil {
		return
	}
	again, err := replication.ParsePosition(p.String())
	if err != nil || !again.Equal(p) {
		t.Errorf("%q is printed as %q and read as %q, %v", text, p, again, err)
	}
}

func TestPositionDamaged(t *testing.T) {
	damaged("mysql:"+uuidA+":1-48:x:3", func(text string) { positionReadsBack(t, text) })
	damaged("mariadb:0-1-100,1-2-3", func(text string) { positionReadsBack(t, text) })
	for text := range positions(t) {
		damaged(text, func(text string) { jsonReadsBack(t, text) })
	}
}

func FuzzParsePosition(f *testing.F) {
	f.Add("mysql:" + uuidA + ":1-48:tag:3")
	f.Add("mariadb:0-1-100,1-2-3")
	f.Fuzz(positionReadsBack)
}

func FuzzPositionJSON(f *testing.F) {
	for text := range positions(f) {
		f.Add(text)
	}
	f.Fuzz(jsonReadsBack)
}
