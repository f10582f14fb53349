# Leaves something for the next guest to find, then does I/O until it is destroyed.
disk 1
pattern file 1000448 | dd of=$DISK bs=512 seek=65536 conv=fsync 2> /dev/null
file=$DISK
disk 0
pattern scsi_debug 1000448 | dd of=$DISK bs=512 seek=65536 conv=fsync 2> /dev/null
for busy in $DISK $file; do
	fio --name=busy --filename=$busy --rw=randrw --bsrange=4k-508k --size=16m --time_based --runtime=1000 --direct=1 \
		--ioengine=libaio --iodepth=8 --eta=never --output=/dev/null &
done

# moves DISK: its sectors read are more than a second ago.
moves() {
	local before
	before=$(awk '{ print $3 }' "/sys/block/${1#/dev/}/stat")
	sleep 1
	[ "$(awk '{ print $3 }' "/sys/block/${1#/dev/}/stat")" -gt "$before" ]
}
check victim-reads-scsi_debug within 20 moves $DISK
check victim-reads-file within 20 moves $file
meet busy
