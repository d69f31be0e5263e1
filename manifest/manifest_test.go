package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/replication"
)

// comparePositions compares positions as they are stored.
func comparePositions() cmp.Option {
	return cmp.Comparer(func(a, b replication.Position) bool {
		left, errA := json.Marshal(a)
		right, errB := json.Marshal(b)
		return errA == nil && errB == nil && bytes.Equal(left, right)
	})
}

// example returns a manifest with every field set, as golden file 1 holds it.
func example(t testing.TB) *Manifest {
	t.Helper()
	position, err := replication.ParsePosition("mysql:3e11fa47-71ca-11e1-9e33-c80aa9429562:1-48")
	if err != nil {
		t.Fatal(err)
	}
	position.BinlogFile, position.BinlogOffset = "binlog.000007", 4711
	packs := []cas.ID{cas.Sum([]byte("pack 1")), cas.Sum([]byte("pack 2"))}
	slices.SortFunc(packs, cas.ID.Compare)
	started := time.Date(2026, 8, 1, 13, 15, 2, 250_000_000, time.UTC)
	alias := TabletAlias{Cell: "zone1", UID: 101}
	return &Manifest{
		Version: 1, Keyspace: "commerce", Shard: "-80", Name: NewName(started, alias), TabletAlias: alias,
		Host: "db-07", ToolVersion: "0.1.0", Engine: EngineOffline,
		Server: Server{
			Flavor: replication.MySQL, Version: "9.7.4", VersionComment: "MySQL Community Server - GPL",
			UUID: "9b1f9a02-71ca-11e1-9e33-c80aa9429562", ID: 101, DataDir: "/var/lib/mysql", PageSize: 16384,
			InnoDBDataFilePath: "ibdata1:12M:autoextend", LowerCaseTableNames: 0, GTIDMode: "ON", GTIDDomainID: 0,
			LogBin: "/var/lib/mysql/binlog", RelayLog: "/var/lib/mysql/relay", CharacterSet: "utf8mb4",
		},
		Started: started, Finished: started.Add(92 * time.Second), Downtime: 12.5,
		CleanStop: CleanStop{Proved: true, Signals: []string{"no ibtmp1", "redo log ends at its checkpoint"}, LSN: 19223451},
		Position:  position, PositionKnown: true,
		Source: Source{Host: "db-01", Port: 3306},
		State: State{
			ReadOnly: true, SuperReadOnly: true, SemiSyncReplica: true, SemiSyncSource: true,
			ReplicaConfigured: true, ReplicaIORunning: true, ReplicaSQLRunning: true,
		},
		MyCnf:  "[mysqld]\nserver-id=101\nreport-password=<redacted>\n",
		Roots:  []Root{{Name: "datadir", Path: "/var/lib/mysql"}, {Name: "undo", Path: "/srv/undo\xff"}},
		Files:  FileList{Count: 412, Size: 98765, ChunkSize: 65536, Root: cas.Sum([]byte("files"))},
		Packs:  packs,
		Totals: Totals{Plain: 123456789, Zero: 1048576, New: 65536, Stored: 20480, Chunks: 1884, NewChunks: 1},
		Pages:  Pages{Checked: 7000, Unchecked: 3, Zero: 64, Bad: 1},
		Marks:  []Mark{{Kind: MarkBadPages, Detail: "1 page of commerce/orders.ibd"}},
	}
}

