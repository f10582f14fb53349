# The jobs, each a fixed number of I/Os: a fixed time would take hours where virtual time counts instructions.

# job RW BS DEPTH IOS
job() {
	[ -z "$QUICK" ] || set -- "$1" "$2" "$3" $(($4 / 5))
	# Fields of terse version 3: I/Os per second of reads (8) and of writes (49).
	fio --name=job --filename=$DISK --rw=$1 --bs=$2 --iodepth=$3 --number_ios=$4 --size=60m --io_size=100g --randrepeat=1 \
		--direct=1 --ioengine=libaio --output-format=terse --terse-version=3 |
		awk -F';' -v job="$1 $2 qd$3" '{ printf "LAB BENCH %s %d\n", job, $8 + $49 }'
}

disk 0 || fail disk "no disk"
# Wakes everything up; its figure is not used.
job randread 4k 1 1000 > /dev/null
job randread 4k 1 5000
job randwrite 4k 1 5000
job randread 4k 10 8000
job randwrite 4k 10 8000
job read 64k 4 3000
job read 508k 4 1500
job write 508k 4 1500
