# Devices that do not come to an end, beside one that works, in one vhost. Time counts instructions here, so that what the working
# disk loses can be told from what the machine is busy with besides.
scsi_debug_up dev_size_mb=64 delay=0 max_queue=64
DEBUG=/sys/bus/pseudo/drivers/scsi_debug
modprobe loop
mount -t tmpfs tmpfs /srv
truncate -s 96M /srv/fs.img
mke2fs -q -F -t ext4 /srv/fs.img
mkdir /srv/fs
mount -o loop /srv/fs.img /srv/fs
truncate -s 32M /srv/fs/disk.img

guest g
vhost $D 0
vdev $D 0 0 $HCTL 0:0:0:0
vdev $D 0 1 ram:32M 0:0:1:0
vdev $D 0 2 file:/srv/fs/disk.img 0:0:2:0
serve $D
vgo $D 0
xl unpause g

# The device takes every command and answers none; then it answers again.
check guest-is-ready meets $D ready 250
held_first=$(holds $SERVER)
echo 4 > $DEBUG/opts && echo 1 > $DEBUG/every_nth
go $D ready
meets $D hung 250
echo 0 > $DEBUG/every_nth && echo 0 > $DEBUG/opts
go $D hung

# A file system that stands still.
meets $D before-frost 250
fsfreeze -f /srv/fs
go $D before-frost
meets $D in-frost 250
fsfreeze -u /srv/fs
go $D in-frost

meets $D idle 250
# But for the mappings: the thread of a reset leaves its stack and its heap to the next one.
held=$(holds $SERVER)
same server-holds-the-same "${held_first% maps=*}" "${held% maps=*}"
# Nobody does anything now; microseconds are thousands of instructions.
. /mnt/scenario/measure.sh
go $D idle
check guest-powers-off guest_gone g 250
ended $SERVER 20
same server-exits-0 0 "$STATUS"
told g
