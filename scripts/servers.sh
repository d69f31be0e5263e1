#!/bin/bash
# servers.sh gets the servers that the tests and the demonstration run: MariaDB
# of this machine's release and MySQL (9.7 or newer) of sid, unpacked into
# .servers/ without root and without installing anything. Run it as
# "make servers"; SHARDSEED_SERVERS names another folder than .servers.
#
# Where the packages come from is the machine's own choice: the entries of its
# apt sources (and with them mirror, keyring and options) are copied, and for
# MySQL the suite is replaced. apt checks every signature and checksum.
# Dependencies are resolved against an empty package status, libc included, so
# that the programs run on any machine: through the loader unpacked with them.
#
# A stamp is written last. A run that finds it does nothing but print it. It
# holds for the folder that it names: the programs are run by absolute paths. A
# link to another tree's .servers leads to that tree's programs, as they are.
set -euo pipefail

MYSQL_SUITE=sid
MYSQL_MIN=9.7

root=$(cd "$(dirname "$0")/.." && pwd)
out=${SHARDSEED_SERVERS:-$root/.servers}
arch=$(dpkg --print-architecture 2>/dev/null || true)

fail() {
	echo "servers: error: $1" >&2
	[ $# -lt 2 ] || echo "servers: hint: $2" >&2
	exit 1
}

# entries prints "RELEASE FILE:NUMBER" for each entry of the machine's sources
# that has Debian's main component. apt itself reads both forms of its sources.
entries() {
	apt-get indextargets --format '$(COMPONENT) $(ARCHITECTURE) $(RELEASE) $(SOURCESENTRY)' 'Created-By: Packages' |
		awk -v arch="$arch" '$1 == "main" && $2 == arch { print $3, $4 }'
}

# entry prints one entry of the machine's sources, FILE:NUMBER, with only main
# packages; with a second argument, that suite in place of its own. In a .list
# NUMBER is the line, in a .sources it is the stanza.
entry() {
	local file=${1%:*} number=${1##*:} suite=${2:-}
	case $file in
	*.sources)
		awk -v number="$number" -v suite="$suite" '
			BEGIN { stanza = 1 }
			/^[ \t]*$/ { if (seen) { stanza++; seen = 0 } next }
			/^#/ { next }
			{ seen = 1 }
			stanza != number { next }
			/^[^ \t]/ {
				key = tolower($0); sub(/:.*/, "", key); skip = 0
				if (key == "types") { print "Types: deb"; skip = 1 }
				if (key == "components") { print "Components: main"; skip = 1 }
				if (key == "suites" && suite != "") { print "Suites: " suite; skip = 1 }
			}
			!skip { print }
			END { print "" }' "$file"
		;;
	*)
		awk -v number="$number" -v suite="$suite" '
			NR != number { next }
			{
				sub(/#.*/, ""); sub(/^[ \t]*deb(-src)?[ \t]+/, "")
				options = ""
				if (match($0, /^\[[^]]*\]/)) {
					options = substr($0, 2, RLENGTH - 2); $0 = substr($0, RLENGTH + 1)
				}
				print "Types: deb\nURIs: " $1 "\nSuites: " (suite != "" ? suite : $2) "\nComponents: main"
				n = split(options, option, /[ \t]+/)
				for (i = 1; i <= n; i++) if (split(option[i], pair, "=") == 2) {
					gsub(/,/, " ", pair[2])
					key = pair[1] == "arch" ? "architectures" : pair[1]
					print toupper(substr(key, 1, 1)) substr(key, 2) ": " pair[2]
				}
				print ""
			}' "$file"
		;;
	esac
}

