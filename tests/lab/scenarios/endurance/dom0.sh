# A long life in short: a hundred disks come and go, the guest's driver twenty times; ten resets; another guest is killed. All
# the while data is verified, and afterwards nothing is held that was not held at first.
check scsiback-not-loaded no_scsiback
scsi_debug_up dev_size_mb=64 delay=0 max_queue=64
mount -t tmpfs tmpfs /srv
truncate -s 64M /srv/disk.img /srv/doomed.img
ports_before=$(ports)
. /mnt/scenario/ledger.sh

# Room for all that its kernel says. Two processors: with one, Linux 6.1 waits for itself when a command ends during a reset
# (scsifront_cmd_done holds the lock that scsi_dec_host_busy takes).
VCPUS=2 guest g log_buf_len=4M
G=$D
vhost $G 0
vdev $G 0 0 $HCTL 0:0:0:0
vdev $G 0 1 file:/srv/disk.img 0:0:1:0
serve $G
SERVER_G=$SERVER
vgo $G 0
xl unpause g

check guest-connects meets $G connected 200
sleep 1
FIRST=$(ledger)
say "connected: the server holds $FIRST, $(rss) KiB"
go $G connected

. /mnt/scenario/cycles.sh
start=$SECONDS
check hundred-cycles cycles
say "the cycles took $((SECONDS - start)) s; the server has $RSS_10 KiB after 10 and $RSS_100 KiB after 100"
# The pool of buffers is touched as needed: sixteen commands of 64 KiB may still come to new ones. Anything else has one more MiB.
check memory-does-not-grow [ "${RSS_100:-unknown}" -le $((${RSS_10:-0} + 2048)) ]
go $G cycles
audit cycled 200
go $G cycled
audit reloaded 250

# Commands take 20 ms now, so that a reset finds some.
echo 20000000 > /sys/bus/pseudo/drivers/scsi_debug/ndelay
go $G reloaded
audit reset 200
echo 0 > /sys/bus/pseudo/drivers/scsi_debug/delay
go $G reset

. /mnt/scenario/neighbour.sh
audit alone 200
go $G alone
check guest-powers-off guest_gone g 300
ended $SERVER_G 20
same server-exits-0 0 "$STATUS"
told g
forget $G
check no-domain-kept-alive within 10 only_dom0
same no-port-left "$ports_before" "$(ports)"
same dom0-kernel-has-no-complaint "" "$(dmesg | grep -E -e 'WARNING:|blocked for more|[Oo]ut of memory|segfault|I/O error|Sense Key' \
	-e 'gnt|grant.*(fail|bad|in use)' -e 'evtchn.*(fail|bad|storm)')"
