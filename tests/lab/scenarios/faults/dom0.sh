# Guests that are killed or lie, and an operator who makes mistakes. Each guest has its own server.
check scsiback-not-loaded no_scsiback
scsi_debug_up dev_size_mb=64 delay=0 max_queue=64
mount -t tmpfs tmpfs /srv
truncate -s 64M /srv/disk.img
ports_before=$(ports)

# two_disks: vhost 0 of domain D with the SCSI device and the file.
two_disks() {
	vhost $D 0
	vdev $D 0 0 $HCTL 0:0:0:0
	vdev $D 0 1 file:/srv/disk.img 0:0:1:0
}

. /mnt/scenario/operator.sh
. /mnt/scenario/killed.sh
. /mnt/scenario/hostile.sh

check no-domain-kept-alive within 10 only_dom0
same no-port-left "$ports_before" "$(ports)"
