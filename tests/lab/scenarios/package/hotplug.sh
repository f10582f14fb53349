# A guest gets its disks by name, and its server by udev; it reboots, and keeps them.
guest_config guest1 lab.part=hotplug
sed -i 's/^on_reboot=.*/on_reboot="restart"/' /tmp/guests/guest1
cat /tmp/guests/guest1 /tmp/vscsi > /tmp/readme/guest1.cfg
step hotplug-host-is-ready
step hotplug-disks-have-names
step hotplug-disk-can-be-had
step hotplug-create
g=$(xl domid guest1)
listen guest1
check hotplug-unit-is-active within 20 unit_is $g active
server=$(servers $g)
step hotplug-list
same hotplug-list-has-both "0:0:0:0 $BY_ID 0:0:0:1 ${BY_ID%0}1" "$(awk 'NR > 1 { print $7, $9 }' /tmp/check.output | paste -sd ' ')"
meets $g first 250
# What the unit forbids is forbidden, and what the server needs it has.
same server-is-confined "NoNewPrivs: 1 Seccomp: 2" "$(awk '/^(NoNewPrivs|Seccomp):/ { print $1, $2 }' /proc/$server/status | paste -sd ' ')"
check server-has-io_uring sh -c "ls -l /proc/$server/fd | grep -q io_uring"
step hotplug-makes-an-image
step hotplug-second-attach
# devices_are LINE...: what the guest has, and that it uses all of it.
devices_are() { [ "$(xen-pvscsi list guest1 | awk 'NR > 1 { print $7, $8, $9 }')" = "$(printf '%s\n' "$@")" ]; }
check hotplug-list-has-all devices_are "0:0:0:0 4 $BY_ID" "0:0:0:1 4 ${BY_ID%0}1" "0:0:1:0 4 file:/var/lib/xen/disk.img"
go $g first
meets $g second 250
step hotplug-detach
check upgrade-installs dpkg -i /mnt/xen-pvscsi_*.deb
same upgrade-leaves-the-server $server "$(servers $g)"
go $g second
meets $g third 100
# For the next unit, as xen-pvscsi-serve(8) has it.
mkdir -p /run/systemd/system/xen-pvscsi@.service.d
cat > /run/systemd/system/xen-pvscsi@.service.d/cpus.conf <<-'UNIT'
	[Service]
	ExecStart=
	ExecStart=/usr/sbin/xen-pvscsi serve --domid %i --cpus 1
	ProtectKernelTunables=no
UNIT
systemctl daemon-reload
step hotplug-reboot
# It reboots at once: its domain is gone, and there is another.
old=$g
reborn() { g=$(xl domid guest1) && [ "$g" != $old ]; }
check hotplug-guest-is-another within 100 reborn
listen guest1
check hotplug-devices-follow within 100 devices_are "0:0:0:0 4 $BY_ID" "0:0:0:1 4 ${BY_ID%0}1"
meets $g rebooted 250
check hotplug-new-unit-is-active unit_is $g active
same drop-in-pins-the-worker 1 "$(runs_on "$(servers $g)" v$g-0)"
same drop-in-moves-the-interrupt 1 "$(rings_on v$g-0)"
rm -r /run/systemd/system/xen-pvscsi@.service.d
systemctl daemon-reload
check hotplug-old-unit-ends within 90 unit_is $old inactive
step hotplug-shutdown
check hotplug-guest-powers-off guest_gone guest1 250
check hotplug-server-ends within 90 unit_is $g inactive
check hotplug-process-is-gone unserved $g
same hotplug-left-no-nodes "" "$(nodes)"
same readme-has-no-more "" "$(cat /tmp/commands)"
told guest1
check scsiback-not-loaded no_scsiback
