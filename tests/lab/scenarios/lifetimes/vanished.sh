# A SCSI device goes away under a guest's I/O, as if somebody had pulled it out, and comes back. The other disk of the same vhost goes on.

# reconfigure D V: the toolstack has changed the devices of a connected vhost; both ends look at them, and are in 4 again.
reconfigure() { xenstore-write "$(back $1 $2)/state" 7; }

guest bereft
two_disks
serve $D
vgo $D 0
xl unpause bereft
check bereft-is-busy meets $D busy 120
note_rounds
echo 1 > "/sys/bus/scsi/devices/$HCTL/delete"
check pulled-device-gives-errors meets $D bereft 100
check pulled-device-leaves-the-other within 100 more_than file $((file_rounds + 1))
same pulled-device-leaves-the-server alive "$(has_ended $SERVER 2> /dev/null && echo ended || echo alive)"

xenstore-write "$(dev 0)/state" 5
reconfigure $D 0
awaits pulled-device-is-removed "$(dev 0)" 6 20
awaits pulled-device-removed-connects "$(back $D 0)" 4 20
xenstore-rm "$(dev 0)"
echo "- - -" > "/sys/class/scsi_host/host${HCTL%%:*}/scan"
within 20 test -d "/sys/bus/scsi/devices/$HCTL/block" || say "the SCSI device does not come back"
vdev $D 0 2 $HCTL 0:0:0:0
reconfigure $D 0
awaits returned-device-connects "$(dev 2)" 4 20
awaits returned-device-vhost-connects "$(back $D 0)" 4 20
go $D bereft
check bereft-is-content meets $D content 100
go $D content
check bereft-powers-off guest_gone bereft 120
ended $SERVER 20
same bereft-server-exits-0 0 "$STATUS"
told bereft
