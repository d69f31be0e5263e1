package check

import "github.com/shardseed/shardseed/manifest"

// TableOf returns the table that a file belongs to.
func TableOf(file manifest.Path, root string) string { return tableOf(file, root) }
