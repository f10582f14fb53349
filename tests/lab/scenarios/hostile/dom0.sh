# A guest does to its ring what it likes, through real grants and a real event channel; another one works beside it.
check scsiback-not-loaded no_scsiback
# With a delay, so that commands are under way when their memory is taken back.
scsi_debug_up dev_size_mb=64 ndelay=200000 max_queue=64
mount -t tmpfs tmpfs /srv
truncate -s 64M /srv/disk.img
ports_before=$(ports)

# What a frontend in user space needs, and other guests have no use for.
install -m 755 /mnt/hostile-frontend $OVERLAY/
for module in xen-gntalloc xen-evtchn; do
	plain_module "$(modinfo -F filename $module)" > $OVERLAY/$module.ko
done

guest bystander
bystander=$D
vhost $bystander 0
vdev $bystander 0 0 file:/srv/disk.img 0:0:0:0
serve $bystander
server_bystander=$SERVER
vgo $bystander 0
xl unpause bystander
check bystander-works meets $bystander working 120

guest hostile lab.without=xen-scsifront
hostile=$D
vhost $hostile 0
vdev $hostile 0 0 ram:1M 0:0:1:0
vdev $hostile 0 1 $HCTL 0:0:1:1
serve $hostile
server_hostile=$SERVER
log=/var/log/pvscsi-$hostile.log
vgo $hostile 0
xl unpause hostile

# The guest has let go of its ring at these places. What the server holds then must not depend on what it has been through.
check hostile-guest-is-warm meets $hostile warm 200
sleep 1
held=$(holds $server_hostile) memory=$(resident $server_hostile) began=$(date +%s)
dmesg > /tmp/dmesg.before
say "the server holds $held and $memory KiB, after $(wc -l < "$log") lines"
go $hostile warm
check hostile-guest-is-done meets $hostile done 300
sleep 1
minutes=$(($(($(date +%s) - began)) / 60 + 1))
# But for the mappings: the threads of resets leave stacks and heaps to the next ones.
after=$(holds $server_hostile)
same server-holds-the-same "${held% maps=*}" "${after% maps=*}"
grown=$(($(resident $server_hostile) - memory))
say "the server's memory grew by $grown KiB; its log has $(wc -l < "$log") lines, after $minutes minutes more"
check server-memory-is-flat test $grown -lt 512
# The guest may reset its own device, which the kernel tells, as it tells that this machine is slow.
same dom0-kernel-has-no-complaint "" "$(dmesg | diff /tmp/dmesg.before - | grep '^>' | grep -v 'device reset occurred\|hrtimer: interrupt took')"

# It begins anew, and is destroyed in the middle of it.
go $hostile done
check hostile-guest-is-at-it-again meets $hostile again 60
sleep 3
told hostile
xl destroy hostile
ended $server_hostile 10
same hostile-server-exits-0 0 "$STATUS"
forget $hostile

# The other guest never noticed.
go $bystander working
check bystander-powers-off guest_gone bystander 120
ended $server_bystander 10
same bystander-server-exits-0 0 "$STATUS"
told bystander
forget $bystander
check no-domain-kept-alive within 10 only_dom0
same no-port-left "$ports_before" "$(ports)"
