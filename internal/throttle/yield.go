package throttle

import (
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	niceness    = 10
	ioprioClass = 2 // best effort
	ioprioLevel = 7 // the lowest
	ioprioWho   = 1 // a thread
)

// Yield lets everybody else go first, with the processors and, where the
// kernel's scheduler heeds it, with the disk. It is for the calling goroutine
// only, which keeps its thread until it ends, and the thread ends with it: a
// server or command that is started meanwhile must not inherit this. Children
// that were started by this thread before, with a parent-death signal, get that
// signal then. Where it is not permitted, nothing happens.
// Source: setpriority(2), "C library/kernel differences"; ioprio_set(2).
func Yield() {
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, niceness)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWho, 0, ioprioClass<<13|ioprioLevel)
}
