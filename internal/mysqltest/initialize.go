package mysqltest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/replication"
)

// initialize fills the data directory: from the cache unless the instance
// wants it fresh. The cache holds one data directory for each flavor and
// version, made once, cleanly stopped, with an empty history.
func (s *Server) initialize(ctx context.Context) error {
	if s.options.Fresh {
		return s.bootstrap(ctx)
	}
	template, err := s.template(ctx)
	if err != nil {
		return err
	}
	return run(ctx, "cp", "-a", "--sparse=always", template+"/.", s.Datadir)
}

// template returns the cached data directory, making it if it is not there.
// It appears complete or not at all; of several test binaries that make it at
// once, the first one's is kept.
func (s *Server) template(ctx context.Context) (string, error) {
	recipe := sha256.Sum256([]byte(userStatements()))
	dir := s.installation.path("cache", fmt.Sprintf("%s-%s-%x", s.Flavor, s.installation.versions[s.Flavor], recipe[:4]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	maker, err := create(ctx, s.Flavor, Options{})
	if err != nil {
		return "", err
	}
	if err := maker.publish(ctx, dir); err != nil {
		return "", errors.Join(fmt.Errorf("make %s: %w\n%s", dir, err, maker.logTail()), maker.destroy())
	}
	return dir, maker.destroy()
}

// publish initializes the data directory and puts a copy where dir says.
func (s *Server) publish(ctx context.Context, dir string) error {
	if err := s.bootstrap(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		return err
	}
	if err := run(ctx, "cp", "-a", "--sparse=always", s.Datadir+"/.", temporary); err != nil {
		return errors.Join(err, os.RemoveAll(temporary))
	}
	err = unix.Rename(temporary, dir)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		err = nil // somebody else was faster
	}
	return errors.Join(err, os.RemoveAll(temporary))
}

// bootstrap fills the data directory by the server's own means, with the users
// that every test has, and leaves neither identity nor history in it.
func (s *Server) bootstrap(ctx context.Context) error {
	users := filepath.Join(s.Dir, "users.sql")
	if err := writeFile(users, userStatements()); err != nil {
		return err
	}
	program, arguments := s.Program, []string{"--initialize-insecure", "--init-file=" + users}
	if s.Flavor == replication.MariaDB {
		program = s.installation.program("mariadb-install-db")
		arguments = []string{"--auth-root-authentication-method=normal", "--skip-test-db", "--extra-file=" + users}
	}
	if err := run(ctx, program, append([]string{"--defaults-file=" + s.DefaultsFile}, arguments...)...); err != nil {
		return err
	}
	for _, pattern := range []string{"auto.cnf", "binlog.*", "ib_buffer_pool"} {
		paths, err := filepath.Glob(filepath.Join(s.Datadir, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// userStatements returns the statements that make the users, a line each. Each
// user gets the flavor's own way to log in.
func userStatements() string {
	return strings.Join([]string{
		"SET SESSION sql_log_bin = 0;", // these are no part of the server's history
		"FLUSH PRIVILEGES;",            // MariaDB's bootstrap knows no users before that
		"ALTER USER root@localhost IDENTIFIED BY " + quote(Password) + ";",
		"CREATE USER " + AdminUser + "@'%' IDENTIFIED BY " + quote(Password) + ";",
		"GRANT ALL PRIVILEGES ON *.* TO " + AdminUser + "@'%' WITH GRANT OPTION;",
		"CREATE USER " + ReplUser + "@'%' IDENTIFIED BY " + quote(ReplPassword) + ";",
		"GRANT REPLICATION SLAVE ON *.* TO " + ReplUser + "@'%';",
	}, "\n") + "\n"
}

// run runs a program to its end. The error has what it printed.
func run(ctx context.Context, program string, arguments ...string) error {
	output, err := exec.CommandContext(ctx, program, arguments...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("run %s: %w\n%s", filepath.Base(program), err, output)
	}
	return nil
}
