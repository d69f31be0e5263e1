package commands

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
)

// metrics collects what /metrics tells: how the server is, how runs of this
// host have ended, and what backups there are.
type metrics struct {
	run    *run
	health mysqlbackup.HealthOptions
	root   string    // of the repository; "": nothing is told of it
	shard  shardName // zero: all

	mu     sync.Mutex // guards what follows
	read   time.Time  // when the repository was read
	facts  []shardFacts
	failed error
}

// shardFacts is what the repository says of a shard.
type shardFacts struct {
	name    shardName
	backups int
	future  int   // of these, dated in the future
	plain   int64 // of all backups
	stored  int64 // by all backups
	last    *manifest.Manifest
	drill   *mysqlbackup.Drill // the newest of any backup; nil: none was made
}

// factsAge is how old what is told of the repository may be: reading it takes a
// request for each backup.
const factsAge = time.Minute

func newMetrics(r *run, health mysqlbackup.HealthOptions, root string, shard shardName) *metrics {
	return &metrics{run: r, health: health, root: root, shard: shard}
}

// handler answers each request by a registry of its own: the library hands no
// context to collectors.
func (m *metrics) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		registry := prometheus.NewRegistry()
		registry.MustRegister(collector{m, request.Context()})
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}).ServeHTTP(w, request)
	})
}

// collector collects the metrics for one request.
type collector struct {
	*metrics
	ctx context.Context
}

// family is one metric. Help says what it is; labels are the names of its
// labels.
func family(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("shardseed_"+name, help, labels, nil)
}

// Describe sends nothing: the collector is an unchecked one, since what it
// tells depends on what there is.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends all metrics.
func (c collector) Collect(out chan<- prometheus.Metric) {
	c.collectHealth(c.ctx, out)
	c.collectRuns(out)
	c.collectShards(c.ctx, out)
}

func gauge(out chan<- prometheus.Metric, desc *prometheus.Desc, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

func asNumber(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *metrics) collectHealth(ctx context.Context, out chan<- prometheus.Metric) {
	h, err := checkHealth(ctx, m.health)
	gauge(out, family("serving", "1 if the server of this host serves."), asNumber(err == nil && h.Serving))
	state := family("state", "1 for the state that the server of this host is in.", "state")
	for _, s := range mysqlbackup.HealthStates() {
		gauge(out, state, asNumber(err == nil && s == h.State), string(s))
	}
	if h.Lag != nil {
		gauge(out, family("replication_lag_seconds", "How far the server of this host is behind its source."), h.Lag.Seconds())
	}
}

func (m *metrics) collectRuns(out chan<- prometheus.Metric) {
	notes, err := readRuns(m.health.StateDir)
	gauge(out, family("runs_readable", "1 if the notes of the runs of this host can be read."), asNumber(err == nil))
	labels := []string{"command", "keyspace", "shard", "tablet"}
	code := family("last_run_exit_code", "Exit code of the last backup or restore of this host.", labels...)
	finished := family("last_run_finished_timestamp_seconds", "When it ended.", labels...)
	took := family("last_run_duration_seconds", "How long it took.", labels...)
	for _, n := range notes {
		values := []string{n.Command, string(n.Keyspace), string(n.Shard), n.Alias}
		gauge(out, code, float64(n.ExitCode), values...)
		gauge(out, finished, float64(n.Finished.Unix()), values...)
		gauge(out, took, n.Finished.Sub(n.Started).Seconds(), values...)
	}
}

func (m *metrics) collectShards(ctx context.Context, out chan<- prometheus.Metric) {
	if m.root == "" {
		return
	}
	shards, err := m.shards(ctx)
	gauge(out, family("repository_readable", "1 if everything in the repository that these figures come from can be read."), asNumber(err == nil))
	labels := []string{"keyspace", "shard"}
	var plain, stored, count float64
	for _, s := range shards {
		values := []string{string(s.name.keyspace), string(s.name.shard)}
		gauge(out, family("backups", "Backups of the shard.", labels...), float64(s.backups), values...)
		gauge(out, family("backups_dated_in_future", "Backups of the shard by a clock that was ahead, if this host's is right. None counts as the last one.", labels...), float64(s.future), values...)
		plain, stored, count = plain+float64(s.plain), stored+float64(s.stored), count+float64(s.backups)
		if s.drill != nil {
			gauge(out, family("last_drill_timestamp_seconds", "When a restore drill of a backup of the shard was made last.", labels...), float64(s.drill.Time.Unix()), values...)
			gauge(out, family("last_drill_passed", "1 if it passed.", labels...), asNumber(s.drill.Passed()), values...)
		}
		if s.last == nil {
			continue
		}
		last := s.last.Summary()
		for _, one := range []struct {
			name, help string
			value      float64
		}{
			{"timestamp_seconds", "When the last good backup of the shard was finished.", float64(s.last.Finished.Unix())},
			{"age_seconds", "How long ago that was.", m.run.opts.Now().Sub(s.last.Finished).Seconds()},
			{"duration_seconds", "How long it took.", last.Duration},
			{"downtime_seconds", "How long its server was down.", last.Downtime},
			{"size_bytes", "Size of its files.", float64(last.Plain)},
			{"new_bytes", "How much of them was new.", float64(last.New)},
			{"stored_bytes", "How much it added to the repository.", float64(last.Stored)},
		} {
			gauge(out, family("last_backup_"+one.name, one.help, labels...), one.value, values...)
		}
	}
	gauge(out, family("repository_backups", "Backups in the repository, as far as they are told of here."), count)
	gauge(out, family("repository_plain_bytes", "Size of the files of all these backups."), plain)
	gauge(out, family("repository_stored_bytes", "How much all these backups added to the repository."), stored)
}

// shards returns what the repository says, at most factsAge old.
func (m *metrics) shards(ctx context.Context) ([]shardFacts, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.run.opts.Now()
	if m.read.IsZero() || now.Sub(m.read) >= factsAge {
		m.facts, m.failed = m.readShards(ctx)
		m.read = now
	}
	return m.facts, m.failed
}

func (m *metrics) readShards(ctx context.Context) ([]shardFacts, error) {
	repo, err := openRepository(ctx, m.root)
	if err != nil {
		return nil, err
	}
	names := []shardName{m.shard}
	if m.shard == (shardName{}) {
		if names, err = chosenShards(ctx, repo, m.shard); err != nil {
			return nil, err
		}
	}
	var all []shardFacts
	var failed []error
	for _, name := range names {
		found, err := manifests(ctx, repo, name)
		failed = append(failed, err)
		facts := shardFacts{name: name, backups: len(found)}
		for _, one := range found {
			facts.plain += one.Totals.Plain
			facts.stored += one.Totals.Stored
			switch {
			case m.run.isFuture(one):
				facts.future++
			case one.Good():
				facts.last = one
			}
			drill, err := mysqlbackup.LastDrill(ctx, repo, one.Key())
			failed = append(failed, err)
			if drill != nil && (facts.drill == nil || facts.drill.Time.Before(drill.Time)) {
				facts.drill = drill
			}
		}
		all = append(all, facts)
	}
	return all, errors.Join(failed...)
}
