# The jobs, each a fixed number of I/Os: a fixed time would take hours where virtual time counts instructions.

# job RW BS DEPTH IOS [OPTIONS...]
job() {
	local rw=$1 bs=$2 depth=$3 ios=$4
	shift 4
	[ -z "$QUICK" ] || ios=$((ios / 5))
	# Fields of terse version 3: I/Os per second of reads (8) and of writes (49).
	fio --name=job --filename=$DISK --rw=$rw --bs=$bs --iodepth=$depth --number_ios=$ios --size=60m --io_size=100g --randrepeat=1 \
		--direct=1 --ioengine=libaio --output-format=terse --terse-version=3 "$@" |
		awk -F';' -v job="$rw $bs qd$depth" '$1 == 3 { printf "LAB BENCH %s %d\n", job, $8 + $49 }'
}

# measure RW BS DEPTH IOS: a job, or for a profile only the one that it is about.
measure() {
	if [ -z "$PROFILE" ]; then
		job "$@"
	elif [ "$1 $2 qd$3" = "$PROFILE" ]; then
		meet ready
		say "PROFILE $4"
		# Fio runs these by a shell right before and right after what it measures.
		job "$@" "--exec_prerun=cat /proc/[0-9]*/maps > /maps; /lab/mark" --exec_postrun=/lab/mark
		# To the console's log, as a guest has no other way.
		grep ' r-xp ' /maps
		grep ' [tTwW] .*\[' /proc/kallsyms
	fi
}

disk 0 || fail disk "no disk"
# Wakes everything up; its figure is not used.
job randread 4k 1 1000 > /dev/null
measure randread 4k 1 5000
measure randwrite 4k 1 5000
measure randread 4k 10 8000
measure randwrite 4k 10 8000
measure read 64k 4 3000
measure read 508k 4 1500
measure write 508k 4 1500
