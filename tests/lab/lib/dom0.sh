# dom0.sh: brings up what a Xen host has, and gives the verbs of a scenario's dom0.sh. Runs as PID 1 (or a service of it), under bash.
. /mnt/lib/check.sh
. /mnt/lib/vscsi.sh
. /mnt/lib/kernel-backend.sh

XEN_BIN=$(dirname /usr/lib/xen-*/bin/lsevtchn)
OVERLAY=/tmp/overlay/lab
mkdir -p $OVERLAY/lib $OVERLAY/scenario /tmp/guests

# Verdicts also go to a file of the share: the console can tear lines, and the hypervisor writes between them.
emit() {
	echo "$1"
	echo "$1" >> /mnt/report
}

host_up() {
	local i
	# Xen's scripts need these; devtmpfs has none of them, and udev makes them.
	[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
	for i in 0:stdin 1:stdout 2:stderr; do [ -e "/dev/${i#*:}" ] || ln -s "/proc/self/fd/${i%:*}" "/dev/${i#*:}"; done
	# Before xenstored starts: without it the daemon does not find its own domain, and all its clients hang.
	mount -t xenfs xenfs /proc/xen
	for i in configfs xen-evtchn xen-gntdev xen-gntalloc xen-privcmd sg sd_mod; do modprobe $i || say "no module $i"; done
	mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
	echo 1 > /sys/module/sg/parameters/allow_dio
	mkdir -p /run/xenstored /run/xen /run/xen-hotplug
	"$XEN_BIN/xenstored" --pid-file /run/xenstored.pid
	within 20 xenstore-read / || say "xenstored does not answer"
	"$XEN_BIN/xen-init-dom0" > /dev/null
	consoled_up
}

consoled_up() { "$XEN_BIN/xenconsoled" --pid-file=/run/xenconsoled.pid --log=guest --log-dir=/var/log/xen/console; }

# Everything a reader may want afterwards goes to the share; the lab searches it for crashes.
host_down() {
	local file name key
	# A guest that is still there hangs: it shows where.
	for name in $(xl list | awk 'NR > 2 { print $1 }'); do
		say "guest $name is still there: $(xl vcpu-list "$name" | tail -n +2 | tr -s ' ')"
		for key in 9 w l; do xl sysrq "$name" $key && sleep 1; done
	done
	for file in /var/log/xen/console/guest-*.log; do
		[ -e "$file" ] && tr -d '\r' < "$file" > "/mnt/logs/$(basename "$file")"
	done
	cp /var/log/pvscsi-*.log /mnt/logs/ 2> /dev/null
	dmesg > /mnt/logs/dom0-dmesg.log
	xl dmesg > /mnt/logs/xen-dmesg.log
	say "end"
	sync
	echo o > /proc/sysrq-trigger
	sleep 60
}

lab_main() {
	mkdir -p /mnt/logs
	. /mnt/env
	say "dom0 userland up after $(cut -d' ' -f1 /proc/uptime) s"
	host_up
	[ "$BACKEND" = kernel ] || install -m 755 /mnt/xen-pvscsi /tmp/xen-pvscsi
	. /mnt/scenario/dom0.sh
	host_down
}

# scsi_debug_load ARGS...: a SCSI device; sets HCTL of its first logical unit. scsi_debug_up ARGS...: a disk; sets DISK too.
scsi_debug_load() {
	local host
	modprobe scsi_debug "$@"
	for host in /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*; do HCTL=$(basename "$host" | tr -d hosts):0:0:0; done
}
scsi_debug_up() {
	scsi_debug_load "$@"
	within 10 test -d "/sys/bus/scsi/devices/$HCTL/block" || say "no scsi_debug disk at $HCTL"
	DISK=/dev/$(ls "/sys/bus/scsi/devices/$HCTL/block")
}

# behind DRIVER TYPE: the addresses of the devices of this type behind host adapters of this driver.
behind() {
	local device host
	for device in /sys/class/scsi_device/*/device; do
		host=${device%/device} host=${host##*/}
		[ "$(cat "/sys/class/scsi_host/host${host%%:*}/proc_name")" = "$1" ] && [ "$(cat $device/type)" = "$2" ] && echo $host
	done
	return 0
}

# plain_module FILE: a kernel module as a guest's insmod takes it.
plain_module() { case $1 in *.xz) busybox xzcat "$1" ;; *) cat "$1" ;; esac; }

# guest NAME [WORDS [MIB]]: makes a paused guest; see guest_config. Sets D.
guest() {
	guest_config "$@"
	xl create -q -p "/tmp/guests/$1" || say "guest $1 cannot be made"
	D=$(xl domid "$1")
	listen "$1"
}

