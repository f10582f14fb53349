# A tape library goes to a guest, which works with its changer and its drive as their users do; what the changer says there is what
# it says here, and what the guest leaves on the tape is on it.
check scsiback-not-loaded no_scsiback
PATH=/tmp:$PATH
. /mnt/scenario/model.sh
check model-is-up model_up
say "the changer is $CHANGER, $SG; the tape drive $TAPE"
same dom0-has-changer 8 "$(cat /sys/bus/scsi/devices/$CHANGER/type)"
check dom0-has-its-driver within 20 test -c /dev/sch0
# mtx says by which name it was told of a device: one for both sides.
ln -s $SG /tmp/changer

# says COMMAND...: keeps for the guest what the command says here, and how it ends.
says() { { "$@" && echo "exit 0" || echo "exit $?"; } > "$OVERLAY/$(echo "$*" | tr ' /' --)" 2>&1; }
for command in inquiry status 'load 4 1' 'transfer 1 2' 'transfer 2 9'; do says mtx -f /tmp/changer $command; done
says sg_raw /tmp/changer a5 00 00 00 04 03 01 00 00 00 00 00
says sg_raw /tmp/changer a5 00 00 00 04 00 04 01 00 00 00 00
says sg_raw /tmp/changer a5 00 00 00 04 00 02 00 00 00 00 00
says sg_raw -r 255 /tmp/changer 1a 08 1d 00 ff 00
says sg_raw -r 255 /tmp/changer 1a 08 1f 00 ff 00
says sg_vpd --page=0x83 /tmp/changer
check dom0-status-is-the-models grep "Storage Element 1:Full :VolumeTag=LAB001L5" $OVERLAY/mtx--f--tmp-changer-status
check dom0-move-is-refused grep "Source Element Address 1027 is Empty" $OVERLAY/mtx--f--tmp-changer-load-4-1

. /mnt/scenario/guest-archives.sh
# Where a tape is the driver knows when it has rewound it.
mt rewind && mt status > /tmp/status 2>&1
check tape-dom0-has-it grep "SCSI 2 tape drive" /tmp/status
check tape-dom0-finds-its-beginning grep BOT /tmp/status

guest g
serve $D
within 10 grep -q serving /var/log/pvscsi-$D.log
check changer-attached xen-pvscsi attach g $SG 0:0:0:0
check tape-attached xen-pvscsi attach g $TAPE 0:0:1:0
xl unpause g
check guest-leaves meets $D left 500
same dom0-finds-what-the-guest-left "$(xenstore-read /local/domain/$D/data/status)" "$(mtx -f /tmp/changer status | md5sum | cut -d' ' -f1)"
check dom0-finds-it-in-the-drive grep "moved LAB003L5 1026 257" /var/log/pvscsi-changer-model.log
sums=$(xenstore-read /local/domain/$D/data/sums)
go $D left
check guest-powers-off guest_gone g 200
ended $SERVER 20
same server-exits-0 0 "$STATUS"
same log-has-no-complaint "" "$(grep -E 'WARN|ERROR' /var/log/pvscsi-$D.log)"
check dom0-works-it-again mtx -f /tmp/changer unload 3 1
extracts tape-dom0-extracts "$sums"
check model-is-down model_down
told g
