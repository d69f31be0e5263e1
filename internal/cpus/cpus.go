// Package cpus says how much the process does at a time.
package cpus

import "runtime"

// count is read before ForSystemCalls changes it.
var count = runtime.GOMAXPROCS(0) //nolint:gochecknoglobals // what the runtime has found out at the start

// Count is how many processors the process may use: the machine's, less where
// its affinity or its cgroup allows less.
func Count() int { return count }

// ForSystemCalls keeps the processors busy while goroutines are in system calls
// that wait for a disk: the scheduler takes them for running until it has looked
// at them, which takes it up to 10 ms (func retake in runtime/proc.go), longer
// than most reads do. It is called once, at the start.
func ForSystemCalls() { runtime.GOMAXPROCS(4 * count) }

// Copying is how many goroutines that by turns read, compute and write keep the
// processors busy.
func Copying() int { return count*3/2 + 1 }
