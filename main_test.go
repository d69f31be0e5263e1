package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// build compiles the program and returns its path.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shardseed")
	if output, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	return path
}

func TestProgram(t *testing.T) {
	program := build(t)

	t.Run("answers", func(t *testing.T) {
		output, err := exec.Command(program, "version").Output()
		if err != nil || !strings.HasPrefix(string(output), "shardseed ") {
			t.Errorf("got %q, %v", output, err)
		}
	})

	t.Run("install", func(t *testing.T) {
		dir := t.TempDir()
		if output, err := exec.Command("make", "install", "PROGRAM="+program, "DESTDIR="+dir, "PREFIX=/usr").CombinedOutput(); err != nil {
			t.Fatalf("make install: %v\n%s", err, output)
		}
		for file, begin := range map[string]string{
			"bin/shardseed":                               "\x7fELF",
			"share/man/man8/shardseed.8":                  ".TH SHARDSEED 8",
			"share/bash-completion/completions/shardseed": "_shardseed() {",
			"share/zsh/site-functions/_shardseed":         "#compdef shardseed",
			"share/shardseed/vthook/shardseed-backup":     "#!/bin/sh",
			"share/shardseed/vthook/shardseed-status":     "#!/bin/sh",
		} {
			path := filepath.Join(dir, "usr", file)
			text, err := os.ReadFile(path)
			if err != nil || !strings.HasPrefix(string(text), begin) {
				t.Errorf("%s begins with %.20q, %v, want %q", file, text, err, begin)
			}
			info, err := os.Stat(path)
			if err != nil || (info.Mode()&0o111 != 0) != (begin[0] == 0x7f || begin[:2] == "#!") {
				t.Errorf("%s: %v, %v", file, info.Mode(), err)
			}
		}
	})

	t.Run("exit code", func(t *testing.T) {
		err := exec.Command(program, "no-such-command").Run()
		var ended *exec.ExitError
		if !errors.As(err, &ended) || ended.ExitCode() != 2 {
			t.Errorf("got %v, want exit code 2", err)
		}
	})

	// Whoever reads the output may go away at any time; a backup must not end
	// half-way because of that.
	t.Run("broken pipe", func(t *testing.T) {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := read.Close(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "version")
		cmd.Stdout, cmd.Stderr = write, write
		if err := cmd.Run(); err != nil {
			t.Errorf("got %v, want no error", err)
		}
		if err := write.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestFailures: what failed is said last and in few lines, however much the
// tests have told; the exit code is that of the tests.
func TestFailures(t *testing.T) {
	output := "--- FAIL: TestServer (9.02s)\n    --- FAIL: TestServer/mysql (9.01s)\n" +
		strings.Repeat("        backup_test.go:12: step copy /data\n", 40) +
		"        backup_test.go:14: warning: a lag\n        owner_test.go:15: first: no such file\n        owner_test.go:17: tables differ:\n            -a\n            +b\n" +
		"        mysqltest.go:80: error.log of /tmp/x/my.cnf ends with:\n            2026 [System] > ready\n    --- PASS: TestServer/mariadb (1.00s)\n" +
		"--- FAIL: TestScript (1.00s)\n    --- FAIL: TestScript/story (0.90s)\n        testscript.go:558: # one (0.005s)\n            > exit 0 shardseed check\n" +
		"            [stderr]\n            damaged\n            FAIL: story.txtar:4: exit code 12, want 0\n            \nFAIL\nFAIL\texample.com/x\t9.078s\n" +
		"x/y_test.go:3:7: undefined: z\nFAIL\texample.com/x/y [build failed]\nok  \texample.com/z\t0.042s\nFAIL\n"
	path := filepath.Join(t.TempDir(), "output")
	if err := os.WriteFile(path, []byte(output), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	cmd := exec.Command("scripts/failures.sh", "sh", "-c", "cat "+path+"; exit 3")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var ended *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &ended) || ended.ExitCode() != 3 || stdout.String() != output {
		t.Errorf("got %v and %q, want exit code 3 and all that the tests said", err, stdout.String())
	}
	want := `what failed:
--- FAIL: TestServer/mysql (9.01s)
    owner_test.go:15: first: no such file
    owner_test.go:17: tables differ:
    -a
    +b
--- FAIL: TestScript/story (0.90s)
    testscript.go:558: # one (0.005s)
    > exit 0 shardseed check
    [stderr]
    damaged
    FAIL: story.txtar:4: exit code 12, want 0
FAIL	example.com/x	9.078s
    x/y_test.go:3:7: undefined: z
FAIL	example.com/x/y [build failed]
`
	if got := stderr.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if output, err := exec.Command("scripts/failures.sh", "echo", "ok").CombinedOutput(); err != nil || string(output) != "ok\n" {
		t.Errorf("of tests that pass: %q, %v", output, err)
	}
}
