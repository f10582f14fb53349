# Four guests in turn on one device: xen-pvscsi, the kernel's xen-scsiback, and both again.
scsi_debug_up dev_size_mb=64 delay=0 max_queue=64 fake_rw=1
echo "QUICK=$QUICK" > $OVERLAY/facts

# round NAME BACKEND
round() {
	guest $1 lab.script=guest.sh
	vhost $D 0
	if [ $2 = ours ]; then
		no_scsiback || fail bench-$1 "xen-scsiback is loaded beside ours"
		vdev $D 0 0 $HCTL 0:0:0:0
		serve $D
	else
		lio_up $DISK $HCTL
		vdev $D 0 0 $NAA:0 0:0:0:0
	fi
	vgo $D 0
	xl unpause $1
	guest_gone $1 1000 || fail bench-$1 "the guest did not end"
	if [ $2 = ours ]; then ended $SERVER 20 || fail bench-$1 "the server did not end"; fi
	emit "LAB ROUND $2"
	told $1
	forget $D
	[ $2 = ours ] || lio_down
}

round a ours
round b kernel
round c ours
round d kernel
