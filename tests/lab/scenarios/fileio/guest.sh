# The commands of guest-commands.sh to our disk on a file; the file grows; a disk with large blocks.
. /lab/scenario/guest-commands.sh
data
check disk-there disk 0
sg_turs $SG > /dev/null 2>&1
modes $SG > /dev/null 2>&1
answers ours $SG "$COMMON"
meet alike
answers ours $SG "$APART"

# The file grows.
blocks() { cat /sys/block/${DISK#/dev/}/size; }
same size-before 131072 "$(blocks)"
meet small
same turs-tells-the-guest 1 "$(sg_turs -v $SG 2>&1 | grep -c 'Capacity data has changed')"
check turs-tells-it-once sg_turs $SG
echo 1 > /sys/block/${DISK#/dev/}/device/rescan
same size-after 163840 "$(blocks)"
check kernel-has-heard sh -c "dmesg | grep 'Capacity data has changed'"
pattern grown 4096 | dd of=$DISK bs=4096 seek=20479 oflag=direct conv=notrunc 2> /dev/null
same last-blocks "$(pattern grown 4096 | md5sum)" "$(dd if=$DISK bs=4096 skip=20479 iflag=direct 2> /dev/null | md5sum)"

# Large blocks.
check large-there disk 1
same large-logical-block-size 4096 "$(cat /sys/block/${DISK#/dev/}/queue/logical_block_size)"
check large-verify-4k verify $DISK 4k 2m
check large-verify-64k verify $DISK 64k 4m
check large-mkfs /sbin/mke2fs -q -F -t ext4 $DISK
mount -t ext4 $DISK /mnt && cp /usr/bin/fio /mnt/ && sync
umount /mnt
check large-fsck e2fsck -fn $DISK
same guest-has-no-complaint "" "$(complaints)"
