// Package index finds chunks: it maps a chunk's ID to the packs that hold it.
//
// The packs' own directories are the truth; an index is derived from them and
// can be dropped at any time. [Index] is kept in a folder of the host, so that a
// writer need not read every directory again; [Memory] is read from the
// directories of the packs that a restore needs and leaves nothing behind.
//
// Both are a [cas.Locator]: a chunk counts as present only if its pack and the
// whole chain of its bases are. Which packs are there and alive is read when
// the index is opened or saved; a writer reserves its session before that, and
// its commit looks again.
//
// # Runs
//
// Both are made of runs: files of entries sorted by chunk, written once. Packs
// are read, sorted in batches and merged, so that memory does not grow with their
// number. A lookup finds the block by a table in memory (8 bytes for each 4 KiB)
// and reads it; nothing is mapped into memory, so that no damage to a file can
// end the process.
//
// Every block has a checksum that covers its place and its run, and the tables
// have a hash. A run whose tables are not whole counts for nothing. A block that is
// not as it was written answers nothing: its chunks are stored again, at worst.
// Whatever is wrong with a run, its packs are read again when the index is next
// opened or saved.
//
// # The folder
//
// <cache folder>/<uuid of the repository> holds an index's runs, two or three:
// new packs become a new run, which takes in the runs that are not much
// larger. A run appears under its name whole and synced, and each is good by
// itself: there is no list of them that could be torn. Readers lock nothing. Whoever
// makes or removes runs holds the file lock; who does not get it soon, or may not
// write in the folder, keeps what the folder lacks in a temporary file. Nothing
// fails and nobody waits for a backup to end.
package index
