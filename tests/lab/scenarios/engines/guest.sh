# Sends to each device what dom0 has sent, by each engine, and compares what comes.
HERE=/lab/engines
. $HERE/send.sh

xenstore-write data/lab-at up
lines devices > /tmp/devices
for engine in $ENGINES; do
	target=0
	while read -r name _; do
		within 100 there $target
		SG=/dev/$(ls /sys/bus/scsi/devices/*:0:$target:0/scsi_generic)
		[ $target = 0 ] && first=$SG
		record $SG /tmp/guest-$name commands
		same $engine-$name-all-compared "$(lines commands | wc -l)" "$(grep -c ' info ' /tmp/guest-$name)"
		equal $name $engine-$name-same-bytes
		target=$((target + 1))
		xenstore-write data/lab-at $engine-$name
	done < /tmp/devices
	within 200 stopped $engine-compared
	if [ $engine = bsg-uring ]; then
		sg_raw --timeout=100 -r 512 $first 28 00 00 00 00 00 00 00 01 00 > /tmp/raw 2>&1 &
		sleep 2
		meet $engine-hangs
		wait $!
	fi
	none_there() { ! there 0 && ! there 1; }
	within 60 none_there
	meet $engine-left
done
