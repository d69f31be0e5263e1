// Package replication is what shardseed knows about replication in MySQL and
// MariaDB: versions, GTID sets, positions, the statements of each flavor and
// version, what a server says about itself as a replica, and whether a backup
// can follow a primary. It holds values and arithmetic and does no I/O. All
// values are immutable and safe for concurrent use.
package replication

import "fmt"

// Flavor says which of the two families of servers a server belongs to. It is
// never told by the version's major number: MySQL counts 8, 9, 26 and MariaDB
// 10, 11, 12.
type Flavor string

// The flavors.
const (
	MySQL   Flavor = "mysql"
	MariaDB Flavor = "mariadb"
)

// ParseFlavor takes "mysql" and "mariadb", nothing else.
func ParseFlavor(text string) (Flavor, error) {
	switch f := Flavor(text); f {
	case MySQL, MariaDB:
		return f, nil
	}
	return "", fmt.Errorf("parse flavor %q: want %q or %q", clip(text), MySQL, MariaDB)
}

// title is the flavor as its makers write it.
func (f Flavor) title() string {
	switch f {
	case MySQL:
		return "MySQL"
	case MariaDB:
		return "MariaDB"
	}
	return "server"
}
