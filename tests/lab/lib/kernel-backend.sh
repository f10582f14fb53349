# kernel-backend.sh: the kernel's own backend, xen-scsiback over LIO, as the thing to compare with.

TARGET=/sys/kernel/config/target
NAA=naa.6001405a1b2c3d4e

# lio_up DISK HCTL: exports the disk through LIO's pass-through as $NAA:0.
lio_up() {
	local store=$TARGET/core/pscsi_0/lab h c t l
	modprobe -a target_core_mod target_core_pscsi xen-scsiback
	IFS=: read -r h c t l <<< "$2"
	mkdir -p $store $TARGET/xen-pvscsi
	echo "scsi_host_id=$h,scsi_channel_id=$c,scsi_target_id=$t,scsi_lun_id=$l" > $store/control
	# The block device, not /dev/sgN: LIO opens it for a disk.
	echo "$1" > $store/udev_path
	echo 1 > $store/enable
	mkdir -p $TARGET/xen-pvscsi/$NAA/tpgt_1/lun/lun_0
	ln -s $store $TARGET/xen-pvscsi/$NAA/tpgt_1/lun/lun_0/lab
	echo $NAA > $TARGET/xen-pvscsi/$NAA/tpgt_1/nexus
}

# lio_down: takes all of it away again, the module too.
lio_down() {
	local tpg=$TARGET/xen-pvscsi/$NAA/tpgt_1
	# The backend lets its guest go a little after the toolstack.
	within 20 no_nexus $tpg
	rm $tpg/lun/lun_0/lab
	rmdir $tpg/lun/lun_0 $tpg $TARGET/xen-pvscsi/$NAA $TARGET/xen-pvscsi
	rmdir $TARGET/core/pscsi_0/lab $TARGET/core/pscsi_0
	modprobe -r xen-scsiback
}

no_nexus() { echo NULL > $1/nexus; }
no_scsiback() { [ ! -d /sys/module/xen_scsiback ]; }
