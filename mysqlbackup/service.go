package mysqlbackup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/internal/hint"
)

// Service stops and starts a server for good: whoever runs it always. Both
// calls only ask; whether the server has ended or serves is seen from outside.
type Service interface {
	fmt.Stringer
	// Stop asks a running server to end, and closes srv: a server that shuts
	// down waits for its clients.
	Stop(ctx context.Context, srv *server) error
	// Start asks for a start. extra are options for mysqld, which a service
	// that starts it by other means ignores. exited is closed when the server
	// is seen to have ended; nil if that can't be seen.
	Start(ctx context.Context, extra ...string) (exited <-chan struct{}, err error)
}

// Unit is a systemd unit.
type Unit struct{ Name string }

func (u Unit) String() string { return "systemd unit " + u.Name }

// Stop runs systemctl stop.
func (u Unit) Stop(ctx context.Context, srv *server) error {
	srv.close()
	return run(ctx, "systemctl", "stop", "--", u.Name)
}

// Start runs systemctl start.
func (u Unit) Start(ctx context.Context, _ ...string) (<-chan struct{}, error) {
	return nil, run(ctx, "systemctl", "start", "--", u.Name)
}

// Commands are shell commands that stop and start the server.
type Commands struct{ StopCommand, StartCommand string }

func (c Commands) String() string {
	return fmt.Sprintf("commands %q and %q", c.StopCommand, c.StartCommand)
}

// Stop runs the stop command.
func (c Commands) Stop(ctx context.Context, srv *server) error {
	srv.close()
	return run(ctx, "/bin/sh", "-c", c.StopCommand)
}

// Start runs the start command.
func (c Commands) Start(ctx context.Context, _ ...string) (<-chan struct{}, error) {
	return nil, run(ctx, "/bin/sh", "-c", c.StartCommand)
}

// tailOf returns the end of a file: more than quoteTail shows, and not much.
func tailOf(file *os.File) ([]byte, error) {
	const most = 4 << 10
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	from := max(0, size-most)
	return io.ReadAll(io.NewSectionReader(file, from, size-from))
}

// quoteTail puts the end of a program's output behind an error.
func quoteTail(output []byte) string {
	const most = 500
	text := bytes.TrimSpace(output)
	if len(text) == 0 {
		return ""
	}
	if len(text) > most {
		text = append([]byte("…"), text[len(text)-most:]...)
	}
	return fmt.Sprintf(": it said %q", text)
}

// Direct stops a server by SQL and starts its program, as the owner of the
// data directory, detached.
type Direct struct {
	Program      string // mysqld
	DefaultsFile string
	Datadir      string
}

func (d Direct) String() string { return d.Program }

// Stop runs the SHUTDOWN statement.
func (d Direct) Stop(ctx context.Context, srv *server) error {
	defer srv.close()
	return srv.exec(ctx, "SHUTDOWN")
}

// Start starts the program with the defaults file and the extra options.
func (d Direct) Start(_ context.Context, extra ...string) (<-chan struct{}, error) {
	server, err := startDetached(d.Program, append([]string{"--defaults-file=" + d.DefaultsFile}, extra...), d.Datadir)
	if err != nil {
		return nil, err
	}
	return server.exited, nil
}

// startDetached starts a server that outlives us, in a session of its own. Its
// first words, before it has opened its log, go nowhere.
func startDetached(program string, args []string, datadir string) (*child, error) {
	owner, err := ownerOf(datadir)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: owner}
	cmd.Dir = "/"
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	exited := make(chan struct{})
	go func() { // ends with the server, or with us: the server is ours to reap while we live
		defer close(exited)
		_ = cmd.Wait() // why it ended stands in its log
	}()
	return &child{cmd, exited}, nil
}

// child is a server that we have started.
type child struct {
	cmd    *exec.Cmd
	exited <-chan struct{} // closed when it has ended
}

// endedByOthers says how somebody else has ended the server; "" if it runs, or has
// ended for a reason of its own. The program may be a script that starts it.
func (c *child) endedByOthers() string {
	select {
	case <-c.exited:
	default:
		return ""
	}
	status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		return ""
	}
	signal := syscall.Signal(status.ExitStatus() - 128) // as a shell has it
	switch {
	case status.Signaled():
		signal = status.Signal()
	case status.ExitStatus() == 0:
		return "shut down"
	}
	switch signal { // a server that crashes gets others
	case syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP:
		return signal.String()
	}
	return ""
}

// kill ends the server at once, and waits until it is gone.
func (c *child) kill() error {
	err := c.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-c.exited
	return err
}