# guest_config NAME [WORDS [MIB]]: writes /tmp/guests/NAME for a guest that runs guest-NAME.sh (guest.sh, if there is no such file)
# of the scenario, with more words on its command line and this much memory, and with $VCPUS processors and $TSC_MODE.
guest_config() {
	local name=$1 words=${2:-} script=guest-$1.sh word
	[ -e "/mnt/scenario/$script" ] || script=guest.sh
	if [ ! -e /tmp/guest.cpio ]; then
		cp /mnt/lib/guest.sh /mnt/lib/check.sh $OVERLAY/lib/
		cp /mnt/scenario/guest*.sh $OVERLAY/scenario/
		# What the kernel runs for xl shutdown and xl reboot; busybox's own would ask PID 1, a script.
		mkdir -p /tmp/overlay/usr/sbin
		for word in poweroff reboot; do
			printf '#!/bin/sh\nexec busybox %s -f\n' $word > /tmp/overlay/usr/sbin/$word
			chmod 755 /tmp/overlay/usr/sbin/$word
		done
		[ -e $OVERLAY/facts ] || : > $OVERLAY/facts
		{ cat /lab/guest.cpio && (cd /tmp/overlay && find . | busybox cpio -o -H newc 2> /dev/null); } > /tmp/guest.cpio
	fi
	# "loglevel=1": nothing of the kernel's between the lines of the checks; the stall detector misfires on a slow machine.
	cat > "/tmp/guests/$name" <<-CFG
		name="$name"
		type="pv"
		kernel="/lab/vmlinuz"
		ramdisk="/tmp/guest.cpio"
		extra="console=hvc0 loglevel=1 rcupdate.rcu_cpu_stall_suppress=1 lab.script=$script $words"
		memory=${3:-640}
		vcpus=${VCPUS:-1}
		tsc_mode="${TSC_MODE:-default}"
		on_poweroff="destroy"
		on_reboot="destroy"
		on_crash="destroy"
	CFG
}

# listen NAME: shows what the guest says while it says it.
listen() { tail -q -n +1 -F "/var/log/xen/console/guest-$1.log" 2> /dev/null | grep --line-buffered '^LAB ' & }

# guest_gone NAME SECONDS: waits for the guest's end.
guest_gone() { within "$2" no_domain "$1"; }
no_domain() { ! xl domid "$1"; }

# told NAME: the guest is done; its verdicts count.
told() { tr -d '\r' < "/var/log/xen/console/guest-$1.log" | grep '^LAB ' >> /mnt/report; }

# meets D PLACE SECONDS: waits until the guest has come to PLACE (see guest.sh); go D PLACE: lets it go on.
meets() {
	within "$3" at_place "$1" "$2" || { say "domain $1 did not come to $2" && return 1; }
}
at_place() { [ "$(xenstore-read "/local/domain/$1/data/lab-at")" = "$2" ]; }
go() { xenstore-write "/local/domain/$1/data/lab-go" "$2"; }

# ended PID SECONDS: waits for a child's end; sets STATUS.
ended() {
	STATUS=running
	within "$2" has_ended "$1" || { still_there "$1" && return 1; }
	wait "$1"
	STATUS=$?
}
has_ended() { ! kill -0 "$1"; }
# still_there PID: where its threads are.
still_there() {
	local task
	for task in /proc/"$1"/task/*; do
		say "still there: $(cat "$task/comm") $(grep State "$task/status") $(cat "$task/wchan"): $(head -n 4 "$task/stack" | tr '\n' ' ')"
	done
}

# runs_on PID THREAD: the CPUs that the thread of this name may run on; rings_on THREAD: those that the interrupts go to of the event
# channels that a thread of this name opened.
runs_on() {
	local task
	for task in /proc/"$1"/task/*; do
		[ "$(cat "$task/comm")" != "$2" ] || awk '$1 == "Cpus_allowed_list:" { print $2 }' "$task/status"
	done
}
rings_on() {
	local irq
	for irq in $(awk -v "name=evtchn:$1" '$NF == name { sub(":", "", $1); print $1 }' /proc/interrupts); do
		cat "/proc/irq/$irq/effective_affinity_list"
	done
}

# What a domain that died under a backend could leave behind.
ports() { "$XEN_BIN/lsevtchn" 0 | wc -l; }
only_dom0() { [ "$(xl list | awk 'NR > 1 { print $1 }')" = Domain-0 ]; }
# What a process holds. Threads of io_uring's come and go as the kernel likes.
holds() {
	echo "fds=$(ls "/proc/$1/fd" | wc -l) threads=$(cat /proc/"$1"/task/*/comm | grep -vc '^iou-') maps=$(wc -l < "/proc/$1/maps")"
}
# KiB of memory that it has.
resident() { awk '$1 == "VmRSS:" { print $2 }' "/proc/$1/status"; }
