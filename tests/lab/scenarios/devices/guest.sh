# Disks are verified; the disc is read, and the ATA disk asked for its health, with commands of their own.
check hd-there disk 0
check hd-verifies verify $DISK 64k 8m
check hd-has-its-name sh -c "sg_vpd --page=di $SG | grep -q 0x5000c500a0b1c2d3"

# cd: waits for the CD drive's node.
cd_there() { ls /sys/bus/scsi/devices/*:0:1:0/block/sr0; }
check cd-there within 20 cd_there
CD=/dev/sr0
check cd-has-a-toc sh -c "sg_raw -r 804 $CD 43 00 00 00 00 00 00 03 24 00 2>&1 | grep -q 'SCSI Status: Good'"
xorriso -osirrox on -indev $CD -extract /numbers.txt /tmp/numbers.txt > /tmp/xorriso 2>&1
same cd-is-read-by-xorriso "$lab_numbers" "$(md5sum < /tmp/numbers.txt 2> /tmp/no | cut -d' ' -f1)"

# A disc that is locked in stays; the guest goes without letting go of it. Not by /dev/sr0: closing that unlocks.
CDSG=/dev/$(ls /sys/bus/scsi/devices/*:0:1:0/scsi_generic)
check cd-is-locked sg_prevent --prevent=1 $CDSG
check cd-does-not-eject sh -c "sg_raw $CDSG 1b 00 00 00 02 00 2>&1 | grep -qi 'medium removal prevented'"

check ata-there disk 2
check ata-verifies verify $DISK 64k 8m
smartctl -a $DISK > /tmp/smart 2>&1
check ata-is-known-to-smartctl grep "Serial Number: *lab-ata" /tmp/smart
check ata-is-healthy grep "test result: PASSED" /tmp/smart
# SECURITY FREEZE LOCK, which would stay until power goes.
sg_raw $SG 85 06 00 00 00 00 00 00 00 00 00 00 00 00 f5 00 > /tmp/raw 2>&1
check ata-cannot-be-locked grep -i "invalid command operation code" /tmp/raw

check zoned-there disk 4
same zoned-is-zoned host-managed "$(cat /sys/block/${DISK#/dev/}/queue/zoned)"
same zoned-has-4096 4096 "$(cat /sys/block/${DISK#/dev/}/queue/logical_block_size)"
same zoned-has-zones 16 "$(cat /sys/block/${DISK#/dev/}/queue/nr_zones)"
same zoned-has-protection 1 "$(cat /sys/class/scsi_disk/*:0:4:0/protection_type)"
check zoned-verifies verify $DISK 64k 8m

check block-there disk 5
check block-verifies verify $DISK 64k 8m
same block-has-its-size 65536 "$(cat /sys/block/${DISK#/dev/}/size)"

check usb-there disk 3
same usb-tells-its-limit 120 "$(cat /sys/block/${DISK#/dev/}/queue/max_sectors_kb)"
check usb-tells-it-in-a-page sh -c "sg_vpd --page=bl $SG | grep -q 'Maximum transfer length: 240 blocks'"
check usb-verifies-what-is-too-large verify $DISK 508k 8m
meet auto
# auto_hosts: the SCSI hosts of the disks of 16 and 24 MiB.
auto_hosts() {
	local size
	for size in /sys/block/sd*/size; do
		case $(cat $size) in 32768 | 49152) readlink -f ${size%/size}/device | sed 's|.*/||; s/:.*//' ;; esac
	done | sort -u
}
auto_there() { [ $(auto_hosts | wc -l) = 2 ]; }
check auto-disks-have-two-hosts within 60 auto_there
same auto-hosts-beside-the-first 3 "$(ls /sys/class/scsi_host | wc -l)"
same guest-has-no-complaint "" "$(complaints)"
