package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// startPoint is where a restored server begins to replicate: by GTID, or in a
// binary log of its source.
type startPoint struct {
	file   string // "": by GTID
	offset uint64
}

// checkFollow returns what keeps a server that stands at a backup's position
// from replicating from the primary.
func (r *restoreRun) checkFollow(m *manifest.Manifest, position replication.Position) error {
	if len(m.Channels) > 1 {
		position, _ = replication.SplitForeign(position, r.source.state, m.Server.UUID, m.Server.ID)
	}
	if err := explainFollow(replication.CanFollow(position, r.source.state), m); err != nil {
		return err
	}
	_, err := r.startPoint(m)
	return err
}

// startPoint decides from where the server replicates. Without GTIDs that is
// where the backed-up server stood in its source's binary log, or, if it had no
// source, in its own; and the primary must be that very server.
func (r *restoreRun) startPoint(m *manifest.Manifest) (startPoint, error) {
	if m.Server.Flavor == replication.MariaDB {
		return r.mariaDBStart(m), nil
	}
	if !m.PositionKnown || same(m.Server.GTIDMode, "ON") {
		if !r.source.gtids {
			return startPoint{}, fmt.Errorf("the primary %s has gtid_mode off, and the backup does not know a position in its binary logs", r.primary)
		}
		return startPoint{}, nil
	}
	if r.source.gtids {
		return startPoint{}, hint.Wrap(fmt.Errorf("gtid_mode is %s in the backup, ON on the primary %s", m.Server.GTIDMode, r.primary), "take a new backup")
	}
	start, ok := r.byFile(m)
	if !ok {
		return start, hint.Wrap(fmt.Errorf("gtid_mode is %s, and the backup's position is one in the binary logs of %s: it means nothing on %s",
			m.Server.GTIDMode, sourcesOf(m), r.primary), "take a new backup of a replica of "+r.primary.String())
	}
	if !r.source.holds(start) {
		return start, hint.Wrap(fmt.Errorf("the primary %s does not have its binary log %s up to %d any more, where the backup stands", r.primary, start.file, start.offset),
			"take a new backup of a replica that is up to date")
	}
	return start, nil
}

// mariaDBStart: MariaDB's transactions always have GTIDs. A replica that does
// not use them is followed in this as long as that works.
func (r *restoreRun) mariaDBStart(m *manifest.Manifest) startPoint {
	channel, ok := r.channelOf(m)
	start := startPoint{file: channel.File, offset: channel.Offset}
	if !ok || channel.AutoPosition || !r.source.holds(start) {
		return startPoint{}
	}
	return start
}

// byFile returns where the backup stands in the primary's binary logs.
func (r *restoreRun) byFile(m *manifest.Manifest) (startPoint, bool) {
	if channel, ok := r.channelOf(m); ok {
		return startPoint{file: channel.File, offset: channel.Offset}, channel.File != ""
	}
	p := m.Position
	return startPoint{file: p.BinlogFile, offset: p.BinlogOffset}, p.BinlogFile != "" && m.Server.UUID == r.source.uuid
}

// channelOf returns the channel whose source was the primary: that is told by
// its identity where that is known, else by its address.
func (r *restoreRun) channelOf(m *manifest.Manifest) (manifest.Channel, bool) {
	for _, c := range m.Channels {
		switch {
		case c.ServerUUID != "" && r.source.uuid != "":
			if c.ServerUUID == r.source.uuid {
				return c, true
			}
		case (HostPort{Host: c.Source.Host, Port: c.Source.Port}) == r.primary && (c.ServerID == 0 || c.ServerID == r.source.serverID):
			return c, true
		}
	}
	return manifest.Channel{}, false
}

// sourcesOf names the servers in whose binary logs a backup stands.
func sourcesOf(m *manifest.Manifest) string {
	if len(m.Channels) == 0 {
		return m.TabletAlias.Short()
	}
	var names []string
	for _, c := range m.Channels {
		names = append(names, HostPort{Host: c.Source.Host, Port: c.Source.Port}.String())
	}
	return strings.Join(names, ", ")
}

