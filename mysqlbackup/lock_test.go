package mysqlbackup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// helperVariable makes a process of the test program do what its value says,
// until its input ends.
const helperVariable = "SHARDSEED_TEST_HELPER"

// TestHelper is not a test: it is what helper runs.
func TestHelper(t *testing.T) {
	what, path, ok := strings.Cut(os.Getenv(helperVariable), " ")
	if !ok {
		return
	}
	var held any
	var err error
	switch what {
	case "lock-space": // as a server does
		var file *os.File
		if file, err = os.OpenFile(path, os.O_RDWR, 0); err == nil {
			lock := unix.Flock_t{Type: unix.F_WRLCK}
			err = unix.FcntlFlock(file.Fd(), unix.F_SETLK, &lock)
		}
		held = file
	case "lock-space-ofd": // as we do
		held, err = lockSpace(t.Context(), path)
	case "lock-journal":
		held, err = openJournal(path, "/data")
	}
	fmt.Println("helper:", err)
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		t.Fatal(err)
	}
	runtime.KeepAlive(held) // its file would be closed with it
}

// helper runs a helper process until stop is called; it has done its work when
// helper returns.
func helper(t testing.TB, what string) (pid int, stop func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelper$")
	cmd.Env = append(os.Environ(), helperVariable+"="+what)
	cmd.Stderr = os.Stderr
	return start(t, cmd, "helper: <nil>")
}

// start starts a program whose output has a line that ends with ready.
func start(t testing.TB, cmd *exec.Cmd, ready string) (pid int, stop func()) {
	t.Helper()
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = input.Close()
		_, _ = io.Copy(io.Discard, output)
		_ = cmd.Wait()
	}
	t.Cleanup(stop)
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if strings.HasSuffix(lines.Text(), ready) {
			return cmd.Process.Pid, stop
		}
	}
	t.Fatalf("%v ended without %q", cmd.Args, ready)
	return 0, nil
}

func TestLockSpace(t *testing.T) {
	path := writeText(t, filepath.Join(t.TempDir(), "ibdata1"), "x")
	lock, err := lockSpace(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path) // what the copy does must not release the lock
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if !isLocked(t, path) {
		t.Error("the file is not locked")
	}
	if err := errors.Join(lock.close(), lock.close()); err != nil {
		t.Errorf("close twice: %v", err)
	}
	if isLocked(t, path) {
		t.Error("the file is still locked")
	}
	var none *spaceLock
	if err := none.close(); err != nil {
		t.Errorf("close no lock: %v", err)
	}
}

// isLocked asks the way a server would: with a lock of the process.
func isLocked(t testing.TB, path string) bool {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFile(t, file)
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(file.Fd(), unix.F_GETLK, &lock); err != nil {
		t.Fatal(err)
	}
	return lock.Type != unix.F_UNLCK
}

