# What an operator gets wrong on the command line.

# refuses NAME STATUS WORD ARGS...: ends with this status within 10 s, and says one line that has the word in it.
refuses() {
	local name=$1 status=$2 word=$3 said
	shift 3
	timeout 10 /tmp/xen-pvscsi "$@" > /tmp/said 2>&1
	same $name-status $status $?
	said=$(grep -c -- "$word" /tmp/said)
	if [ "$said" = 1 ] && ! grep -q "panicked at" /tmp/said; then pass $name-says-why; else
		fail $name-says-why "not one line with '$word': $(cat /tmp/said)"
	fi
}
refuses no-domid 2 "--domid <" serve
refuses no-such-domain 1 77 serve --domid 77
