# Looks at its disks, which must be the same in every boot; in the second it works on them until it has come elsewhere.
begins() { head -c 6 $1 | tr -d '\0'; }
disk 0
same boot-$lab_boot-disk-a "disk a" "$(begins $DISK)"
disk 2
same boot-$lab_boot-disk-a-read-only "disk a" "$(begins $DISK)"
if dd if=/dev/zero of=$DISK bs=4k count=1 oflag=direct 2> /tmp/dd; then fail boot-$lab_boot-read-only "it was written"; else pass boot-$lab_boot-read-only; fi
disk 1
same boot-$lab_boot-disk-b "disk b" "$(begins $DISK)"
disk 3
same boot-$lab_boot-disk-c "disk c" "$(begins $DISK)"
meet looked-at
if [ $lab_boot = 2 ]; then
	disk 0 && verify_until arrived a verifies-disk-a &
	disk 1 && verify_until arrived b verifies-disk-b
	wait
	same guest-has-no-complaint "" "$(complaints | grep -v write-protect)"
fi
