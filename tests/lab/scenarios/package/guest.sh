# Works with the disks that it has from the start; the guest of the hotplug part gets another one, and reboots.
no_disk() { ! ls -d /sys/bus/scsi/devices/*:0:1:0; }

if [ $lab_part = hotplug ] && disk 0 && [ "$(head -c 8 $DISK)" = "it boots" ]; then
	pass hotplug-disk-is-the-same
	check hotplug-verifies-again verify $DISK 64k 4m
	check hotplug-second-lun-is-back disk 0 1
	check hotplug-second-lun-verifies-again verify $DISK 64k 4m
	same hotplug-kernel-has-no-complaint-again "" "$(complaints)"
	meet rebooted
fi
check $lab_part-disk-there disk 0
check $lab_part-verifies verify $DISK 64k 4m
# What takes privileges in dom0, which the units keep: a reset, and a command that only the device can refuse (SET TIMESTAMP).
check $lab_part-reset sg_reset -d $SG
sg_raw $SG a4 0f 00 00 00 00 00 00 00 00 00 00 > /tmp/raw 2>&1
if grep -qi "invalid command operation code" /tmp/raw; then
	pass $lab_part-privileged-command
else
	fail $lab_part-privileged-command "$(cat /tmp/raw)"
fi
meet first
if [ $lab_part = hotplug ]; then
	check hotplug-second-lun-there disk 0 1
	check hotplug-second-lun-verifies verify $DISK 64k 4m
	check hotplug-second-there disk 1
	check hotplug-second-verifies verify $DISK 64k 4m
	meet second
	check hotplug-second-is-gone within 20 no_disk
	disk 0
	printf "it boots" | dd of=$DISK bs=512 conv=sync,fsync 2> /dev/null
fi
same $lab_part-kernel-has-no-complaint "" "$(complaints)"
# From here dom0 reboots it.
[ $lab_part != hotplug ] || meet third
