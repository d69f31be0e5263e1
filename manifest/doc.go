// Package manifest describes one backup: who took it, of which server, at
// which replication position, and which files it holds.
//
// A [Manifest] is small and inert: facts, no commands. It is the payload of
// the register that makes a backup exist (see package cas); the register
// brings the checksum, this package the meaning. The files themselves are
// listed in a stream of their own, which [WriteFiles] and [ReadFiles] encode
// and decode and which the repository stores like any file.
//
// Both forms carry a version, are bounded in size and are validated when they
// are read as well as when they are written. Fields may be added within one
// version: readers ignore those they do not know.
package manifest
