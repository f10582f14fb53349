# A disk hangs, then a file: each time another disk of the same vhost shall keep at least 80 % of its speed, and the one that hung
# shall work again.

# speed: I/Os per second of the working disk, from a fixed number of them. Field 8 of terse version 3.
speed() {
	fio --name=speed --filename=$GOOD --rw=randread --bs=4k --iodepth=8 --number_ios=6000 --size=30m --io_size=1g --randrepeat=1 \
		--direct=1 --ioengine=libaio --output-format=terse --terse-version=3 | cut -d';' -f8
}
# keeps NAME BEFORE NOW
keeps() {
	say "$1: $3 I/Os per second, $2 before: $(($3 * 100 / $2)) %"
	if [ $(($3 * 100 / $2)) -ge 80 ]; then pass $1; else fail $1 "$3 of $2 I/Os per second"; fi
}
# under_way DISK: commands that it has and does not answer.
under_way() { awk '{ print $9 }' "/sys/block/${1#/dev/}/stat"; }
has_under_way() { [ "$(under_way $1)" -ge "$2" ]; }

disk 1
GOOD=$DISK
disk 2
FILE=$DISK
disk 0
for disk in $DISK $FILE; do
	echo 5 > /sys/block/${disk#/dev/}/device/timeout
	echo 2 > /sys/block/${disk#/dev/}/device/eh_timeout
done
# All that they ever need is in place before it is counted.
for disk in $DISK $FILE $GOOD; do verify $disk 64k 2m > /dev/null; done
speed > /dev/null
before=$(speed)

meet ready
fio --name=hung --filename=$DISK --rw=randwrite --bs=4k --size=1m --verify=crc32c --verify_fatal=1 --do_verify=1 --iodepth=10 --direct=1 \
	--ioengine=libaio --eta=never --output=/tmp/hung.said &
hung=$!
check disk-hangs within 20 has_under_way $DISK 10
keeps other-disk-keeps-its-speed $before "$(speed)"
# Past the guest's time limit, so that its error handling has been at work.
sleep 7
check disk-hangs-still kill -0 $hung
keeps other-disk-keeps-its-speed-after-aborts $before "$(speed)"
check other-disk-verifies verify $GOOD 16k 2m
meet hung
if wait $hung; then pass disk-that-hung-recovers; else fail disk-that-hung-recovers "$(cat /tmp/hung.said)"; fi
check disk-that-hung-verifies verify $DISK 64k 4m
# What the guest gave up and sent again.
timeouts=$(cat /sys/block/${DISK#/dev/}/device/iotmo_cnt)
if [ $((timeouts)) -ge 10 ]; then pass guest-timed-out; else fail guest-timed-out "$timeouts commands"; fi

# Larger than what the file's blocks are cached in; nothing of it is written before the frost.
meet before-frost
dd if=/dev/zero of=$FILE bs=64k count=16 oflag=direct 2> /tmp/frozen.said &
frozen=$!
check file-hangs within 20 has_under_way $FILE 1
keeps other-disk-keeps-its-speed-in-the-frost $before "$(speed)"
check file-hangs-still has_under_way $FILE 1
meet in-frost
if wait $frozen; then pass file-that-hung-recovers; else fail file-that-hung-recovers "$(cat /tmp/frozen.said)"; fi
check file-that-hung-verifies verify $FILE 64k 4m
check good-disk-verifies verify $GOOD 64k 4m
meet idle
same nothing-went-offline "" "$(dmesg | grep -iE 'offline|i/o error|still in use|illegal rqid')"
