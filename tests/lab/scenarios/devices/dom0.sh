# QEMU's devices go to a guest, which works with them as their users do.
check scsiback-not-loaded no_scsiback
PATH=/tmp:$PATH
modprobe -a virtio_scsi ahci ehci_pci usb_storage sr_mod

is_behind() { [ -n "$(behind $1 $2)" ]; }
for device in virtio_scsi:0 virtio_scsi:5 ahci:0 usb-storage:0; do
	check dom0-has-${device/:/-} within 60 is_behind ${device%:*} ${device#*:}
done
usb=$(behind usb-storage 0)
within 20 ls /sys/bus/scsi/devices/$usb/block > /dev/null
xen-pvscsi check $usb > /tmp/said
check usb-limit-is-noted grep "limits .*note .*the host adapter takes 120 KiB" /tmp/said

# A zoned disk with blocks of 4096 bytes and protection information, and an emulated disk on a block device of the host.
modprobe scsi_debug sector_size=4096 zbc=managed zone_size_mb=4 zone_nr_conv=4 dev_size_mb=64 delay=0 dif=1
check dom0-has-a-zoned-disk within 60 is_behind scsi_debug 20
modprobe loop
truncate -s 32M /tmp/loop.img
losetup /dev/loop0 /tmp/loop.img

guest g "lab.numbers=$(seq 200000 | md5sum | cut -d' ' -f1)"
xen-pvscsi serve --domid $D --cpus 0-2 2> /tmp/said
same cpu-that-is-not-there-is-refused "1 xen-pvscsi: --cpus: nothing can run on CPU 2" "$? $(cut -d' ' -f1-8 /tmp/said)"
serve $D --cpus 0-1
within 10 grep -q serving /var/log/pvscsi-$D.log
target=0
for device in $(behind virtio_scsi 0) $(behind virtio_scsi 5) $(behind ahci 0) $usb; do
	check attach-$target xen-pvscsi attach g $device 0:0:$target:0
	target=$((target + 1))
done
check attach-zoned xen-pvscsi attach g $(behind scsi_debug 20) 0:0:4:0
check attach-block xen-pvscsi attach g block:/dev/loop0 0:0:5:0
xl unpause g

# Two more while it runs, each in a vhost of its own; the first by a command, and then both by a configuration.
meets $D auto 400
check attach-auto xen-pvscsi attach g ram:16M auto
same auto-is-printed "ram:16M is attached to domain $D as 1:0:0:0" "$(cut -d';' -f1 /tmp/check.output)"
echo "vscsi = [ 'ram:24M,auto', 'ram:16M,auto' ]" > /tmp/auto.cfg
check attach-auto-by-configuration xen-pvscsi attach --config /tmp/auto.cfg g
auto_has_hosts() { [ "$(xen-pvscsi list g | awk '/ram:/ { print $7, $8, $9 }' | paste -sd ' ')" = "1:0:0:0 4 ram:16M 2:0:0:0 4 ram:24M" ]; }
check auto-has-hosts-1-and-2 within 60 auto_has_hosts

# Three vhosts on two CPUs, each with its interrupt.
same workers-are-pinned "0 1 0" "$(for vhost in 0 1 2; do runs_on $SERVER v$D-$vhost; done | paste -sd ' ')"
same interrupts-follow "0 1 0" "$(for vhost in 0 1 2; do rings_on v$D-$vhost; done | paste -sd ' ')"
go $D auto
check guest-powers-off guest_gone g 400
ended $SERVER 20
same server-exits-0 0 "$STATUS"
cd=$(behind virtio_scsi 5)
check cd-ejects-without-the-guest sg_raw /dev/$(ls /sys/bus/scsi/devices/$cd/scsi_generic) 1b 00 00 00 02 00
check ata-refusal-is-logged grep "ATA PASS-THROUGH (16) (85h) is refused; allow=ata" /var/log/pvscsi-$D.log
told g
