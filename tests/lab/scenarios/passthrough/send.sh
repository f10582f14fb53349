# send.sh: what dom0 and the guest do alike with a device's sg node. Under bash and busybox sh; HERE is where this file and its lists are.

# lines FILES: lists without their comments.
lines() { (cd $HERE && cat "$@" | grep -v '^#'); }

# record NODE RECORD LISTS: what the device answers to each command of the lists.
record() {
	local node=$1 record=$2
	shift 2
	(cd $HERE && perl send.pl "$node" "$@" > "$record")
}

# told_by_programs NODE RECORD: what the programs print of the device.
told_by_programs() {
	(
		mkdir -p "$2.d" && cd "$2.d" || exit
		lines programs | sed "s#@#$1#" > list
		while read -r program; do
			echo "== $program"
			$program 2>&1 < /dev/null
		done < list | sed "s#$1#NODE#g; s#${1##*/}#NODE#g" > "$2"
	)
}

# The guest alone:
# equal RECORD CHECK: a check that the guest's record is dom0's; the first lines that differ are told.
equal() {
	if cmp "$HERE/dom0-$1" "/tmp/guest-$1" > /dev/null 2>&1; then pass "$2"; else
		diff "$HERE/dom0-$1" "/tmp/guest-$1" | grep '^[-+][^-+]' > /tmp/diff
		head -n 20 /tmp/diff | cut -c1-400 | while read -r line; do say "$line"; done
		fail "$2" "$(grep -c '^-' /tmp/diff) lines differ, first $(head -n 2 /tmp/diff | cut -c1-250)"
	fi
}
# there TARGET: whether the device has come.
there() { ls -d /sys/bus/scsi/devices/*:0:$1:0/scsi_generic/sg*; }
