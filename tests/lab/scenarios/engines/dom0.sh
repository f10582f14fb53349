# Each device gets all commands of sg3_utils from dom0, then from a guest by each engine in turn: always the same bytes. At last the disk
# keeps a command of bsg-uring, and the server does not wait for it.
check scsiback-not-loaded no_scsiback
PATH=/tmp:$PATH HERE=$OVERLAY/engines ENGINES='bsg-uring sg-uring sg-epoll'
export CUT_RESIDUALS=yes
mkdir -p $HERE
cp /mnt/scenario/{send.sh,send.pl,devices} $HERE/
# Without a tape's commands, and those that have the same numbers: scsi_debug of Linux 7.3 dies of them where it is no tape.
grep -Ev ' (none|in|out) [0-9]+ (01|04|10|11|19|2b|34|91|92) ' /mnt/scenario/commands > $HERE/commands
. $HERE/send.sh
scsi_debug_load ptype=0 dev_size_mb=8 delay=0 lbpu=1 lbpws=1 lbpws10=1
DEBUG=/sys/bus/pseudo/drivers/scsi_debug

# As all of its devices show one type, the first adds the second.
address() { behind $1 $2 | tail -n 1 | grep .; }
while read -r name driver type; do
	echo $type > $DEBUG/ptype
	within 0 address $driver $type || echo 1 > $DEBUG/add_host
	check dom0-has-$name within 60 address $driver $type
	hctl=$(address $driver $type)
	within 10 ls /sys/bus/scsi/devices/$hctl/scsi_generic
	echo $name $driver $type $hctl >> /tmp/devices
	node=/dev/$(ls /sys/bus/scsi/devices/$hctl/scsi_generic)
	# The first time brings the device into the state that the list leaves behind.
	record $node /tmp/first-$name commands
	record $node /tmp/dom0-$name commands
done < <(lines devices)
say "dom0 is done after $(cut -d' ' -f1 /proc/uptime) s"

cp /tmp/dom0-* $HERE/
echo "ENGINES='$ENGINES'" > $OVERLAY/facts
guest g

# served ENGINE: starts a server.
served() {
	xen-pvscsi serve --domid $D --follow 3 --engine $1 > /var/log/pvscsi-$1.log 2>&1 &
	SERVER=$!
	within 10 grep -q serving /var/log/pvscsi-$1.log
}
has_ended() { ! kill -0 $SERVER; }
server_ends() {
	kill $SERVER
	within $2 has_ended
	wait $SERVER
	same $1 0 $?
}

for engine in $ENGINES; do
	check $engine-serves served $engine
	if [ $engine = bsg-uring ]; then
		xl unpause g
		# Not before: Linux 7.3 can lose a device that is there when its driver is loaded (docs/guests.md).
		check guest-is-up meets $D up 250
	fi
	target=0
	while read -r name driver type hctl; do
		echo $type > $DEBUG/ptype
		check $engine-$name-attached xen-pvscsi attach g $hctl 0:0:$target:0,feature-host
		check $engine-$name-done meets $D $engine-$name 250
		target=$((target + 1))
	done < /tmp/devices
	same $engine-is-the-engine 2 "$(grep -c "its engine is $engine" /var/log/pvscsi-$engine.log)"
	echo 0 > $DEBUG/ptype
	# The disk takes a command and does not answer it. That of an sg engine can be taken back (scenario hang); bsg's cannot.
	if [ $engine = bsg-uring ]; then
		check buffers-are-registered grep -q 'KiB of buffers are registered with io_uring' /var/log/pvscsi-$engine.log
		echo 4 > $DEBUG/opts && echo 1 > $DEBUG/every_nth
		go $D $engine-compared
		check $engine-hangs meets $D $engine-hangs 60
	else
		go $D $engine-compared
	fi
	start=$(cut -d. -f1 /proc/uptime)
	check $engine-hung-detached xen-pvscsi detach --force g 0:0:0:0
	check $engine-other-detached xen-pvscsi detach --force g 0:0:1:0
	say "$engine: detached after $(($(cut -d. -f1 /proc/uptime) - start)) s"
	server_ends $engine-server-exits-0 20
	say "$engine: the server ended after $(($(cut -d. -f1 /proc/uptime) - start)) s"
	if [ $engine = bsg-uring ]; then
		echo 0 > $DEBUG/every_nth && echo 0 > $DEBUG/opts
		go $D $engine-hangs
	fi
	check $engine-is-left meets $D $engine-left 60
	go $D $engine-left
done
check guest-powers-off guest_gone g 60
# Nobody has a command of the devices any more: they can go, which would wait for it.
gone() { ! ls -d /sys/bus/scsi/devices/$1; }
while read -r name driver type hctl; do
	echo 1 > /sys/bus/scsi/devices/$hctl/delete &
	check $name-goes within 60 gone $hctl
done < /tmp/devices
told g
