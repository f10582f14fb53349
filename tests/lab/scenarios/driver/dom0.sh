# The devices are in another domain than the toolstack: the guest "storage" has them, and serves the others. Dom0 only writes nodes.
check scsiback-not-loaded no_scsiback
PATH=/tmp:$PATH

# What storage needs, and other guests have no use for.
install -m 755 /mnt/xen-pvscsi $OVERLAY/
mkdir $OVERLAY/modules
for module in xen-gntdev xen-evtchn scsi_debug; do modprobe --show-depends $module; done |
	awk '/^insmod/ && !seen[$2]++ { print ++n, $2 }' | while read -r n file; do
	plain_module "$file" > "$OVERLAY/modules/$(printf %02d "$n")-$(basename "$file" .xz)"
done
guest_config storage
echo "driver_domain=1" >> /tmp/guests/storage
xl create -q -p /tmp/guests/storage
storage=$(xl domid storage)
listen storage
xl unpause storage
check storage-is-up meets $storage up 250

# tree: all that is about vscsi, but for the directory of all guests.
tree() { xenstore-ls -f / | grep vscsi | grep -v '/backend/vscsi = ""'; }
# devices GUEST: what list says of it.
devices() { xen-pvscsi list "$1" | awk 'NR > 1 { print $3, $7, $8, $9 }'; }
has() { [ "$(devices "$1")" = "$2" ]; }
no_nodes() { [ -z "$(tree)" ]; }

guest user lab.part=user
user=$D
xen-pvscsi attach user /dev/sda 0:0:0:0,backend=storage > /tmp/said 2>&1
same attach-without-server-fails 1 "$?"
check attach-without-server-says-where grep "serve --domid $user running in domain $storage" /tmp/said
same attach-without-server-leaves-nothing "" "$(tree)"

go $storage up
check storage-watches meets $storage watching 60
check user-attach xen-pvscsi attach user /dev/sda 0:0:0:0,backend=storage
xl unpause user
check user-works meets $user first 250
check user-second-attach xen-pvscsi attach user ram:8M "0:0:1:0,backend=$storage"
check user-list has user "$storage 0:0:0:0 4 /dev/sda
$storage 0:0:1:0 4 ram:8M"
xen-pvscsi attach user ram:8M 0:0:2:0 > /tmp/said 2>&1
check attach-of-own-says-where grep "vhost 0 is in domain $storage, and the device is to be in domain 0" /tmp/said
go $user first
meets $user second 100
check user-detach xen-pvscsi detach user 0:0:1:0
go $user second
check user-powers-off guest_gone user 250
check user-left-no-nodes within 30 no_nodes
told user

# With its configuration, and killed at work.
guest_config again lab.part=again
echo "vscsi = [ '/dev/sda,0:0:0:0,backend=storage' ]" >> /tmp/guests/again
check again-create xen-pvscsi create /tmp/guests/again
listen again
check again-works meets "$(xl domid again)" first 250
xl destroy again
check again-left-no-nodes within 30 no_nodes
told again

go $storage watching
check storage-powers-off guest_gone storage 250
told storage
check no-domain-kept-alive within 10 only_dom0
