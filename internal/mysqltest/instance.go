package mysqltest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/replication"
)

// File names in an instance's folder. They are short, since the path of a
// socket may have at most 107 bytes.
const (
	dirPattern   = "shardseed-test-"
	ownerFile    = "owner"
	defaultsFile = "my.cnf"
	logTailLines = 15  // lines of the error log shown with a failure, so that what the test says is not lost among them
	logLineSize  = 220 // bytes shown of each
)

// create makes the folder of an instance and its configuration.
func create(ctx context.Context, flavor replication.Flavor, options Options) (*Server, error) {
	i, err := findInstallation()
	if err != nil {
		return nil, err
	}
	if err := reap(tempDir()); err != nil {
		return nil, fmt.Errorf("end what an earlier test left: %w", err)
	}
	dir, err := os.MkdirTemp(tempDir(), dirPattern)
	if err != nil {
		return nil, err
	}
	s := &Server{
		Flavor:           flavor,
		ServerID:         options.ServerID,
		Dir:              dir,
		Datadir:          filepath.Join(dir, "data"),
		DefaultsFile:     filepath.Join(dir, defaultsFile),
		Socket:           filepath.Join(dir, "sock"),
		ErrorLog:         filepath.Join(dir, "error.log"),
		Program:          i.server(flavor),
		PasswordFile:     filepath.Join(dir, "password"),
		ReplPasswordFile: filepath.Join(dir, "repl-password"),
		installation:     i,
		options:          options,
	}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.destroy())
	}
	return s, nil
}

// tempDir returns the folder of temporary files, or /tmp where its path is too
// long for sockets below it.
func tempDir() string {
	if dir := os.TempDir(); len(dir) <= 40 {
		return dir
	}
	return "/tmp"
}

func (s *Server) prepare(ctx context.Context) (err error) {
	if s.lock, err = own(s.Dir); err != nil {
		return err
	}
	if s.Port, s.claim, err = claimPort(ctx, s.installation.path("ports")); err != nil {
		return err
	}
	s.Address = loopback(s.Port)
	if s.ServerID == 0 {
		s.ServerID = s.Port
	}
	if s.db, err = openDatabase(s.Socket); err != nil {
		return err
	}
	return errors.Join(
		os.Mkdir(s.Datadir, 0o750),
		os.Mkdir(s.tmpdir(), 0o750),
		writeFile(s.DefaultsFile, s.config()),
		writeFile(s.PasswordFile, Password+"\n"),
		writeFile(s.ReplPasswordFile, ReplPassword+"\n"),
	)
}

func (s *Server) tmpdir() string {
	return filepath.Join(s.Dir, "tmp")
}

