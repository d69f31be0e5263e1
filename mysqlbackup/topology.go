package mysqlbackup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup/vitess"
)

// HostPort is the address of a server.
type HostPort struct {
	Host string
	Port int
}

// ParseHostPort reads HOST:PORT; an IPv6 address stands in brackets.
func ParseHostPort(text string) (HostPort, error) {
	host, digits, err := net.SplitHostPort(text)
	if err != nil || host == "" || strings.ContainsFunc(host, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }) {
		return HostPort{}, fmt.Errorf("parse address %q: want HOST:PORT", text)
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || port == 0 {
		return HostPort{}, fmt.Errorf("parse address %q: port %q is not a number from 1 to 65535", text, digits)
	}
	return HostPort{Host: host, Port: int(port)}, nil
}

// String returns HOST:PORT.
func (h HostPort) String() string { return net.JoinHostPort(h.Host, strconv.Itoa(h.Port)) }

// IsZero reports whether there is no address.
func (h HostPort) IsZero() bool { return h == HostPort{} }

// Topology knows the primary of a shard. It is asked each time the answer is
// needed: a reparent may have happened since.
type Topology interface {
	// Primary returns the zero HostPort if no primary is known.
	Primary(ctx context.Context) (HostPort, error)
}

// Fixed is a topology that always has the same answer.
type Fixed HostPort

// Primary returns the address itself.
func (f Fixed) Primary(context.Context) (HostPort, error) { return HostPort(f), nil }

// ShardRecord is the topology that a repository keeps by itself: the primary
// that was last set for a shard.
type ShardRecord struct {
	Repo     *cas.Repository
	Keyspace manifest.Keyspace
	Shard    manifest.Shard
}

func (r ShardRecord) name() string {
	return "shards/" + string(r.Keyspace) + "/" + string(r.Shard) + "/primary"
}

// Primary returns the primary that was set last.
func (r ShardRecord) Primary(ctx context.Context) (HostPort, error) {
	value, _, err := r.Repo.Value(ctx, r.name())
	if errors.Is(err, cas.ErrNotFound) {
		return HostPort{}, nil
	}
	if err != nil {
		return HostPort{}, fmt.Errorf("read the primary of %s/%s: %w", r.Keyspace, r.Shard, err)
	}
	return ParseHostPort(string(value))
}

// SetPrimary makes a server the shard's primary.
func (r ShardRecord) SetPrimary(ctx context.Context, primary HostPort) error {
	if _, err := r.Repo.SetValue(ctx, r.name(), []byte(primary.String())); err != nil {
		return fmt.Errorf("set the primary of %s/%s: %w", r.Keyspace, r.Shard, err)
	}
	return nil
}

// CommandTopology asks a shell command, which prints the primary as HOST:PORT,
// or nothing if there is none.
type CommandTopology struct {
	Command  string
	Keyspace manifest.Keyspace // told to the command as SHARDSEED_KEYSPACE
	Shard    manifest.Shard    // as SHARDSEED_SHARD
}

// topologyTimeout is how long the command may take.
const topologyTimeout = 30 * time.Second

// Primary runs the command.
func (t CommandTopology) Primary(ctx context.Context) (HostPort, error) {
	limited, cancel := context.WithTimeoutCause(ctx, topologyTimeout, &timeoutError{"the topology command", topologyTimeout})
	defer cancel()
	cmd := exec.CommandContext(limited, "/bin/sh", "-c", t.Command)
	cmd.Env = append(os.Environ(), "SHARDSEED_KEYSPACE="+string(t.Keyspace), "SHARDSEED_SHARD="+string(t.Shard))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		if limited.Err() != nil {
			err = context.Cause(limited)
		}
		return HostPort{}, fmt.Errorf("ask the topology command %q for the primary of %s/%s: %w%s", t.Command, t.Keyspace, t.Shard, err, quoteTail(said.Bytes()))
	}
	text := strings.TrimSpace(string(out))
	if text == "" {
		return HostPort{}, nil
	}
	primary, err := ParseHostPort(text)
	if err != nil {
		return HostPort{}, fmt.Errorf("topology command %q: %w", t.Command, err)
	}
	return primary, nil
}

// VitessShard is the topology that Vitess keeps of a shard.
type VitessShard struct {
	Client   vitess.Client
	Keyspace manifest.Keyspace
	Shard    manifest.Shard
}

// Primary returns the address of the mysqld of the shard's primary tablet. A
// tablet that has been stopped has none, which is an error. A shard of which
// Vitess does not know has no primary: its first vttablet makes it known.
func (v VitessShard) Primary(ctx context.Context) (HostPort, error) {
	shard, err := v.Client.Shard(ctx, string(v.Keyspace), string(v.Shard))
	if errors.Is(err, vitess.ErrNotFound) {
		return HostPort{}, nil
	}
	if err != nil || shard.Primary.IsZero() {
		return HostPort{}, err
	}
	tablet, err := v.Client.Tablet(ctx, shard.Primary)
	if err != nil {
		return HostPort{}, err
	}
	if !tablet.Runs() {
		return HostPort{}, fmt.Errorf("the primary of %s/%s, %s, does not run: its vttablet was stopped", v.Keyspace, v.Shard, shard.Primary)
	}
	return HostPort{Host: tablet.MySQL, Port: tablet.MySQLTCP}, nil
}
