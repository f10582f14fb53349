# A guest gets its disks by name, and its server by udev.
truncate -s 32M /tmp/disk.img
guest g lab.part=hotplug
g=$D
check hotplug-attach xen-pvscsi attach g "$BY_ID" 0:0:0:0
check hotplug-unit-is-active unit_is $g active
server=$(servers $g)
xl unpause g
meets $g first 250
# What the unit forbids is forbidden, and what the server needs it has.
same server-is-confined "NoNewPrivs: 1 Seccomp: 2" "$(awk '/^(NoNewPrivs|Seccomp):/ { print $1, $2 }' /proc/$server/status | paste -sd ' ')"
check server-has-io_uring sh -c "ls -l /proc/$server/fd | grep -q io_uring"
check hotplug-second-attach xen-pvscsi attach g file:/tmp/disk.img 0:0:1:0
same hotplug-list "$(printf '%s\n' "0:0:0:0 4 $BY_ID" "0:0:1:0 4 file:/tmp/disk.img")" \
	"$(xen-pvscsi list g | awk 'NR > 1 { print $7, $8, $9 }')"
go $g first
meets $g second 250
check hotplug-detach xen-pvscsi detach g 0:0:1:0
check upgrade-installs dpkg -i /mnt/xen-pvscsi_*.deb
same upgrade-leaves-the-server $server "$(servers $g)"
go $g second
check hotplug-guest-powers-off guest_gone g 250
check hotplug-server-ends within 90 unit_is $g inactive
check hotplug-process-is-gone unserved $g
same hotplug-left-no-nodes "" "$(nodes)"
told g
check scsiback-not-loaded no_scsiback
