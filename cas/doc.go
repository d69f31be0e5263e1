// Package cas is a repository of chunks: bytes go in, chunk IDs come out, and a
// backup becomes visible by one atomic step at the very end. It knows nothing
// of servers. Nothing in a repository is ever overwritten, and Prune alone
// deletes; docs/format.md specifies every byte of it.
//
// The types, from the outside in: a Backend keeps blobs under names; a
// Repository is made of such blobs; a Session is one backup being written, its
// Writer stores chunks in packs and its Commit publishes the record; a Reader
// gives chunks back, each checked against its ID.
package cas
