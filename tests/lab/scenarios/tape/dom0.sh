# A tape drive, which dom0 asks all sorts of things, and then a guest.
PATH=/tmp:$PATH
modprobe st
scsi_debug_load ptype=1 delay=0
drive=/sys/bus/scsi/devices/$HCTL
drive_there() { ls -d $drive/scsi_tape/nst[0-9] && ls -d $drive/scsi_generic/sg*; }
check dom0-has-a-tape within 10 drive_there
SG=/dev/$(ls $drive/scsi_generic)
TAPE=/dev/$(basename $drive/scsi_tape/nst[0-9])
within 10 test -c $TAPE

answered() {
	case $3 in *$2*) pass dom0-$1 ;; *) fail dom0-$1 "$3" ;; esac
	echo "answer_${1//-/_}='$3'" >> $OVERLAY/facts
}
. /mnt/scenario/guest-commands.sh
ask

guest g
serve $D
within 10 grep -q serving /var/log/pvscsi-$D.log
xl unpause g
# Not before: Linux 7.3 can lose a device that is there when its driver is loaded (docs/guests.md).
check guest-is-up meets $D up 250
check tape-attached xen-pvscsi attach g $TAPE 0:0:0:0
go $D up
check guest-powers-off guest_gone g 400
ended $SERVER 20
same server-exits-0 0 "$STATUS"
told g
