# One guest with three disks of one vhost: a SCSI device passed through, a file, and memory.
scsi_debug_up dev_size_mb=64 delay=0 max_queue=64
mount -t tmpfs tmpfs /srv
truncate -s 96M /srv/disk.img

# What the device itself says to dom0; the guest must hear the same.
said_by() { "$@" 2> /dev/null | md5sum | cut -d' ' -f1; }
cat > $OVERLAY/facts <<-FACTS
	INQUIRY=$(said_by sg_inq -r $DISK)
	VPD83=$(said_by sg_vpd -r -p 0x83 $DISK)
	VPDB0=$(said_by sg_vpd -r -p 0xb0 $DISK)
FACTS

ports_before=$(ports)
if [ "$BACKEND" = kernel ]; then
	guest g lab.only=scsi_debug
	lio_up $DISK $HCTL
	vhost $D 0
	vdev $D 0 0 $NAA:0 0:0:0:0
	vgo $D 0
else
	guest g
	check scsiback-not-loaded no_scsiback
	# As the README has it.
	check attached-by-hand sh /mnt/lib/attach-by-hand.sh g $HCTL 0:0:0:0 file:/srv/disk.img 0:0:1:0 ram:32M 0:0:2:0
	serve $D
fi
xl unpause g

if [ "$BACKEND" = ours ]; then
	# A request of the guest is one command to the device, whatever its size: tapes depend on it.
	requests() { echo $(($(cat /sys/bus/scsi/devices/$HCTL/iorequest_cnt))); }
	meets $D counting 250 && sleep 1
	requests_before=$(requests)
	go $D counting
	meets $D counted 250
	same sixteen-requests-are-sixteen-commands 16 $(($(requests) - requests_before))
	go $D counted
	# The guest stops at these places with all its disks attached and nothing under way.
	for place in connected reloaded-1 reloaded-2; do
		meets $D $place 250 && sleep 1
		held=$(holds $SERVER)
		case $place in
		connected) held_first=$held && say "the server holds $held" ;;
		*) same holds-the-same-after-$place "$held_first" "$held" ;;
		esac
		go $D $place
	done
	check guest-powers-off guest_gone g 120
	ended $SERVER 10
	same server-exits-0 0 "$STATUS"
	check no-domain-kept-alive within 10 only_dom0
	same no-port-left "$ports_before" "$(ports)"
	# The last that the guest wrote to the file disk is in the file.
	same file-has-the-data "$(yes "the lab's pattern file-2" | head -c 1000448 | md5sum)" \
		"$(dd if=/srv/disk.img bs=512 skip=4096 count=1954 status=none | md5sum)"
else
	check guest-powers-off guest_gone g 250
fi
told g
