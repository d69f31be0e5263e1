package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
)

// StartupOptions say what to do before a server is started.
type StartupOptions struct {
	// Restore is what to do if there is no data. It ends in [ModeSeeded] or
	// [ModeReplica]. Its repository comes from Open; a nil Topology is the
	// shard's record in that.
	Restore RestoreOptions
	// Open opens the repository. It is not called where there is data.
	Open func(ctx context.Context) (*cas.Repository, error)
	// InitConfig is a command for the shell that makes the defaults file, and
	// Configure then reads it; nil if it is there and Restore.Server is set.
	InitConfig string
	Configure  func() (Instance, error)
	// Wait is how long to wait for a backup that can be used, and for whoever
	// has to answer.
	Wait time.Duration
}

// StartupOutcome is what [Startup] found, or has done.
type StartupOutcome string

// The outcomes.
const (
	StartupPresent   StartupOutcome = "data-present" // nothing was touched
	StartupNoBackup  StartupOutcome = "no-backup"    // nothing is there, for the server to be initialized
	StartupRestored  StartupOutcome = "restored"
	StartupCompleted StartupOutcome = "completed" // the last move of a restore that was proved
)

// StartupResult is what came of it.
type StartupResult struct {
	Outcome StartupOutcome
	Datadir string         // "": not known, there is no defaults file
	Restore *RestoreResult // of [StartupRestored]
}

// startupRun is one run of [Startup].
type startupRun struct {
	StartupOptions
	told string // the last reason to wait that was told
}

// Startup makes a data directory ready for whoever starts the server next: if
// there is none, it is restored from the newest backup that can be used. It is
// made to run before every start. Data are never touched, and whatever is wrong
// with the repository does not matter then. Without any backup it does nothing.
// The error is an [ErrNoUsableBackup] if there are some, and none can be used.
func Startup(ctx context.Context, opts StartupOptions) (*StartupResult, error) {
	s := &startupRun{StartupOptions: opts}
	s.Restore.Older = true
	if s.Configure == nil {
		if result, err := s.look(ctx); result != nil || err != nil {
			return result, err
		}
	}
	deadline := s.Restore.Now().Add(s.Wait)
	for {
		result, err := s.try(ctx)
		if err == nil {
			return result, nil
		}
		waits := errors.Is(err, errUnreachable) || errors.Is(err, ErrNoBackup) || errors.Is(err, ErrNoUsableBackup)
		if !waits || !s.Restore.Now().Before(deadline) {
			return s.without(ctx, result, err)
		}
		if err := s.pause(ctx, err); err != nil {
			return nil, err
		}
	}
}

// startupPoll is how often a backup is looked for that is waited for.
const startupPoll = time.Second

