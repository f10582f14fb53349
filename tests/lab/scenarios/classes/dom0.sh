# Devices of all kinds, one after the other, attached to a guest that is at work: each must look as it does here. The driver of the
# devices shows all of its devices as one kind, so each is attached while it is of its own; and by the name that its users know.
PATH=/tmp:$PATH
modprobe -a st sr_mod
scsi_debug_up dev_size_mb=16 delay=0 max_queue=64 removable=1
DEBUG=/sys/bus/pseudo/drivers/scsi_debug

guest g
serve $D
within 10 grep -q serving /var/log/pvscsi-$D.log
xl unpause g
check guest-is-up meets $D up 250

# kind NAME TYPE TARGET NODE: adds a device, gives it to the guest by this node of it in sysfs ("": by its address), and lets the
# guest look at it.
kind() {
	local host hctl sg node
	echo $2 > $DEBUG/ptype
	[ $3 = 0 ] || echo 1 > $DEBUG/add_host
	for host in $DEBUG/adapter$3/host*; do hctl=$(basename "$host" | tr -d hosts):0:0:0; done
	within 10 sysfs_has 'scsi_generic/sg*'
	sg=/dev/$(ls /sys/bus/scsi/devices/$hctl/scsi_generic)
	node=$hctl
	[ -z "$4" ] || { within 10 sysfs_has "$4" && node=/dev/$(basename /sys/bus/scsi/devices/$hctl/$4); }
	check $1-attached xen-pvscsi attach g "$node" 0:0:$3:0
	say "$1 is $node"
	xenstore-write /local/domain/$D/data/inquiry "$(sg_inq -r $sg 2> /dev/null | md5sum | cut -d' ' -f1)"
	go $D $1
	check $1-looked-at meets $D $1-done 100
}
sysfs_has() { ls -d /sys/bus/scsi/devices/$hctl/$1; }
go $D up
kind disk 0 0 'block/sd*'
kind tape 1 1 'scsi_tape/nst[0-9]'
kind optical 5 2 'block/sr*'
# Linux's driver wants more of a changer than this one has.
kind changer 8 3 'scsi_generic/sg*'
kind enclosure 13 4 ''
go $D disk-again

# All that know the disk are to hear of it; the first command that comes is told.
echo 0 > $DEBUG/ptype
meets $D before-resize 100
echo 1 > $DEBUG/virtual_gb
go $D before-resize

meets $D refused 100
check policy-logs grep "WRITE BUFFER (3Bh) is refused; allow=firmware would let it pass" /var/log/pvscsi-$D.log
check disk-goes xen-pvscsi detach g 0:0:0:0
check disk-comes-with-allow xen-pvscsi attach g $DISK 0:0:0:0,allow=firmware
go $D refused
meets $D allowed 100
check disk-goes-again xen-pvscsi detach g 0:0:0:0
check disk-comes-with-feature-host xen-pvscsi attach g $DISK 1:0:0:0,feature-host
go $D allowed

check guest-powers-off guest_gone g 250
ended $SERVER 20
same server-exits-0 0 "$STATUS"
told g
