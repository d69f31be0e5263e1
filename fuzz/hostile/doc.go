// Package hostile holds tests alone: repositories built by hand, with checksums
// that are right and content that is meant to harm, and the real commands run on
// them; and repositories that are right and large. See docs/testing.md, "Hostile
// repositories" and "Memory of prune and check".
package hostile
