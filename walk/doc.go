// Package walk goes from the records of backups to what they need: a record
// names the list of files, the list each file's recipe, recipes the chunks.
// Restores, checks, measurements and garbage collection all take this way.
//
// Whatever is read is verified; nothing is written.
package walk
