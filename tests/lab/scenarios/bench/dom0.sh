# Four guests in turn on one device: xen-pvscsi, the kernel's xen-scsiback, and both again. For a profile only one guest, with one job.
# Xen trusts the TSC of a machine of today, not that of an emulated one: it would emulate it for the guest, at 34000 instructions an I/O.
TSC_MODE=native
scsi_debug_up dev_size_mb=64 delay=0 max_queue=64 fake_rw=1
echo "QUICK=$QUICK PROFILE='$PROFILE'" > $OVERLAY/facts

# round NAME BACKEND
round() {
	guest $1 lab.script=guest.sh
	vhost $D 0
	if [ $2 = ours ]; then
		no_scsiback || fail bench-$1 "xen-scsiback is loaded beside ours"
		vdev $D 0 0 $HCTL 0:0:0:0
		serve $D ${SERVE:-}
	else
		lio_up $DISK $HCTL
		vdev $D 0 0 $NAA:0 0:0:0:0
	fi
	vgo $D 0
	xl unpause $1
	[ -z "$PROFILE" ] || symbols $D
	# Seldom looked for: a program that starts is as dear as a hundred I/Os.
	STEP=10 guest_gone $1 1000 || fail bench-$1 "the guest did not end"
	if [ $2 = ours ]; then ended $SERVER 20 || fail bench-$1 "the server did not end"; fi
	emit "LAB ROUND $2"
	told $1
	forget $D
	[ $2 = ours ] || lio_down
}

# symbols D: what the addresses in dom0 and in Xen mean, while the guest waits. All programs that may run are there.
symbols() {
	meets $1 ready 1000
	cat /proc/kallsyms > /mnt/logs/symbols.dom0
	cat /proc/xen/xensyms > /mnt/logs/symbols.xen
	cat /proc/[0-9]*/maps > /mnt/logs/maps.dom0
	go $1 ready
}

if [ -n "$PROFILE" ]; then
	install -m 755 /mnt/mark $OVERLAY/
	round a $BACKEND
else
	round a ours
	round b kernel
	round c ours
	round d kernel
fi
