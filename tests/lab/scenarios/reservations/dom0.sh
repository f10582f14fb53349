# Two guests share a SCSI disk and a disk on a file: reservations keep them apart, though the device takes both for one initiator.
check scsiback-not-loaded no_scsiback
PATH=/tmp:$PATH
scsi_debug_up dev_size_mb=32 delay=0 vpd_use_hostno=0
truncate -s 32M /tmp/shared.img

guest a
A=$D
serve $A
SERVER_A=$SERVER
guest b
B=$D
serve $B
SERVER_B=$SERVER
for d in $A $B; do within 10 grep -q serving /var/log/pvscsi-$d.log; done
for name in a b; do
	check $name-has-the-device xen-pvscsi attach $name $HCTL 0:0:0:0,shared
	check $name-has-the-file xen-pvscsi attach $name file:/tmp/shared.img 0:0:1:0,shared
done
check unshared-is-refused sh -c "! xen-pvscsi attach b $HCTL 0:0:2:0"
xl unpause a
xl unpause b

# together PLACE SECONDS: both guests come there before either goes on.
together() {
	meets $A $1 $2
	meets $B $1 $2
	go $A $1
	go $B $1
}
# One after the other: what the one has done the other finds.
check both-are-up together up 250
together registered 100
for disk in device file; do
	# a writes without end; b preempts it, and then nothing of a's comes any more.
	check $disk-a-writes meets $A $disk-writes 100
	check $disk-b-is-there meets $B $disk-fence 100
	go $A $disk-writes
	go $B $disk-fence
	check $disk-b-has-preempted meets $B $disk-fenced 100
	check $disk-a-has-ended meets $A $disk-stopped 100
	go $B $disk-fenced
	meets $B $disk-looked 100
	go $A $disk-stopped
	go $B $disk-looked
done
together cleared 100
check b-has-reserved meets $B reserved 100
meets $A reserved 100
go $A reserved
check a-was-shut-out meets $A shut-out 100
# b goes without a word.
xl destroy b
ended $SERVER_B 20
same server-of-b-exits-0 0 "$STATUS"
go $A shut-out
check a-powers-off guest_gone a 200
ended $SERVER_A 20
same server-of-a-exits-0 0 "$STATUS"
told a
tr -d '\r' < /var/log/xen/console/guest-b.log | grep '^LAB ' >> /mnt/report
