package manifest

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/replication"
)

// maxText bounds the short texts of a manifest, in bytes; maxConfig the text
// of the option file.
const (
	maxText   = 4 << 10
	maxConfig = 1 << 20
)

var (
	rootPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	markPattern = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
)

// Validate returns the refusals there are, the first twenty of them, joined, each
// one fact; nil if the manifest is valid.
func (m *Manifest) Validate() error {
	var p problems
	p.add(checkVersion("manifest", m.Version, Version))
	m.validateIdentity(&p)
	m.validateServer(&p)
	m.validateTimes(&p)
	m.validatePosition(&p)
	m.validateRoots(&p)
	m.validateContent(&p)
	m.validateMarks(&p)
	return errors.Join(p...)
}

// problems collects refusals, up to maxProblems: nobody reads more.
type problems []error

const maxProblems = 20

func (p *problems) add(err error) {
	if err != nil && len(*p) < maxProblems {
		*p = append(*p, err)
	}
}

func (p *problems) addf(format string, args ...any) { p.add(fmt.Errorf(format, args...)) }

// text refuses a text that JSON would not give back as it is, or that is
// longer than limit bytes.
func (p *problems) text(field, s string, limit int) {
	if len(s) > limit {
		p.addf("%s: %d bytes, at most %d are allowed", field, len(s), limit)
	}
	if !utf8.ValidString(s) {
		p.addf("%s: %q is not UTF-8", field, s[:min(len(s), 64)])
	}
}

func (p *problems) notNegative(field string, n int64) {
	if n < 0 {
		p.addf("%s: %d is negative", field, n)
	}
}

func (m *Manifest) validateIdentity(p *problems) {
	if k, err := ParseKeyspace(string(m.Keyspace)); err != nil || k != m.Keyspace {
		p.addf("keyspace: %q is not a keyspace's name", m.Keyspace)
	}
	if s, err := ParseShard(string(m.Shard)); err != nil || s != m.Shard {
		p.addf("shard: %q is not a shard's name", m.Shard)
	}
	if n, err := ParseName(m.Name.String()); err != nil || n.Compare(m.Name) != 0 {
		p.addf("name: %q is not a backup's name", m.Name)
	}
	if m.TabletAlias != m.Name.Alias {
		p.addf("tablet_alias: %s is not the one in the name, %s", m.TabletAlias, m.Name.Alias)
	}
	if m.Engine != EngineOffline && m.Engine != EngineStopped {
		p.addf("engine: %q is unknown", m.Engine)
	}
	p.text("host", m.Host, maxText)
	p.text("tool_version", m.ToolVersion, maxText)
	p.text("my_cnf", m.MyCnf, maxConfig)
}

func (m *Manifest) validateServer(p *problems) {
	s := &m.Server
	if s.Flavor != replication.MySQL && s.Flavor != replication.MariaDB {
		p.addf("flavor: %q is unknown", s.Flavor)
	}
	if m.Engine == EngineOffline && s.Version == "" {
		p.addf("version: the server's version is missing")
	}
	if s.PageSize < 4<<10 || s.PageSize > 64<<10 || s.PageSize&(s.PageSize-1) != 0 {
		p.addf("page_size_bytes: %d is not a power of two from 4096 to 65536", s.PageSize)
	}
	if s.LowerCaseTableNames < 0 || s.LowerCaseTableNames > 2 {
		p.addf("lower_case_table_names: %d is not 0, 1 or 2", s.LowerCaseTableNames)
	}
	p.text("version", s.Version, maxText)
	p.text("version_comment", s.VersionComment, maxText)
	p.text("server_uuid", s.UUID, maxText)
	p.text("innodb_data_file_path", s.InnoDBDataFilePath, maxText)
	p.text("gtid_mode", s.GTIDMode, maxText)
	p.text("character_set_server", s.CharacterSet, maxText)
	for i, signal := range m.CleanStop.Signals {
		p.text(fmt.Sprintf("clean_stop: signal %d", i+1), signal, maxText)
	}
}

func (m *Manifest) validateTimes(p *problems) {
	if m.Started.IsZero() || m.Finished.IsZero() {
		p.addf("started, finished: a time is missing")
	}
	if !validSeconds(m.Downtime) {
		p.addf("downtime_seconds: %v is not a duration", m.Downtime)
	}
}

func validSeconds(s float64) bool { return s >= 0 && !math.IsInf(s, 0) }

func (m *Manifest) validatePosition(p *problems) {
	if m.Engine == EngineOffline && !m.PositionKnown {
		p.addf("position: not known, though the server ran before the backup")
	}
	if m.PositionKnown && m.Position.Flavor != m.Server.Flavor {
		p.addf("position: is of a %s server, the server is %s", m.Position.Flavor, m.Server.Flavor)
	}
	m.Source.validate(p, "source")
	for i, c := range m.Channels {
		name := fmt.Sprintf("channel %d", i+1)
		c.Source.validate(p, name)
		p.text(name+": name", c.Name, maxText)
		p.text(name+": server_uuid", c.ServerUUID, maxText)
		p.text(name+": file", c.File, maxText)
		p.text(name+": filters", c.Filters, maxConfig)
	}
}

func (s Source) validate(p *problems, field string) {
	if s.Port < 0 || s.Port > 65535 {
		p.addf("%s: %d is not a port", field, s.Port)
	}
	p.text(field, s.Host, maxText)
}

func (m *Manifest) validateRoots(p *problems) {
	if len(m.Roots) == 0 {
		p.addf("roots: there is none")
	}
	for i, root := range m.Roots {
		p.add(checkRootName(root.Name))
		if err := checkAbsolute(root.Path); err != nil {
			p.addf("root %q: %w", root.Name, err)
		}
		if i > 0 && m.Roots[i-1].Name >= root.Name {
			p.addf("roots: %q and %q are out of order", m.Roots[i-1].Name, root.Name)
		}
	}
}

func checkRootName(name string) error {
	if !rootPattern.MatchString(name) {
		return fmt.Errorf("root %q: a name is 1 to 64 lower-case letters, digits, underscores or dashes", name)
	}
	return nil
}

func (m *Manifest) validateContent(p *problems) {
	p.notNegative("files: count", m.Files.Count)
	p.notNegative("files: size_bytes", m.Files.Size)
	if err := checkChunkSize(m.Files.ChunkSize); err != nil {
		p.addf("files: %w", err)
	}
	p.notNegative("plain_bytes", m.Totals.Plain)
	p.notNegative("zero_bytes", m.Totals.Zero)
	p.notNegative("new_bytes", m.Totals.New)
	p.notNegative("stored_bytes", m.Totals.Stored)
	p.notNegative("chunks", m.Totals.Chunks)
	p.notNegative("new_chunks", m.Totals.NewChunks)
	p.add(m.Pages.check())
	if !slices.IsSortedFunc(m.Packs, cas.ID.Compare) {
		p.addf("packs: not in order")
	}
	if len(slices.CompactFunc(slices.Clone(m.Packs), func(a, b cas.ID) bool { return a == b })) != len(m.Packs) {
		p.addf("packs: one is listed twice")
	}
}

func (m *Manifest) validateMarks(p *problems) {
	for _, mark := range m.Marks {
		if len(mark.Kind) > 64 || !markPattern.MatchString(string(mark.Kind)) {
			p.addf("marks: %q is not a mark", mark.Kind)
		}
		p.text("marks: "+string(mark.Kind), mark.Detail, maxText)
		if strings.ContainsAny(mark.Detail, "\r\n") {
			p.addf("marks: %s: the detail is more than one line", mark.Kind)
		}
	}
}
