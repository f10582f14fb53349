# model.sh: Linux 6.1 has no changer to test with, so changer.py is one, behind LIO's user backstore and loopback.
PORT=$TARGET/loopback/naa.5001405000000008/tpgt_1
STORE=$TARGET/core/user_0/changer
modprobe -a target_core_mod target_core_user tcm_loop ch

# model_up: starts it; sets MODEL, CHANGER and SG.
model_up() {
	local uio
	mkdir -p $STORE
	# The size means nothing here, but there must be one.
	echo "dev_config=model,dev_size=512" > $STORE/control
	echo 1 > $STORE/enable
	uio=$(grep -l '^tcm-user/0/changer/' /sys/class/uio/uio*/name)
	uio=$(basename ${uio%/name})
	python3 /mnt/scenario/changer.py $uio > /var/log/pvscsi-changer-model.log 2>&1 &
	MODEL=$!
	mkdir -p $PORT/lun/lun_0
	echo naa.5001405000000009 > $PORT/nexus
	# The host asks for the device's type here, and answers come from the model.
	ln -s $STORE $PORT/lun/lun_0/changer
	within 30 is_there || return 1
	CHANGER=$(where_is_it)
	SG=/dev/$(ls /sys/bus/scsi/devices/$CHANGER/scsi_generic)
}
# where_is_it: the address of the medium changer (type 8) behind the loopback.
where_is_it() { lsscsi | awk '$2 == "mediumx" && /XENLAB/ { gsub(/[][]/, "", $1); print $1 }'; }
is_there() { [ -n "$(where_is_it)" ] && ls /sys/bus/scsi/devices/$(where_is_it)/scsi_generic; }

# model_down: takes it away, with what it remembers.
model_down() {
	rm $PORT/lun/lun_0/changer
	echo NULL > $PORT/nexus
	rmdir $PORT/lun/lun_0 $PORT ${PORT%/*} && kill $MODEL && ended $MODEL 10 && rmdir $STORE ${STORE%/*}
}
