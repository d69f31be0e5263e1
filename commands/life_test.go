package commands_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/replication"
)

// What happens to a shard besides shardseed, for the story of its life.

// initialize is "initialize SERVER": its data directory is made anew.
func initialize(ts *testscript.TestScript, _ bool, args []string) {
	srv, tb := server(ts, args[0])
	srv.Initialize(tb)
}

// follow is "follow REPLICA PRIMARY": the one replicates from the other.
func follow(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: follow REPLICA PRIMARY")
	}
	replica, tb := server(ts, args[0])
	primary, _ := server(ts, args[1])
	replica.Follow(tb, primary)
}

// delay is "delay REPLICA SECONDS": it applies everything that late.
func delay(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: delay REPLICA SECONDS")
	}
	srv, tb := server(ts, args[0])
	if srv.Flavor == replication.MariaDB {
		srv.Exec(tb, "STOP SLAVE", "CHANGE MASTER TO MASTER_DELAY="+args[1], "START SLAVE")
		return
	}
	srv.Exec(tb, "STOP REPLICA", "CHANGE REPLICATION SOURCE TO SOURCE_DELAY="+args[1], "START REPLICA")
}

// promote is "promote REPLICA PRIMARY": a planned failover. The primary takes
// no more writes, the replica gets all that it has and becomes the primary of
// the old one.
func promote(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: promote REPLICA PRIMARY")
	}
	next, tb := server(ts, args[0])
	old, _ := server(ts, args[1])
	old.Exec(tb, "SET GLOBAL read_only = 1")
	next.WaitForReplica(tb, old)
	forgetSource(tb, next)
	next.Exec(tb, "SET GLOBAL read_only = 0")
	if old.Flavor == replication.MariaDB { // as a replica it has what it has written
		old.Exec(tb, "SET GLOBAL gtid_slave_pos = @@gtid_current_pos")
	}
	old.Follow(tb, next)
}

func forgetSource(tb testing.TB, srv *mysqltest.Server) {
	if srv.Flavor == replication.MariaDB {
		srv.Exec(tb, "STOP SLAVE", "RESET SLAVE ALL")
		return
	}
	srv.Exec(tb, "STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL super_read_only = 0")
}

// becomes is "becomes STATE [WHY]": it waits until the health endpoint at
// $LISTEN is in that state, for a reason with these words, where it must answer
// 200 if that serves and 503 if not.
func becomes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: becomes STATE [WHY]")
	}
	var last string
	err := until(3*time.Minute, "the server to be "+strings.Join(args, ": "), func() bool {
		code, text, err := get("http://" + ts.Getenv("LISTEN") + "/health")
		if err != nil {
			return false // it has not begun to listen
		}
		last = text
		var object struct {
			Serving bool
			State   string
			Why     string
		}
		ts.Check(json.Unmarshal([]byte(text), &object))
		if wanted := map[bool]int{true: http.StatusOK, false: http.StatusServiceUnavailable}[object.State == "serving"]; code != wanted {
			ts.Fatalf("%d, want %d: %s", code, wanted, text)
		}
		if object.Serving != (object.State == "serving") || object.Serving != (object.Why == "") {
			ts.Fatalf("it contradicts itself: %s", text)
		}
		return object.State == args[0] && (len(args) == 1 || strings.Contains(object.Why, args[1]))
	})
	if err != nil {
		ts.Fatalf("%v: %s", err, last)
	}
	ts.Logf("%s", last)
}

// awaitMetric is "metric LINE": it waits until the metrics at $LISTEN have it.
func awaitMetric(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: metric LINE")
	}
	var last string
	err := until(3*time.Minute, args[0], func() bool {
		code, text, err := get("http://" + ts.Getenv("LISTEN") + "/metrics")
		last = text
		return err == nil && code == http.StatusOK && slices.Contains(strings.Split(text, "\n"), args[0])
	})
	if err != nil {
		ts.Fatalf("%v: %s", err, last)
	}
}

func get(url string) (code int, text string, err error) {
	response, err := http.Get(url)
	if err != nil {
		return 0, "", err
	}
	body, err := io.ReadAll(response.Body)
	if closeErr := response.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return 0, "", fmt.Errorf("read the answer of %s: %w", url, err)
	}
	return response.StatusCode, string(body), nil
}
