# Works on two disks. One vanishes, which must be an error and no hang, and comes back; the other one never notices.
no_connect() {
	dmesg > /tmp/kernel
	grep hostbyte=DID_NO_CONNECT /tmp/kernel || { tail -n 5 /tmp/kernel && return 1; }
}

disk 1 && verify_until content file bereft-verifies-file &
disk 0
xenstore-write data/lab-at busy
fio --name=bereft --filename=$DISK --rw=randrw --bsrange=4k-508k --size=16m --time_based --runtime=1000 --direct=1 \
	--ioengine=libaio --iodepth=8 --eta=never > /tmp/bereft 2>&1
if grep -q "Input/output error" /tmp/bereft; then pass bereft-gets-input-output-error; else
	fail bereft-gets-input-output-error "$(cat /tmp/bereft)"
fi
check bereft-is-told-no-connect no_connect
meet bereft
check returned-device-is-there disk 0
check returned-device-verifies verify $DISK 64k 4m
meet content
wait
