# The same without udev: the watcher starts servers. Then udev without systemd.
systemctl stop $UDEV
# Its servers inherit that they may not write to /proc/irq.
mkdir -p /run/systemd/system/xen-pvscsi-watch.service.d
cat > /run/systemd/system/xen-pvscsi-watch.service.d/cpus.conf <<-'UNIT'
	[Service]
	ExecStart=
	ExecStart=/usr/sbin/xen-pvscsi watch -- --cpus 1
UNIT
systemctl daemon-reload
# It is up when it says so.
check watch-starts systemctl enable --now xen-pvscsi-watch
guest w lab.part=watch
w=$D
guest p "" 256
p=$D
check watch-attach xen-pvscsi attach w "$BY_ID" 0:0:0:0
check watch-second-attach xen-pvscsi attach p ram:8M 0:0:0:0
server=$(servers $w)
xl unpause w
crashed=$(servers $p)
kill -KILL $crashed
check watch-follows-a-crash within 60 another $p $crashed
meets $w first 250
same watch-pins-the-worker 1 "$(runs_on $server v$w-0)"
check confined-interrupt-is-logged sh -c "journalctl -u xen-pvscsi-watch | grep 'does not go to CPU 1: /proc/irq/.*Read-only'"
systemctl restart xen-pvscsi-watch
same watch-restart-leaves-the-server $server "$(servers $w)"
go $w first
check watch-guest-powers-off guest_gone w 250
check watch-process-is-gone within 90 unserved $w
told w
systemctl stop xen-pvscsi-watch
same watch-stop-leaves-the-server alive "$(unserved $p && echo gone || echo alive)"
xl destroy p
check watch-orphan-ends within 90 unserved $p
same watch-left-no-nodes "" "$(nodes)"

# For as long as this is away, systemd is not there for those who ask; so udev does not kill what its rules leave behind.
mv /run/systemd/system /run/systemd/away
/lib/systemd/systemd-udevd --daemon
guest last "" 256
last=$D
check udev-alone-attach xen-pvscsi attach last ram:8M 0:0:0:0
mv /run/systemd/away /run/systemd/system
same udev-alone-starts-no-unit inactive "$(systemctl is-active "xen-pvscsi@$last")"
check udev-alone-logs within 20 sh -c "journalctl -t xen-pvscsi@$last | grep -q 'serving domain $last'"
