package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// shape says where a call's arguments have its file: the numbers of arguments,
// -1 for none. Without a path the file is the descriptor dir.
type shape struct {
	name              string
	dir, path         int
	otherDir, another int // second path, of a rename or link
	changes           bool
	moves             int // argument with the number of bytes to move; 0: moves none
}

func onFile(name string, changes bool) shape { return shape{name, 0, -1, -1, -1, changes, 0} }
func onPath(name string, changes bool) shape { return shape{name, -1, 0, -1, -1, changes, 0} }
func below(name string, changes bool) shape  { return shape{name, 0, 1, -1, -1, changes, 0} }
func moving(name string, changes bool) shape { return shape{name, 0, -1, -1, -1, changes, 2} }

// shapes are the calls that are traced.
var shapes = map[uint64]shape{
	unix.SYS_OPEN: onPath("open", false), unix.SYS_OPENAT: below("open", false), unix.SYS_CLOSE: onFile("close", false),
	unix.SYS_READ: moving("read", false), unix.SYS_PREAD64: moving("read", false), unix.SYS_GETDENTS64: onFile("list", false),
	unix.SYS_STAT: onPath("stat", false), unix.SYS_LSTAT: onPath("stat", false), unix.SYS_FSTAT: onFile("stat", false),
	unix.SYS_NEWFSTATAT: below("stat", false), unix.SYS_STATX: below("stat", false),
	unix.SYS_STATFS: onPath("statfs", false), unix.SYS_FSTATFS: onFile("statfs", false), unix.SYS_READLINKAT: below("readlink", false),
	unix.SYS_WRITE: moving("write", true), unix.SYS_PWRITE64: moving("write", true),
	unix.SYS_FSYNC: onFile("sync", true), unix.SYS_FDATASYNC: onFile("sync", true), unix.SYS_SYNCFS: onFile("syncfs", true),
	unix.SYS_SYNC_FILE_RANGE: onFile("begin to sync", true), unix.SYS_FTRUNCATE: onFile("truncate", true), unix.SYS_FALLOCATE: onFile("allocate", true),
	unix.SYS_FCHMOD: onFile("chmod", true), unix.SYS_FCHOWN: onFile("chown", true), unix.SYS_CHOWN: onPath("chown", true), unix.SYS_LCHOWN: onPath("chown", true), unix.SYS_CHMOD: onPath("chmod", true),
	unix.SYS_FCHMODAT: below("chmod", true), unix.SYS_FCHMODAT2: below("chmod", true), unix.SYS_FCHOWNAT: below("chown", true), unix.SYS_UTIMENSAT: below("utime", true),
	unix.SYS_MKDIR: onPath("mkdir", true), unix.SYS_MKDIRAT: below("mkdir", true),
	unix.SYS_UNLINK: onPath("remove", true), unix.SYS_RMDIR: onPath("remove", true), unix.SYS_UNLINKAT: below("remove", true),
	unix.SYS_RENAME: {"rename", -1, 0, -1, 1, true, 0}, unix.SYS_RENAMEAT: {"rename", 0, 1, 2, 3, true, 0}, unix.SYS_RENAMEAT2: {"rename", 0, 1, 2, 3, true, 0},
	unix.SYS_LINK: {"link", -1, 0, -1, 1, true, 0}, unix.SYS_LINKAT: {"link", 0, 1, 2, 3, true, 0},
	unix.SYS_SYMLINK: {"symlink", -1, 1, -1, -1, true, 0}, unix.SYS_SYMLINKAT: {"symlink", 1, 2, -1, -1, true, 0},
	unix.SYS_FCNTL: onFile("lock", false), unix.SYS_FLOCK: onFile("lock", false),
}

// call is a call that a traced program is about to make on files below the
// watched folder. Paths are relative to that.
type call struct {
	name    string
	path    string
	another string
	changes bool
	moves   int
	regs    unix.PtraceRegs
	pid     int
	fd      int  // -1: by path
	creates bool // an open of a file that is not there, to be made
}

func (c *call) String() string { return strings.TrimSpace(c.name + " " + c.path + " " + c.another) }

// verdict says what becomes of a call.
type verdict struct {
	kill  bool
	errno syscall.Errno // 0: none
	after bool          // the call has its effect, and the error is told
	short bool          // half of the bytes are moved
	tell  bool          // seen is to be called
}

// tracer runs the program and asks decide about each call. seen is told of calls
// that were made, with their results, before the program goes on; it may be nil.
type tracer struct {
	watched string // folder
	args    []string
	env     []string
	decide  func(*call) verdict
	seen    func(c *call, result int64)

	group   int // process group of the program
	pending map[int]*pending
	ended   syscall.WaitStatus
}

