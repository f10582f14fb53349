# model.sh: Linux 6.1 has no changer to test with, and no tape drive: changer.py and tape.py are a library of both, behind LIO's
# user backstore and loopback.
PORT=$TARGET/loopback/naa.5001405000000008/tpgt_1
STORES=$TARGET/core/user_0
modprobe -a target_core_mod target_core_user tcm_loop ch st

# model_up: starts it; sets CHANGER, SG, and TAPE, the node of the drive that does not rewind.
model_up() {
	mkdir -p $PORT
	echo naa.5001405000000009 > $PORT/nexus
	unit_up changer 0 && unit_up tape 1 || return 1
	within 30 is_there || return 1
	CHANGER=$(where_is mediumx)
	SG=/dev/$(ls /sys/bus/scsi/devices/$CHANGER/scsi_generic)
	TAPE=/dev/$(basename /sys/bus/scsi/devices/$(where_is tape)/scsi_tape/nst[0-9])
	within 10 test -c $TAPE
}
# unit_up NAME LUN: the unit that NAME.py is; adds to MODELS.
unit_up() {
	local uio
	# The size means nothing here, but there must be one.
	mkdir -p $STORES/$1 && echo "dev_config=model,dev_size=512" > $STORES/$1/control && echo 1 > $STORES/$1/enable || return 1
	uio=$(grep -l "^tcm-user/0/$1/" /sys/class/uio/uio*/name)
	uio=$(basename ${uio%/name})
	python3 -B /mnt/scenario/$1.py $uio > /var/log/pvscsi-$1-model.log 2>&1 &
	MODELS="$MODELS $!"
	mkdir -p $PORT/lun/lun_$2
	# The host asks for the device's type here, and answers come from the model.
	ln -s $STORES/$1 $PORT/lun/lun_$2/$1
}
# where_is TYPE: the address of that unit behind the loopback.
where_is() { lsscsi | awk -v type=$1 '$2 == type && /XENLAB/ { gsub(/[][]/, "", $1); print $1 }'; }
is_there() {
	[ -n "$(where_is mediumx)" ] && ls /sys/bus/scsi/devices/$(where_is mediumx)/scsi_generic &&
		[ -n "$(where_is tape)" ] && ls -d /sys/bus/scsi/devices/$(where_is tape)/scsi_tape/nst[0-9]
}

# model_down: takes it away, with what it remembers.
model_down() {
	local model
	rm $PORT/lun/lun_0/changer $PORT/lun/lun_1/tape
	echo NULL > $PORT/nexus
	rmdir $PORT/lun/lun_0 $PORT/lun/lun_1 $PORT ${PORT%/*} || return 1
	for model in $MODELS; do kill $model && ended $model 10 || return 1; done
	rmdir $STORES/changer $STORES/tape $STORES
}
