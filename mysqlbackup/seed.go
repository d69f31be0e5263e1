package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/replication"
)

// isListening reports whether something accepts connections at the socket.
func isListening(ctx context.Context, socket string) bool {
	dialer := net.Dialer{Timeout: connectTimeout}
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was said
	return true
}

// seed starts the server behind a fence, checks that it is what the backup
// says, and points it at the primary.
func (r *restoreRun) seed(ctx context.Context) (err error) {
	r.step(StepFenced, r.Program)
	fence, err := r.fencedFolder()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fence.remove()) }()
	folder := fence.folder
	conn := Connection{Socket: filepath.Join(folder, "sock"), Credentials: Credentials{User: "root"}}
	fenced, err := startDetached(r.Program, r.fencedArguments(folder), r.target.layout.datadir)
	if err != nil {
		return err
	}
	srv, err := awaitServer(ctx, conn, r.Server.StartTimeout, fenced.exited)
	if err != nil {
		return r.explainFenced(err, folder, fenced)
	}
	r.step(StepSeed, r.primary.String())
	err = r.seedServer(ctx, srv)
	calm := context.WithoutCancel(ctx)
	return errors.Join(err, stopServer(calm, Direct{Program: r.Program}, srv, r.Server.StopTimeout))
}

// fencedPrefix begins the names of the fenced servers' folders.
const fencedPrefix = "shardseed-fenced-"

// fencedFolder makes the private folder of the fenced server: whoever can't
// look into it can't reach the server.
func (r *restoreRun) fencedFolder() (*scratch, error) {
	fence, err := makeScratch(os.TempDir(), fencedPrefix)
	if err != nil {
		return nil, fmt.Errorf("make a folder for the fenced start: %w", unrefused(err)) // files have been written
	}
	if err := os.Chown(fence.folder, r.target.uid, r.target.gid); err != nil {
		return nil, errors.Join(err, fence.remove())
	}
	return fence, nil
}

// sweepFenced removes the folders of fenced servers that ended together with
// their restores, whatever these were of. A server that lives is left to the same
// restore, which ends it.
func (r *restoreRun) sweepFenced(ctx context.Context) {
	_, err := sweep(os.TempDir(), fencedPrefix, func(s *scratch) (bool, error) {
		socket := s.path("sock")
		return !isListening(ctx, socket) && !isSocketOf(socket), nil
	})
	if err != nil {
		r.Progress.Warn(err.Error()) // it takes next to no room
	}
}

// isSocketOf tells whether a process has been started with this socket.
func isSocketOf(socket string) bool {
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is right
	return slices.ContainsFunc(paths, func(path string) bool {
		cmdline, err := os.ReadFile(path)
		return err == nil && slices.Contains(strings.Split(string(cmdline), "\x00"), "--socket="+socket)
	})
}

// fencedArguments start a server that only we can reach, without its accounts,
// and that does nothing by itself.
func (r *restoreRun) fencedArguments(folder string) []string {
	dialect, err := replication.DialectFor(r.target.version)
	if err != nil {
		panic("mysqlbackup: internal error: " + err.Error()) // the version was checked
	}
	return []string{
		"--defaults-file=" + r.target.defaults.Path,
		"--datadir=" + r.target.layout.datadir,
		"--innodb-log-group-home-dir=" + r.target.withheldFolder(),
		"--socket=" + filepath.Join(folder, "sock"),
		"--pid-file=" + filepath.Join(folder, "pid"),
		"--log-error=" + filepath.Join(folder, "log.err"),
		"--skip-grant-tables", "--skip-networking", "--event-scheduler=OFF", "--loose-mysqlx=OFF",
		dialect.SkipStartFlag,
	}
}

// fencedWait is how long a server that was killed may take to go.
const fencedWait = 20 * time.Second

// endFenced ends the fenced server that a killed restore has left in a data
// directory which it has marked: nobody else has a use for it.
func (t *target) endFenced(ctx context.Context) error {
	if !t.isPartial() {
		return nil
	}
	pids, err := serversOf(t.layout.datadir, t.defaults.Path)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		folder := fencedFolderOf(pid)
		if folder == "" {
			continue // an operator's: it is refused
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			return fmt.Errorf("end the fenced server of an interrupted restore, process %d: %w", pid, err)
		}
		if err := poll(ctx, fmt.Sprintf("the fenced server, process %d, to end", pid), fencedWait, func(context.Context) (bool, error) {
			return !isAlive(pid), nil
		}); err != nil {
			return err
		}
		if err := errors.Join(os.RemoveAll(folder), os.RemoveAll(folder+lockSuffix)); err != nil {
			return fmt.Errorf("remove what an interrupted restore left: %w", err)
		}
	}
	return nil
}