// pause tells why there is nothing to restore, once, and waits.
func (s *startupRun) pause(ctx context.Context, reason error) error {
	if text := reason.Error(); text != s.told {
		s.told = text
		s.Restore.Progress.Warn("waiting for a backup: " + text)
	}
	timer := time.NewTimer(startupPoll)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// without ends a run that has restored nothing, or that has failed.
func (s *startupRun) without(ctx context.Context, result *StartupResult, err error) (*StartupResult, error) {
	if !errors.Is(err, ErrNoBackup) {
		return result, err
	}
	if s.Configure != nil {
		return &StartupResult{Outcome: StartupNoBackup}, nil
	}
	if err := s.sweep(ctx); err != nil {
		return nil, err
	}
	datadir, err := s.datadir(ctx)
	return &StartupResult{Outcome: StartupNoBackup, Datadir: datadir}, err
}

// look returns a result if there are data. Those of a restore that has not come
// to its end do not count, unless nothing was missing but its last move.
func (s *startupRun) look(ctx context.Context) (*StartupResult, error) {
	datadir, err := s.datadir(ctx)
	if err != nil {
		return nil, err
	}
	m, err := readMarker(datadir)
	switch {
	case err != nil:
		return nil, err
	case m != nil && m.Stage == stageWriting:
		s.Restore.Progress.Warn("a restore into " + datadir + " was interrupted: starting over")
		return nil, nil //nolint:nilnil // no data
	case m.goesOn(&s.Restore) && s.Restore.Mode.starts():
		return nil, nil //nolint:nilnil // the restore goes on with them
	case m != nil && m.Stage == stageReleasing:
		return s.complete(ctx, datadir)
	}
	paths, err := listIfThere(datadir, func(path string) bool { return filepath.Base(path) != "lost+found" })
	if err != nil || len(paths) == 0 {
		return nil, err
	}
	return &StartupResult{Outcome: StartupPresent, Datadir: datadir}, nil
}

// datadir returns the data directory. Where only the groups of a version name
// it, mysqld is asked for that.
func (s *startupRun) datadir(ctx context.Context) (string, error) {
	datadir, err := s.Restore.Server.datadir()
	if err == nil {
		return datadir, nil
	}
	version, versionErr := programVersion(ctx, s.Restore.Program)
	if versionErr != nil {
		return "", errors.Join(err, versionErr)
	}
	server := s.Restore.Server
	server.Defaults = server.Defaults.For(version)
	return server.datadir()
}

// alone calls do with the place and as the only run on it.
func (s *startupRun) alone(ctx context.Context, do func(*target) error) (err error) {
	opts := s.Restore
	t, err := newTarget(ctx, &opts)
	if err != nil {
		return err
	}
	j, err := openJournal(opts.StateDir, t.layout.datadir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	if err := t.endFenced(ctx); err != nil {
		return err
	}
	if err := t.checkIdle(ctx, opts.Server.Conn.Socket); err != nil {
		return err
	}
	return do(t)
}

// complete makes the last move of a restore that was proved. The repository is
// not needed for that.
func (s *startupRun) complete(ctx context.Context, datadir string) (*StartupResult, error) {
	err := s.alone(ctx, func(t *target) error { return errors.Join(t.release(), unmark(datadir)) })
	if err != nil {
		return nil, err
	}
	return &StartupResult{Outcome: StartupCompleted, Datadir: datadir}, nil
}

// sweep removes what an interrupted restore has left: there is no backup to
// start over with.
func (s *startupRun) sweep(ctx context.Context) error {
	datadir, err := s.datadir(ctx)
	if err != nil {
		return err
	}
	m, err := readMarker(datadir)
	if err != nil || m == nil || m.Stage != stageWriting {
		return err
	}
	return s.alone(ctx, func(t *target) error {
		paths, err := t.occupied()
		if err != nil {
			return err
		}
		return errors.Join(t.remove(paths), unmark(datadir))
	})
}

// try restores if there is a backup. An [ErrNoBackup] says that there is none.
func (s *startupRun) try(ctx context.Context) (*StartupResult, error) {
	repo, err := s.Open(ctx)
	if err != nil {
		return nil, as(errUnreachable, err)
	}
	keys, err := repo.Keys(ctx, string(s.Restore.Keyspace), string(s.Restore.Shard))
	if err != nil {
		return nil, as(errUnreachable, err)
	}
	if len(keys) == 0 {
		err := noBackup(ctx, repo, s.Restore.Keyspace, s.Restore.Shard)
		if !errors.Is(err, ErrNoBackup) && !errors.Is(err, cas.ErrCorrupt) {
			err = as(errUnreachable, err)
		}
		return nil, err
	}
	topology := s.Restore.Topology
	if topology == nil {
		topology = ShardRecord{Repo: repo, Keyspace: s.Restore.Keyspace, Shard: s.Restore.Shard}
	}
	if err := s.checkPrimary(ctx, topology); err != nil {
		return nil, err
	}
	if s.Configure != nil {
		if result, err := s.configure(ctx); result != nil || err != nil {
			return result, err
		}
	}
	opts := s.Restore
	opts.Store.Repo, opts.Topology = repo, topology
	restored, err := Restore(ctx, opts)
	if restored == nil {
		return nil, err
	}
	return &StartupResult{Outcome: StartupRestored, Datadir: restored.Datadir, Restore: restored}, err
}

// checkPrimary refuses to end with a replica of nobody. Whoever knows the
// primary must answer before a defaults file is made, which would stay.
func (s *startupRun) checkPrimary(ctx context.Context, topology Topology) error {
	primary, err := topology.Primary(ctx)
	if err != nil {
		return as(errUnreachable, err)
	}
	if primary.IsZero() && s.Restore.Mode == ModeReplica {
		err = hint.Wrap(refuse("no primary of %s/%s is known", s.Restore.Keyspace, s.Restore.Shard),
			fmt.Sprintf("record it with \"shardseed primary set %s/%s HOST:PORT\"", s.Restore.Keyspace, s.Restore.Shard))
	}
	return err
}

// configure makes the defaults file, which is not there, and looks again: it
// may name a place that has data.
func (s *startupRun) configure(ctx context.Context) (*StartupResult, error) {
	s.Restore.Progress.Step(string(StepConfigure), s.InitConfig)
	if err := run(ctx, "/bin/sh", "-c", s.InitConfig); err != nil {
		return nil, fmt.Errorf("make the defaults file: %w", err)
	}
	server, err := s.Configure()
	if err != nil {
		return nil, fmt.Errorf("read the defaults file that was made: %w", err)
	}
	s.Restore.Server, s.Configure = server, nil
	return s.look(ctx)
}