// ownerOf returns the credentials of a folder's owner where they are not ours.
func ownerOf(folder string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	var stat syscall.Stat_t
	if err := durable.Uninterrupted(func() error { return syscall.Stat(folder, &stat) }); err != nil {
		return nil, fmt.Errorf("stat %s: %w", folder, err)
	}
	if stat.Uid == 0 {
		return nil, nil
	}
	return &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}, nil
}

// checkDetached refuses a direct start where it would not last: in a systemd
// unit, all that we leave behind is killed when the unit ends.
func checkDetached(ctx context.Context) error {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil //nolint:nilerr // no cgroups, no units
	}
	unit := unitOf(string(text))
	if unit == "" {
		return nil
	}
	mode, err := exec.CommandContext(ctx, "systemctl", "show", "-p", "KillMode", "--value", "--", unit).Output()
	if err == nil && (strings.TrimSpace(string(mode)) == "process" || strings.TrimSpace(string(mode)) == "none") {
		return nil
	}
	return hint.Wrap(refuse("this runs in the systemd unit %s: a mysqld that it starts would be killed when the unit ends", unit),
		"use --service UNIT for mysqld's own unit, or set KillMode=process in "+unit)
}

// checkUnit refuses to stop and start directly what systemd runs: the server
// would leave its unit, or come back while it is copied.
func checkUnit(ctx context.Context, pid int) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil //nolint:nilerr // no cgroups, no units
	}
	unit := unitOf(string(text))
	if unit == "" {
		return nil
	}
	if !isMain(ctx, unit, pid) {
		return nil // it is somebody else's unit
	}
	return hint.Wrap(refuse("the server is the systemd unit %s", unit), "use --service "+unit)
}

// isMain reports whether a process is the main one of a unit.
func isMain(ctx context.Context, unit string, pid int) bool {
	main, err := exec.CommandContext(ctx, "systemctl", "show", "-p", "MainPID", "--value", "--", unit).Output()
	return err == nil && strings.TrimSpace(string(main)) == strconv.Itoa(pid)
}

// unitOf returns the service unit of a process from its /proc/PID/cgroup.
func unitOf(cgroups string) string {
	for line := range strings.SplitSeq(cgroups, "\n") {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) != 3 || parts[1] != "" && parts[1] != "name=systemd" {
			continue
		}
		folders := strings.Split(parts[2], "/")
		for _, unit := range slices.Backward(folders) { // a service may have cgroups of its own below its unit's
			switch filepath.Ext(unit) {
			case ".service":
				return unit
			case ".scope":
				return ""
			}
		}
	}
	return ""
}

// stopServer stops a server in order and waits until its process is gone.
func stopServer(ctx context.Context, service Service, srv *server, timeout time.Duration) error {
	pid := int(srv.pid.Load())
	if pid == 0 {
		return refuse("the server's process can't be seen from here: it runs in another container")
	}
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout) // a signal does not stop half-way
	defer cancel()
	if err := service.Stop(asking, srv); err != nil {
		return fmt.Errorf("stop the server by %s: %w", service, err)
	}
	return poll(ctx, fmt.Sprintf("the server (process %d) to end", pid), timeout, func(context.Context) (bool, error) {
		return !isAlive(pid), nil
	})
}

// startServer starts the server by its service and waits until it answers.
func startServer(ctx context.Context, service Service, conn Connection, timeout time.Duration, extra ...string) (*server, error) {
	starting, cancel := context.WithTimeout(ctx, timeout) // a command may hang
	defer cancel()
	exited, err := service.Start(starting, extra...)
	if err != nil {
		return nil, fmt.Errorf("start the server by %s: %w", service, err)
	}
	return awaitServer(ctx, conn, timeout, exited)
}

// awaitServer waits until a server answers at the socket.
func awaitServer(ctx context.Context, conn Connection, timeout time.Duration, exited <-chan struct{}) (*server, error) {
	var srv *server
	var last error
	err := poll(ctx, "the server to answer at "+conn.Socket, timeout, func(ctx context.Context) (bool, error) {
		srv, last = connectLocal(ctx, conn)
		if last == nil {
			return true, nil
		}
		if !isNotUp(last) {
			return false, last
		}
		select {
		case <-exited:
			return false, errors.New("it ended instead")
		default:
			return false, nil
		}
	})
	var late *timeoutError
	if errors.As(err, &late) && last != nil {
		err = fmt.Errorf("%w: %w", err, last)
	}
	return srv, err
}

// isNotUp tells errors that pass when a server comes up.
func isNotUp(err error) bool {
	for _, passing := range []error{unix.ECONNREFUSED, unix.ENOENT, unix.ECONNRESET, unix.EPIPE, unix.EAGAIN, context.DeadlineExceeded, mysql.ErrInvalidConn} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return strings.Contains(err.Error(), "bad connection") || strings.Contains(err.Error(), "EOF")
}
