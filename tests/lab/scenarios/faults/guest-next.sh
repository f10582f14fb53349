# Finds what the killed guest left, and the disks in order.
# left KIND
left() {
	same next-finds-data-on-$1 "$(pattern $1 1000448 | md5sum)" "$(dd if=$DISK bs=512 skip=65536 count=1954 2> /dev/null | md5sum)"
	check next-verifies-on-$1 verify $DISK 64k 4m
}
disk 0 && left scsi_debug
disk 1 && left file
