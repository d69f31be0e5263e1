// Package index finds chunks: it maps a chunk's ID to the packs that hold it.
//
// The packs' own directories are the truth; an index is derived from them and
// can be dropped at any time. [Index] keeps one file for each repository in a
// folder of the host, so that a writer need not read every directory again;
// [Memory] is read from the directories of the packs that a restore needs and
// leaves nothing behind.
//
// Both are a [cas.Locator]: a chunk counts as present only if its pack and the
// whole chain of its bases are. Which packs are there and alive is read when
// the index is opened; a writer reserves its session before that, and its
// commit looks again.
//
// # The file
//
// <uuid>.db is a bbolt database, <uuid>.seal is locked while the database is
// in use and holds its size and hash. The hash is compared before bbolt sees a
// byte: bbolt maps the file into memory and trusts what it reads, so that one
// flipped bit can end the process (a page that points to itself overflows the
// stack, a short file raises SIGBUS), and a wrong location would let a backup
// rely on a chunk that is not there. Reading the whole file also brings it
// into the page cache, which the random lookups that follow want anyway. A
// database that does not match its seal, because it was damaged, cut short by
// a crash or written by another version, is dropped and made anew.
//
// Writing needs the lock alone and takes no more than the loading: as soon as
// the database is up to date the lock is shared. Whoever does not get a lock
// soon, or may not write in the folder, works with what it has and keeps the
// rest in memory; nothing fails and nobody waits for a backup to end.
package index
