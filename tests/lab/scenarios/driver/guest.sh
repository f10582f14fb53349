# A guest whose disks are another guest's.
no_disk() { ! ls -d /sys/bus/scsi/devices/*:0:1:0; }

check $lab_part-disk-there disk 0
check $lab_part-verifies verify $DISK 64k 4m
check $lab_part-reset sg_reset -d $SG
if [ $lab_part = again ]; then
	meet first &
	while :; do verify $DISK 64k 4m > /dev/null 2>&1; done
fi
meet first
check user-second-there disk 1
check user-second-verifies verify $DISK 64k 4m
meet second
check user-second-is-gone within 20 no_disk
same user-kernel-has-no-complaint "" "$(complaints)"
