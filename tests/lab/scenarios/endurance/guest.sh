# Works on its disk 0 all the while; disk 2 comes and goes, the driver is reloaded, the device is reset, another guest dies.

# The files of disk 0:2:0, without starting a program.
second() {
	set -- /sys/bus/scsi/devices/*:0:2:0/block/*
	[ -e "$1" ] && SECOND=/dev/${1##*/}
}
no_second() { ! second; }

# Compares with zeroes and then leaves something in the cache, which Linux has to save when the disk goes.
fresh() { cmp -n 65536 $SECOND /dev/zero && head -c 65536 /usr/bin/busybox > $SECOND; }

# watch_second: tells dom0 of each second disk that comes, once it is used, and when it is gone.
watch_second() {
	local n=0
	until stopped cycles; do
		within 2 second || continue
		n=$((n + 1))
		if within 20 fresh; then xenstore-write data/lab-at used-$n; else say "disk $n: $(fresh 2>&1)"; fi
		within 60 no_second && xenstore-write data/lab-at gone-$n
		[ $((n % 20)) != 0 ] || say "$n disks have come and gone after $(cut -d' ' -f1 /proc/uptime) s"
	done
}

# reload N: the driver goes and comes again; the data is still right, and sometimes new data is, too.
reload() {
	away || { echo "it does not go away" && return 1; }
	back_again
	disk 1 || { echo "no disk 1" && return 1; }
	disk 0 || { echo "no disk 0" && return 1; }
	same_data $(($1 - 1)) || { echo "other data" && return 1; }
	[ $(($1 % 5)) != 0 ] || verify $DISK 64k 1m || return 1
	mark $1
}
mark() { pattern $1 262144 | dd of=$DISK bs=64k seek=64 conv=fsync 2> /dev/null; }
same_data() { [ "$(pattern $1 262144 | md5sum)" = "$(dd if=$DISK bs=64k skip=64 count=4 2> /dev/null | md5sum)" ]; }

reloads() {
	local n
	disk 0
	mark 0
	for n in $(seq 1 20); do reload $n || { echo "reload $n" && return 1; }; done
}

# resets: each while commands are under way.
resets() {
	local n
	for n in $(seq 1 10); do
		within 20 busy || { echo "nothing is under way before reset $n" && return 1; }
		sg_reset -d $SG || { echo "reset $n" && return 1; }
		sleep 1
	done
}
busy() { grep -q '[1-9]' "/sys/block/${DISK#/dev/}/inflight"; }
is_reset() { [ -e /tmp/reset ]; }

check file-there disk 1
check file-verifies verify $DISK 64k 2m
check scsi_debug-there disk 0
check scsi_debug-verifies verify $DISK 64k 2m
# The thread of a reset leaves its stack and its heap to the next one.
sg_reset -d $SG
within 20 sg_turs $SG
meet connected

verifies verifies-during-cycles stopped cycles &
watch_second
wait
# Linux says this before it does so, and complains below if it fails.
check hundred-caches-are-saved [ "$(dmesg | grep -c 'Synchronizing SCSI cache')" -ge 100 ]
meet cycled

check twenty-reloads reloads
meet reloaded

disk 0
verifies verifies-during-resets is_reset &
check ten-resets resets
: > /tmp/reset
wait
meet reset

verifies verifies-while-another-guest-is-killed stopped neighbour
meet alone
same guest-kernel-has-no-complaint "" "$(complaints)"