// warnFollow tells what the restored replica will not be.
func (r *restoreRun) warnFollow(m *manifest.Manifest) {
	if r.source == nil {
		return
	}
	if start, err := r.startPoint(m); err == nil && start.file != "" {
		r.Progress.Warn(fmt.Sprintf("the replica will follow %s by file and position, from %s:%d", r.primary, start.file, start.offset))
	}
	for _, c := range m.Channels {
		if c.Filters != "" {
			r.Progress.Warn(fmt.Sprintf("the backup is of a replica that left out a part of what %s:%d wrote (%s): it lacks that", c.Source.Host, c.Source.Port, c.Filters))
		}
	}
	if len(m.Channels) < 2 {
		return
	}
	text := fmt.Sprintf("the backup is of a replica of %d sources (%s), the server will follow %s only: what came from the others is not kept up to date",
		len(m.Channels), sourcesOf(m), r.primary)
	if _, foreign := replication.SplitForeign(m.Position, r.source.state, m.Server.UUID, m.Server.ID); !foreign.IsEmpty() {
		text += ", and stays in its GTID position: " + foreign.Short()
	}
	r.Progress.Warn(text)
}

// holds reports whether a place in the primary's binary logs is there.
func (f *primaryFacts) holds(start startPoint) bool {
	size, ok := f.logs[start.file]
	return ok && start.offset <= size
}

// readIdentity adds to the facts what a replica without GTIDs needs.
func (f *primaryFacts) readIdentity(ctx context.Context, srv *server) (err error) {
	if f.gtids, err = srv.usesGTIDs(ctx); err != nil {
		return err
	}
	if srv.flavor() == replication.MySQL {
		if f.uuid, err = srv.value(ctx, "SELECT @@GLOBAL.server_uuid"); err != nil || f.gtids {
			return err
		}
	}
	rows, err := srv.rows(ctx, srv.dialect.BinaryLogs)
	if err != nil {
		return hint.Wrap(err, "grant REPLICATION CLIENT to the replication account: without GTIDs, the list of binary logs must be seen")
	}
	f.logs = make(map[string]uint64, len(rows))
	for _, row := range rows {
		size, err := strconv.ParseUint(row["File_size"], 10, 64)
		if err != nil {
			return fmt.Errorf("%s: size %q: %w", srv.dialect.BinaryLogs, row["File_size"], err)
		}
		f.logs[row["Log_name"]] = size
	}
	return nil
}

// checkGTIDMode refuses a server that can't replicate from the primary.
func (r *restoreRun) checkGTIDMode(reasons *refusals) {
	if r.source.version.Flavor != replication.MySQL {
		return
	}
	here, _ := r.target.defaults.Option("gtid_mode")
	on, off := same(here, "ON"), here == "" || same(here, "OFF")
	advice := "set it in " + r.target.defaults.Path
	switch {
	case r.source.gtids && off:
		reasons.addHint(advice, "gtid_mode is ON on the primary %s, OFF here", r.primary)
	case !r.source.gtids && on:
		reasons.addHint(advice, "gtid_mode is not ON on the primary %s, and ON here", r.primary)
	}
}

// explainFollow adds advice to what keeps a backup from following a primary.
func explainFollow(err error, m *manifest.Manifest) error {
	var errant *replication.ErrantError
	if errors.As(err, &errant) {
		err = hint.Wrap(err, "somebody wrote to "+m.TabletAlias.Short()+", or the primary has changed and lost them: back up another replica")
	}
	var purged *replication.PurgedError
	if errors.As(err, &purged) {
		err = hint.Wrap(err, "take a new backup of a replica that is up to date")
	}
	return err
}

// pointAtPrimary points the seeded server at the primary.
func (r *restoreRun) pointAtPrimary(ctx context.Context, srv *server) error {
	start, err := r.startPoint(r.chosen)
	if err != nil {
		return err
	}
	return srv.exec(ctx, srv.dialect.ChangeSource(replication.SourceOptions{
		Host: r.primary.Host, Port: r.primary.Port, User: r.Replication.User, Password: r.Replication.Password,
		AutoPosition: start.file == "", File: start.file, Offset: start.offset,
		TLS: r.source.tls, PublicKey: srv.flavor() == replication.MySQL,
	}))
}
