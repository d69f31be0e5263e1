package mysqlbackup

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// primaryFacts is what the preflight learns of a primary.
type primaryFacts struct {
	version  replication.Version
	state    replication.PrimaryState
	serverID uint32
	uuid     string            // MySQL
	gtids    bool              // all transactions have GTIDs
	logs     map[string]uint64 // binary logs and their sizes; nil on MySQL with GTIDs, where they don't matter
	tls      bool              // our connection was encrypted
}

// readPrimary asks the shard's primary what decides whether a replica can
// follow it. Without a known primary, or if none is wanted, it does nothing.
func (r *restoreRun) readPrimary(ctx context.Context) error {
	if r.Mode != ModeReplica && r.Mode != ModeSeeded {
		return nil
	}
	primary, err := r.Topology.Primary(ctx)
	if err != nil {
		return as(errUnreachable, err)
	}
	if primary.IsZero() {
		r.Progress.Warn("no primary is known for the shard: the restore will end with a standalone server")
		return nil
	}
	if r.Replication.User == "" {
		return hint.Wrap(refuse("the replica needs an account on the primary %s", primary), "give --replication-user and --replication-password-file, or --no-replication")
	}
	var facts *primaryFacts
	if err := r.accounts().each(ctx, primary, func(srv *server) error {
		facts, err = readFacts(ctx, srv)
		return err
	}); err != nil {
		return hint.Wrap(as(errUnreachable, as(ErrRefused, fmt.Errorf("ask the primary %s: %w", primary, err))),
			fmt.Sprintf("is it the primary still? see \"shardseed primary get %s/%s\"", r.Keyspace, r.Shard))
	}
	// The account that replicas use must be let in, whoever has answered.
	if err := (accounts{replication: r.Replication}).each(ctx, primary, func(*server) error { return nil }); err != nil {
		return as(ErrRefused, err)
	}
	r.primary, r.source = primary, facts
	return nil
}

func readFacts(ctx context.Context, srv *server) (*primaryFacts, error) {
	if err := srv.checkWritable(ctx); err != nil {
		return nil, err
	}
	state, err := srv.state(ctx)
	if err != nil {
		return nil, err
	}
	id, err := srv.value(ctx, "SELECT @@GLOBAL.server_id")
	if err != nil {
		return nil, err
	}
	serverID, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("server_id %q: %w", id, err)
	}
	cipher, err := srv.row(ctx, "SHOW SESSION STATUS LIKE 'Ssl_cipher'")
	if err != nil {
		return nil, err
	}
	facts := &primaryFacts{version: srv.version, state: state, serverID: uint32(serverID), tls: cipher["Value"] != ""}
	return facts, facts.readIdentity(ctx, srv)
}

// fits collects what speaks against restoring a backup here.
func (r *restoreRun) fits(_ context.Context, m *manifest.Manifest) error {
	if err := r.damaged[m.Key()]; err != nil {
		return err
	}
	var reasons refusals
	r.target.checkServer(&reasons, m)
	r.target.checkRoots(&reasons, m, r.Map)
	if r.source != nil {
		r.checkSource(&reasons, m)
	}
	if err := reasons.err(); err != nil {
		return fmt.Errorf("restore %s: %w", m.Name, err)
	}
	return nil
}

// checkSource checks whether a server with the backup's files can follow the
// primary.
func (r *restoreRun) checkSource(reasons *refusals, m *manifest.Manifest) {
	if r.source.version.Flavor != m.Server.Flavor {
		reasons.add("the primary %s is a %s, the backup is of a %s server", r.primary, r.source.version, m.Server.Flavor)
		return
	}
	if r.source.serverID == r.target.serverID {
		reasons.addHint("give this server a server_id of its own in "+r.Server.Defaults.Path,
			"server_id %d is also the primary's", r.target.serverID)
	}
	if newer(r.source.version, r.target.version) {
		reasons.add("the primary is a %s, newer than the %s here", r.source.version, r.target.version)
	}
	r.checkGTIDMode(reasons)
	if !m.PositionKnown {
		r.Progress.Warn("the backup does not know its position: whether it fits the primary is seen after the files are written")
		return
	}
	reasons.addErr(r.checkFollow(m, m.Position))
}

// newer reports whether v is of a later release series than w.
func newer(v, w replication.Version) bool {
	v.Patch, w.Patch = 0, 0
	return v.Compare(w) > 0
}

// programVersion asks a mysqld for its version.
func programVersion(ctx context.Context, program string) (replication.Version, error) {
	output, err := exec.CommandContext(ctx, program, "--no-defaults", "--version").Output()
	if err != nil {
		if ctx.Err() != nil {
			return replication.Version{}, context.Cause(ctx)
		}
		return replication.Version{}, refuse("ask %s for its version: %v", program, err)
	}
	// "/usr/sbin/mysqld  Ver 9.7.4 for Linux on x86_64 (MySQL Community Server - GPL)"
	_, rest, _ := strings.Cut(string(output), " Ver ")
	number, comment, _ := strings.Cut(strings.TrimSpace(rest), " ")
	version, err := replication.ParseVersion(number, comment)
	if err != nil {
		return version, refuse("%s is no mysqld: it says %q", program, strings.TrimSpace(string(output)))
	}
	return version, as(ErrRefused, version.Supported())
}
