package replication_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/replication"
)

const (
	uuidA = "08b02207-e6f3-11f1-8211-02fc00000001"
	uuidB = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	uuidC = "ffffffff-ffff-ffff-ffff-ffffffffffff"
)

func gtidSet(t testing.TB, text string) replication.GTIDSet {
	t.Helper()
	s, err := replication.ParseGTIDSet(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mariaDB(t testing.TB, text string) replication.MariaDBPosition {
	t.Helper()
	p, err := replication.ParseMariaDBPosition(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func position(t testing.TB, text string) replication.Position {
	t.Helper()
	p, err := replication.ParsePosition(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func version(t testing.TB, text, comment string) replication.Version {
	t.Helper()
	v, err := replication.ParseVersion(text, comment)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func dialect(t testing.TB, text string) replication.Dialect {
	t.Helper()
	d, err := replication.DialectFor(version(t, text, ""))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// manyIntervals is a set of n intervals that don't touch.
func manyIntervals(t testing.TB, n int) replication.GTIDSet {
	t.Helper()
	var b strings.Builder
	b.WriteString(uuidA)
	for i := range n {
		fmt.Fprintf(&b, ":%d", 2*i+1)
	}
	return gtidSet(t, b.String())
}

// damaged calls check with every prefix of text and with text after every
// single-byte change of three kinds.
func damaged(text string, check func(string)) {
	for i := range len(text) {
		check(text[:i])
		for _, mask := range []byte{0x01, 0x20, 0x80} {
			b := []byte(text)
			b[i] ^= mask
			check(string(b))
		}
	}
}
