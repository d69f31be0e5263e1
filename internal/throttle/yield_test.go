package throttle_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/internal/throttle"
)

// priorities returns the calling thread's niceness and I/O priority.
func priorities(t *testing.T) (nice int, io uintptr) {
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		t.Error(err)
	}
	io, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, 1, 0, 0)
	if errno != 0 {
		t.Error(errno)
	}
	return 20 - raw, io
}

// Only the goroutine that asks for it is put back, and nobody inherits it.
func TestYield(t *testing.T) {
	before, _ := priorities(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		throttle.Yield()
		if nice, io := priorities(t); nice != max(before, 10) || io != 2<<13|7 {
			t.Errorf("niceness %d, I/O priority %#x, want 10 and best effort 7", nice, io)
		}
		inner := make(chan int)
		go func() {
			nice, _ := priorities(t)
			inner <- nice
		}()
		if nice := <-inner; nice != before {
			t.Errorf("a goroutine started by it has niceness %d, want %d", nice, before)
		}
	}()
	<-done
	for range 20 {
		after := make(chan int)
		go func() {
			nice, _ := priorities(t)
			after <- nice
		}()
		if nice := <-after; nice != before {
			t.Errorf("niceness %d afterwards, want %d", nice, before)
		}
	}
}
