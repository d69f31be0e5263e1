package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// fact is one line about the machine or a program.
type fact struct{ name, value string }

// facts asks the machine and every program for its version. A program that
// does not answer is an error now and not in half an hour.
func (b *bench) facts(ctx context.Context) ([]fact, error) {
	facts := []fact{{"date", b.now().UTC().Format("2006-01-02 15:04 MST")}, {"machine", machine()}, {"disk", disk(b.dir)}}
	peers, servers := filepath.Join(b.config.peers, "bin"), filepath.Join(b.config.servers, "bin")
	for _, program := range []struct {
		name string
		argv []string
	}{
		{"shardseed", []string{b.config.program, "version"}},
		{"MySQL", []string{filepath.Join(servers, "mysqld"), "--no-defaults", "--version"}},
		{"MariaDB", []string{filepath.Join(servers, "mariadbd"), "--no-defaults", "--version"}},
		{"mariadb-backup", shell(`"$1" --version 2>&1`, filepath.Join(servers, "mariadb-backup"))},
		{"sysbench", []string{filepath.Join(peers, "sysbench"), "--version"}},
		{"restic", []string{filepath.Join(peers, "restic"), "version"}},
		{"borg", []string{filepath.Join(peers, "borg"), "--version"}},
		{"zstd", []string{"zstd", "--version"}},
		{"tar", []string{"tar", "--version"}},
		{"cp", []string{"cp", "--version"}},
	} {
		_, out, err := b.measure(ctx, command{argv: program.argv})
		if err != nil {
			return nil, err
		}
		facts = append(facts, fact{program.name, version(string(out))})
	}
	return facts, nil
}

// version returns the first line of what a program says about itself, without
// paths.
func version(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	words := strings.Fields(line)
	for i, word := range words {
		if strings.HasPrefix(word, "/") {
			words[i] = filepath.Base(word)
		}
	}
	return strings.Trim(strings.Join(words, " "), "* ")
}

func machine() string {
	var name unix.Utsname
	kernel := "unknown"
	if unix.Uname(&name) == nil {
		kernel = unix.ByteSliceToString(name.Release[:])
	}
	var memory float64
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		memory = float64(info.Totalram) * float64(info.Unit) / (1 << 30)
	}
	cpuinfo, _ := os.ReadFile("/proc/cpuinfo") // then the model is unknown
	return fmt.Sprintf("%s, %d CPUs, %.0f GiB of memory, Linux %s %s", cpuModel(string(cpuinfo)), runtime.NumCPU(), memory, kernel, runtime.GOARCH)
}

// cpuModel returns the first model name in the text of /proc/cpuinfo.
func cpuModel(cpuinfo string) string {
	for line := range strings.Lines(cpuinfo) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

// disk returns the device and type of the file system that holds the folder.
func disk(dir string) string {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "unknown"
	}
	return mountOf(string(mounts), dir)
}

// mountOf finds the longest mount point above the folder in the text of
// /proc/mounts.
func mountOf(mounts, dir string) string {
	found, longest := "unknown", -1
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) < 3 || len(fields[1]) < longest {
			continue
		}
		if below := strings.TrimSuffix(fields[1], "/") + "/"; strings.HasPrefix(dir+"/", below) {
			found, longest = fields[2]+" on "+fields[0], len(fields[1])
		}
	}
	return found
}
