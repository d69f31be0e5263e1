// Package hostile holds tests alone: repositories built by hand, with checksums
// that are right and content that is meant to harm, and the real commands run on
// them. See docs/testing.md, "Hostile repositories".
package hostile
