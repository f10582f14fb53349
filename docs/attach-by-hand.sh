#!/bin/sh
# attach-by-hand.sh DOMAIN PDEV VDEV [PDEV VDEV]…: writes the xenstore nodes of a new vhost with these devices, in the layout
# of Xen's io/vscsiif.h. The vhost's number is the first number of the first VDEV (host:channel:target:lun).
# Example: attach-by-hand.sh guest1 /dev/disk/by-id/scsi-35000c500a0b1c2d3 0:0:0:0
set -eu
[ $# -ge 3 ] && [ $(($# % 2)) -eq 1 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
domid=$(xl domid "$1")
shift
vhost=${2%%:*}
back=/local/domain/0/backend/vscsi/$domid/$vhost
front=/local/domain/$domid/device/vscsi/$vhost
if xenstore-exists "$back"; then
    echo "attach-by-hand.sh: domain $domid has a vhost $vhost already" >&2
    exit 1
fi
xenstore-write "$back/frontend" "$front" "$back/frontend-id" "$domid" "$back/online" 1 \
    "$back/feature-host" 0 "$back/libxl_ctrl_index" "$vhost" \
    "$front/backend" "$back" "$front/backend-id" 0
n=0
while [ $# -ge 2 ]; do
    dev=$back/vscsi-devs/dev-$n
    xenstore-write "$dev/p-dev" "$1" "$dev/p-devname" "$1" "$dev/v-dev" "$2" "$dev/state" 1
    n=$((n + 1))
    shift 2
done
xenstore-chmod -r "$back" n0 "r$domid"
xenstore-chmod -r "$front" "n$domid" r0
xenstore-write "$back/state" 1 "$front/state" 1
