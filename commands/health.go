package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/mysqlbackup"
)

func (r *run) healthCommand() *cli.Command {
	return &cli.Command{
		Name:      "health",
		Usage:     "says whether the server of this host serves",
		ArgsUsage: "[KEYSPACE/SHARD]",
		Description: `Says whether the server of this host should get queries: it must replicate, lag
little, and no backup or restore may be at work on it. The exit code tells, or,
with --listen, an HTTP server for load balancers and Prometheus: /health answers
with 200 or 503, /metrics with figures. With --root these are also about the
backups of the shard, or of all.

Example:
  shardseed health --defaults-file /etc/mysql/my.cnf --listen 127.0.0.1:9180 \
    --password-file /etc/shardseed/password --root /backups`,
		Flags: slices.Concat(
			[]cli.Flag{
				defaultsFlag(),
				textFlag("listen", "`ADDR` on which to answer HTTP until a signal comes, such as 127.0.0.1:9180; else the exit code is the answer"),
				timeFlag("max-lag", 30*time.Second, "`LAG` above which a replica does not serve"),
				switchFlag("allow-primary", "a server that takes writes and replicates from nowhere serves too"),
			},
			connectionFlags(), []cli.Flag{stateFlag()},
		),
		Action: r.health,
	}
}

// healthTimeout is how long a server may take to say how it is.
const healthTimeout = 10 * time.Second

func (r *run) health(c *cli.Context) error {
	var k checks
	g := checkGlobals(c, &k)
	var shard shardName
	if c.Args().Present() {
		shard = parseShard(&k, k.positionals(c, "KEYSPACE/SHARD")[0])
	}
	opts := mysqlbackup.HealthOptions{
		Server:       mysqlbackup.Instance{Defaults: readDefaults(c, &k), Conn: parseConnection(c, &k)},
		StateDir:     stateDir(c, &k),
		MaxLag:       positiveTime(c, &k, "max-lag"),
		AllowPrimary: c.Bool("allow-primary"),
	}
	if opts.Server.Defaults != nil && opts.Server.Conn.Socket == "" {
		opts.Server.Conn.Socket = socketOf(&k, opts.Server.Defaults)
	}
	if err := k.err(c); err != nil {
		return err
	}
	if address := c.String("listen"); address != "" {
		m := newMetrics(r, opts, g.root, shard)
		return r.serveHealth(c.Context, address, opts, m)
	}
	return r.tellHealth(c.Context, opts)
}

// tellHealth answers once.
func (r *run) tellHealth(ctx context.Context, opts mysqlbackup.HealthOptions) error {
	h, err := checkHealth(ctx, opts)
	if err != nil {
		return err
	}
	r.out.Object(newHealthObject(h))
	if h.Serving {
		r.out.Text("serving (%s)", h.State)
		return r.out.Err()
	}
	return &codedError{fmt.Errorf("not serving (%s): %s", h.State, h.Why), exitNotServing}
}

func checkHealth(ctx context.Context, opts mysqlbackup.HealthOptions) (mysqlbackup.Health, error) {
	limited, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	return mysqlbackup.CheckHealth(limited, opts)
}

// healthObject is how a server is, in JSON.
type healthObject struct {
	Type    string                  `json:"type"` // "health"
	Serving bool                    `json:"serving"`
	State   mysqlbackup.HealthState `json:"state"`
	Why     string                  `json:"why,omitempty"`
	Lag     *float64                `json:"lag_seconds,omitempty"`
	Source  string                  `json:"source,omitempty"` // HOST:PORT
}

func newHealthObject(h mysqlbackup.Health) healthObject {
	object := healthObject{Type: "health", Serving: h.Serving, State: h.State, Why: h.Why}
	if h.Lag != nil {
		seconds := h.Lag.Seconds()
		object.Lag = &seconds
	}
	if !h.Source.IsZero() {
		object.Source = h.Source.String()
	}
	return object
}

// healthHandler answers load balancers and Prometheus.
func healthHandler(opts mysqlbackup.HealthOptions, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, request *http.Request) {
		object, code := healthObject{Type: "health"}, http.StatusServiceUnavailable
		h, err := checkHealth(request.Context(), opts)
		if err != nil {
			object.Why = err.Error()
		} else {
			object = newHealthObject(h)
		}
		if object.Serving {
			code = http.StatusOK
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(object) // whoever asked may have gone
	})
	return mux
}

// serveHealth answers over HTTP until ctx ends, which is no failure.
func (r *run) serveHealth(ctx context.Context, address string, opts mysqlbackup.HealthOptions, m *metrics) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for questions: %w", err)
	}
	r.out.Step("listen", listener.Addr().String())
	server := &http.Server{Handler: healthHandler(opts, m.handler()), ReadHeaderTimeout: healthTimeout}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("answer questions: %w", err)
	case <-ctx.Done():
	}
	calm, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthTimeout)
	defer cancel()
	err = server.Shutdown(calm)
	if serveErr := <-failed; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}