# settings writes what makes apt work on one work folder: lists, sources and an
# (empty) package status of its own. It is read after the machine's settings,
# which stay in force (a proxy, say), but for the hooks: they are not for us.
# Lists past their date are taken: on a mirror that is a snapshot all are, and
# nothing gets installed on the machine.
settings() {
	local work=$1
	cat <<-CONFIG
		#clear APT::Update::Pre-Invoke;
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		#clear DPkg::Pre-Invoke;
		#clear DPkg::Pre-Install-Pkgs;
		#clear DPkg::Post-Invoke;
		APT::Sandbox::User "root";
		APT::Install-Recommends "false";
		Acquire::Check-Valid-Until "false";
		Acquire::Languages "none";
		Acquire::Retries "3";
		Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
		Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
		Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
		Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled "false";
		Debug::NoLocking "true";
		Dir::State "$work";
		Dir::State::lists "$work/lists";
		Dir::State::status "$work/status";
		Dir::Cache "$work/cache";
		Dir::Etc::sourcelist "/dev/null";
		Dir::Etc::sourceparts "$work/sources";
		Dir::Etc::preferences "/dev/null";
		Dir::Etc::preferencesparts "$work/none";
	CONFIG
}

# fetch FLAVOUR PACKAGES… [-- ALONE…] downloads packages with all their
# dependencies, and those after -- without, and unpacks them all.
fetch() {
	local flavour=$1 work=$out/apt/$1 tree=$out/$1 packages=() alone=()
	shift
	while [ $# -gt 0 ] && [ "$1" != -- ]; do packages+=("$1"); shift; done
	[ $# -eq 0 ] || { shift; alone=("$@"); }
	mkdir -p "$work"/{lists/partial,cache/archives/partial,none}
	: >"$work/status"
	settings "$work" >"$work/apt.conf"
	echo "servers: fetching $flavour packages" >&2
	apt-get -qq -c "$work/apt.conf" update >&2 ||
		fail "read the package lists for $flavour: apt-get update failed" "check that apt-get update works on this machine"
	apt-get -qq -c "$work/apt.conf" autoclean >&2 # what an interrupted run left, if it is superseded
	apt-get -qq -c "$work/apt.conf" -y --download-only install "${packages[@]}" >&2 ||
		fail "download $flavour: apt-get failed" "run \"make servers\" again; what is there is kept"
	if [ ${#alone[@]} -gt 0 ]; then
		(cd "$work/cache/archives" && apt-get -qq -c "$work/apt.conf" download "${alone[@]}" >&2) ||
			fail "download $flavour: apt-get failed" "run \"make servers\" again; what is there is kept"
	fi
	rm -rf "$tree"
	mkdir -p "$tree"
	for deb in "$work"/cache/archives/*.deb; do
		dpkg-deb -x "$deb" "$tree" || fail "unpack $deb" "remove $out and run \"make servers\" again"
	done
	rm -rf "$work"
}

# wrap TREE PROGRAM NAME writes bin/NAME, which replaces itself by the program,
# run by its own loader on its own libraries, and checks that all of them are
# there. The process keeps the wrapper's pid.
wrap() {
	local tree=$out/$1 program=$out/$1/$2 name=$out/bin/$3 loader libraries
	loader=$(find "$tree" -path '*/lib/*-linux-gnu*/ld-linux*.so.*' -print -quit)
	[ -n "$loader" ] || fail "find the loader of $1 below $tree"
	libraries=$(find "$tree" -maxdepth 3 -type d -name '*-linux-gnu*' -printf '%p:')
	cat >"$name" <<-WRAPPER
		#!/bin/sh
		exec '$loader' --library-path '${libraries%:}' --argv0 '$program' '$program' "\$@"
	WRAPPER
	chmod 755 "$name"
	if "$loader" --library-path "${libraries%:}" --list "$program" | grep -F 'not found' >&2; then
		fail "check $program: a library is missing"
	fi
}

# install_db makes bin/mariadb-install-db: MariaDB's own script on a base folder
# whose programs are the wrappers.
install_db() {
	local base=$out/mariadb/base
	mkdir -p "$base"
	ln -sfn ../usr/share "$base/share"
	ln -sfn "$out/bin" "$base/bin"
	ln -sfn "$out/bin" "$base/sbin"
	cat >"$out/bin/mariadb-install-db" <<-WRAPPER
		#!/bin/sh
		exec sh '$out/mariadb/usr/bin/mariadb-install-db' "\$@" --basedir='$base'
	WRAPPER
	chmod 755 "$out/bin/mariadb-install-db"
}

wrappers() {
	rm -rf "$out/bin"
	mkdir -p "$out/bin"
	wrap mysql usr/sbin/mysqld mysqld
	for name in mysql mysqladmin mysqldump mysqlbinlog ibd2sdi; do wrap mysql "usr/bin/$name" "$name"; done
	wrap mysql usr/bin/innochecksum innochecksum-mysql
	wrap mariadb usr/sbin/mariadbd mariadbd
	for name in mariadb mariadb-admin mariadb-dump mariadb-binlog mariadb-backup mbstream resolveip my_print_defaults aria_chk; do
		wrap mariadb "usr/bin/$name" "$name"
	done
	wrap mariadb usr/bin/innochecksum innochecksum-mariadb
	install_db
}

# summary runs each program once and prints what is where.
summary() {
	local mysql mariadb
	for name in mysqld mysql mysqladmin mysqldump mysqlbinlog mariadbd mariadb mariadb-admin mariadb-dump mariadb-binlog; do
		"$out/bin/$name" --no-defaults --version >/dev/null 2>&1 || fail "run $out/bin/$name --version"
	done
	"$out/bin/mariadb-backup" --version >/dev/null 2>&1 || fail "run $out/bin/mariadb-backup --version"
	mysql=$("$out/bin/mysqld" --no-defaults --version | sed -n 's/.*Ver \([0-9.]*\).*/\1/p')
	mariadb=$("$out/bin/mariadbd" --no-defaults --version | sed -n 's/.*Ver \([0-9.]*-MariaDB\).*/\1/p')
	dpkg --compare-versions "${mysql:-0}" ge "$MYSQL_MIN" ||
		fail "MySQL of $MYSQL_SUITE on this machine's mirror is ${mysql:-unknown}, $MYSQL_MIN is needed" "use a mirror with a newer $MYSQL_SUITE"
	[ -n "$mariadb" ] || fail "read the version of $out/bin/mariadbd"
	echo "MySQL $mysql: $out/bin/mysqld (basedir $out/mysql/usr)"
	echo "MariaDB $mariadb: $out/bin/mariadbd (basedir $out/mariadb/usr)"
	echo "programs: $(cd "$out/bin" && echo *)"
}

build() {
	for tool in apt-get dpkg-deb awk find; do
		command -v "$tool" >/dev/null || fail "$tool is missing" "this script needs a Debian machine"
	done
	local codename found primary sources
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
	found=$(entries)
	primary=$(awk -v name="$codename" '$1 == name { print $2; exit }' <<<"$found")
	[ -n "$primary" ] || fail "no apt source of this machine has $codename main" "enable Debian's own entry below /etc/apt"
	rm -f "$out/stamp"

	sources=$out/apt/mariadb/sources
	mkdir -p "$sources"
	awk -v name="$codename" '$1 == name || $1 == name "-updates" || $1 == name "-security" { print $2 }' <<<"$found" |
		sort -u | while read -r at; do entry "$at"; done >"$sources/machine.sources"
	fetch mariadb mariadb-server-core mariadb-client-core mariadb-backup -- mariadb-server mariadb-client

	sources=$out/apt/mysql/sources
	mkdir -p "$sources"
	entry "$primary" "$MYSQL_SUITE" >"$sources/mysql.sources"
	fetch mysql mysql-server-core mysql-client-core

	wrappers
}

umask 022
mkdir -p "$out"
out=$(cd "$out" && pwd -P)
exec 9>"$out/.lock"
flock 9
recipe="recipe $(sha256sum <"$0" | cut -c1-64) in $out"
if [ "$(head -n 1 "$out/stamp" 2>/dev/null)" != "$recipe" ]; then
	build 9>&-
	lines=$(summary)
	printf '%s\n' "$recipe" "$lines" >"$out/stamp.new"
	mv "$out/stamp.new" "$out/stamp"
fi
tail -n +2 "$out/stamp"
