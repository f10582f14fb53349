# Reads from its first disk or from all four, as often as dom0 says.
STEP=2
NAME=$(xenstore-read name)
four_disks() { [ "$(ls -d /sys/bus/scsi/devices/*:0:0:0/block/* | wc -l)" = 4 ]; }
check $NAME-has-four-disks within 200 four_disks
DISKS=$(for disk in /sys/bus/scsi/devices/*:0:0:0/block/*; do echo "${disk##*/}"; done)

# reads PHASE DEPTH DISK...: I/Os per second of each of these disks, into the phase's node.
reads() {
	local phase=$1 depth=$2 disk jobs=
	shift 2
	for disk in "$@"; do jobs="$jobs --name=$disk --filename=/dev/$disk"; done
	meet $phase
	# Nobody counts before all have begun. Field 8 of terse version 3.
	fio --rw=randread --bs=4k --iodepth=$depth --ioengine=libaio --direct=1 --time_based --ramp_time=1 --runtime=2 --size=4m --randrepeat=1 \
		--output-format=terse --terse-version=3 $jobs > /tmp/fio
	xenstore-write data/lab-$phase "$(cut -d';' -f8 /tmp/fio | tr '\n' ' ')"
	meet $phase-done
}

for phase in $(echo $lab_phases | tr , ' '); do
	case $phase in
		one) reads one 4 $(echo "$DISKS" | head -n 1) ;;
		full) reads full 10 $DISKS ;;
		*) reads $phase 4 $DISKS ;;
	esac
done
same $NAME-has-no-complaint "" "$(complaints)"
