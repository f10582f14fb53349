# Guests that are saved and restored, that are destroyed at any moment, and that lose a device under their I/O.
check scsiback-not-loaded no_scsiback
scsi_debug_up dev_size_mb=64 delay=0 max_queue=64
mount -t tmpfs tmpfs /srv
truncate -s 64M /srv/disk.img
ports_before=$(ports)
no_port_left() { [ "$(ports)" = "$ports_before" ]; }

# two_disks [STATE]: vhost 0 of domain D with the SCSI device and the file, whose nodes say STATE.
two_disks() {
	vhost $D 0
	vdev $D 0 0 $HCTL 0:0:0:0
	vdev $D 0 1 file:/srv/disk.img 0:0:1:0
	[ -z "${1:-}" ] || xenstore-write "$(dev 0)/state" $1 "$(dev 1)/state" $1
}
dev() { echo "$(back $D 0)/vscsi-devs/dev-$1"; }

# rounds KIND: how many times the guest has verified this disk.
rounds() { xenstore-read "/local/domain/$D/data/lab-$1" 2> /dev/null || echo 0; }
more_than() { [ "$(rounds $1)" -gt $2 ]; }

. /mnt/scenario/saved.sh
. /mnt/scenario/destroyed.sh
. /mnt/scenario/vanished.sh

check no-domain-kept-alive within 10 only_dom0
check no-port-left within 10 no_port_left
