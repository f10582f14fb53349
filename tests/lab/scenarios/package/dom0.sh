# From the package to the disks of guests, with no server started by hand. Dom0 runs under systemd (init), and udev is at work.
UDEV='systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-udevd.service'
# The disks that the README names.
scsi_debug_up dev_size_mb=64 delay=0 max_queue=64 max_luns=2 vpd_use_hostno=0
udevadm settle
BY_ID=$(find -L /dev/disk/by-id -samefile $DISK -name 'wwn-*')
say "$DISK is $BY_ID, system up after $(cut -d' ' -f1 /proc/uptime) s"

# files: all that a package could leave; dpkg, systemd and xl keep books of their own.
files() {
	find / -xdev ! -type d ! -path '/var/lib/dpkg/*' ! -path '/var/lib/systemd/*' ! -path '/var/lib/xen/*' | sort
	ls /var/lib/dpkg/info
}
# unit_is D STATE
unit_is() { [ "$(systemctl is-active "xen-pvscsi@$1")" = "$2" ]; }
# servers D: processes that serve domain D.
servers() { pgrep -f "^(/usr/sbin/)?xen-pvscsi .*serve --domid $1( |\$)" | paste -sd ' '; }
# another D PID: domain D has one server, and it is not this process.
another() {
	local now
	now=$(servers "$1")
	[ -n "$now" ] && [ "$now" != "$2" ] && [ "${now/ /}" = "$now" ]
}
unserved() { [ -z "$(servers "$1")" ]; }
nodes() { xenstore-ls /local/domain/0/backend/vscsi 2> /dev/null; }

. /mnt/scenario/readme.sh
. /mnt/scenario/install.sh
. /mnt/scenario/hotplug.sh
. /mnt/scenario/watch.sh
. /mnt/scenario/purge.sh
journalctl -o short-monotonic > /mnt/logs/journal.log
