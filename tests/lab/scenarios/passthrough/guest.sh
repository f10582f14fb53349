# Sends to each device what dom0 has sent, and compares what comes.
HERE=/lab/passthrough
. $HERE/send.sh

xenstore-write data/lab-at up
target=0
lines devices > /tmp/devices
while read -r name _ _ list; do
	within 100 there $target
	SG=/dev/$(ls /sys/bus/scsi/devices/*:0:$target:0/scsi_generic)
	record $SG /tmp/guest-$name $list commands
	same $name-all-compared "$(lines $list commands | wc -l)" "$(grep -c ' info ' /tmp/guest-$name)"
	equal $name $name-same-bytes
	told_by_programs $SG /tmp/guest-$name-told
	equal $name-told $name-same-texts
	say "$name: the guest is done after $(cut -d' ' -f1 /proc/uptime) s"
	xenstore-write data/lab-at $name
	target=$((target + 1))
done < /tmp/devices
# WRITE (32): the ring has no room for it, so it ends in the guest's kernel, which says DID_ABORT.
sg_raw -s 512 -i /dev/zero /dev/$(ls /sys/bus/scsi/devices/*:0:0:0/scsi_generic) 7f 00 00 00 00 00 00 18 00 0b 00 00 00 00 00 00 00 00 01 4a \
	ff ff ff ff ff ff ff ff 00 00 00 01 > /tmp/raw 2>&1
check long-cdb-stays-in-the-guest grep -i "did_abort" /tmp/raw
same commands-are-hundreds yes "$([ "$(lines commands | wc -l)" -gt 400 ] && echo yes)"
# The kernel tells of commands that QEMU's adapter could not carry, as in dom0.
same guest-has-no-complaint "" "$(complaints | grep -v 'Sense Key : Aborted Command')"
