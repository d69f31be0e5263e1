package mysqlbackup

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"
)

func TestUnitOf(t *testing.T) {
	for cgroups, want := range map[string]string{
		"": "", "0::/\n": "", "nonsense": "", "0::": "",
		"0::/system.slice/shardseed.service\n":                                                "shardseed.service",
		"0::/system.slice/shardseed.service/payload\n":                                        "shardseed.service",
		"0::/system.slice/system-shard.slice/shard@a.b.service\n":                             "shard@a.b.service",
		"0::/user.slice/user-0.slice/session-3.scope\n":                                       "",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-u1.service\n":         "run-u1.service",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-1.scope\n":      "",
		"0::/user.slice/user-1000.slice/user@1000.service/init.scope\n":                       "",
		"0::/system.slice/docker-0123.scope\n":                                                "",
		"0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-01.scope\n":               "",
		"12:pids:/system.slice/x.service\n1:name=systemd:/system.slice/y.service\n0::/\n":     "y.service",
		"12:pids:/system.slice/x.service\n1:name=systemd:/user.slice/session-1.scope\n0::/\n": "",
		"1:name=systemd:/system.slice/a:b.service\n":                                          "a:b.service",
		"0::/system.slice/servicename\n":                                                      "",
	} {
		if got := unitOf(cgroups); got != want {
			t.Errorf("%q: unit %q, want %q", cgroups, got, want)
		}
	}
}

func TestRun(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	if err := run(t.Context(), "sh", "-c", `test -z "$(ls -A "$TMPDIR")"`); err != nil {
		t.Errorf("a run that is killed would leave something: %v", err)
	}
	long := "yes | head -c 100000; echo the end; exit 3"
	err := run(t.Context(), "/bin/sh", "-c", long)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "the end") || len(err.Error()) > 2000 {
		t.Errorf("error %v, want the status and the end of the output", err)
	}
	if err := run(t.Context(), "/nowhere/x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no program: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, "sleep", "60"); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// What a command leaves running must not hold us up, nor get our signals.
func TestRunLeavesServer(t *testing.T) {
	pidFile := t.TempDir() + "/pid"
	if err := run(t.Context(), "/bin/sh", "-c", "echo started; sleep 600 & echo $! > "+pidFile); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		t.Fatal(err)
	}
	session, err := unix.Getsid(pid)
	own, ownErr := unix.Getsid(0)
	if err := errors.Join(err, ownErr, unix.Kill(pid, unix.SIGKILL)); err != nil || session == own {
		t.Errorf("session %d, ours is %d, %v", session, own, err)
	}
}

