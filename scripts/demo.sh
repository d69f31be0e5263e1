#!/usr/bin/env bash
# The story of a shard, told by running it on real servers: a primary and a
# replica, two backups of the replica while the primary is written to, a third
# server seeded from the latest, proved equal. FLAVOUR=mysql or mariadb.
# Everything lives below one temporary folder, on 127.0.0.1, and is ended.
set -euo pipefail
cd "$(dirname "$0")/.."

FLAVOUR=${FLAVOUR:-mysql}
SERVERS=${SHARDSEED_SERVERS:-$PWD/.servers}
HERE=$(mktemp -d /tmp/shardseed-demo-XXXXXX)
PATH=$PWD/bin:$SERVERS/bin:$PATH
export SHARDSEED_ROOT=$HERE/backups SHARDSEED_CACHE_DIR=$HERE/cache
SECRET=demo-$RANDOM$RANDOM

case $FLAVOUR in
mysql) MYSQLD=$SERVERS/bin/mysqld CLIENT=mysql ;;
mariadb) MYSQLD=$SERVERS/bin/mariadbd CLIENT=mariadb ;;
*)
	echo "demo: error: FLAVOUR is $FLAVOUR, want mysql or mariadb" >&2
	exit 2
	;;
esac

tell() { printf '\n# %s\n' "$*"; }
show() {
	printf '$ %s\n' "$*"
	"$@"
}
sql() { "$CLIENT" --no-defaults --batch --skip-column-names -uroot -p"$SECRET" -S "$HERE/$1/sock" -e "$2" 2> >(grep -v 'password on the command line' >&2); }

writer=
finish() {
	code=$?
	rm -f "$HERE/writing"
	[ -z "$writer" ] || wait "$writer" 2>/dev/null || true
	for server in newcomer replica primary; do
		pid=$(cat "$HERE/$server/pid" 2>/dev/null) || continue
		kill -KILL "$pid" 2>/dev/null || true # their data is thrown away
		while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
		[ "$code" -eq 0 ] || tail -n 20 "$HERE/$server/error.log" >&2
	done
	rm -rf "$HERE"
	[ "$code" -eq 0 ] || echo "demo: error: it ended with $code" >&2
}
trap finish EXIT

# port prints a port that nobody listens on.
port() {
	local candidate
	while candidate=$((15000 + RANDOM % 15000)); do
		(: </dev/tcp/127.0.0.1/$candidate) 2>/dev/null || { echo "$candidate" && return; }
	done
}

# configure SERVER ID PORT writes the server's my.cnf.
configure() {
	mkdir -p "$HERE/$1/tmp"
	{
		echo "[mysqld]"
		echo "basedir=$SERVERS/$FLAVOUR/usr"
		echo "plugin-dir=$SERVERS/$FLAVOUR/usr/lib/mysql/plugin"
		echo "lc-messages-dir=$SERVERS/$FLAVOUR/usr/share/mysql"
		echo "character-sets-dir=$SERVERS/$FLAVOUR/usr/share/mysql/charsets"
		echo "datadir=$HERE/$1/data"
		echo "tmpdir=$HERE/$1/tmp"
		echo "socket=$HERE/$1/sock"
		echo "pid-file=$HERE/$1/pid"
		echo "log-error=$HERE/$1/error.log"
		echo "bind-address=127.0.0.1"
		echo "port=$3"
		echo "server-id=$2"
		echo "log-bin=binlog"
		echo "relay-log=relay"
		echo "innodb-buffer-pool-size=64M"
		[ "$(id -u)" -ne 0 ] || echo "user=root"
		if [ "$FLAVOUR" = mysql ]; then
			printf '%s\n' gtid-mode=ON enforce-gtid-consistency=ON secure-file-priv=NULL mysqlx=OFF innodb-redo-log-capacity=64M
		else
			printf '%s\n' log-slave-updates=ON binlog-format=ROW innodb-log-file-size=32M
		fi
	} >"$HERE/$1/my.cnf"
}

# start SERVER starts it and waits until it answers.
start() {
	"$MYSQLD" --defaults-file="$HERE/$1/my.cnf" </dev/null >/dev/null 2>&1 &
	disown
	for _ in $(seq 300); do
		"$CLIENT" --no-defaults -uroot -p"$SECRET" -S "$HERE/$1/sock" -e 'SELECT 1' >/dev/null 2>&1 && return
		sleep 0.1
	done
	echo "demo: error: $1 does not answer" >&2
	return 1
}

# initialize SERVER makes an empty server with two accounts.
initialize() {
	local users="$HERE/users.sql"
	cat >"$users" <<-SQL
		SET sql_log_bin=0;
		ALTER USER root@localhost IDENTIFIED BY '$SECRET';
		CREATE USER repl@'%' IDENTIFIED BY '$SECRET';
		GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO repl@'%';
	SQL
	if [ "$FLAVOUR" = mysql ]; then
		"$MYSQLD" --defaults-file="$HERE/$1/my.cnf" --initialize-insecure --init-file="$users" >/dev/null 2>&1
	else
		mariadb-install-db --defaults-file="$HERE/$1/my.cnf" --auth-root-authentication-method=normal --skip-test-db >/dev/null 2>&1
		sed -i "s/^log-bin/skip-log-bin/" "$HERE/$1/my.cnf"
		"$MYSQLD" --defaults-file="$HERE/$1/my.cnf" --bootstrap >/dev/null 2>&1 <<-SQL
			FLUSH PRIVILEGES;
			$(tr '\n' ' ' <"$users" | sed 's/; /;\n/g')
		SQL
		sed -i "s/^skip-log-bin.*/log-bin=binlog/" "$HERE/$1/my.cnf"
		rm -f "$HERE/$1"/data/binlog.*
	fi
}

