# A guest is destroyed in each state of the handshake. These guests never run, and we write in their name. What a frontend has
# to get from the hypervisor they have from birth: the page of their console, which is granted to us as reference 0 and empty, is
# the ring, and the port of their console, which is free again when xenconsoled has gone, is the event channel.

cat > /tmp/guests/newborn <<-CFG
	name="newborn"
	type="pv"
	kernel="/lab/vmlinuz"
	memory=128
	vcpus=1
CFG

# newborn: such a guest, with two disks that are complete but for the last word, and its server; sets D.
newborn() {
	consoled_up
	xl create -q -p /tmp/guests/newborn || { say "guest newborn cannot be made" && return 1; }
	consoled_down
	D=$(xl domid newborn)
	two_disks
	serve $D
	within 20 grep -q "serving domain" /var/log/pvscsi-$D.log
}

# frontend STATE: the guest says this.
frontend() { xenstore-write "$(front $D 0)/state" $1; }
backend_is() { state_is "$(back $D 0)" $1; }
# connect STATE: our end is in 2, the guest says 3, and our end comes to STATE.
connect() {
	within 20 backend_is 2
	xenstore-write "$(front $D 0)/ring-ref" 0 "$(front $D 0)/event-channel" "$(xenstore-read "/local/domain/$D/console/port")"
	frontend 3
	within 20 backend_is $1
}

# destroyed_in NAME STATE: our end is in STATE; the guest is destroyed. Its server ends well and leaves nothing.
destroyed_in() {
	local reached=$2
	within 20 backend_is $2 || reached="not $2"
	xl destroy newborn
	# Where it was stopped, it finds out only now.
	kill -CONT $SERVER
	ended $SERVER 20
	check destroyed-in-$1 nothing_left $2 "$reached"
}
# nothing_left STATE REACHED
nothing_left() {
	echo "state: $2, server: $STATUS, ports: $(ports), before: $ports_idle"
	[ "$1" = "$2" ] && [ "$STATUS" = 0 ] && within 10 only_dom0 && within 10 same_ports &&
		! xenstore-exists "/local/domain/0/backend/vscsi/$D"
}
same_ports() { [ "$(ports)" = "$ports_idle" ]; }

consoled_down() {
	local pid
	pid=$(cat /run/xenconsoled.pid)
	kill "$pid"
	within 10 has_ended "$pid"
}

consoled_down
ports_idle=$(ports)

newborn && kill -STOP $SERVER
vgo $D 0
destroyed_in 1 1

newborn && vgo $D 0
destroyed_in 2 2

newborn && vgo $D 0
within 20 backend_is 2
kill -STOP $SERVER
connect 2
destroyed_in frontend-3 2

newborn && vgo $D 0 && connect 4
destroyed_in 4 4

newborn && vgo $D 0 && connect 4
frontend 4
vdev $D 0 2 ram:1M 0:0:2:0
xenstore-write "$(back $D 0)/state" 7
destroyed_in 7 7

newborn && vgo $D 0 && connect 4
frontend 4
vdev $D 0 2 ram:1M 0:0:2:0
xenstore-write "$(back $D 0)/state" 7
frontend 7
destroyed_in 8 8

newborn && vgo $D 0 && connect 4
frontend 5
destroyed_in 5 5

newborn && vgo $D 0 && connect 4
frontend 5
within 20 backend_is 5
frontend 6
destroyed_in 6 6

consoled_up
