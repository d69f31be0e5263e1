// Package faults tries the program against file systems that fail. Its tests run
// the real program, trace the calls by which it changes or reads files, and make
// one of them fail, or kill the program before it, or work out what a power cut
// would leave after it: in the repository, in the host's index, in its notes, in
// the folders that a restore writes to. Nothing in the program knows of this.
//
// Linux on amd64 only: calls are traced by ptrace and a seccomp filter.
package faults
