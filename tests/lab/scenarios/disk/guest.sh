# Everything that a guest does with disks; the names of the checks begin with the disk's.

# commands KIND BLOCKS: what SCSI tools say of the disk.
commands() {
	check $1-inquiry sg_inq $SG
	check $1-ready sg_turs $SG
	check $1-vpd-83 sg_vpd -p 0x83 $SG
	check $1-vpd-b0 sg_vpd -p 0xb0 $SG
	check $1-modes sg_modes -a $SG
	same $1-capacity-10 "$(printf '0x%x 0x200' $2)" "$(sg_readcap -b $SG 2>&1)"
	same $1-capacity-16 "$(printf '0x%x 0x200' $2)" "$(sg_readcap -b -l $SG 2>&1)"
	# Not of the kernel's backend: dom0 dies in spc_emulate_report_luns (Linux 6.1.176, three runs of three).
	[ "${lab_only:-}" = scsi_debug ] || same $1-luns 1 "$(sg_luns $SG 2> /dev/null | grep -c '^ *0\{16\}$')"
	# A vendor's operation code that nobody implements.
	sg_raw $SG c1 00 00 00 00 00 > /tmp/raw 2>&1
	if grep -qi "illegal request" /tmp/raw && grep -qi "invalid command operation code" /tmp/raw; then
		pass $1-unknown-opcode
	else
		fail $1-unknown-opcode "$(cat /tmp/raw)"
	fi
}

# data KIND: random writes of all the sizes that take another way through ring and backend, each verified. 4608 and 66048 are
# odd numbers of sectors, and their buffers do not begin at a page; 104k is the most that fits without an indirect table.
data() {
	check $1-verify-4k verify $DISK 4k 2m
	check $1-verify-4608 verify $DISK 4608 1179648 --mem_align=512
	check $1-verify-64k verify $DISK 64k 4m
	check $1-verify-66048 verify $DISK 66048 4227072 --mem_align=512
	check $1-verify-104k verify $DISK 104k 4160k
	check $1-verify-256k verify $DISK 256k 8m
	check $1-verify-508k verify $DISK 508k 8128k
}

# sg_copy KIND: through the sg driver with odd counts, by one thread and by several.
sg_copy() {
	pattern $1-sg 512512 > /tmp/out
	for tool in sg_dd sgp_dd; do
		dd if=/dev/zero of=$DISK bs=64k count=17 conv=fsync 2> /dev/null
		$tool if=/tmp/out of=$SG bs=512 bpt=7 count=1001 seek=13 > /tmp/said 2>&1
		$tool if=$SG of=/tmp/in bs=512 bpt=255 count=1001 skip=13 >> /tmp/said 2>&1
		if cmp /tmp/out /tmp/in >> /tmp/said 2>&1; then pass $1-$tool; else fail $1-$tool "$(cat /tmp/said)"; fi
		rm -f /tmp/in
	done
}

# filesystem KIND: makes one, fills it, finds the same again after a second mount, and checks it.
filesystem() {
	# By its path: busybox's shell prefers its own applet.
	check $1-mkfs /sbin/mke2fs -q -F -t ext4 $DISK
	mount -t ext4 $DISK /mnt && cp /usr/bin/fio /usr/bin/busybox /mnt/ && sync
	umount /mnt
	mount -t ext4 $DISK /mnt
	check $1-files-1 cmp /usr/bin/fio /mnt/fio
	check $1-files-2 cmp /usr/bin/busybox /mnt/busybox
	umount /mnt
	check $1-fsck e2fsck -fn $DISK
}

# mark KIND N, marked KIND N: data that must be there after the driver was away; at 2 MiB.
mark() { pattern $1-$2 1000448 | dd of=$DISK bs=512 seek=4096 conv=fsync 2> /dev/null; }
marked() {
	same $1-data-after-reload-$2 "$(pattern $1-$2 1000448 | md5sum)" \
		"$(dd if=$DISK bs=512 skip=4096 count=1954 2> /dev/null | md5sum)"
}

# away: xenbus holds the driver as long as a device is bound to it, so the device goes first.
away() {
	local device
	for device in /sys/bus/xen/drivers/vscsi/vscsi-*; do echo "${device##*/}" > /sys/bus/xen/drivers/vscsi/unbind; done
	[ -z "$(ls /sys/bus/scsi/devices)" ] && rmmod xen-scsifront && [ ! -e /sys/module/xen_scsifront ]
}

# reload N: takes the frontend away and loads it again; all disks must come back with their data.
reload() {
	disk 0 && mark scsi_debug $1
	disk 1 && mark file $1
	check reload-$1-away away
	insmod /lib/modules/xen-scsifront.ko
	check reload-$1-memory-back disk 2
	check reload-$1-scsi_debug-back disk 0 && marked scsi_debug $1
	check reload-$1-file-back disk 1 && marked file $1
}

check scsi_debug-there disk 0
commands scsi_debug 131072
same scsi_debug-inquiry-unaltered $INQUIRY "$(sg_inq -r $SG | md5sum | cut -d' ' -f1)"
same scsi_debug-vpd-83-unaltered $VPD83 "$(sg_vpd -r -p 0x83 $SG | md5sum | cut -d' ' -f1)"
same scsi_debug-vpd-b0-unaltered $VPDB0 "$(sg_vpd -r -p 0xb0 $SG | md5sum | cut -d' ' -f1)"
data scsi_debug
# Through the guest's error handling, our RESET and the host's sg driver to the device; it works afterwards.
if [ "${lab_only:-}" != scsi_debug ]; then
	check scsi_debug-reset sg_reset -d $SG
	check scsi_debug-ready-after-reset within 5 sg_turs $SG
fi
sg_copy scsi_debug
filesystem scsi_debug
if [ "${lab_only:-}" != scsi_debug ]; then
	check file-there disk 1
	commands file 196608
	data file
	sg_copy file
	filesystem file
	check memory-there disk 2
	same memory-capacity-10 "0x10000 0x200" "$(sg_readcap -b $SG 2>&1)"
	check memory-verify-64k verify $DISK 64k 4m
	disk 0
	meet counting
	dd if=/dev/zero of=$DISK bs=508k count=16 oflag=direct 2> /dev/null
	meet counted
	meet connected
	reload 1
	meet reloaded-1
	reload 2
	meet reloaded-2
fi
same guest-kernel-has-no-complaint "" "$(complaints)"
