# What an operator gets wrong on the command line.

# refuses NAME STATUS WORD ARGS...: ends with this status within 10 s and says something with the word in it, in a few lines.
refuses() {
	local name=$1 status=$2 word=$3
	shift 3
	timeout 10 /tmp/xen-pvscsi "$@" > /tmp/said 2>&1
	same $name-status $status $?
	if grep -q -- "$word" /tmp/said && [ "$(wc -l < /tmp/said)" -lt 8 ] && ! grep -q "panicked at" /tmp/said; then
		pass $name-says-why
	else
		fail $name-says-why "$(cat /tmp/said)"
	fi
}
refuses no-domid 2 --domid serve
refuses no-such-domain 1 77 serve --domid 77
