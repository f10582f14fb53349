# Guests in turn on one device, each served by another backend: $ROUNDS names them. Then, if $TRACE is not empty, one more for our backend's
# system calls. For a profile only one guest, with one job.
# Xen trusts the TSC of a machine of today, not that of an emulated one: it would emulate it for the guest, at 34000 instructions an I/O.
TSC_MODE=native
scsi_debug_up dev_size_mb=64 delay=0 max_queue=64 fake_rw=1
echo "QUICK=$QUICK PROFILE='$PROFILE'" > $OVERLAY/facts

# round NAME BACKEND [WORDS]
round() {
	local name=$1 backend=$2
	case $backend in
	blkback) disk_guest $name "$3" ;;
	*) vhost_guest $name $backend "$3" ;;
	esac || { fail bench-$name "the guest cannot be made" && return; }
	xl unpause $name
	if [ -n "$PROFILE" ]; then symbols $D; elif [ -n "$3" ]; then calls; else
		# Seldom looked for: a program that starts is as dear as a hundred I/Os.
		STEP=10 meets $D idle 1000 || fail bench-$name "the guest's jobs did not end"
		emit "LAB ROUND $backend"
		idle $backend
		go $D idle
	fi
	STEP=10 guest_gone $name 1000 || fail bench-$name "the guest did not end"
	case $backend in ours*) ended $SERVER 20 || fail bench-$name "the server did not end" ;; esac
	told $name
	forget $D
	[ $backend != kernel ] || lio_down
}

# vhost_guest NAME BACKEND WORDS: makes a guest with a SCSI disk.
vhost_guest() {
	guest $1 "$3"
	vhost $D 0
	case $2 in
	kernel)
		lio_up $DISK $HCTL
		vdev $D 0 0 $NAA:0 0:0:0:0
		;;
	*)
		no_scsiback || fail bench-$1 "xen-scsiback is loaded beside ours"
		case $2 in *-block) vdev $D 0 0 block:$DISK 0:0:0:0 ;; *) vdev $D 0 0 $HCTL 0:0:0:0 ;; esac
		case $2 in *-no-polling) serve $D --polling 0 ;; *) serve $D ${SERVE:-} ;; esac
		;;
	esac
	vgo $D 0
}

# disk_guest NAME WORDS: makes a guest with a block device of xen-blkback's.
disk_guest() {
	modprobe xen-blkback
	guest_config $1 "lab.disk=xvdb $2"
	echo "disk=['format=raw,vdev=xvdb,access=rw,backendtype=phy,target=$DISK']" >> /tmp/guests/$1
	xl create -q -p /tmp/guests/$1 || return 1
	D=$(xl domid $1)
	listen $1
}

# symbols D: what the addresses in dom0 and in Xen mean, while the guest waits. All programs that may run are there.
symbols() {
	meets $1 ready 1000
	cat /proc/kallsyms > /mnt/logs/symbols.dom0
	cat /proc/xen/xensyms > /mnt/logs/symbols.xen
	cat /proc/[0-9]*/maps > /mnt/logs/maps.dom0
	go $1 ready
}

# threads BACKEND: those that serve guest D and nobody else, as directories of /proc. The kernel's workers serve everybody, and are not among them.
threads() {
	case $1 in
	ours*) echo /proc/$SERVER/task/* ;;
	kernel) named 'irq/*-vscsiif*' ;;
	blkback) named "$D.xvdb-*" ;;
	esac
}
# named PATTERN: threads of the kernel's.
named() {
	local comm
	for comm in /proc/[0-9]*/comm; do [[ $(< $comm) != $1 ]] || echo ${comm%/comm}; done 2> /dev/null
}

# idle BACKEND: how often its threads ran, and for how many microseconds, in ten seconds without requests. Io_uring's own workers are gone
# after five.
idle() {
	local threads before after
	sleep 6
	threads=$(threads $1)
	[ -n "$threads" ] || fail bench-idle "no threads of $1 among $(cat /proc/[0-9]*/comm | grep -v kworker | tr '\n' ' ')"
	before=$(spent $threads)
	sleep 10
	after=$(spent $threads)
	set -- $before $after
	emit "LAB IDLE $(($3 - $1)) $((($4 - $2) / 1000))"
}
# spent THREADS...: their context switches and nanoseconds.
spent() {
	local thread
	for thread in "$@"; do cat $thread/schedstat $thread/status; done 2> /dev/null |
		awk '/ctxt_switches/ { n += $2 } $1 ~ /^[0-9]+$/ { ns += $1 } END { printf "%.0f %.0f", n, ns }'
}

# calls: counts the server's system calls in the jobs that the guest says it does (see its traced).
calls() {
	local job
	mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
	for job in "randread 4k qd1" "randread 4k qd10"; do
		meets $D "$job" 1000 || fail bench-calls "the guest did not come to $job"
		histogram raw_syscalls/sys_enter id.syscall
		histogram syscalls/sys_enter_ioctl cmd.hex
		go $D "$job"
		meets $D "after $job" 1000 || fail bench-calls "the guest did not end $job"
		# { id: sys_ioctl [ 16] } hitcount: 8, and { cmd: 104708 } hitcount: 8
		cat $EVENTS/raw_syscalls/sys_enter/hist $EVENTS/syscalls/sys_enter_ioctl/hist |
			awk '$2 == "id:" { print $3, $NF } $2 == "cmd:" { print "ioctl:" $3, $NF }' > /tmp/calls
		while read -r line; do emit "LAB CALLS $job $line"; done < /tmp/calls
		histogram raw_syscalls/sys_enter id.syscall !
		histogram syscalls/sys_enter_ioctl cmd.hex !
		go $D "after $job"
	done
}
EVENTS=/sys/kernel/tracing/events
# histogram EVENT KEY [!]: starts counting an event of the server's threads by this key; with ! stops it.
histogram() {
	local task filter=
	for task in /proc/$SERVER/task/*; do filter="$filter${filter:+ || }common_pid == ${task##*/}"; done
	[ "$3" = ! ] && filter= || filter=" if $filter"
	echo "${3:-}hist:keys=$2$filter" > $EVENTS/$1/trigger || fail bench-calls "no histogram of $1"
}

if [ -n "$PROFILE" ]; then
	install -m 755 /mnt/mark $OVERLAY/
	round a $BACKEND
else
	I=0
	for BACKEND in $ROUNDS; do
		I=$((I + 1))
		round r$I $BACKEND
	done
	[ -z "$TRACE" ] || round calls ours lab.calls=1
fi
