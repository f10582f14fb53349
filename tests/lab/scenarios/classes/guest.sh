# What the guest finds of each kind of device.

# unit TARGET: waits for the device 0:TARGET:0; sets UNIT, its directory, and SG.
unit() {
	within 30 ls -d /sys/bus/scsi/devices/*:0:$1:0/scsi_generic/sg*
	UNIT=$(ls -d /sys/bus/scsi/devices/*:0:$1:0)
	SG=/dev/$(ls $UNIT/scsi_generic)
}
# kind NAME TYPE TARGET
kind() {
	within 100 stopped $1
	unit $3
	same $1-type $2 "$(cat $UNIT/type)"
	same $1-inquiry "$(xenstore-read data/inquiry)" "$(sg_inq -r $SG 2> /dev/null | md5sum | cut -d' ' -f1)"
	says $1-unknown-opcode "invalid command operation code" $SG c1 00 00 00 00 00
	# Data that goes the wrong way, by 8 and by 512 bytes: whatever the device makes of it, it goes on.
	sg_raw -s 8 -i /dev/zero $SG 12 00 00 00 08 00 > /dev/null 2>&1
	sg_raw -r 512 $SG 2a 00 00 00 00 00 00 00 01 00 > /dev/null 2>&1
	check $1-ready-after-wrong-directions within 5 sg_turs $SG
	xenstore-write data/lab-at $1-done
}

meet up
kind disk 0 0
kind tape 1 1
kind optical 5 2
kind changer 8 3
kind enclosure 13 4

within 100 stopped disk-again
unit 0
check disk-is-removable grep -q 1 /sys/block/$(ls $UNIT/block)/removable
check disk-stops sg_start --stop $SG
says stopped-disk-is-not-ready "not ready" $SG 00 00 00 00 00 00
check disk-starts sg_start --start $SG
within 5 sg_turs $SG
meet before-resize
says unit-attention-reaches-the-guest "unit attention" $SG 00 00 00 00 00 00
check ready-after-unit-attention sg_turs $SG

# A program for the device: refused, then allowed, then with no policy at all. This device takes any, and says so.
FIRMWARE="3b 05 00 00 00 00 00 00 04 00"
says firmware-is-refused "invalid command operation code" -s 4 -i /dev/zero $SG $FIRMWARE
meet refused
unit 0
check firmware-is-allowed sg_raw -s 4 -i /dev/zero $SG $FIRMWARE
says firmware-was-loaded "microcode has been changed" $SG 00 00 00 00 00 00
meet allowed
unit 0
check feature-host-passes-firmware sg_raw -s 4 -i /dev/zero $SG $FIRMWARE
says firmware-was-loaded-once-more "microcode has been changed" $SG 00 00 00 00 00 00
