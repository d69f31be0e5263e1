package commands_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// hookCall is what vtctld asks a vttablet to run.
type hookCall struct {
	Alias  string
	Name   string
	Params []string
}

// hookResult is what vtctldclient prints.
type hookResult struct {
	HookResult struct {
		ExitStatus string `json:"exit_status"`
		Stdout     string `json:"stdout"`
		Stderr     string `json:"stderr"`
	} `json:"hook_result"`
}

func vttabletSocket() string { return filepath.Join(os.Getenv("VITESS_STATE"), "vttablet.sock") }
func vttabletPID() string    { return filepath.Join(os.Getenv("VITESS_STATE"), "vttablet.pid") }

// askVttablet has a hook run by the vttablet that serves, as vtctld does; the
// caller holds the cluster's lock meanwhile, as the tablet's action lock is held.
func askVttablet(timeout time.Duration, alias string, args []string) (string, error) {
	conn, err := net.Dial("unix", vttabletSocket())
	if err != nil {
		return "", errFake(`rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: %v"`, err)
	}
	defer func() { _ = conn.Close() }() // the answer is there, or the call has failed
	var result hookResult
	err = errors.Join(
		conn.SetDeadline(time.Now().Add(timeout)),
		json.NewEncoder(conn).Encode(hookCall{alias, args[0], args[1:]}),
		json.NewDecoder(conn).Decode(&result),
	)
	if err != nil {
		return "", errFake("rpc error: code = DeadlineExceeded desc = context deadline exceeded")
	}
	text, err := json.MarshalIndent(result, "", "  ")
	return string(text) + "\n", err
}

// serveHooks runs hooks until it is killed, in a process group of its own.
func serveHooks(alias string) {
	listener, err := net.Listen("unix", vttabletSocket())
	err = errors.Join(err, syscall.Setpgid(0, 0), os.WriteFile(vttabletPID(), []byte(strconv.Itoa(os.Getpid())), 0o600))
	for err == nil {
		var conn net.Conn
		if conn, err = listener.Accept(); err == nil {
			err = errors.Join(answerHook(conn, alias), conn.Close())
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func answerHook(conn net.Conn, alias string) error {
	var call hookCall
	if err := json.NewDecoder(conn).Decode(&call); err != nil {
		return err
	}
	if call.Alias != alias {
		return fmt.Errorf("this is the vttablet of %s, not of %s", alias, call.Alias)
	}
	return json.NewEncoder(conn).Encode(runHook(call))
}

// runHook is Vitess' own: output is read until everybody has closed it.
func runHook(call hookCall) (result hookResult) {
	path := filepath.Join(os.Getenv("VTROOT"), "vthook", call.Name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		result.HookResult.ExitStatus, result.HookResult.Stderr = "-1", "missing hook "+path+"\n"
		return result
	}
	cell, uid, _ := cutLast(call.Alias, "-")
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(path, call.Params...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("TABLET_ALIAS=%s-%010s", cell, uid))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		fmt.Fprintf(&stderr, "ERROR: %v\n", err)
	}
	result.HookResult.ExitStatus = strconv.Itoa(cmd.ProcessState.ExitCode())
	result.HookResult.Stdout, result.HookResult.Stderr = stdout.String(), stderr.String()
	return result
}

func cutLast(s, sep string) (before, after string, found bool) {
	at := strings.LastIndex(s, sep)
	if at < 0 {
		return s, "", false
	}
	return s[:at], s[at+len(sep):], true
}

// killVttablet kills the vttablet that serves, if one does, with all of its
// process group, and waits until it is gone.
func killVttablet() error {
	text, err := os.ReadFile(vttabletPID())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return err
	}
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil {
		return err
	}
	err = until(time.Minute, "vttablet to end", func() bool {
		conn, err := net.Dial("unix", vttabletSocket())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	return errors.Join(err, os.Remove(vttabletPID()), os.Remove(vttabletSocket()))
}

// executeHook is "hook CODE NAME [PARAMETER...]": the vttablet of zone1-101
// runs the hook, as soon as it serves, which ends with that code. What it has
// written is in the files "out" and "err".
func executeHook(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: hook CODE NAME [PARAMETER...]")
	}
	ts.Check(until(time.Minute, "vttablet to serve", func() bool {
		return exists(filepath.Join(ts.Getenv("VITESS_STATE"), "vttablet.pid"))
	}))
	ts.Check(ts.Exec("vtctldclient", append([]string{"--server", "x", "--action-timeout", "60s", "ExecuteHook", "zone1-101"}, args[1:]...)...))
	var result hookResult
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &result))
	got := result.HookResult
	ts.Check(os.WriteFile(ts.MkAbs("out"), []byte(got.Stdout), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("err"), []byte(got.Stderr), 0o600))
	if got.ExitStatus != args[0] {
		ts.Fatalf("the hook %s ended with %s, want %s: %s%s", args[1], got.ExitStatus, args[0], got.Stdout, got.Stderr)
	}
}
