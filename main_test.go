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
