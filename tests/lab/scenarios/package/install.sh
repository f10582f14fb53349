# The package is installed while a guest waits for a server: udev does not repeat itself.

# How many modules a vhost's alias would load.
alias_loads() { modprobe --use-blacklist --dry-run --verbose xen-backend:vscsi 2> /dev/null | grep -c scsiback; }
same kernels-backend-has-the-alias 1 "$(alias_loads)"
systemctl stop $UDEV
guest waiting "" 256
waiting=$D
vhost $waiting 0
vdev $waiting 0 0 ram:8M 0:0:0:0
vgo $waiting 0
check waiting-device-is-there within 20 test -e "/sys/bus/xen-backend/devices/vscsi-$waiting-0"
# Nothing hears of it now.
sleep 1
systemctl start $UDEV
files > /tmp/files-before
step package-installs
same package-has-the-program "xen-pvscsi $(dpkg-query -W -f '${Version}' xen-pvscsi)" "$(/usr/sbin/xen-pvscsi --version)"
same alias-loads-nothing 0 "$(alias_loads)"
check units-are-correct systemd-analyze verify --man=no xen-pvscsi@7.service xen-pvscsi-watch.service
same watch-is-not-enabled disabled "$(systemctl is-enabled xen-pvscsi-watch)"

awaits waiting-guest-is-served "$(back $waiting 0)" 2 60
check waiting-guest-has-a-unit within 20 unit_is $waiting active
crashed=$(servers $waiting)
kill -ABRT $crashed
check crashed-server-is-followed within 30 another $waiting $crashed
check crashed-server-unit-is-active within 30 unit_is $waiting active
xl destroy waiting
check waiting-server-ends within 90 unit_is $waiting inactive
same waiting-left-no-nodes "" "$(nodes)"
