package vitess

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/shardseed/shardseed/internal/hint"
)

// Client calls vtctldclient. Its methods may be used by several goroutines.
type Client struct {
	Program string        `json:"vtctldclient"` // a path, or a name in PATH
	Server  string        `json:"vtctld"`       // HOST:PORT
	Timeout time.Duration `json:"timeout"`      // of one call; a vtctld that is down makes its client wait an hour by itself
}

// grace is how much longer than its own time limit a client may live.
const grace = 3 * time.Second

// ErrNotFound is returned if the cluster has no such keyspace, shard, cell or tablet. The
// client's exit code is that of every error: only its words tell.
var ErrNotFound = errors.New("not known to Vitess")

// Error is a call that has failed.
type Error struct {
	Call    string // the client's arguments
	Message string // what it said last
	cause   error  // how the process ended
}

func (e *Error) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("vtctldclient %s: %v", e.Call, e.cause)
	}
	return fmt.Sprintf("vtctldclient %s: %s", e.Call, e.Message)
}

func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is find [ErrNotFound].
func (e *Error) Is(target error) bool {
	return target == ErrNotFound && strings.Contains(e.Message, "node doesn't exist")
}

// call runs the client, in a session of its own: a signal for us does not end
// a call that puts something back.
func (c Client) call(ctx context.Context, args ...string) ([]byte, error) {
	name := strings.Join(args, " ")
	limited, cancel := context.WithTimeoutCause(ctx, c.Timeout+grace, fmt.Errorf("vtctld at %s: no answer within %v", c.Server, c.Timeout))
	defer cancel()
	cmd := exec.CommandContext(limited, c.Program, append([]string{"--server", c.Server, "--action-timeout", c.Timeout.String()}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = grace
	err := cmd.Run()
	if err == nil {
		return stdout.Bytes(), nil
	}
	if limited.Err() != nil {
		err = context.Cause(limited)
	}
	return nil, explain(&Error{Call: name, Message: lastMessage(stderr.Bytes()), cause: err}, c)
}

// explain adds what to look at.
func explain(err *Error, c Client) error {
	switch {
	case errors.Is(err.cause, exec.ErrNotFound):
		return hint.Wrap(err, "give the program with --vtctldclient")
	case errors.Is(err.cause, context.Canceled):
		return err
	case strings.Contains(err.Message, "unknown flag"):
		return hint.Wrap(err, "shardseed gives the flags of Vitess v24; for an older one, give a script with --vtctldclient that translates them")
	case strings.Contains(err.Message, "DeadlineExceeded"), errors.Is(err.cause, context.DeadlineExceeded), err.Message == "":
		return hint.Wrap(err, fmt.Sprintf("is vtctld up at %s? see --vtctld and --vtctld-timeout", c.Server))
	}
	return err
}

var glogPrefix = regexp.MustCompile(`^[IWEF]\d{4} [\d:.]+ +\d+ [^ ]+\] `)

// lastMessage returns what the client said at last on standard error: lines of
// JSON, or plain text in older versions. Usage errors print the whole help
// before it.
func lastMessage(stderr []byte) string {
	lines := strings.Split(strings.TrimSpace(string(stderr)), "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	var entry struct {
		Message string `json:"msg"`
	}
	if strings.HasPrefix(last, "{") && json.Unmarshal([]byte(last), &entry) == nil && entry.Message != "" {
		return entry.Message
	}
	return glogPrefix.ReplaceAllString(last, "")
}

// Shard returns the record of a shard.
func (c Client) Shard(ctx context.Context, keyspace, shard string) (Shard, error) {
	out, err := c.call(ctx, "GetShard", keyspace+"/"+shard)
	if err != nil {
		return Shard{}, err
	}
	s, err := ParseShard(out)
	if err == nil && (s.Keyspace != keyspace || s.Name != shard) {
		err = fmt.Errorf("the answer is about %s/%s", s.Keyspace, s.Name)
	}
	return s, badAnswer("GetShard "+keyspace+"/"+shard, err)
}

// Tablet returns the record of a tablet.
func (c Client) Tablet(ctx context.Context, alias Alias) (Tablet, error) {
	out, err := c.call(ctx, "GetTablet", alias.String())
	if err != nil {
		return Tablet{}, err
	}
	t, err := ParseTablet(out)
	if err == nil && t.Alias != alias {
		err = fmt.Errorf("the answer is about %s", t.Alias)
	}
	return t, badAnswer("GetTablet "+alias.String(), err)
}

// Tablets returns the records of a shard's tablets.
func (c Client) Tablets(ctx context.Context, keyspace, shard string) ([]Tablet, error) {
	out, err := c.call(ctx, "GetTablets", "--keyspace", keyspace, "--shard", shard, "--format", "json")
	if err != nil {
		return nil, err
	}
	tablets, err := ParseTablets(out)
	return tablets, badAnswer("GetTablets", err)
}

// Status asks a tablet, through vtctld, how its server is; both must run.
func (c Client) Status(ctx context.Context, alias Alias) (Status, error) {
	out, err := c.call(ctx, "GetFullStatus", alias.String())
	if err != nil {
		return Status{}, err
	}
	s, err := ParseStatus(out)
	return s, badAnswer("GetFullStatus "+alias.String(), err)
}

// ChangeType makes a tablet one of another type. Its server must run: vttablet
// sets up semi-synchronous replication for the type, and connects anew.
func (c Client) ChangeType(ctx context.Context, alias Alias, to Type) error {
	_, err := c.call(ctx, "ChangeTabletType", alias.String(), string(to))
	return err
}

// Reparent points a tablet's server at the shard's primary as it is now. It
// leaves stopped replication stopped.
func (c Client) Reparent(ctx context.Context, alias Alias) error {
	_, err := c.call(ctx, "ReparentTablet", alias.String())
	return err
}

// StopReplication stops a tablet's replication.
func (c Client) StopReplication(ctx context.Context, alias Alias) error {
	_, err := c.call(ctx, "StopReplication", alias.String())
	return err
}

// StartReplication starts it.
func (c Client) StartReplication(ctx context.Context, alias Alias) error {
	_, err := c.call(ctx, "StartReplication", alias.String())
	return err
}

func badAnswer(call string, err error) error {
	if err != nil {
		return fmt.Errorf("vtctldclient %s: %w", call, err)
	}
	return nil
}
