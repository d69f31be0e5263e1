package replication

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Version is the version of a server program, as the server reports it.
type Version struct {
	Flavor              Flavor
	Major, Minor, Patch int
	Text                string // as reported by @@version, packaging suffixes included
}

// The oldest versions whose statements and files are known well enough.
const (
	oldestMySQLMajor   = 8
	oldestMySQLMinor   = 0
	oldestMariaDBMajor = 10
	oldestMariaDBMinor = 11
)

// ParseVersion reads @@version; comment is @@version_comment and may be empty.
// A server is MariaDB if either names MariaDB, and MySQL otherwise: the numbers
// never decide it. The prefix "5.5.5-", which MariaDB puts before its version
// on the wire, is dropped. Programs that speak the protocol but keep no MySQL
// data directory (Vitess, TiDB, Aurora) are refused.
func ParseVersion(version, comment string) (Version, error) {
	all := strings.ToLower(version + " " + comment)
	for _, other := range []string{"Vitess", "TiDB", "Aurora"} {
		if strings.Contains(all, strings.ToLower(other)) {
			return Version{}, fmt.Errorf("parse server version %q: this is %s, not a MySQL or MariaDB server", clip(version), other)
		}
	}
	v := Version{Flavor: MySQL, Text: version}
	numbers := version
	if strings.Contains(all, "mariadb") {
		v.Flavor = MariaDB
		numbers = withoutPrefix(version)
		v.Text = numbers
	}
	if !v.parseNumbers(numbers) {
		return Version{}, fmt.Errorf("parse server version %q: no major.minor.patch at its start", clip(version))
	}
	return v, nil
}

// withoutPrefix drops "5.5.5-" where another version follows.
func withoutPrefix(version string) string {
	for {
		rest, found := strings.CutPrefix(version, "5.5.5-")
		if !found || rest == "" || !isDigit(rest[0]) {
			return version
		}
		version = rest
	}
}

// parseNumbers sets Major, Minor and Patch from text such as "8.0.36-28".
func (v *Version) parseNumbers(text string) bool {
	parts := strings.SplitN(text, ".", 3)
	if len(parts) != 3 {
		return false
	}
	end := strings.IndexFunc(parts[2], func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		parts[2] = parts[2][:end]
	}
	for i, field := range []*int{&v.Major, &v.Minor, &v.Patch} {
		n, err := strconv.ParseUint(parts[i], 10, 16)
		if err != nil {
			return false
		}
		*field = int(n)
	}
	return true
}

// Supported returns nil if this program knows the server's statements and
// files: MySQL 8.0 and MariaDB 10.11, and all that is later.
func (v Version) Supported() error {
	switch v.Flavor {
	case MySQL:
		if !v.AtLeast(oldestMySQLMajor, oldestMySQLMinor, 0) {
			return fmt.Errorf("%s is not supported: MySQL %d.%d or later is needed", v, oldestMySQLMajor, oldestMySQLMinor)
		}
	case MariaDB:
		if !v.AtLeast(oldestMariaDBMajor, oldestMariaDBMinor, 0) {
			return fmt.Errorf("%s is not supported: MariaDB %d.%d or later is needed", v, oldestMariaDBMajor, oldestMariaDBMinor)
		}
	default:
		return fmt.Errorf("server flavor %q is not supported: MySQL or MariaDB is needed", string(v.Flavor))
	}
	return nil
}

// AtLeast reports whether v is major.minor.patch or later. It looks at the
// numbers only; ask for the flavor first.
func (v Version) AtLeast(major, minor, patch int) bool {
	return v.Compare(Version{Major: major, Minor: minor, Patch: patch}) >= 0
}

// Compare returns -1, 0 or +1 by the numbers alone; versions of different
// flavors have no order worth knowing.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor), cmp.Compare(v.Patch, w.Patch))
}

// String is for people: "MySQL 9.7.4", "MariaDB 10.11.11".
func (v Version) String() string {
	return fmt.Sprintf("%s %d.%d.%d", v.Flavor.title(), v.Major, v.Minor, v.Patch)
}
