# Every device gets all commands of sg3_utils from dom0, then from a guest that has it with feature-host; both must get the same bytes.
check scsiback-not-loaded no_scsiback
PATH=/tmp:$PATH HERE=/mnt/scenario
export CUT_RESIDUALS=yes
. $HERE/send.sh
modprobe -a virtio_scsi sr_mod st
# Of the first type that is asked for, as a tape's memory is had at the load; with thin provisioning, which takes more commands.
scsi_debug_load ptype=$(awk '$2 == "scsi_debug" { print $3; exit }' $HERE/devices) dev_size_mb=8 delay=0 lbpu=1 lbpws=1 lbpws10=1
DEBUG=/sys/bus/pseudo/drivers/scsi_debug

# address DRIVER TYPE: of the newest device of this type behind this driver.
address() { behind $1 $2 | tail -n 1 | grep .; }
# becomes DRIVER TYPE: scsi_debug shows all of its devices as one type.
becomes() { [ $1 != scsi_debug ] || echo $2 > $DEBUG/ptype; }

# here NAME NODE LIST...: dom0's record. The first time brings the device into the state that the list leaves behind.
here() {
	local name=$1 node=$2
	shift 2
	record $node /tmp/first-$name "$@"
	record $node /tmp/dom0-$name "$@"
	told_by_programs $node /tmp/dom0-$name-told
	say "$name: dom0 is done after $(cut -d' ' -f1 /proc/uptime) s"
}
others=
while read -r name driver type list; do
	becomes $driver $type
	[ $driver != scsi_debug ] || within 0 address $driver $type || echo 1 > $DEBUG/add_host
	check dom0-has-$name within 60 address $driver $type
	hctl=$(address $driver $type)
	within 10 ls /sys/bus/scsi/devices/$hctl/scsi_generic
	node=/dev/$(ls /sys/bus/scsi/devices/$hctl/scsi_generic)
	echo $name $driver $type $hctl >> /tmp/devices
	if [ $driver = scsi_debug ]; then here $name $node $list commands; else here $name $node $list commands & others="$others $!"; fi
done < <(lines devices)
wait $others

mkdir -p $OVERLAY/passthrough
cp $HERE/{send.sh,send.pl,*commands,programs,devices} $OVERLAY/passthrough/
while read -r name _; do cp /tmp/dom0-$name /tmp/dom0-$name-told $OVERLAY/passthrough/; done < /tmp/devices
guest g
serve $D
within 10 grep -q serving /var/log/pvscsi-$D.log
xl unpause g
# Not before: Linux 7.3 can lose a device that is there when its driver is loaded (docs/guests.md).
check guest-is-up meets $D up 250
target=0
while read -r name driver type hctl; do
	becomes $driver $type
	check $name-attached xen-pvscsi attach g $hctl 0:0:$target:0,feature-host
	check $name-done meets $D $name 250
	target=$((target + 1))
done < /tmp/devices
check guest-powers-off guest_gone g 60
ended $SERVER 60
same server-exits-0 0 "$STATUS"
told g
