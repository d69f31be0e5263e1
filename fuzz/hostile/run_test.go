package hostile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/replication"
)

// program is the real one, built once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "shardseed-hostile-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "shardseed")
	output, err := exec.Command("go", "build", "-o", path, "../..").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, output)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path)) // a temporary folder
	}
	os.Exit(code)
}

const (
	memoryLimit = 200 << 20 // bytes that a command may take at its peak
	timeLimit   = time.Minute
)

// outcome is how a command ended.
type outcome struct {
	code           int
	stdout, stderr string
	peak           int64 // bytes of memory
	took           time.Duration
}

// host is where commands run: a server's empty folders, caches, a scratch folder.
type host struct {
	t      testing.TB
	repo   *repository
	dir    string
	target *mysqltest.Server
	umask  string
	limit  int64 // bytes of memory, if not memoryLimit

	patience time.Duration // if not timeLimit

	inspect func(cmdline []byte) // is told of the arguments of all processes, again and again; may be nil
}

func newHost(t testing.TB, repo *repository, flavor replication.Flavor) *host {
	t.Helper()
	h := &host{t: t, repo: repo, dir: t.TempDir(), target: mysqltest.New(t, flavor, mysqltest.Options{}), umask: "0022"}
	if err := os.Mkdir(filepath.Join(h.dir, "s"), 0o700); err != nil {
		t.Fatal(err)
	}
	return h
}

// commands are all that read a repository, with their arguments.
func (h *host) commands() [][]string {
	scratch := filepath.Join(h.dir, "s")
	place := []string{"--defaults-file", h.target.DefaultsFile, "--mysqld", h.target.Program, "--state-dir", filepath.Join(h.dir, "state")}
	drill := []string{"verify", "commerce/-80", "--mysqld", h.target.Program, "--scratch", scratch, "--owner", "root", "--start-timeout", "20s"}
	for _, option := range h.target.InstallationOptions() {
		drill = append(drill, "--option", option)
	}
	return [][]string{
		{"list", "commerce/-80"},
		{"list", "commerce/-80", "--json"},
		{"show", "commerce/-80", backupName, "--files"},
		{"show", "commerce/-80", backupName, "--files", "--json"},
		{"stats"},
		{"check"},
		{"check", "--read-data"},
		{"check", "--read-data", "--json"},
		{"forget", "commerce/-80", "--keep-last", "1", "--dry-run"},
		append([]string{"restore", "commerce/-80", "--files-only", "--force"}, place...),
		append([]string{"restore", "commerce/-80", "--files-only", "--delta"}, place...),
		append([]string{"startup", "commerce/-80", "--start-timeout", "20s"}, place...),
		drill,
		{"reindex"},
		{"repair", "--dry-run"},
		{"repair"},
		{"prune", "--dry-run"},
		{"prune", "--wait", "1s"},
	}
}

// runAll runs all commands and checks what must hold for each of them, whatever the
// repository is: it ends soon, by itself, in little memory, and tells nothing that
// a terminal obeys to.
func (h *host) runAll() map[string]outcome {
	h.t.Helper()
	all := map[string]outcome{}
	for _, args := range h.commands() {
		got := h.run(args...)
		name := strings.Join(args[:min(len(args), 2)], " ")
		if args[0] == "restore" || args[0] == "show" || args[0] == "list" || args[0] == "check" {
			name = strings.Join(append([]string{args[0]}, flagsOf(args)...), " ")
		}
		all[name] = got
	}
	return all
}

func flagsOf(args []string) []string {
	var flags []string
	for _, arg := range args {
		switch arg {
		case "--files", "--json", "--read-data", "--delta", "--force":
			flags = append(flags, arg)
		}
	}
	return flags
}

func (h *host) run(args ...string) outcome {
	h.t.Helper()
	path, err := program()
	if err != nil {
		h.t.Fatal(err)
	}
	args = append(args, "--root", h.repo.root)
	cmd := exec.Command("/bin/sh", append([]string{"-c", "umask " + h.umask + `; exec "$@"`, "sh", path}, args...)...)
	cmd.Env = append(os.Environ(), "SHARDSEED_CACHE_DIR="+filepath.Join(h.dir, "cache"), "GOMEMLIMIT=off", "GOGC=100")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	peak, late := h.watch(cmd, begun)
	got := outcome{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String(), peak: peak, took: time.Since(begun)}
	limit := h.limit
	if limit == 0 {
		limit = memoryLimit
	}
	h.t.Logf("%-40.40s exit %3d %6d ms %4d MiB: %.150q", strings.Join(args, " "), got.code, got.took.Milliseconds(), peak>>20, got.stderr)
	switch {
	case late:
		h.t.Errorf("%s: still ran after %v", args, timeLimit)
	case got.code < 0 || got.code == 2 || strings.Contains(got.stderr, "goroutine ") || strings.Contains(got.stderr, "internal error"):
		h.t.Errorf("%s: ended with %d: %.3000s", args, got.code, got.stderr)
	case peak > limit:
		h.t.Errorf("%s: took %d MiB of memory", args, peak>>20)
	case len(got.stdout)+len(got.stderr) > 64<<20:
		h.t.Errorf("%s: told %d bytes", args, len(got.stdout)+len(got.stderr))
	}
	for _, r := range got.stdout + got.stderr {
		if r != '\n' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)) {
			h.t.Errorf("%s: %q is in what it tells", args, r)
			break
		}
	}
	return got
}

// watch waits for the process, or ends it when its time is over, and returns the
// most memory that it was seen to have.
func (h *host) watch(cmd *exec.Cmd, begun time.Time) (peak int64, late bool) {
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // ProcessState tells
		close(ended)
	}()
	ticks := time.NewTicker(2 * time.Millisecond)
	defer ticks.Stop()
	for {
		select {
		case <-ended:
			return peak, late
		case <-ticks.C:
			peak = max(peak, highWater(cmd.Process.Pid))
			h.inspectAll()
			if !late && time.Since(begun) > cmp.Or(h.patience, timeLimit) {
				late = true
				_ = cmd.Process.Kill() // Wait tells
			}
		}
	}
}

// inspectAll tells of the arguments of all processes.
func (h *host) inspectAll() {
	if h.inspect == nil {
		return
	}
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		h.t.Fatal(err)
	}
	for _, file := range files {
		if cmdline, err := os.ReadFile(file); err == nil { // else it has ended
			h.inspect(cmdline)
		}
	}
}

// highWater is the most memory that a process had, in bytes; 0 if it has ended.
func highWater(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.ParseInt(kib, 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}
