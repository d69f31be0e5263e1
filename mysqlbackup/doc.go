// Package mysqlbackup backs up the files of a MySQL or MariaDB server and
// turns a backup into a working replica.
//
// [Backup] takes a server aside (fences writes, stops replication, stops
// mysqld), copies its files into a [cas.Repository], and puts the server back
// as it was, whatever happens in between. [Restore] checks first, then writes
// the files, starts the server behind a fence, points it at the primary, and
// ends when the replica is proved to replicate. [Recover] finishes putting a
// server back after a run that was killed.
//
// The steps of a run have names ([Step]); each is told to [Progress] before it
// begins.
package mysqlbackup
