# A guest goes to a file and comes back as another domain, three times, while it verifies both of its disks. Upstream's xl
# does not know vscsi: we write the nodes of the new domain, before it runs.

# moving NAME: both disks have been verified to the end twice more: the first round has begun before, the second after.
moving() {
	check $1-scsi_debug-goes-on within 100 more_than scsi_debug $((scsi_debug_rounds + 1))
	check $1-file-goes-on within 100 more_than file $((file_rounds + 1))
}
note_rounds() { scsi_debug_rounds=$(rounds scsi_debug) file_rounds=$(rounds file); }
both_connected() { state_is "$(dev 0)" 4 && state_is "$(dev 1)" 4; }

# travel N STATE: saves the guest and restores it as a new domain; the nodes of its disks begin with STATE.
travel() {
	note_rounds
	check save-$1 xl save traveller /srv/traveller
	check save-$1-ends-the-domain within 10 only_dom0
	ended $SERVER 20
	same save-$1-ends-the-server 0 "$STATUS"
	check save-$1-leaves-no-port within 10 no_port_left
	check restore-$1 xl restore -p /srv/traveller
	rm /srv/traveller
	D=$(xl domid traveller)
	two_disks $2
	serve $D
	vgo $D 0
	xl unpause traveller
	moving restore-$1
	check restore-$1-connects-the-disks both_connected
}

guest traveller "" 400
two_disks
serve $D
vgo $D 0
xl unpause traveller
check traveller-works within 120 more_than scsi_debug 0
check traveller-works-on-the-file within 60 more_than file 0

# A checkpoint: the guest's suspend is cancelled, and it stays the domain that it was. (Afterwards nobody in dom0 waits for its
# end any more, so this comes before it is restored.)
note_rounds
check checkpoint xl save -c traveller /srv/traveller
rm /srv/traveller
# Linux's frontend takes no commands from its suspend until it sees our 4 anew, which nobody else would write here.
xenstore-write "$(back $D 0)/state" 4
moving checkpoint

travel 1 1
# As a toolstack writes them that copies the old domain's nodes.
travel 2 4
travel 3 1

go $D arrived
check traveller-powers-off guest_gone traveller 120
ended $SERVER 20
same traveller-server-exits-0 0 "$STATUS"
told traveller
