package mysqlbackup

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/shardseed/shardseed/internal/hint"
)

// Mysqlctl is Vitess' program that runs a tablet's mysqld, by itself or through
// a mysqlctld.
type Mysqlctl struct {
	Program string // mysqlctl
	UID     uint32 // of the tablet
	Dir     string // of the tablet: $VTDATAROOT/vt_UID
	Socket  string // of mysqlctld; "": mysqlctl.sock in Dir, if somebody listens there
}

func (m Mysqlctl) String() string { return fmt.Sprintf("%s --tablet-uid %d", m.Program, m.UID) }

// Stop runs mysqlctl shutdown, which returns 0 also if another mysqld takes the
// place of the one that ends.
func (m Mysqlctl) Stop(ctx context.Context, srv *server) error {
	srv.close()
	return m.run(ctx, "shutdown")
}

// Start runs mysqlctl start. Options for mysqld are not needed: a tablet's
// my.cnf starts it read-only and without replication.
func (m Mysqlctl) Start(ctx context.Context, _ ...string) (<-chan struct{}, error) {
	return nil, m.run(ctx, "start")
}

// run runs mysqlctl as the owner of the tablet's folder: it refuses root.
func (m Mysqlctl) run(ctx context.Context, command string) error {
	owner, err := ownerOf(m.Dir)
	if err != nil {
		return err
	}
	args := []string{"--tablet-uid", strconv.FormatUint(uint64(m.UID), 10), command}
	if deadline, ok := ctx.Deadline(); ok { // without it, mysqlctl gives up after five minutes
		args = append(args, "--wait-time", max(time.Second, time.Until(deadline).Truncate(time.Second)).String())
	}
	if socket := m.socket(ctx); socket != "" {
		args = append([]string{"--mysqlctl-socket", socket}, args...)
	}
	return program{name: m.Program, args: args, owner: owner}.run(ctx)
}

// socket returns the socket on which mysqlctld listens, "" if there is none. A
// mysqlctld that has ended leaves its socket behind.
func (m Mysqlctl) socket(ctx context.Context) string {
	if m.Socket != "" {
		return m.Socket
	}
	path := filepath.Join(m.Dir, "mysqlctl.sock")
	conn, err := (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, "unix", path)
	if err != nil {
		return ""
	}
	_ = conn.Close() // nothing was sent
	return path
}

// check refuses a server that a mysqlctld runs which can't be asked to stop it:
// it ends by itself, and takes the tablet down, when its mysqld does.
func (m Mysqlctl) check(ctx context.Context, pid int) error {
	if m.socket(ctx) != "" {
		return nil
	}
	parent := parentOf(pid)
	if parent == 0 || !strings.HasPrefix(commandOf(parent), "mysqlctld") {
		return nil
	}
	return hint.Wrap(refuse("mysqld is run by mysqlctld (process %d), which does not listen at %s", parent, filepath.Join(m.Dir, "mysqlctl.sock")),
		"give its --socket-file with --mysqlctl-socket")
}

// parentOf returns the parent of a process, 0 if it can't be seen.
func parentOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0
	}
	return parent
}

// commandOf returns the name of a process.
func commandOf(pid int) string {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(name))
}
