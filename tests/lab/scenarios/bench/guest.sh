# The jobs, each a fixed number of I/Os: a fixed time would take hours where virtual time counts instructions.

# job RW BS DEPTH IOS [OPTIONS...]: says the I/Os per second, and how many microseconds half, 99 and 99.9 % of them took at most.
job() {
	local rw=$1 bs=$2 depth=$3 ios=$4
	shift 4
	[ -z "$QUICK" ] || ios=$((ios / 5))
	# Fields of terse version 3: of reads I/Os per second (8) and completion times (from 18), of writes the same (49, and from 59).
	fio --name=job --filename=$DISK --rw=$rw --bs=$bs --iodepth=$depth --number_ios=$ios --size=60m --io_size=100g --randrepeat=1 \
		--percentile_list=50:99:99.9 --direct=1 --ioengine=libaio --output-format=terse --terse-version=3 "$@" |
		awk -F';' -v job="$rw $bs qd$depth" '
			function us(i) { sub(/.*=/, "", $i); return $i }
			$1 == 3 {
				i = $8 > 0 ? 18 : 59
				printf "LAB LATENCY %s %s %s %s\n", job, us(i), us(i + 1), us(i + 2)
				printf "LAB BENCH %s %d\n", job, $8 + $49
			}'
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

# counted RW BS DEPTH IOS: a job while dom0 counts system calls; says the number of its I/Os only.
counted() {
	local ios=$4
	[ -z "$QUICK" ] || ios=$((ios / 5))
	meet "$1 $2 qd$3"
	job "$@" > /dev/null
	say "COUNTED $1 $2 qd$3 $ios"
	meet "after $1 $2 qd$3"
}

if [ -n "$lab_disk" ]; then
	DISK=/dev/$lab_disk
	# Without it fio would make a file of this name.
	within 20 test -b $DISK || { fail disk "no $DISK" && return; }
else
	disk 0 || fail disk "no disk"
fi
# Wakes everything up; its figure is not used.
job randread 4k 1 1000 > /dev/null
if [ -n "$lab_calls" ]; then
	counted randread 4k 1 5000
	counted randread 4k 10 8000
	return
fi
measure randread 4k 1 5000
measure randwrite 4k 1 5000
measure randread 4k 10 8000
measure randwrite 4k 10 8000
measure read 64k 4 3000
measure read 508k 4 1500
measure write 508k 4 1500
# Dom0 looks what the backend does when there is nothing to do.
[ -n "$PROFILE" ] || meet idle
