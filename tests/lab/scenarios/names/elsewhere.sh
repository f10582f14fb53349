# The guest is saved; the host that it comes to has two of its disks at other addresses. Then it migrates.
read -r a b _ c < /mnt/addresses
was() { [ "$1" != "$2" ]; }
check renumbered-by-the-boot-a was $a "$(where a)"
check renumbered-by-the-boot-b was $b "$(where b)"
check renumbered-by-the-boot-c was $c "$(where c)"

rounds() { xenstore-read "/local/domain/$D/data/lab-$1" 2> /dev/null || echo 0; }
more_than() { [ "$(rounds $1)" -gt "$2" ]; }
check disk-a-verified within 120 more_than a 0
check disk-b-verified within 60 more_than b 0

# swap_disks FIRST SECOND PLACE: the disks a and b change their addresses, while nobody uses them.
swap_disks() {
	local a=$(where a) b=$(where b)
	unloop a
	unloop b
	udevadm settle
	loops $1 $2
	same renumbered-$3 "$b $a" "$(where a) $(where b)"
}
# leaves: the guest is about to go; what it has done until now.
leaves() { rounds_a=$(rounds a) rounds_b=$(rounds b); }
# arrives HOW: the guest has come, paused; its devices follow it, or the configuration brings them.
arrives() {
	D=$(xl domid g)
	check attached-after-$1 xen-pvscsi attach --config /tmp/guests/g g
	xl unpause g
	same addresses-after-$1 "$(where a) $(where b) $(where a) $(where c) " "$(addresses)"
	check disk-a-goes-on-after-$1 within 100 more_than a $((rounds_a + 1))
	check disk-b-goes-on-after-$1 within 100 more_than b $((rounds_b + 1))
}

leaves
check save xl save g /srv/g
check save-ends-the-domain within 10 only_dom0
swap_disks b a elsewhere
check restore xl restore -p /srv/g
arrives restore

# To this host again, through what stands for ssh.
printf '#!/bin/sh\nshift\nexec "$@"\n' > /tmp/no-ssh
chmod +x /tmp/no-ssh
# The log of its console goes on under the name that it has until all of it has come.
listen g--incoming
before=$D
leaves
check migrate xl migrate -p -s /tmp/no-ssh g localhost
same migrated "$((before + 1))" "$(xl domid g)"
arrives migration
go $D arrived
check guest-powers-off guest_gone g 120
told g
told g--incoming