# follow SERVER points it at the primary.
follow() {
	if [ "$FLAVOUR" = mysql ]; then
		sql "$1" "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=$primary_port, SOURCE_USER='repl', SOURCE_PASSWORD='$SECRET',
			SOURCE_AUTO_POSITION=1, SOURCE_SSL=1, GET_SOURCE_PUBLIC_KEY=1; START REPLICA"
	else
		sql "$1" "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=$primary_port, MASTER_USER='repl', MASTER_PASSWORD='$SECRET',
			MASTER_USE_GTID=slave_pos; START SLAVE"
	fi
}

# checksums SERVER prints a checksum of each table.
checksums() {
	local table
	sql "$1" "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables
		WHERE table_schema = 'shop' AND table_type = 'BASE TABLE' ORDER BY 1" |
		while read -r table; do sql "$1" "CHECKSUM TABLE $table"; done
}

# caught_up SERVER waits until it has what the primary has.
caught_up() {
	local query='SELECT @@GLOBAL.gtid_executed' own
	own=$query
	[ "$FLAVOUR" = mysql ] || query='SELECT @@GLOBAL.gtid_binlog_pos' own='SELECT @@GLOBAL.gtid_slave_pos'
	local want
	want=$(sql primary "$query")
	for _ in $(seq 300); do
		[ "$(sql "$1" "$own")" != "$want" ] || return 0
		sleep 0.1
	done
	echo "demo: error: $1 has not caught up" >&2
	return 1
}

tell "A shard comes to life: a primary and a replica, $("$MYSQLD" --no-defaults --version | sed 's/.* Ver \([^ ]*\).*/\1/') ($FLAVOUR)"
primary_port=$(port)
configure primary 1 "$primary_port"
configure replica 2 "$(port)"
initialize primary
initialize replica
start primary
start replica
follow replica
printf '%s\n' "$SECRET" >"$HERE/password"
chmod 600 "$HERE/password"

tell "Data arrives: 40,000 rows in four tables"
rows="WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)"
depth='SET SESSION cte_max_recursion_depth = 20000;'
[ "$FLAVOUR" = mysql ] || depth='SET SESSION max_recursive_iterations = 20000;'
sql primary "CREATE DATABASE shop"
for table in customers orders lines prices; do
	sql primary "CREATE TABLE shop.$table (id INT PRIMARY KEY AUTO_INCREMENT, word VARCHAR(64), filler CHAR(120), KEY (word)) ENGINE=InnoDB;
		$depth INSERT INTO shop.$table (word, filler) $rows SELECT SHA2(CONCAT('$table', i), 256), SHA2(i, 256) FROM n"
done
caught_up replica

tell "A place for backups, and who the primary is"
show shardseed init
show shardseed primary set shop/-80 "127.0.0.1:$primary_port"

tell "The application goes on writing all the time"
touch "$HERE/writing"
(while [ -e "$HERE/writing" ]; do sql primary "UPDATE shop.orders SET filler = SHA2(RAND(), 256) WHERE id = 1 + FLOOR(RAND() * 10000);
	INSERT INTO shop.lines (word) VALUES (SHA2(RAND(), 256))"; done) >/dev/null 2>&1 &
writer=$!

# backup runs the main job on the replica.
backup() {
	show shardseed backup zone1-101 --keyspace shop --shard -80 --defaults-file "$HERE/replica/my.cnf" \
		--mysqld "$MYSQLD" --password-file "$HERE/password" --state-dir "$HERE/state" \
		--replication-user repl --replication-password-file "$HERE/password"
}
tell "The first backup: the replica is stopped, copied, started, and catches up"
backup

tell "The data changes a little; the second backup is a full one too, and costs next to nothing"
sql primary "UPDATE shop.prices SET word = UPPER(word) WHERE id <= 200"
backup
show shardseed list shop/-80

tell "A new server: the latest backup, today's primary"
configure newcomer 3 "$(port)"
show shardseed restore shop/-80 --defaults-file "$HERE/newcomer/my.cnf" --mysqld "$MYSQLD" \
	--password-file "$HERE/password" --state-dir "$HERE/state" \
	--replication-user repl --replication-password-file "$HERE/password"

tell "Is it equal to the primary? Every table is checksummed on all three"
rm "$HERE/writing"
wait "$writer"
writer=
caught_up replica
caught_up newcomer
checksums primary | tee "$HERE/checksums"
for server in replica newcomer; do
	checksums "$server" | diff "$HERE/checksums" - && echo "$server: equal"
done

tell "Old backups go"
first=$(shardseed list shop/-80 --json | sed -n '1s/.*"name":"\([^"]*\)".*/\1/p')
show shardseed rm shop/-80 "$first"
show shardseed list shop/-80
tell "That was the life of a shard. Everything is stopped and removed now."
