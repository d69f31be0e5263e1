package commands

import (
	"os"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// frugalPercent is by how much the memory of a command that looks at a whole
// repository may grow before garbage is collected.
const frugalPercent = 20

// frugal is an action that takes little more memory than what it needs at a time.
// Most of that are tables with an entry for each chunk stored, gigabytes for a
// repository of terabytes. By default the runtime lets garbage grow to as much again.
// To collect it earlier costs little here, as tables without pointers are not looked
// through. GOGC in the environment counts for more.
func frugal(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if _, set := os.LookupEnv("GOGC"); !set {
			defer debug.SetGCPercent(debug.SetGCPercent(frugalPercent))
		}
		return action(c)
	}
}