// own marks the folder as one of a running test: its file "owner" is locked as
// long as the returned file is open. The file appears with the lock on it.
func own(dir string) (*os.File, error) {
	f, err := lockFile(filepath.Join(dir, ownerFile+".new"))
	if err != nil {
		return nil, err
	}
	if err := unix.Rename(f.Name(), filepath.Join(dir, ownerFile)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// reap ends the servers, and removes the folders, of tests that are gone
// without having done so. Folders of other users are left alone.
func reap(parent string) error {
	owners, err := filepath.Glob(filepath.Join(parent, dirPattern+"*", ownerFile))
	if err != nil {
		return err
	}
	for _, owner := range owners {
		f, err := lockFile(owner)
		if err != nil {
			continue // in use, removed meanwhile, or not ours
		}
		dir := filepath.Dir(owner)
		if err := errors.Join(endAll(filepath.Join(dir, defaultsFile), unix.SIGKILL), os.RemoveAll(dir), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// InstallationOptions are what the program needs to be told because it is only
// unpacked, not installed, and one of many on this machine: the kernel has
// asynchronous I/O for some 25 of MySQL's servers (fs.aio-max-nr), and the next
// one does not start.
func (s *Server) InstallationOptions() []string {
	base := s.installation.path(string(s.Flavor), "usr")
	return []string{
		"basedir=" + base,
		"plugin-dir=" + filepath.Join(base, "lib/mysql/plugin"),
		"lc-messages-dir=" + filepath.Join(base, "share/mysql"),
		"character-sets-dir=" + filepath.Join(base, "share/mysql/charsets"),
		"innodb-use-native-aio=OFF",
	}
}

// config returns the text of the defaults file.
func (s *Server) config() string {
	lines := append([]string{"[mysqld]"}, s.InstallationOptions()...)
	lines = append(lines,
		"datadir="+s.Datadir,
		"socket="+s.Socket,
		// A MariaDB server that starts removes every temporary table it finds in
		// tmpdir, whosever it is.
		"tmpdir="+s.tmpdir(),
		"pid-file="+filepath.Join(s.Dir, "pid"),
		"log-error="+s.ErrorLog,
		"bind-address=127.0.0.1",
		fmt.Sprintf("port=%d", s.Port),
		fmt.Sprintf("server-id=%d", s.ServerID),
		"report-host=127.0.0.1",
		fmt.Sprintf("report-port=%d", s.Port),
		"skip-name-resolve",
		"log-bin=binlog",
		"relay-log=relay",
		"max-connections=60",
		"innodb-buffer-pool-size=64M",
		// The tests pull no plugs: what the kernel has is good enough.
		"sync-binlog=0",
		"innodb-flush-log-at-trx-commit=2",
	)
	if os.Getuid() == 0 {
		lines = append(lines, "user=root")
	}
	if s.Flavor == replication.MariaDB {
		lines = append(lines, "log-slave-updates", "binlog-format=ROW", "innodb-log-file-size=16M")
	} else {
		lines = append(lines, "gtid-mode=ON", "enforce-gtid-consistency=ON", "mysqlx=OFF",
			"secure-file-priv=NULL", "innodb-redo-log-capacity=16M",
			// Many run at once: 330 MB each instead of 540.
			"innodb-log-buffer-size=4M", "table-open-cache=400", "table-definition-cache=400", "performance-schema-error-size=0")
	}
	return strings.Join(append(lines, s.options.Cnf...), "\n") + "\n"
}

// start starts the server and waits until it answers.
func (s *Server) start(ctx context.Context, arguments []string) error {
	if pid := s.PID(); pid != 0 {
		return fmt.Errorf("it runs already, as process %d", pid)
	}
	ended, err := launch(ctx, s.Program, append([]string{"--defaults-file=" + s.DefaultsFile}, arguments...)...)
	if err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		select {
		case <-ended:
			return false, errors.New("the server ended")
		default:
			return s.db.PingContext(ctx) == nil, nil
		}
	})
}

func (s *Server) ready(ctx context.Context) error {
	return poll(ctx, func() (bool, error) {
		return s.db.PingContext(ctx) == nil, nil
	})
}

// kill also cleans the folder for temporary files as a boot does: a server that
// dies while its applier tries that folder (check_temp_dir in MySQL's
// rpl_replica.cc) leaves a file SQL_LOAD-… there, and no applier starts as long
// as it is there.
func (s *Server) kill() error {
	if err := endAll(s.DefaultsFile, unix.SIGKILL); err != nil {
		return err
	}
	tests, err := filepath.Glob(filepath.Join(s.tmpdir(), "SQL_LOAD-*"))
	for _, path := range tests {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// endAll ends every server that runs with the defaults file.
func endAll(defaultsFile string, signal unix.Signal) error {
	for _, pid := range processes(defaultsFile) {
		if err := end(pid, signal); err != nil {
			return err
		}
	}
	return nil
}

// destroy ends the server and removes all its files. It is safe on an instance
// of which only a part was made.
func (s *Server) destroy() error {
	if s.db != nil {
		_ = s.db.Close() // fails when the server is gone, which is no news
	}
	const tries, pause = 40, 250 * time.Millisecond
	err := errors.Join(s.kill(), os.RemoveAll(s.Dir))
	for n := 1; err != nil && n < tries; n++ { // what a test has killed may just have started it, or write into its folder
		<-time.After(pause)
		err = errors.Join(s.kill(), os.RemoveAll(s.Dir))
	}
	errs := []error{err}
	for _, f := range []*os.File{s.claim, s.lock} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// logTail returns the end of the error log, for a person to read.
func (s *Server) logTail() string {
	content, err := os.ReadFile(s.ErrorLog)
	if err != nil {
		return err.Error()
	}
	return tail(string(content))
}

// tail returns the last lines of a text, long ones cut.
func tail(text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	lines = lines[max(0, len(lines)-logTailLines):]
	for i, line := range lines {
		if len(line) > logLineSize {
			lines[i] = line[:logLineSize] + "..."
		}
	}
	return strings.Join(lines, "\n")
}

// writeFile writes a file that only this user reads. It is not synced: nothing
// of a test outlives the machine.
func writeFile(path, content string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Close())
}
