#!/bin/bash
# bench-tools.sh gets what "make bench" compares shardseed with: restic of sid,
# borg and sysbench of this machine's release, unpacked into .tools/bench/
# without root and without installing anything. SHARDSEED_BENCH_TOOLS names
# another folder. tar, zstd and cp are the machine's own.
#
# The way is that of servers.sh, whose functions are used here.
set -euo pipefail

RESTIC_SUITE=sid
RESTIC_MIN=0.19

# All of servers.sh but what it runs by itself, which begins with umask.
# shellcheck source=/dev/null
source <(sed '/^umask /,$d' "$(dirname "$0")/servers.sh")
out=${SHARDSEED_BENCH_TOOLS:-$root/.tools/bench}

fail() {
	echo "bench-tools: error: $1" >&2
	[ $# -lt 2 ] || echo "bench-tools: hint: $2" >&2
	exit 1
}

# wrap_borg makes bin/borg: borg's own program on the unpacked Python, with all
# of it compiled, as an installation does.
wrap_borg() {
	local python
	python=$(cd "$out/borg/usr/bin" && echo python3.[0-9]*)
	wrap borg "usr/bin/${python%% *}" borg
	PYTHONHOME=$out/borg/usr "$out/bin/borg" -m compileall -q "$out"/borg/usr/lib/python3* >/dev/null || true # some are for other versions
	sed -i -e "s|^exec|PYTHONHOME='$out/borg/usr' PYTHONPATH='$out/borg/usr/lib/python3/dist-packages' exec|" \
		-e "s|\"\$@\"|'$out/borg/usr/bin/borg' \"\$@\"|" "$out/bin/borg"
}

# wrap_sysbench makes bin/sysbench, which finds its scripts and the client
# plugins of its library (caching_sha2_password is one) where they were unpacked.
wrap_sysbench() {
	local plugins
	wrap sysbench usr/bin/sysbench sysbench
	plugins=$(find "$out/sysbench" -type d -path '*/libmariadb3/plugin' -print -quit)
	sed -i "s|^exec|MARIADB_PLUGIN_DIR='$plugins' LUA_PATH='$out/sysbench/usr/share/sysbench/?.lua' exec|" "$out/bin/sysbench"
}

# summary runs each program once and prints what is where.
summary() {
	local restic borg sysbench
	restic=$("$out/bin/restic" version | sed -n 's/^restic \([0-9.]*\).*/\1/p')
	borg=$("$out/bin/borg" --version | sed -n 's/^borg \([0-9.]*\).*/\1/p')
	sysbench=$("$out/bin/sysbench" --version | sed -n 's/^sysbench \([0-9.]*\).*/\1/p')
	dpkg --compare-versions "${restic:-0}" ge "$RESTIC_MIN" ||
		fail "restic of $RESTIC_SUITE on this machine's mirror is ${restic:-unknown}, $RESTIC_MIN is needed" "use a mirror with a newer $RESTIC_SUITE"
	[ -n "$borg" ] || fail "run $out/bin/borg --version"
	[ -n "$sysbench" ] || fail "run $out/bin/sysbench --version"
	echo "restic $restic: $out/bin/restic"
	echo "borg $borg: $out/bin/borg"
	echo "sysbench $sysbench: $out/bin/sysbench"
}

build_tools() {
	local codename found primary name sources
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
	found=$(entries)
	primary=$(awk -v name="$codename" '$1 == name { print $2; exit }' <<<"$found")
	[ -n "$primary" ] || fail "no apt source of this machine has $codename main" "enable Debian's own entry below /etc/apt"
	rm -f "$out/stamp"

	for name in borg sysbench; do
		sources=$out/apt/$name/sources
		mkdir -p "$sources"
		awk -v name="$codename" '$1 == name || $1 == name "-updates" || $1 == name "-security" { print $2 }' <<<"$found" |
			sort -u | while read -r at; do entry "$at"; done >"$sources/machine.sources"
	done
	fetch borg borgbackup
	fetch sysbench sysbench libc-bin

	sources=$out/apt/restic/sources
	mkdir -p "$sources"
	entry "$primary" "$RESTIC_SUITE" >"$sources/restic.sources"
	fetch restic restic libc6

	rm -rf "$out/bin"
	mkdir -p "$out/bin"
	wrap restic usr/bin/restic restic
	wrap_borg
	wrap_sysbench
}

umask 022
mkdir -p "$out"
out=$(cd "$out" && pwd -P)
exec 9>"$out/.lock"
flock 9
recipe="recipe $(cat "$0" "$(dirname "$0")/servers.sh" | sha256sum | cut -c1-64) in $out"
if [ "$(head -n 1 "$out/stamp" 2>/dev/null)" != "$recipe" ]; then
	build_tools 9>&-
	lines=$(summary)
	printf '%s\n' "$recipe" "$lines" >"$out/stamp.new"
	mv "$out/stamp.new" "$out/stamp"
fi
tail -n +2 "$out/stamp"
