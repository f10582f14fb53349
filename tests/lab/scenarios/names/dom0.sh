# The names of disks outlive a renumbering: when dom0 boots with its SCSI hosts in another order, and when a guest comes to a
# host that numbers them in another way.
PATH=/tmp:$PATH
BOOT=$(cat /mnt/boot 2> /dev/null || echo 1)
# udev makes the names below /dev/disk, and would load the kernel's backend.
mkdir -p /run/modprobe.d
echo "blacklist xen-scsiback" > /run/modprobe.d/xen-pvscsi.conf
/lib/systemd/systemd-udevd --daemon
. /mnt/scenario/loop.sh
case $BOOT in
1) known_disk && loops a b ;;
2) loops a b && known_disk ;;
esac

guest_config g lab.boot=$BOOT
wwn=$(wwid a)
cat >> /tmp/guests/g <<-CFG
	vscsi = [ 'wwn:${wwn#naa.}, 0:0:0:0,shared',	# the first
	          "serial:$serial_b,0:0:1:0",
	          '/dev/disk/by-id/wwn-0x${wwn#naa.},0:0:2:0,ro,shared',	# the first once more
	          '$by_id_c,0:0:3:0' ]
CFG
xen-pvscsi watch > /var/log/pvscsi-watch.log 2>&1 &
WATCH=$!

check boot-$BOOT-created xen-pvscsi create /tmp/guests/g
D=$(xl domid g)
listen g

# addresses: what the guest's disks are here and now.
addresses() { xen-pvscsi list g | awk 'NR > 1 { print $6 }' | tr '\n' ' '; }
same boot-$BOOT-addresses "$(where a) $(where b) $(where a) $(where c) " "$(addresses)"
check boot-$BOOT-looked-at meets $D looked-at 250
go $D looked-at

if [ $BOOT = 1 ]; then
	addresses > /mnt/addresses
	check boot-1-powers-off guest_gone g 120
	told g
	echo 2 > /mnt/boot
	cp /var/log/pvscsi-*.log /mnt/logs/
	sync
	echo b > /proc/sysrq-trigger
	sleep 60
fi
. /mnt/scenario/elsewhere.sh
. /mnt/scenario/lio.sh

no_nodes() { ! xenstore-ls /local/domain/0/backend/vscsi | grep -q .; }
check no-nodes-left within 20 no_nodes
kill $WATCH
ended $WATCH 10
same watch-exits-0 0 "$STATUS"
check no-domain-kept-alive within 10 only_dom0
