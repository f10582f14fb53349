# The guest is saved; the host that it comes to has the same disks at other addresses.
same renumbered-by-the-boot "$(cut -d' ' -f2 /mnt/addresses) $(cut -d' ' -f1 /mnt/addresses)" "$(where a) $(where b)"

rounds() { xenstore-read "/local/domain/$D/data/lab-$1" 2> /dev/null || echo 0; }
more_than() { [ "$(rounds $1)" -gt "$2" ]; }
check both-verified within 120 more_than a 0
check other-verified within 60 more_than b 0

here=$(addresses)
check save xl save g /srv/g
check save-ends-the-domain within 10 only_dom0
unloop a
unloop b
udevadm settle
loops a b
check restore xl restore -p /srv/g
D=$(xl domid g)
check attached-by-configuration xen-pvscsi attach --config /tmp/guests/g g
xl unpause g
same renumbered-elsewhere "$(echo $here | cut -d' ' -f2) $(echo $here | cut -d' ' -f1)" "$(where a) $(where b)"
same elsewhere-addresses "$(where a) $(where b) $(where a) " "$(addresses)"
rounds_a=$(rounds a) rounds_b=$(rounds b)
check disk-a-goes-on within 100 more_than a $((rounds_a + 1))
check disk-b-goes-on within 100 more_than b $((rounds_b + 1))
go $D arrived
check guest-powers-off guest_gone g 120
told g
no_nodes() { ! xenstore-ls /local/domain/0/backend/vscsi | grep -q .; }
check no-nodes-left within 20 no_nodes
kill $WATCH
ended $WATCH 10
same watch-exits-0 0 "$STATUS"
check no-domain-kept-alive within 10 only_dom0
