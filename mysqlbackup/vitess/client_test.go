package vitess

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shardseed/shardseed/internal/hint"
)

// fake returns a client whose program is a shell script.
func fake(t *testing.T, script string) Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vtctldclient")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return Client{Program: path, Server: "127.0.0.1:15999", Timeout: 10 * time.Second}
}

// replays returns one that prints a recorded answer, and fails if it is called
// in another way.
func replays(t *testing.T, name, want string) Client {
	t.Helper()
	base, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return fake(t, fmt.Sprintf(`[ "$*" = "--server 127.0.0.1:15999 --action-timeout 10s %s" ] || { echo "called with $*" >&2; exit 9; }
[ ! -e %[2]s.err ] || { cat %[2]s.err >&2; exit 1; }
cat %[2]s.out
`, want, base))
}

func TestCalls(t *testing.T) {
	ctx := t.Context()
	if got, err := replays(t, "getshard", "GetShard commerce/0").Shard(ctx, "commerce", "0"); err != nil || got.Primary != alias(100) {
		t.Errorf("GetShard: %+v, %v", got, err)
	}
	if got, err := replays(t, "gettablet-replica", "GetTablet zone1-101").Tablet(ctx, alias(101)); err != nil || got != tablet(101, Replica) {
		t.Errorf("GetTablet: %+v, %v", got, err)
	}
	if got, err := replays(t, "gettablets-ks-json", "GetTablets --keyspace commerce --shard 0 --format json").Tablets(ctx, "commerce", "0"); err != nil || len(got) != 3 {
		t.Errorf("GetTablets: %+v, %v", got, err)
	}
	if got, err := replays(t, "getfullstatus-replica", "GetFullStatus zone1-101").Status(ctx, alias(101)); err != nil || !got.Replicates {
		t.Errorf("GetFullStatus: %+v, %v", got, err)
	}
	if err := replays(t, "cold2-changetype-backup", "ChangeTabletType zone1-102 BACKUP").ChangeType(ctx, alias(102), Backup); err != nil {
		t.Errorf("ChangeTabletType: %v", err)
	}
	if err := replays(t, "reparenttablet-105", "ReparentTablet zone1-105").Reparent(ctx, alias(105)); err != nil {
		t.Errorf("ReparentTablet: %v", err)
	}
	if err := replays(t, "startreplication-106", "StartReplication zone1-106").StartReplication(ctx, alias(106)); err != nil {
		t.Errorf("StartReplication: %v", err)
	}
	if err := replays(t, "startreplication-106", "StopReplication zone1-106").StopReplication(ctx, alias(106)); err != nil {
		t.Errorf("StopReplication: %v", err)
	}
}

func TestCallErrors(t *testing.T) {
	ctx := t.Context()
	_, err := replays(t, "gettablet-unknown", "GetTablet zone1-999").Tablet(ctx, alias(999))
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "GetTablet zone1-999: rpc error") {
		t.Errorf("unknown tablet: %v", err)
	}
	_, err = replays(t, "gettablets-unknown-ks", "GetTablets --keyspace nosuch --shard 0 --format json").Tablets(ctx, "nosuch", "0")
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown keyspace: %v", err)
	}
	err = replays(t, "changetype-mysqld-down", "ChangeTabletType zone1-104 BACKUP").ChangeType(ctx, alias(104), Backup)
	if err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "mysql.sock") {
		t.Errorf("mysqld down: %v", err)
	}
	_, err = replays(t, "vtctld-down-timeout", "GetShard commerce/0").Shard(ctx, "commerce", "0")
	if err == nil || len(hint.Of(err)) != 1 || !strings.Contains(hint.Of(err)[0], "is vtctld up at 127.0.0.1:15999?") {
		t.Errorf("vtctld down: %v, hints %q", err, hint.Of(err))
	}
	// Answers about something else, and none at all.
	if _, err := replays(t, "gettablet-replica", "GetTablet zone1-102").Tablet(ctx, alias(102)); err == nil || !strings.Contains(err.Error(), "zone1-101") {
		t.Errorf("another tablet: %v", err)
	}
	if _, err := replays(t, "getshard", "GetShard commerce/80-").Shard(ctx, "commerce", "80-"); err == nil {
		t.Error("another shard is taken")
	}
	if _, err := fake(t, "exit 0").Shard(ctx, "commerce", "0"); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("an empty answer: %v", err)
	}
	_, err = fake(t, "echo unknown flag: --action-timeout >&2; exit 1").Shard(ctx, "commerce", "0")
	if hints := hint.Of(err); len(hints) != 1 || !strings.Contains(hints[0], "of Vitess v24") {
		t.Errorf("an old client: %v, hints %q", err, hints)
	}
	_, err = Client{Program: "/nonexistent/vtctldclient", Timeout: time.Second}.Shard(ctx, "commerce", "0")
	if err == nil {
		t.Error("a program that is not there")
	}
	_, err = Client{Program: "no-such-vtctldclient", Timeout: time.Second}.Shard(ctx, "commerce", "0")
	if hints := hint.Of(err); len(hints) != 1 || !strings.Contains(hints[0], "--vtctldclient") {
		t.Errorf("a program that is not in PATH: %v, hints %q", err, hints)
	}
}

// A client that hangs in spite of its time limit is ended, and so is what it
// has started.
func TestCallHangs(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pid")
	c := fake(t, "sleep 1000 & echo $! >"+pids+"; wait")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.Timeout = -grace + time.Second
	_, err := c.Shard(ctx, "commerce", "0")
	if err == nil || !strings.Contains(err.Error(), "no answer within") || len(hint.Of(err)) != 1 {
		t.Errorf("got %v, hints %q", err, hint.Of(err))
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	if stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(text)) + "/stat"); err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("its child still runs: %s", stat)
	}
	cancel()
	if _, err := c.Shard(ctx, "commerce", "0"); !errors.Is(err, context.Canceled) {
		t.Errorf("when canceled: %v", err)
	}
}

func TestAskVttablet(t *testing.T) {
	answer, status := string(fixture(t, "vttablet-101-debug-vars.out")), http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/debug/vars" {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	if got, err := AskVttablet(t.Context(), address); err != nil || got.Alias != alias(101) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, answer = range []string{"", "{}", `{"TabletAlias":"x"}`} {
		if got, err := AskVttablet(t.Context(), address); err == nil {
			t.Errorf("%q: got %+v", answer, got)
		}
	}
	status = http.StatusForbidden
	if _, err := AskVttablet(t.Context(), address); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("forbidden: %v", err)
	}
	if _, err := AskVttablet(t.Context(), "127.0.0.1:1"); err == nil {
		t.Error("nobody listens")
	}
}
