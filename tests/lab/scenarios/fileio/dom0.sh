# The same commands to LIO's disk on a file and to ours; ours has all that LIO's has. Then the file grows under the guest.
check scsiback-not-loaded no_scsiback
PATH=/tmp:$PATH
TARGET=/sys/kernel/config/target
mount -t tmpfs tmpfs /srv
truncate -s 64M /srv/lio.img /srv/ours.img /srv/large.img
pattern() { yes "the lab's pattern $1" | head -c "$2"; }
. /mnt/scenario/guest-commands.sh
data

# LIO's, behind its loopback.
STORE=$TARGET/core/fileio_0/disk
PORT=$TARGET/loopback/naa.5001405000000001/tpgt_1
modprobe -a target_core_mod target_core_file tcm_loop
lio_disk_up() {
	# Without this place LIO refuses even registrations that need not last.
	mkdir -p $STORE /var/target/pr &&
		echo "fd_dev_name=/srv/lio.img,fd_dev_size=$((64 << 20)),fd_buffered_io=1" > $STORE/control &&
		echo lab-fileio > $STORE/wwn/vpd_unit_serial &&
		echo 1 > $STORE/enable &&
		mkdir -p $PORT/lun/lun_0 &&
		echo naa.5001405000000002 > $PORT/nexus &&
		ln -s $STORE $PORT/lun/lun_0/disk
}
lio_disk() { grep -l LIO-ORG /sys/class/scsi_device/*/device/vendor | head -n 1; }
lio_is_there() { [ -n "$(lio_disk)" ] && ls $(dirname "$(lio_disk)")/scsi_generic $(dirname "$(lio_disk)")/block; }
check lio-disk-up lio_disk_up
check lio-disk-there within 30 lio_is_there
SG=/dev/$(ls $(dirname $(lio_disk))/scsi_generic)
udevadm settle
# Whatever it has to tell first.
sg_turs $SG > /dev/null 2>&1
modes $SG > /dev/null 2>&1
answers lio $SG "$COMMON"
sum() { md5sum < /srv/$1.img; }
sum lio > /tmp/lio.sum
answers lio $SG "$APART"
truncate -s 80M /srv/lio.img
same lio-does-not-grow "0x20000 0x200" "$(sg_readcap -b $SG 2>&1)"

guest g
serve $D
within 10 grep -q serving /var/log/pvscsi-$D.log
check attached xen-pvscsi attach g file:/srv/ours.img 0:0:0:0,shared
check attached-large-blocks xen-pvscsi attach g file:/srv/large.img 0:0:1:0,block-size=4096
xl unpause g

check guest-is-where-both-are-alike meets $D alike 250
same same-bytes-as-lio "$(cat /tmp/lio.sum)" "$(sum ours)"
go $D alike
check guest-waits-for-more meets $D small 400
truncate -s 80M /srv/ours.img
# A disk looks at its size once a second.
sleep 2
go $D small
check guest-powers-off guest_gone g 1000
ended $SERVER 20
same server-exits-0 0 "$STATUS"
# What the guest wrote behind the old end.
same file-has-the-data "$(pattern grown 4096 | md5sum)" "$(tail -c 4096 /srv/ours.img | md5sum)"
told g
