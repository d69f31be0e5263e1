#!/bin/bash
# failures.sh COMMAND...: runs "go test" and, if it fails, says once more and at
# the very end what has failed, in few lines a test: of a long output often only
# the end is kept, and that of a test with servers is long.
set -uo pipefail
output=$(mktemp) || exit 1
trap 'rm -f "$output"' EXIT
"$@" 2>&1 | tee "$output"
code=${PIPESTATUS[0]}
[ "$code" -ne 0 ] || exit 0

# Of each failed test its last words: neither progress, nor what the logs of its
# servers end with, but the line at which a story has stopped.
awk '
function tell(  i) {
	if (n > 0 && test != "") print test
	for (i = n > most ? n - most + 1 : 1; i <= n; i++) print "    " substr(said[i], 1, 400)
	n = more = 0
	test = ""
}
function say(text) { sub(/^ +/, "", text); said[++n] = text }
BEGIN { most = 8 }
/^ *--- (FAIL|PASS|SKIP): / { tell(); if ($2 == "FAIL:") { test = $0; sub(/^ +/, "", test) } next }
/^(ok|FAIL|\?)[ \t]/ || /^(ok|FAIL)$/ { tell(); if ($1 == "FAIL" && NF > 1) print; next }
/^(panic: |fatal error: |signal: |SIGQUIT|WARNING: DATA RACE|==[0-9]+==ERROR|# )|\.go:[0-9]+:[0-9]+: / { say($0); more = 3; next }
/^ *[A-Za-z0-9_]+\.go:[0-9]+: / {
	more = 0
	if ($0 ~ /\.go:[0-9]+: (step|warning:) / || $0 ~ / ends with:$/) next
	say($0)
	more = 3
	next
}
/^ +FAIL: / { say($0); more = 0; next }
/^ +(> |\[stderr\])/ { if (test != "") { say($0); more = 2 } next }
more > 0 && test != "" && NF > 0 { more--; say($0) }
END { tell() }
' "$output" | { echo "what failed:"; head -c 6000; } >&2
exit "$code"