// pending is a call that is being made.
type pending struct {
	call    *call
	verdict verdict
}

// outcome is how a traced run ended.
type outcome struct {
	code           int // -1: killed
	stdout, stderr string
}

// run runs the program to its end.
func (tr *tracer) run(out string) (outcome, error) {
	runtime.LockOSThread() // the thread that starts it is the one that traces it
	defer runtime.UnlockOSThread()
	files := make([]uintptr, 0, 3)
	for _, name := range []string{os.DevNull, out + ".out", out + ".err"} {
		file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return outcome{}, err
		}
		defer file.Close() //nolint:errcheck // what matters is read from the file
		files = append(files, file.Fd())
	}
	self, err := os.Executable()
	if err != nil {
		return outcome{}, err
	}
	env := append(append(os.Environ(), tr.env...), stageVariable+"="+stageFilter, "GODEBUG=asyncpreemptoff=1")
	pid, err := syscall.ForkExec(self, append([]string{"shardseed"}, tr.args...), &syscall.ProcAttr{
		Env: env, Files: files, Sys: &syscall.SysProcAttr{Ptrace: true, Setpgid: true},
	})
	if err != nil {
		return outcome{}, fmt.Errorf("start: %w", err)
	}
	tr.group, tr.pending = pid, map[int]*pending{}
	if err := tr.follow(); err != nil {
		return outcome{}, errors.Join(err, syscall.Kill(-tr.group, syscall.SIGKILL))
	}
	stdout, err1 := os.ReadFile(out + ".out")
	stderr, err2 := os.ReadFile(out + ".err")
	o := outcome{code: -1, stdout: string(stdout), stderr: string(stderr)}
	if tr.ended.Exited() {
		o.code = tr.ended.ExitStatus()
	}
	return o, errors.Join(err1, err2)
}

const traceOptions = unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC |
	unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_EXITKILL

// follow goes along with all threads and processes until the last has ended.
func (tr *tracer) follow() error {
	known := map[int]bool{}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-tr.group, &status, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			return nil
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		}
		if status.Exited() || status.Signaled() {
			if pid == tr.group {
				tr.ended = status
			}
			continue
		}
		first := !known[pid]
		known[pid] = true
		if pid == tr.group && first {
			if err := unix.PtraceSetOptions(pid, traceOptions); err != nil {
				return fmt.Errorf("trace: %w", err)
			}
		}
		if err := tr.stopped(pid, status, first); err != nil && !errors.Is(err, unix.ESRCH) { // a thread may be killed in its stop
			return err
		}
	}
}

// stopped handles one stop of one thread.
func (tr *tracer) stopped(pid int, status syscall.WaitStatus, first bool) error {
	sig := status.StopSignal()
	switch {
	case sig == unix.SIGTRAP|0x80:
		return tr.leave(pid)
	case sig == unix.SIGTRAP && int(status)>>16 == unix.PTRACE_EVENT_SECCOMP:
		return tr.enter(pid)
	case sig == unix.SIGTRAP, first && sig == unix.SIGSTOP:
		return unix.PtraceCont(pid, 0)
	}
	return unix.PtraceCont(pid, int(sig))
}

// enter is the stop before a call.
func (tr *tracer) enter(pid int) error {
	c, err := tr.describe(pid)
	if err != nil || c == nil {
		return errors.Join(err, unix.PtraceCont(pid, 0))
	}
	v := tr.decide(c)
	switch {
	case v.kill:
		return syscall.Kill(-tr.group, syscall.SIGKILL)
	case v.errno != 0 && !v.after:
		c.regs.Orig_rax, c.regs.Rax = ^uint64(0), -uint64(v.errno)
		return errors.Join(unix.PtraceSetRegs(pid, &c.regs), unix.PtraceCont(pid, 0))
	case v.short && c.moves > 0 && c.regs.Rdx > 1:
		c.regs.Rdx /= 2
		return errors.Join(unix.PtraceSetRegs(pid, &c.regs), unix.PtraceCont(pid, 0))
	case v.after, v.tell:
		tr.pending[pid] = &pending{c, v}
		return unix.PtraceSyscall(pid, 0)
	}
	return unix.PtraceCont(pid, 0)
}

// leave is the stop after a call.
func (tr *tracer) leave(pid int) error {
	p := tr.pending[pid]
	delete(tr.pending, pid)
	if p == nil {
		return unix.PtraceCont(pid, 0)
	}
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return err
	}
	if p.verdict.tell && tr.seen != nil {
		tr.seen(p.call, int64(regs.Rax))
	}
	if p.verdict.after && int64(regs.Rax) >= 0 {
		regs.Rax = -uint64(p.verdict.errno)
		if err := unix.PtraceSetRegs(pid, &regs); err != nil {
			return err
		}
	}
	return unix.PtraceCont(pid, 0)
}

