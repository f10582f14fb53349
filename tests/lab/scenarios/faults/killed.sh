# A guest is destroyed in the middle of its I/O; the next one on the same devices must work.
guest victim
victim=$D
two_disks
serve $victim
vgo $victim 0
xl unpause victim
check victim-is-busy meets $victim busy 120
sleep 3
xl destroy victim
ended $SERVER 10
same server-of-killed-guest-exits-0 0 "$STATUS"
# With a page of it still mapped, the hypervisor keeps a dead domain.
check killed-guest-is-gone within 10 only_dom0
same killed-guest-left-no-port "$ports_before" "$(ports)"
told victim
forget $victim

guest next
two_disks
# A third device that does not exist must not keep the others from working.
vdev $D 0 7 9:9:9:9 0:0:7:0
serve $D
vgo $D 0
xl unpause next
check next-guest-powers-off guest_gone next 120
awaits missing-device-is-closed "$(back $D 0)/vscsi-devs/dev-7" 6 1
check missing-device-is-named grep -q 9:9:9:9 /var/log/pvscsi-$D.log
ended $SERVER 10
same server-of-next-guest-exits-0 0 "$STATUS"
told next
forget $D
