package main

import (
	"path/filepath"
	"slices"
)

const (
	ours       = "shardseed"
	restic     = "restic"
	borg       = "borg"
	borgFixed  = "borg-fixed"
	tarZstd    = "tar-zstd"
	copying    = "cp"
	reading    = "cat"
	backupName = "bench/0" // keyspace and shard of every backup of shardseed
)

// place is where a tool works. All paths are absolute.
type place struct {
	source string // folder with the files
	root   string // folder of the tool's repository
	cache  string // folder of what the tool keeps on its host
	target string // empty folder that a restore fills
	cnf    string // my.cnf of a server whose data directory is target
}

// tool is one way to back up a folder.
type tool struct {
	name    string
	title   string
	rounds  []string   // in which it is measured; nil: all
	wake    [][]string // commands that bring its programs into the page cache
	create  func(p place) []command
	backup  func(p place, round string) command
	restore func(p place, round string) command // nil: it cannot
}

func (t tool) in(round string) bool {
	return t.rounds == nil || slices.Contains(t.rounds, round)
}

// toolNames returns the names of all tools, in the order of the table.
func toolNames() []string {
	return []string{ours, restic, borg, borgFixed, tarZstd, copying, reading}
}

// tools returns those that the configuration names, in the order of the table.
func (c config) chosenTools() []tool {
	all := []tool{
		c.shardseed(),
		c.restic(),
		c.borg(borg, "borg, zstd,1"),
		c.borg(borgFixed, "borg, zstd,1, fixed 16 KiB", "--chunker-params", "fixed,16384"),
		tarTool(),
		cpTool(),
		catTool(),
	}
	return slices.DeleteFunc(all, func(t tool) bool { return !slices.Contains(c.tools, t.name) })
}

func (c config) shardseed() tool {
	return tool{
		name:  ours,
		title: ours,
		wake:  [][]string{{c.program, "version"}, {c.mysqld(), "--no-defaults", "--version"}},
		create: func(p place) []command {
			return []command{{argv: c.shardseedArgs(p, "init")}}
		},
		backup: func(p place, _ string) command {
			return command{argv: c.shardseedArgs(p, "backup", "bench-1", "--keyspace", "bench", "--shard", "0",
				"--stopped", "--datadir", p.source)}
		},
		restore: func(p place, _ string) command {
			return command{argv: c.shardseedRestore(p)}
		},
	}
}

func (c config) shardseedArgs(p place, arguments ...string) []string {
	return append([]string{c.program, "--quiet", "--json", "--root", p.root, "--cache-dir", p.cache}, arguments...)
}

// shardseedRestore returns the arguments of a restore of the newest backup, or
// of another that more names.
func (c config) shardseedRestore(p place, more ...string) []string {
	return append(c.shardseedArgs(p, "restore", backupName, "--files-only", "--defaults-file", p.cnf,
		"--mysqld", c.mysqld()), more...)
}

func (c config) mysqld() string { return filepath.Join(c.servers, "bin", "mysqld") }

// restic syncs its packs, but not what it restores. Its cache serves remote
// repositories; on a local one it only costs.
func (c config) restic() tool {
	run := func(p place, sync string, arguments ...string) command {
		argv := append([]string{filepath.Join(c.peers, "bin", "restic"), "--no-cache", "--quiet", "--repo", p.root}, arguments...)
		return command{argv: argv, env: []string{"RESTIC_PASSWORD=bench"}, sync: sync}
	}
	return tool{
		name:   restic,
		title:  "restic, fastest",
		wake:   [][]string{{filepath.Join(c.peers, "bin", "restic"), "version"}},
		create: func(p place) []command { return []command{run(p, "", "init")} },
		backup: func(p place, _ string) command {
			return run(p, "", "backup", "--compression", "fastest", "--no-scan", "--host", "bench", p.source)
		},
		restore: func(p place, _ string) command {
			return run(p, p.target, "restore", "latest:"+p.source, "--target", p.target)
		},
	}
}

// borg syncs its segments, but not what it restores.
func (c config) borg(name, title string, options ...string) tool {
	run := func(p place, dir, sync string, arguments ...string) command {
		argv := append([]string{filepath.Join(c.peers, "bin", "borg")}, arguments...)
		return command{argv: argv, dir: dir, sync: sync, env: []string{
			"BORG_BASE_DIR=" + p.cache,
			"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes",
		}}
	}
	return tool{
		name:   name,
		title:  title,
		wake:   [][]string{{filepath.Join(c.peers, "bin", "borg"), "help", "create"}},
		create: func(p place) []command { return []command{run(p, "", "", "init", "--encryption", "none", p.root)} },
		backup: func(p place, round string) command {
			arguments := append([]string{"create", "--compression", "zstd,1"}, options...)
			return run(p, p.source, "", append(arguments, p.root+"::"+round, ".")...)
		},
		restore: func(p place, round string) command {
			return run(p, p.target, p.target, "extract", p.root+"::"+round)
		},
	}
}

// whole are the rounds of the tools that know no increments.
func whole() []string { return []string{roundLoad, roundInserts} }

func tarTool() tool {
	return tool{
		name:   tarZstd,
		title:  "tar \\| zstd -1 -T2, sync",
		rounds: whole(),
		wake:   [][]string{{"tar", "--version"}, {"zstd", "--version"}},
		create: func(place) []command { return nil },
		backup: func(p place, round string) command {
			return command{argv: shell(`tar -C "$1" -cf - . | zstd -1 -T2 -q -o "$2"`, p.source, filepath.Join(p.root, round+".tar.zst")), sync: p.root}
		},
		restore: func(p place, round string) command {
			return command{argv: shell(`zstd -q -d -c "$1" | tar -C "$2" -xf -`, filepath.Join(p.root, round+".tar.zst"), p.target), sync: p.target}
		},
	}
}

func cpTool() tool {
	duplicate := func(from, to string) command {
		return command{argv: []string{"cp", "-aT", "--reflink=never", from, to}, sync: filepath.Dir(to)}
	}
	return tool{
		name:    copying,
		title:   "cp -a --reflink=never, sync",
		rounds:  whole(),
		wake:    [][]string{{"cp", "--version"}},
		create:  func(place) []command { return nil },
		backup:  func(p place, round string) command { return duplicate(p.source, filepath.Join(p.root, round)) },
		restore: func(p place, round string) command { return duplicate(filepath.Join(p.root, round), p.target) },
	}
}

// catTool reads the files, which says what any tool pays at least that does
// not know them.
func catTool() tool {
	return tool{
		name:   reading,
		title:  "only reading them (cat)",
		rounds: []string{roundNothing},
		wake:   [][]string{{"find", "--version"}, {"cat", "--version"}},
		create: func(place) []command { return nil },
		backup: func(p place, _ string) command {
			return command{argv: shell(`find "$1" -type f -exec cat {} + >/dev/null`, p.source)}
		},
	}
}
