// Package check proves what is in a repository, says what hangs on what is
// damaged, and repairs what can be repaired.
//
// A check goes from the records of backups down to the packs, as a restore does.
// Without reading data it proves that every chunk that a backup needs is found, by
// the depth rule, in a pack that is there and whose both ends are right. Reading
// data proves the bytes too, pack by pack, those that were read longest ago first,
// and writes down in the repository's ledger what it has read. What is found to
// be damaged is mapped to the backups, files and ranges that hang on it.
//
// Two answers are kept apart for every copy of a chunk: whether it counts as
// present, which is what writers and restores may rely on, and whether its bytes
// can be had at all, which is what repair may save: from a pack that is marked as
// damaged, or whose directory is gone.
package check
