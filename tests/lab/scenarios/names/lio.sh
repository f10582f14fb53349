# The names that the kernel's backend has invented: as long as it is there, and from what targetcli has saved of it.
export TARGETCLI_HOME=/tmp/targetcli
mkdir -p $TARGETCLI_HOME /run/dbus
# targetcli asks for other programs' backstores.
dbus-daemon --system --fork
mount -t tmpfs tmpfs /etc/rtslib-fb-target
modprobe -a target_core_pscsi xen-scsiback
NAME=naa.5001405a1b2c3d4e
export_c() {
	targetcli /backstores/pscsi create c $DISK &&
		targetcli /xen-pvscsi create $NAME &&
		targetcli /xen-pvscsi/$NAME/tpg1/luns create /backstores/pscsi/c
}
check targetcli-exports export_c
check targetcli-saves targetcli saveconfig

# says PATTERN COMMAND...: the command fails, and says why.
says() {
	local pattern=$1
	shift
	! "$@" > /tmp/said 2>&1 && grep -q "$pattern" /tmp/said || { cat /tmp/said && return 1; }
}
remedy="targetcli /backstores/pscsi delete c"
check held-disk-is-refused says "holds $(where c) as long as it exists: delete it with $remedy" xen-pvscsi check $NAME:0 0:0:0:0
check remedy-is-one $remedy
check targetcli-deletes targetcli /xen-pvscsi delete $NAME
check scsiback-goes sh -c "rmdir $TARGET/xen-pvscsi && modprobe -r xen-scsiback"
check saved-name-is-found xen-pvscsi check $NAME:0 0:0:0:0

guest_config h
echo "vscsi = [ '$NAME:0,0:0:0:0' ]" >> /tmp/guests/h
check saved-name-is-served xen-pvscsi create /tmp/guests/h
listen h
same saved-name-is-disk-c "$(where c)" "$(xen-pvscsi list h | awk 'NR > 1 { print $6 }')"
check saved-guest-powers-off guest_gone h 250
told h