// fencedFolderOf returns the private folder of a server that fencedArguments
// have started, "" if the process is none.
func fencedFolderOf(pid int) string {
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return "" // it has ended
	}
	args := strings.Split(string(cmdline), "\x00")
	i := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--socket=") })
	if i < 0 || !slices.Contains(args, "--skip-grant-tables") {
		return ""
	}
	folder := filepath.Dir(strings.TrimPrefix(args[i], "--socket="))
	if filepath.Dir(folder) != filepath.Clean(os.TempDir()) || !strings.HasPrefix(filepath.Base(folder), fencedPrefix) {
		return ""
	}
	return folder
}

// explainFenced adds the end of the server's log to a start that failed, and
// ends a server that hangs: it is ours.
func (r *restoreRun) explainFenced(cause error, folder string, fenced *child) error {
	log, err := os.ReadFile(filepath.Join(folder, "log.err"))
	if err == nil {
		cause = fmt.Errorf("%w%s", cause, quoteTail(log))
	}
	return errors.Join(fmt.Errorf("start the restored server behind a fence: %w", cause), err, fenced.kill())
}

// seedServer works on the fenced server.
func (r *restoreRun) seedServer(ctx context.Context, srv *server) error {
	if err := r.checkPosition(ctx, srv); err != nil {
		return err
	}
	if err := r.checkKeys(ctx, srv); err != nil {
		return err
	}
	if err := r.resetReplication(ctx, srv); err != nil {
		return err
	}
	if r.primary.IsZero() {
		return nil
	}
	// A reparent may have happened while the files were written.
	if err := r.readPrimary(ctx); err != nil {
		return err
	}
	if err := r.checkFollow(r.chosen, r.result.Position); err != nil {
		return err
	}
	r.result.Primary = r.primary
	return r.pointAtPrimary(ctx, srv)
}

// checkPosition compares where the server stands with the manifest. A backup
// of a server that was stopped already has no position: the server's word is
// taken.
func (r *restoreRun) checkPosition(ctx context.Context, srv *server) error {
	position, err := r.restoredPosition(ctx, srv)
	if err != nil {
		return err
	}
	r.result.Position = position
	want := r.chosen.Position
	if r.chosen.PositionKnown && !position.Equal(want) {
		return fmt.Errorf("the restored server stands at %s, the backup says %s", position.Short(), want.Short())
	}
	return nil
}

// restoredPosition reads where a restored server stands. On MariaDB the
// position of a replica is in a table, that of a primary in the binary logs'
// state; either is in the copy.
func (r *restoreRun) restoredPosition(ctx context.Context, srv *server) (replication.Position, error) {
	if srv.flavor() == replication.MySQL {
		return srv.position(ctx, nil)
	}
	applied, err := srv.value(ctx, srv.dialect.ReplicaGTIDs)
	if err != nil {
		return replication.Position{}, err
	}
	position, err := replication.ParseGTIDs(srv.flavor(), applied)
	if err != nil {
		return position, err
	}
	if err := srv.addHistory(ctx, &position); err != nil {
		return position, err
	}
	if r.chosen.PositionKnown && !r.chosen.State.ReplicaConfigured || position.Domains.IsEmpty() {
		position.Domains = position.BinlogState.Newest()
		return position, srv.setSlavePos(ctx, position)
	}
	return position, nil
}

// setSlavePos gives MariaDB the position to replicate from. Its own binary log
// may hold later numbers of a domain and then forbids it: it is made empty.
func (s *server) setSlavePos(ctx context.Context, position replication.Position) error {
	statement := s.dialect.SetPosition(position)
	if err := s.exec(ctx, statement); err == nil {
		return nil
	}
	return s.exec(ctx, s.dialect.ResetBinaryLogs, statement)
}

// resetReplication forgets the source that the backed-up server had.
func (r *restoreRun) resetReplication(ctx context.Context, srv *server) error {
	rows, err := srv.rows(ctx, srv.dialect.ReplicaStatus)
	if err != nil {
		return err
	}
	for _, row := range rows {
		status, err := replication.ParseReplicaStatus(srv.flavor(), row)
		if err != nil {
			return err
		}
		if err := srv.exec(ctx, srv.dialect.ResetReplicaAll(status.Channel)); err != nil {
			return err
		}
	}
	return nil
}
