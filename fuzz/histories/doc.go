// Package histories makes random histories of the files of a stopped server and
// compares what comes out of its backups with a plain model: a map of contents by
// path. All is in its tests:
//
//	go test ./fuzz/histories -rapid.checks=1000
//
// A history that fails is made smaller, and the seed that repeats it printed.
package histories