func encode(t testing.TB, m *Manifest) []byte {
	t.Helper()
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestManifestRoundTrip(t *testing.T) {
	t.Parallel()
	want := example(t)
	data := encode(t, want)
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, comparePositions()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !bytes.Equal(data, encode(t, got)) {
		t.Error("the same manifest gave other bytes")
	}
	if got.Good() || got.Key() != "commerce/-80/2026-08-01.131502.zone1-0000000101" {
		t.Errorf("good %v, key %q", got.Good(), got.Key())
	}
}

// A manifest of a stopped server: no position, no source, no marks.
func TestManifestStopped(t *testing.T) {
	t.Parallel()
	m := example(t)
	m.Engine, m.PositionKnown, m.Position = EngineStopped, false, replication.Position{}
	m.Source, m.Marks, m.Server.Version, m.Version = Source{}, nil, "", 0
	got, err := Decode(encode(t, m))
	if err != nil {
		t.Fatal(err)
	}
	if got.Marks == nil || !got.Good() || !got.Position.IsZero() || got.Source != (Source{}) || got.Version != 1 || m.Version != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestManifestMariaDB(t *testing.T) {
	t.Parallel()
	m := example(t)
	position, err := replication.ParsePosition("mariadb:0-1-100")
	if err != nil {
		t.Fatal(err)
	}
	m.Server.Flavor, m.Position = replication.MariaDB, position
	got, err := Decode(encode(t, m))
	if err != nil || !got.Position.Equal(position) {
		t.Errorf("got %v, %v, want %v", got, err, position)
	}
}

// The golden files were written once; they are never made again. A new
// version of the format adds one.
func TestGolden(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/manifest-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example(t), got, comparePositions()); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
	data, err = os.ReadFile("testdata/files-v1.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	files, err := ReadFiles(bytes.NewReader(data), 7)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(exampleFiles(), files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	data := string(encode(t, example(t)))
	if _, err := Decode([]byte(strings.Replace(data, "{", `{"later": {"x": [1]},`, 1))); err != nil {
		t.Errorf("a field of later: %v", err)
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty":       {"", "unexpected end"},
		"null":        {"null", "no version"},
		"list":        {"[]", "decode manifest"},
		"no version":  {"{}", "no version"},
		"version 0":   {`{"version":0}`, "versions start at 1"},
		"minus":       {`{"version":-1}`, "versions start at 1"},
		"text":        {`{"version":"1"}`, "version"},
		"only that":   {`{"version":1}`, "keyspace"},
		"trailing":    {data + "{}", "after top-level value"},
		"wrong type":  {strings.Replace(data, `"my_cnf": "`, `"my_cnf": 1, "x": "`, 1), "my_cnf"},
		"bad shard":   {strings.Replace(data, `"shard": "-80"`, `"shard": "80-40"`, 1), "shard"},
		"bad id":      {strings.Replace(data, `"root": "`, `"root": "zz`, 1), "decode manifest"},
		"bad alias":   {strings.Replace(data, `"tablet_alias": "zone1-0`, `"tablet_alias": "zone2-0`, 1), "not the one in the name"},
		"escape root": {strings.Replace(data, `"/var/lib/mysql"`, `"/var/lib/../mysql"`, 99), "absolute and clean"},
	} {
		if got, err := Decode([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, %v, want an error with %q", name, got, err, c.want)
		}
	}
	if _, err := Decode(make([]byte, MaxSize+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too large: got %v", err)
	}
}

// A newer version is told from its number alone, whatever the rest became.
func TestDecodeNewer(t *testing.T) {
	t.Parallel()
	_, err := Decode([]byte(`{"version": 3, "keyspace": {"now": "an object"}, "marks": 7}`))
	var newer *VersionError
	if !errors.As(err, &newer) || *newer != (VersionError{What: "manifest", Got: 3, Max: 1}) {
		t.Fatalf("got %#v", err)
	}
	const want = "decode manifest: manifest version 3 is newer than this program (reads up to 1)"
	if err.Error() != want || !slices.Equal(hint.Of(err), []string{"install a newer shardseed"}) {
		t.Errorf("got %q, hints %q", err, hint.Of(err))
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(m *Manifest){
		"keyspace: \"a/b\"":            func(m *Manifest) { m.Keyspace = "a/b" },
		"shard: \"-8\"":                func(m *Manifest) { m.Shard = "-8" },
		"shard: \"-C0\"":               func(m *Manifest) { m.Shard = "-C0" },
		"not a backup's name":          func(m *Manifest) { m.Name.Time = time.Time{}.AddDate(-5, 0, 0) },
		"half":                         func(m *Manifest) { m.Name.Alias.Cell = "half-cell" },
		"not the one in the name":      func(m *Manifest) { m.TabletAlias.UID++ },
		"engine: \"clone\"":            func(m *Manifest) { m.Engine = "clone" },
		"host: 4097 bytes":             func(m *Manifest) { m.Host = strings.Repeat("h", 4097) },
		"host: \"\\xff\" is not":       func(m *Manifest) { m.Host = "\xff" },
		"my_cnf: 1048577 bytes":        func(m *Manifest) { m.MyCnf = strings.Repeat("c", 1<<20+1) },
		"flavor: \"oracle\"":           func(m *Manifest) { m.Server.Flavor = "oracle" },
		"version is missing":           func(m *Manifest) { m.Server.Version = "" },
		"page_size_bytes: 16385":       func(m *Manifest) { m.Server.PageSize++ },
		"page_size_bytes: 2048":        func(m *Manifest) { m.Server.PageSize = 2048 },
		"page_size_bytes: 131072":      func(m *Manifest) { m.Server.PageSize = 131072 },
		"lower_case_table_names: 3":    func(m *Manifest) { m.Server.LowerCaseTableNames = 3 },
		"clean_stop: signal 2":         func(m *Manifest) { m.CleanStop.Signals[1] = "\xff" },
		"a time is missing":            func(m *Manifest) { m.Finished = time.Time{} },
		"downtime_seconds: -1":         func(m *Manifest) { m.Downtime = -1 },
		"downtime_seconds: NaN":        func(m *Manifest) { m.Downtime = math.NaN() },
		"downtime_seconds: +Inf":       func(m *Manifest) { m.Downtime = math.Inf(1) },
		"position: not known":          func(m *Manifest) { m.PositionKnown = false },
		"position: is of a ":           func(m *Manifest) { m.Position.Flavor = replication.MariaDB },
		"65536 is not a port":          func(m *Manifest) { m.Source.Port = 65536 },
		"roots: there is none":         func(m *Manifest) { m.Roots = nil },
		"root \"Data\"":                func(m *Manifest) { m.Roots[0].Name = "Data" },
		"root \"datadir\": path \"x\"": func(m *Manifest) { m.Roots[0].Path = "x" },
		"\"undo\" and \"undo\" are":    func(m *Manifest) { m.Roots[0].Name = "undo" },
		"files: count: -1":             func(m *Manifest) { m.Files.Count = -1 },
		"files: size_bytes: -1":        func(m *Manifest) { m.Files.Size = -1 },
		"files: chunk size 5000":       func(m *Manifest) { m.Files.ChunkSize = 5000 },
		"plain_bytes: -1":              func(m *Manifest) { m.Totals.Plain = -1 },
		"zero_bytes: -1":               func(m *Manifest) { m.Totals.Zero = -1 },
		"new_bytes: -1":                func(m *Manifest) { m.Totals.New = -1 },
		"stored_bytes: -1":             func(m *Manifest) { m.Totals.Stored = -1 },
		"chunks: -1":                   func(m *Manifest) { m.Totals.Chunks = -1 },
		"new_chunks: -1":               func(m *Manifest) { m.Totals.NewChunks = -1 },
		"a page count is negative":     func(m *Manifest) { m.Pages.Bad = -1 },
		"packs: not in order":          func(m *Manifest) { slices.Reverse(m.Packs) },
		"packs: one is listed twice":   func(m *Manifest) { m.Packs[1] = m.Packs[0] },
		"\"Bad Pages\" is not a mark":  func(m *Manifest) { m.Marks[0].Kind = "Bad Pages" },
		"\"\" is not a mark":           func(m *Manifest) { m.Marks[0].Kind = "" },
		"more than one line":           func(m *Manifest) { m.Marks[0].Detail = "a\nb" },
		"marks: bad-pages: 5000":       func(m *Manifest) { m.Marks[0].Detail = strings.Repeat("d", 5000) },
	} {
		m := example(t)
		change(m)
		_, err := m.Encode()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

// Every refusal is told, one fact each.
func TestValidateAll(t *testing.T) {
	t.Parallel()
	m := example(t)
	m.Engine, m.Source.Port, m.Totals.Plain = "x", -1, -2
	got := strings.Split(m.Validate().Error(), "\n")
	if want := []string{`engine: "x" is unknown`, "source: -1 is not a port", "plain_bytes: -2 is negative"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A mark from a newer program is kept and makes the backup marked.
func TestUnknownMark(t *testing.T) {
	t.Parallel()
	m := example(t)
	m.Marks = []Mark{{Kind: "from-the-future"}}
	got, err := Decode(encode(t, m))
	if err != nil || got.Good() || got.Marks[0].String() != "from-the-future" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestNewMark(t *testing.T) {
	t.Parallel()
	for detail, want := range map[string]string{
		"":                        "bad-pages",
		"one  line\r\nand\tmore ": "bad-pages: one line and more",
		"\xff!":                   "bad-pages: ?!",
	} {
		if got := NewMark(MarkBadPages, detail).String(); got != want {
			t.Errorf("NewMark(%q): got %q, want %q", detail, got, want)
		}
	}
	m := example(t)
	m.Marks = []Mark{NewMark(MarkPositionNotRechecked, strings.Repeat("é\n", 9000))}
	encode(t, m)
}

func TestEncodeTooLarge(t *testing.T) {
	t.Parallel()
	m := example(t)
	m.Packs = make([]cas.ID, 1<<20)
	for i := range m.Packs {
		m.Packs[i] = cas.ID{byte(i >> 16), byte(i >> 8), byte(i), 1}
	}
	if _, err := m.Encode(); err == nil || !strings.Contains(err.Error(), "at most 67108864") {
		t.Errorf("got %v", err)
	}
}

func TestDecodeCut(t *testing.T) {
	t.Parallel()
	data := bytes.TrimRight(encode(t, example(t)), "\n")
	for n := range data {
		if got, err := Decode(data[:n]); err == nil {
			t.Fatalf("cut at %d of %d: got %v, want an error", n, len(data), got)
		}
	}
}

func TestDecodeFlip(t *testing.T) {
	t.Parallel()
	data := encode(t, example(t))
	for i := range data {
		for _, bit := range []byte{1, 0x10, 0x80, 0xff} {
			flipped := bytes.Clone(data)
			flipped[i] ^= bit
			checkManifest(t, flipped)
		}
	}
}

// checkManifest decodes what may be anything: what is accepted must be valid
// and come out again as it was read.
func checkManifest(t *testing.T, data []byte) {
	t.Helper()
	got, err := Decode(data)
	if err != nil {
		return
	}
	again, err := Decode(encode(t, got))
	if err != nil {
		t.Fatalf("decode again: %v", err)
	}
	if diff := cmp.Diff(got, again, comparePositions(), cmpEmpty()); diff != "" {
		t.Fatalf("decoded again (-first +second):\n%s", diff)
	}
}

// cmpEmpty takes nil and empty lists for the same.
func cmpEmpty() cmp.Option {
	return cmp.FilterPath(func(p cmp.Path) bool { return true }, cmp.Options{
		cmp.FilterValues(func(a, b []Mark) bool { return len(a)+len(b) == 0 }, cmp.Ignore()),
		cmp.FilterValues(func(a, b []cas.ID) bool { return len(a)+len(b) == 0 }, cmp.Ignore()),
		cmp.FilterValues(func(a, b []string) bool { return len(a)+len(b) == 0 }, cmp.Ignore()),
	})
}

func TestSummary(t *testing.T) {
	t.Parallel()
	m := example(t)
	got := m.Summary()
	want := Summary{
		Keyspace: "commerce", Shard: "-80", Name: m.Name, Time: time.Date(2026, 8, 1, 13, 15, 2, 0, time.UTC), TabletAlias: m.TabletAlias,
		Flavor: replication.MySQL, Version: "9.7.4", Engine: EngineOffline, Plain: 123456789, New: 65536, Stored: 20480,
		Duration: 92, Downtime: 12.5, Position: m.Position, PositionKnown: true, Marks: m.Marks,
	}
	if diff := cmp.Diff(want, got, comparePositions()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	m.Marks, m.Finished = nil, m.Started.Add(-time.Hour)
	if got := m.Summary(); got.Marks == nil || got.Duration != 0 {
		t.Errorf("got marks %v, duration %v, want an empty list and 0", got.Marks, got.Duration)
	}
	if text, err := json.Marshal(got); err != nil || !strings.Contains(string(text), `"name":"2026-08-01.131502.zone1-0000000101"`) {
		t.Errorf("got %s, %v", text, err)
	}
}

func FuzzDecode(f *testing.F) {
	data := encode(f, example(f))
	f.Add(data)
	f.Add(data[:len(data)/3])
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":2}`))
	f.Add(bytes.Replace(data, []byte("mysql:"), []byte("mariadb:"), 1))
	f.Fuzz(checkManifest)
}

// TestChannels records a replica of several sources; a manifest without
// channels has no such field.
func TestChannels(t *testing.T) {
	t.Parallel()
	m := example(t)
	if strings.Contains(string(encode(t, m)), "channels") {
		t.Error("a manifest without channels has the field")
	}
	m.Channels = []Channel{
		{Name: "a", Source: m.Source, ServerUUID: "9b1f9a02-71ca-11e1-9e33-c80aa9429562", ServerID: 7, AutoPosition: true},
		{Source: Source{Host: "db-02", Port: 3307}, File: "binlog.000007", Offset: 1 << 40, Filters: "Replicate_Do_DB=a"},
	}
	got, err := Decode(encode(t, m))
	if err != nil || !slices.Equal(got.Channels, m.Channels) {
		t.Errorf("got %+v, %v, want %+v", got, err, m.Channels)
	}
	m.Channels[1].Source.Port, m.Channels[0].Name = 65536, "\xff"
	if err := m.Validate(); err == nil || !strings.Contains(err.Error(), "channel 2: 65536 is not a port") || !strings.Contains(err.Error(), "channel 1: name") {
		t.Errorf("got %v, want both refused", err)
	}
}
