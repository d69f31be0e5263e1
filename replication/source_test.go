package replication_test

import (
	"strings"
	"testing"

	"github.com/shardseed/shardseed/replication"
)

func TestChangeSource(t *testing.T) {
	byGTID := replication.SourceOptions{Host: "db-1", Port: 3306, User: "repl", Password: "it's", AutoPosition: true, TLS: true}
	byFile := replication.SourceOptions{Channel: "east", Host: "10.0.0.1", Port: 13306, File: "binlog.000009", Offset: 157, PublicKey: true}
	tests := []struct {
		name, version string
		options       replication.SourceOptions
		want          string
	}{
		{
			"MySQL by GTID", "9.7.4", byGTID,
			`CHANGE REPLICATION SOURCE TO SOURCE_HOST='db-1', SOURCE_PORT=3306, SOURCE_USER='repl', SOURCE_PASSWORD='it\'s', SOURCE_CONNECT_RETRY=10, SOURCE_RETRY_COUNT=86400, ` +
				`SOURCE_AUTO_POSITION=1, SOURCE_SSL=1, SOURCE_SSL_VERIFY_SERVER_CERT=0, GET_SOURCE_PUBLIC_KEY=0 FOR CHANNEL ''`,
		},
		{
			"MySQL by file, account kept", "8.0.23", byFile,
			`CHANGE REPLICATION SOURCE TO SOURCE_HOST='10.0.0.1', SOURCE_PORT=13306, SOURCE_CONNECT_RETRY=10, SOURCE_RETRY_COUNT=86400, ` +
				`SOURCE_AUTO_POSITION=0, SOURCE_LOG_FILE='binlog.000009', SOURCE_LOG_POS=157, ` +
				`SOURCE_SSL=0, SOURCE_SSL_VERIFY_SERVER_CERT=0, GET_SOURCE_PUBLIC_KEY=1 FOR CHANNEL 'east'`,
		},
		{
			"old MySQL", "8.0.22", byGTID,
			`CHANGE MASTER TO MASTER_HOST='db-1', MASTER_PORT=3306, MASTER_USER='repl', MASTER_PASSWORD='it\'s', MASTER_CONNECT_RETRY=10, MASTER_RETRY_COUNT=86400, ` +
				`MASTER_AUTO_POSITION=1, MASTER_SSL=1, MASTER_SSL_VERIFY_SERVER_CERT=0, GET_MASTER_PUBLIC_KEY=0 FOR CHANNEL ''`,
		},
		{
			"MariaDB by GTID", "10.11.11-MariaDB", byGTID,
			`CHANGE MASTER '' TO MASTER_HOST='db-1', MASTER_PORT=3306, MASTER_USER='repl', MASTER_PASSWORD='it\'s', MASTER_CONNECT_RETRY=10, ` +
				`MASTER_USE_GTID=slave_pos, MASTER_SSL=1, MASTER_SSL_VERIFY_SERVER_CERT=0`,
		},
		{
			"MariaDB by file, account kept", "11.8.2-MariaDB", byFile,
			`CHANGE MASTER 'east' TO MASTER_HOST='10.0.0.1', MASTER_PORT=13306, MASTER_CONNECT_RETRY=10, ` +
				`MASTER_USE_GTID=no, MASTER_LOG_FILE='binlog.000009', MASTER_LOG_POS=157, MASTER_SSL=0, MASTER_SSL_VERIFY_SERVER_CERT=0`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := dialect(t, test.version).ChangeSource(test.options); got != test.want {
				t.Errorf("got\n%s, want\n%s", got, test.want)
			}
		})
	}
}

func TestChangeSourceRedacted(t *testing.T) {
	options := replication.SourceOptions{Host: "h", Port: 1, User: "u", Password: "s3cret"}
	for _, v := range []string{"8.0.11", "9.7.4", "10.11.11-MariaDB"} {
		got := dialect(t, v).ChangeSource(options.Redacted())
		if strings.Contains(got, "s3cret") || !strings.Contains(got, "PASSWORD='***'") {
			t.Errorf("%s: got %s", v, got)
		}
	}
	if options.Password != "s3cret" {
		t.Error("Redacted changed its operand")
	}
	if got := (replication.SourceOptions{}).Redacted().Password; got != "" {
		t.Errorf("no password: got %q", got)
	}
}

func TestQuote(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", `''`},
		{"plain", `'plain'`},
		{"it's", `'it\'s'`},
		{`say "x"`, `'say \"x\"'`},
		{`back\slash`, `'back\\slash'`},
		{`\'; DROP TABLE x; -- `, `'\\\'; DROP TABLE x; -- '`},
		{"\x00\n\r\x1a\t", `'\0\n\r\Z` + "\t'"},
		{"é%_", `'é%_'`},
	}
	for _, test := range tests {
		if got := replication.Quote(test.text); got != test.want {
			t.Errorf("%q: got %s, want %s", test.text, got, test.want)
		}
	}
}

// unquote reads a literal as a server does.
func unquote(t testing.TB, literal string) string {
	t.Helper()
	if len(literal) < 2 || literal[0] != '\'' || literal[len(literal)-1] != '\'' {
		t.Fatalf("%s is not in quotes", literal)
	}
	escapes := map[byte]byte{'0': 0, 'n': '\n', 'r': '\r', 'Z': 0x1a, '\'': '\'', '"': '"', '\\': '\\'}
	var text []byte
	inner := literal[1 : len(literal)-1]
	for i := 0; i < len(inner); i++ {
		switch inner[i] {
		case '\'', 0:
			t.Fatalf("%s: byte %d ends the literal", literal, i+1)
		case '\\':
			i++
			if i == len(inner) {
				t.Fatalf("%s: the closing quote is escaped", literal)
			}
			c, known := escapes[inner[i]]
			if !known {
				t.Fatalf("%s: unknown escape", literal)
			}
			text = append(text, c)
		default:
			text = append(text, inner[i])
		}
	}
	return string(text)
}

func FuzzQuote(f *testing.F) {
	f.Add("it's \\ \"x\"\x00\n\r\x1a")
	f.Fuzz(func(t *testing.T, text string) {
		if got := unquote(t, replication.Quote(text)); got != text {
			t.Errorf("got %q, want %q", got, text)
		}
	})
}
