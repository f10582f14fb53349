# check.sh: the words of a check, for dom0 and the guests. Each side has its own emit LINE.

say() { emit "LAB $*"; }
pass() { emit "LAB PASS $1"; }

# fail NAME WHY...: only the end of a long reason, on one line.
fail() {
	local name=$1
	shift
	emit "LAB FAIL $name: $(echo "$*" | tr '\r\n' '  ' | tail -c 600)"
}

# check NAME COMMAND...: passes when the command does; otherwise its output is the reason. The command may set variables.
check() {
	local name=$1
	shift
	if "$@" > /tmp/check.output 2>&1; then pass "$name"; else fail "$name" "$* gave $?: $(cat /tmp/check.output)"; fi
}

# same NAME EXPECTED FOUND
same() {
	if [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "expected '$2', found '$3'"; fi
}

# within SECONDS COMMAND...: tries again, each $STEP seconds, until the command succeeds or the time is over. Starts no other program:
# they are slow to start here.
within() {
	local uptime deadline
	read -r uptime _ < /proc/uptime
	deadline=$((${uptime%.*} + $1))
	shift
	until "$@" > /dev/null 2>&1; do
		read -r uptime _ < /proc/uptime
		[ "${uptime%.*}" -lt $deadline ] || return 1
		sleep ${STEP:-0.2}
	done
}
