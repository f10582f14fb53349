# A guest writes nonsense into its nodes, while another guest's disks must go on working.
guest bystander
bystander=$D
vhost $bystander 0
vdev $bystander 0 0 file:/srv/disk.img 0:0:0:0
serve $bystander
server_bystander=$SERVER
vgo $bystander 0
xl unpause bystander
check bystander-works meets $bystander working 120

# It never loads xen-scsifront: we write in its name.
guest hostile lab.without=xen-scsifront
hostile=$D

# Vhost by vhost: the value of ring-ref, of event-channel ("-": the node is missing), and the name of the check. A reference
# that does exist but was never granted is in the middle of the guest's grant table.
LIES='garbage 5 text-as-ring
-1 5 negative-ring
4294967295 5 largest-ring
999999 5 ring-beyond-the-table
40 5 ring-not-granted
- 5 no-ring
40 garbage text-as-port
40 -7 negative-port
40 - no-port
8%208 5 ring-with-a-percent-sign'
vhosts=$(wc -l <<< "$LIES")
for v in $(seq 0 $((vhosts - 1))); do
	vhost $hostile $v
	vdev $hostile $v 0 ram:1M 0:0:0:0
	vgo $hostile $v
done
serve $hostile
server_hostile=$SERVER
xl unpause hostile
v=0
while read -r ring port name; do
	within 20 state_is "$(back $hostile $v)" 2 || say "vhost $v of the hostile guest is not ready"
	[ "$ring" = - ] || xenstore-write -- "$(front $hostile $v)/ring-ref" "$ring"
	[ "$port" = - ] || xenstore-write -- "$(front $hostile $v)/event-channel" "$port"
	xenstore-write "$(front $hostile $v)/state" 3
	awaits $name-closes "$(back $hostile $v)" 56 10
	# The toolstack's tools look for an explanation here.
	error=/local/domain/0/error/backend/vscsi/$hostile/$v/error
	check $name-tells-why within 2 xenstore-read $error
	v=$((v + 1))
done <<< "$LIES"
same hostile-server-still-there alive "$(has_ended $server_hostile 2> /dev/null && echo ended || echo alive)"
xl destroy hostile
ended $server_hostile 10
same hostile-server-exits-0 0 "$STATUS"
forget $hostile

# The other guest never noticed. It then idles, connected, while its server is told to stop.
go $bystander working
check bystander-is-idle meets $bystander idle 60
kill -TERM $server_bystander
ended $server_bystander 5
same sigterm-exits-0 0 "$STATUS"
awaits sigterm-leaves-closed "$(back $bystander 0)" 56 1
told bystander
xl destroy bystander
forget $bystander