// describe reads what a call is about, nil if it is not about files below the
// watched folder.
func (tr *tracer) describe(pid int) (*call, error) {
	c := &call{pid: pid, fd: -1}
	if err := unix.PtraceGetRegs(pid, &c.regs); err != nil {
		return nil, err
	}
	nr := c.regs.Orig_rax
	s, ok := shapes[nr]
	if !ok || nr == unix.SYS_FCNTL && int(c.arg(1)) != unix.F_OFD_SETLK && int(c.arg(1)) != unix.F_OFD_SETLKW {
		return nil, nil
	}
	c.name, c.changes, c.moves = s.name, s.changes, s.moves
	path, err := tr.pathOf(c, s.dir, s.path)
	if err != nil {
		return nil, err
	}
	if s.path < 0 {
		c.fd = int(int32(c.arg(s.dir)))
	}
	var inside bool
	if c.path, inside = tr.relative(path); !inside {
		return nil, nil
	}
	if s.another >= 0 {
		if path, err = tr.pathOf(c, s.otherDir, s.another); err != nil {
			return nil, err
		}
		if c.another, inside = tr.relative(path); !inside {
			return nil, nil
		}
	}
	if s.name == "open" && c.opensToWrite(nr) {
		c.changes = true
		_, err := os.Lstat(path)
		c.creates = errors.Is(err, os.ErrNotExist)
	}
	return c, nil
}

func (c *call) opensToWrite(nr uint64) bool {
	flags := c.arg(1)
	if nr == unix.SYS_OPENAT {
		flags = c.arg(2)
	}
	return flags&(unix.O_WRONLY|unix.O_RDWR|unix.O_CREAT) != 0
}

func (c *call) arg(n int) uint64 {
	return [...]uint64{c.regs.Rdi, c.regs.Rsi, c.regs.Rdx, c.regs.R10, c.regs.R8, c.regs.R9}[n]
}

// relative returns a path relative to the watched folder.
func (tr *tracer) relative(path string) (string, bool) {
	path = strings.TrimSuffix(path, " (deleted)")
	if path == tr.watched {
		return ".", true
	}
	return strings.CutPrefix(path, tr.watched+"/")
}

// pathOf returns the path that arguments stand for.
func (tr *tracer) pathOf(c *call, dir, path int) (string, error) {
	folder := ""
	if dir >= 0 {
		name := fmt.Sprintf("/proc/%d/fd/%d", c.pid, int32(c.arg(dir)))
		if int32(c.arg(dir)) == unix.AT_FDCWD {
			name = fmt.Sprintf("/proc/%d/cwd", c.pid)
		}
		folder, _ = os.Readlink(name) // a descriptor that is not open is not of our folder
	}
	if path < 0 {
		return folder, nil
	}
	text, err := readString(c.pid, uintptr(c.arg(path)))
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(text, "/proc/self/fd/") {
		text, _ = os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", c.pid, filepath.Base(text)))
	}
	if filepath.IsAbs(text) {
		return filepath.Clean(text), nil
	}
	return filepath.Join(folder, text), nil
}

// readString reads a string of another process.
func readString(pid int, at uintptr) (string, error) {
	var text []byte
	for len(text) < unix.PathMax {
		buf := make([]byte, 4096-at%4096) // never across pages: the next may not be there
		n, err := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}}, []unix.RemoteIovec{{Base: at, Len: len(buf)}}, 0)
		if err != nil {
			return "", fmt.Errorf("read the memory of %d: %w", pid, err)
		}
		part, _, found := strings.Cut(string(buf[:n]), "\x00")
		text = append(text, part...)
		if found {
			break
		}
		at += uintptr(n)
	}
	return string(text), nil
}

// The program runs in two stages: the first asks the kernel to stop it at the
// traced calls, and becomes the second.
const (
	stageVariable = "SHARDSEED_FAULTS_STAGE"
	stageFilter   = "filter"
	stageRun      = "run"
)

// filterAndRun is the first stage. It returns only with an error.
func filterAndRun() error {
	runtime.LockOSThread()                                                           // the filter is this thread's, and its program's
	code := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // the call's number
	for nr := range shapes {
		code = append(code,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(nr), Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_TRACE})
	}
	code = append(code, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("filter calls: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("filter calls: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	env := []string{stageVariable + "=" + stageRun}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, stageVariable+"=") {
			env = append(env, v)
		}
	}
	return fmt.Errorf("start: %w", syscall.Exec(self, os.Args, env))
}
