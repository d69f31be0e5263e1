package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
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