func TestLockSpaceTaken(t *testing.T) {
	for what, want := range map[string]string{"lock-space": "process ", "lock-space-ofd": "another process"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel() // each waits for the lock
			path := writeText(t, filepath.Join(t.TempDir(), "ibdata1"), "x")
			pid, stop := helper(t, what+" "+path)
			if what == "lock-space" {
				want += fmt.Sprint(pid)
			}
			lock, err := lockSpace(t.Context(), path)
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want) {
				t.Errorf("lock %v, error %v; want a refusal that names %s", lock, err, want)
			}
			stop()
			if lock, err = lockSpace(t.Context(), path); err != nil {
				t.Errorf("when the other has ended: %v", err)
			}
			if err := lock.close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestHasEnded(t *testing.T) {
	for stat, want := range map[string]bool{
		"7 (mysqld) S 1 7 7 0 -1 4194304 216 0 0 0 0 0 0 0 20 0 40 0 3672428": false,
		"7 (mysqld) Z 1 7 7 0 -1 4227084 216 0 0 0 0 0 0 0 20 0 1 0 3672428":  true,
		"7 (mysqld) Z 1 7 7 0 -1 4227084 216 0 0 0 0 0 0 0 20 0 5 0 3672428":  false, // seen of a process whose first thread has ended
		"7 (a) Z b) R 1 7 7 0 -1 4194304 216 0 0 0 0 0 0 0 20 0 1 0 3672428":  false,
		"7 (mysqld) X": true, "7 (mysqld) ": true, "": true,
	} {
		if got := hasEnded([]byte(stat)); got != want {
			t.Errorf("%q: got %t, want %t", stat, got, want)
		}
	}
}

// forked makes the descriptor of a file that a process has which was just forked:
// it is open until that becomes another program.
func forked(t testing.TB, file *os.File) {
	t.Helper()
	fd, err := unix.Dup(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
}

// What we give up is given up at once, whoever else has the file open.
func TestLocksAreReleased(t *testing.T) {
	path := writeText(t, filepath.Join(t.TempDir(), "ibdata1"), "x")
	lock, err := lockSpace(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	forked(t, lock.file)
	if err := lock.close(); err != nil {
		t.Fatal(err)
	}
	again, err := lockSpace(t.Context(), path)
	if err != nil {
		t.Fatalf("the system tablespace: %v", err)
	}
	if err := again.close(); err != nil {
		t.Error(err)
	}
	dir := t.TempDir()
	j := openTestJournal(t, dir, "/data")
	forked(t, j.lock)
	closeJournal(t, j)
	closeJournal(t, openTestJournal(t, dir, "/data"))
}

func TestLockSpaceEnds(t *testing.T) {
	path := writeText(t, filepath.Join(t.TempDir(), "ibdata1"), "x")
	helper(t, "lock-space-ofd "+path)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := lockSpace(ctx, path); !errors.Is(err, why) || errors.Is(err, ErrRefused) {
		t.Errorf("error %v, want the context's own", err)
	}
	if _, err := lockSpace(t.Context(), path+"2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestLockSpaceReadOnly(t *testing.T) {
	dir := mountTmpfs(t, "1m")
	path := writeText(t, filepath.Join(dir, "ibdata1"), "x")
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	lock, err := lockSpace(t.Context(), path)
	if err != nil {
		t.Fatalf("on a snapshot that is mounted for reading: %v", err)
	}
	if err := lock.close(); err != nil {
		t.Error(err)
	}
}

// mountTmpfs mounts a small file system. It takes root, as which CI runs.
func mountTmpfs(t testing.TB, size string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(dir, "mount")
	tree(t, dir, "./")
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount a small file system (these tests run as root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fakeServer is a copy of cat under a server's name, in a folder.
func fakeServer(t testing.TB, name, cwd string, args ...string) (pid int, stop func()) {
	t.Helper()
	script := "echo ready; exec cat"
	cmd := exec.Command("/bin/sh", append([]string{"-c", script, "x"}, args...)...)
	if name != "" {
		sh, err := os.ReadFile("/bin/sh")
		if err != nil {
			t.Fatal(err)
		}
		program := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(program, sh, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd = exec.Command(program, append([]string{"-c", "echo ready; read x", "x"}, args...)...)
	}
	cmd.Dir = cwd
	return start(t, cmd, "ready")
}

func TestServersOf(t *testing.T) {
	f := newFolders(t)
	tree(t, f.dir, "var->data", "other/")
	cnf := writeText(t, f.dir+"/my.cnf", "[mysqld]\n")
	for _, c := range []struct {
		what, name, cwd string
		args            []string
		want            bool
	}{
		{"works in the folder", "mysqld", f.data, nil, true},
		{"works in the folder, MariaDB", "mariadbd", f.data, nil, true},
		{"has the defaults file", "mysqld", "/", []string{"--defaults-file=" + cnf}, true},
		{"has the folder as an option", "mysqld_safe", "/", []string{"--datadir=" + f.data + "/"}, true},
		{"works elsewhere", "mysqld", f.dir + "/other", nil, false},
		{"has another defaults file", "mysqld", "/", []string{"--defaults-file=" + cnf + "2"}, false},
		{"another program in the folder", "backup", f.data, nil, false},
		// sudo, timeout and this program itself have such arguments.
		{"another program with a server's name in its arguments", "sudo", "/", []string{"shardseed", "--mysqld", "/usr/sbin/mysqld", "--defaults-file=" + cnf}, false},
		{"a shell with a server's name in its arguments", "", f.data, []string{"/usr/sbin/mysqld"}, false},
	} {
		pid, stop := fakeServer(t, c.name, c.cwd, c.args...)
		for _, datadir := range []string{f.data, f.dir + "/var"} {
			if datadir != f.data && len(c.args) > 0 {
				continue // an argument is compared as it is
			}
			pids, err := serversOf(datadir, cnf)
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.Contains(pids, pid); got != c.want {
				t.Errorf("%s, seen from %s: %v, want %v", c.what, datadir, got, c.want)
			}
		}
		stop()
		if pids, err := serversOf(f.data, cnf); err != nil || len(pids) > 0 {
			t.Errorf("%s: after its end %v, %v", c.what, pids, err)
		}
	}
}

func TestIsServerProgram(t *testing.T) {
	for line, want := range map[string]bool{
		"mysqld": true, "/usr/sbin/mysqld --user=mysql": true, "/usr/sbin/mariadbd": true, "/bin/sh /usr/bin/mysqld_safe --x": true,
		"bash /usr/bin/mariadbd-safe": true, "/lib64/ld-linux-x86-64.so.2 --library-path L --argv0 M /x/mysqld --defaults-file=C": true,
		"": false, "sh": false, "vi /etc/init.d/mysqld": false, "sh -c mysqld": false, "sudo mysqld": false, "ld-linux.so.2 /bin/cat": false,
		"shardseed restore --mysqld /usr/sbin/mysqld": false, "mysqldump": false,
	} {
		if got := isServerProgram(strings.Split(line, " ")); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}

func TestIsAlive(t *testing.T) {
	if !isAlive(os.Getpid()) {
		t.Error("this process is not alive")
	}
	if isAlive(1 << 30) {
		t.Error("a process that can't be is alive")
	}
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := poll(t.Context(), "a zombie", time.Minute, func(context.Context) (bool, error) { return !isAlive(cmd.Process.Pid), nil }); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if got, want := describeProcess(1<<30), fmt.Sprintf("process %d", 1<<30); got != want {
		t.Errorf("described as %q, want %q", got, want)
	}
	if got, want := describeProcess(os.Getpid()), fmt.Sprintf("process %d (", os.Getpid()); !strings.HasPrefix(got, want) {
		t.Errorf("described as %q, want %q…", got, want)
	}
}

func TestPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		begin := time.Now()
		err := poll(t.Context(), "three calls", time.Minute, func(context.Context) (bool, error) { calls++; return calls == 3, nil })
		if err != nil || calls != 3 || time.Since(begin) != 2*pollEvery {
			t.Errorf("%d calls in %s, error %v; want 3 in %s", calls, time.Since(begin), err, 2*pollEvery)
		}
		bad := errors.New("bad")
		err = poll(t.Context(), "luck", time.Minute, func(context.Context) (bool, error) { return true, bad })
		if !errors.Is(err, bad) || err.Error() != "wait for luck: bad" {
			t.Errorf("error %v, want the call's", err)
		}
		begin = time.Now()
		err = poll(t.Context(), "godot", time.Second, func(context.Context) (bool, error) { return false, nil })
		var late *timeoutError
		if !errors.As(err, &late) || err.Error() != "wait for godot: not within 1s" || time.Since(begin) != time.Second {
			t.Errorf("error %v after %s, want a timeout after a second", err, time.Since(begin))
		}
		err = poll(t.Context(), "a call that ends late", time.Second, func(ctx context.Context) (bool, error) {
			<-ctx.Done()
			return false, ctx.Err()
		})
		if !errors.As(err, &late) {
			t.Errorf("error %v, want a timeout", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(bad)
		if err := poll(ctx, "x", time.Minute, func(context.Context) (bool, error) { return false, nil }); !errors.Is(err, bad) || errors.As(err, &late) {
			t.Errorf("error %v, want the context's cause", err)
		}
		if err := poll(ctx, "x", time.Minute, func(context.Context) (bool, error) { return true, nil }); err != nil {
			t.Errorf("success of the last call: %v", err)
		}
	})
}
