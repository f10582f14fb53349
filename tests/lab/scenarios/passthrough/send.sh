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
