# Leaves something for the next guest to find, then does I/O until it is destroyed.
disk 1
pattern file 1000448 | dd of=$DISK bs=512 seek=65536 conv=fsync 2> /dev/null
file=$DISK
disk 0
pattern scsi_debug 1000448 | dd of=$DISK bs=512 seek=65536 conv=fsync 2> /dev/null
for disk in $DISK $file; do
	fio --name=busy --filename=$disk --rw=randrw --bsrange=4k-508k --size=16m --time_based --runtime=1000 --direct=1 \
		--ioengine=libaio --iodepth=8 --output=/dev/null &
done
sleep 2
same victim-does-io 2 "$(pgrep -x fio | xargs -n1 | sort -n | head -2 | wc -l)"
meet busy