func TestQuoteTail(t *testing.T) {
	for text, want := range map[string]string{"": "", " \n\t": "", " a\nb ": `: it said "a\nb"`} {
		if got := quoteTail([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := quoteTail([]byte(strings.Repeat("x", 5000))); len(got) > 600 || !strings.Contains(got, "…xxx") {
		t.Errorf("a long text: %d bytes, %.30q", len(got), got)
	}
}

// nobodysServer is a connection that is never used.
func nobodysServer(t testing.TB) *server {
	t.Helper()
	connector, err := mysql.NewConnector(mysql.NewConfig())
	if err != nil {
		t.Fatal(err)
	}
	srv := &server{db: sql.OpenDB(connector), pid: new(atomic.Int32)}
	t.Cleanup(srv.close)
	return srv
}

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	c := Commands{StopCommand: "echo stop >> " + dir + "/log", StartCommand: "echo start >> " + dir + "/log"}
	if err := c.Stop(t.Context(), nobodysServer(t)); err != nil {
		t.Fatal(err)
	}
	exited, err := c.Start(t.Context(), "--ignored")
	if err != nil || exited != nil {
		t.Fatalf("start: %v, %v", exited, err)
	}
	if text, err := os.ReadFile(dir + "/log"); err != nil || string(text) != "stop\nstart\n" {
		t.Errorf("log %q, %v", text, err)
	}
	if _, err := (Commands{StartCommand: "exit 4"}).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "exit status 4") {
		t.Errorf("a start that fails: %v", err)
	}
	for service, want := range map[Service]string{c: c.StopCommand, Unit{"mysql"}: "systemd unit mysql", Direct{Program: "/x/mysqld"}: "/x/mysqld"} {
		if got := service.String(); !strings.Contains(got, strings.ReplaceAll(want, `"`, `\"`)) {
			t.Errorf("called %q, want %q in it", got, want)
		}
	}
}

// fakeSystemctl is a systemctl that notes what it was asked.
func fakeSystemctl(t testing.TB, reply string) (log string) {
	t.Helper()
	dir := t.TempDir()
	log = dir + "/log"
	writeText(t, dir+"/systemctl", "#!/bin/sh\necho \"$@\" >> "+log+"\n"+reply+"\n")
	if err := os.Chmod(dir+"/systemctl", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return log
}

func TestUnitAsksSystemd(t *testing.T) {
	log := fakeSystemctl(t, "")
	u := Unit{"-x.service"}
	if err := u.Stop(t.Context(), nobodysServer(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(log); err != nil || string(text) != "stop -- -x.service\nstart -- -x.service\n" {
		t.Errorf("asked %q, %v", text, err)
	}
}

func TestStartDetached(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	data := dir + "/data"
	if err := errors.Join(os.Mkdir(data, 0o755), os.Chown(data, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	server, err := startDetached("/bin/sh", []string{"-c", "id -u > " + data + "/who; ps -o sid= -p $$ >> " + data + "/who; pwd >> " + data + "/who"}, data)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-server.exited:
	case <-time.After(time.Minute):
		t.Fatal("it did not end")
	}
	text, err := os.ReadFile(data + "/who")
	lines := strings.Split(string(text), "\n")
	if err != nil || lines[0] != fmt.Sprint(nobody) || lines[len(lines)-2] != "/" {
		t.Errorf("ran as %q, %v; want the folder's owner, in /", text, err)
	}
	if _, err := startDetached("/nowhere/x", nil, data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no program: %v", err)
	}
	if _, err := startDetached("/bin/true", nil, dir+"/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestAwaitServerEnded(t *testing.T) {
	exited := make(chan struct{})
	close(exited)
	conn := Connection{Socket: t.TempDir() + "/sock"}
	if _, err := awaitServer(t.Context(), conn, time.Minute, exited); err == nil || !strings.Contains(err.Error(), "it ended instead") {
		t.Errorf("error %v, want that it ended", err)
	}
	_, err := awaitServer(t.Context(), conn, 10*time.Millisecond, nil)
	var late *timeoutError
	if !errors.As(err, &late) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error %v, want a timeout and the last failure", err)
	}
}

func TestIsNotUp(t *testing.T) {
	for err, want := range map[error]bool{
		unix.ECONNREFUSED: true, unix.ENOENT: true, fmt.Errorf("x: %w", unix.ECONNRESET): true, context.DeadlineExceeded: true, mysql.ErrInvalidConn: true,
		errors.New("unexpected EOF"): true, errors.New("driver: bad connection"): true, &mysql.MySQLError{Number: 1045}: false, unix.EACCES: false,
	} {
		if got := isNotUp(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}

// TestEndedByOthers: what a server does to itself is told from what is done to it,
// also if a script has started it.
func TestEndedByOthers(t *testing.T) {
	for script, want := range map[string]string{
		"kill -KILL $$": "killed", "kill -TERM $$": "terminated", "exit 137": "killed", "exit 143": "terminated", "exit 0": "shut down",
		"kill -ABRT $$": "", "kill -SEGV $$": "", "exit 134": "", "exit 1": "", "exit 2": "", "exit 129": "hangup",
	} {
		server, err := startDetached("/bin/sh", []string{"-c", "ulimit -c 0; " + script}, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		<-server.exited
		if got := server.endedByOthers(); got != want {
			t.Errorf("%s: got %q, want %q", script, got, want)
		}
	}
	running, err := startDetached("/bin/sleep", []string{"1000"}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if got := running.endedByOthers(); got != "" {
		t.Errorf("of one that runs: %q", got)
	}
	if err := running.kill(); err != nil {
		t.Error(err)
	}
}
