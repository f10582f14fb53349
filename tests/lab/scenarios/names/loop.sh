# loop.sh: SCSI disks that know who they are: files behind LIO's loopback, each with a SCSI host of its own. Hosts are numbered in
# the order in which they come.
TARGET=/sys/kernel/config/target
modprobe -a target_core_mod target_core_file tcm_loop
mount -t tmpfs tmpfs /srv

# loop NAME: the disk on /srv/NAME.img, with the serial number serial_NAME. The address is H:0:1:0.
loop() {
	local store=$TARGET/core/fileio_0/$1 port=$TARGET/loopback/naa.500140500000000$1/tpgt_1
	mkdir -p $store
	echo "fd_dev_name=/srv/$1.img,fd_dev_size=$((32 << 20))" > $store/control
	eval "echo \$serial_$1" > $store/wwn/vpd_unit_serial
	echo 1 > $store/enable
	mkdir -p $port/lun/lun_0
	echo naa.500140500000001$1 > $port/nexus
	ln -s $store $port/lun/lun_0/$1
}

# unloop NAME: the disk goes; the file stays.
unloop() {
	local store=$TARGET/core/fileio_0/$1 port=$TARGET/loopback/naa.500140500000000$1
	rm $port/tpgt_1/lun/lun_0/$1
	echo NULL > $port/tpgt_1/nexus
	rmdir $port/tpgt_1/lun/lun_0 $port/tpgt_1 $port $store
}

# where NAME: the address of the disk with its serial number.
where() {
	local page serial
	eval "serial=\$serial_$1"
	for page in /sys/class/scsi_device/*/device/vpd_pg80; do
		grep -aq $serial $page && page=${page%/device/vpd_pg80} && echo ${page##*/}
	done
}
is_somewhere() { [ -n "$(where $1)" ]; }
wwid() { cat /sys/class/scsi_device/$(where $1)/device/wwid; }

serial_a=aaaaaaaa-1111-4111-8111-111111111111
serial_b=bbbbbbbb-2222-4222-8222-222222222222
for name in a b; do
	truncate -s 32M /srv/$name.img
	printf "disk %s" $name | dd of=/srv/$name.img conv=notrunc status=none
done

# known_disk: disk c, of scsi_debug, which goes by the same name whatever its host's number; its content does not last.
known_disk() {
	scsi_debug_up dev_size_mb=32 delay=0 vpd_use_hostno=0
	printf "disk c" | dd of=$DISK conv=sync,fsync status=none
	udevadm settle
	serial_c=$(sg_inq --page=0x80 $DISK | sed -n 's/.*[Ss]erial number: *//p' | tr -d ' ')
	by_id_c=$(find -L /dev/disk/by-id -samefile $DISK | sort | head -n 1)
	say "disk c is $DISK, $serial_c, $by_id_c"
}

# loops NAME...: the disks, in this order.
loops() {
	local name
	for name in "$@"; do
		loop $name
		within 20 is_somewhere $name || say "disk $name does not turn up"
	done
	udevadm settle
}
